"""Words of the park world."""

from __future__ import annotations

from pathlib import Path

import pytest

from scene.vocabulary import Vocabulary, pluralise

PARK = Vocabulary.load(Path(__file__).resolve().parents[2] / "configs" / "worlds" / "park.yaml")


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("a boy kicking a soccer ball next to an apple tree on a sunny day",
         {"boy": 1, "soccer ball": 1, "apple tree": 1, "sun": 1}),
        ("two girls and a dog near a campfire under a cloud", {"girl": 2, "dog": 1, "campfire": 1, "cloud": 1}),
        ("Three apple trees, a hot-dog and some balloons", {"apple tree": 3, "hot dog": 1, "balloons": 1}),
        ("a boy waves. the boy is happy", {"boy": 1}),
        ("a cat and another cat", {"cat": 2}),
        ("clouds", {"cloud": 2}),
        ("5 owls", {"owl": 5}),
        ("a basketball", {"basketball": 1}),
        ("a storm cloud", {"storm cloud": 1}),
        ("a treehouse", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_counts(text: str, counts: dict[str, int]) -> None:
    assert PARK.counts(text) == counts


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("a submarine under the ice", ["submarine", "ice"]),
        ("Submarine", ["submarine"]),
        ("a boy kicking a soccer ball next to an apple tree on a sunny day", []),
        ("a big red dragon and a cat in the castle", ["dragon", "castle"]),
        ("a picture of a park", []),
    ],
)
def test_unknown(text: str, unknown: list[str]) -> None:
    assert PARK.unknown(text) == unknown


def test_mentions_point_into_the_text() -> None:
    text = "A Dog beside an Apple Tree"
    assert [(m.label, text[m.start : m.end]) for m in PARK.find(text)] == [("dog", "Dog"), ("apple tree", "Apple Tree")]


def test_every_label_and_synonym_finds_its_own_label() -> None:
    for label in PARK.labels:
        for word in (label, *PARK.synonyms(label)):
            assert PARK.canonical(word) == label, word
            assert PARK.canonical(f"a small {word}") == label, word


def test_plurals() -> None:
    assert pluralise("sandbox") == "sandboxes"
    assert pluralise("lady") == "ladies"
    assert pluralise("boy") == "boys"
    assert PARK.plural("sunglasses") == "sunglasses"


def test_articles() -> None:
    assert PARK.with_article("owl") == "an owl"
    assert PARK.with_article("ketchup") == "ketchup"
    assert PARK.with_article("balloons", "bunch of colourful balloons") == "a bunch of colourful balloons"


def test_what_a_phrase_ends_in_is_what_it_names() -> None:
    words = Vocabulary(
        "tiny",
        {
            "table": {"kind": "large", "synonyms": ["wooden table"]},
            "tennis bat": {"kind": "toy", "synonyms": ["table tennis bat"]},
            "chest": {"kind": "large", "synonyms": ["wooden chest"]},
            "chest of drawers": {"kind": "large"},
        },
    )
    found = words.find("a wooden table tennis bat on a wooden table beside a wooden chest of drawers")
    assert [each.label for each in found] == ["tennis bat", "table", "chest of drawers"]
