import pytest

from planner.resemblance import Resemblance, slip_price
from scene.vocabulary import Vocabulary

ENTRIES = {
    "tray": {"kind": "decor"}, "desk": {"kind": "furniture"}, "beer mug": {"kind": "tableware"}, "mug": {"kind":
    "tableware"},
    "doll": {"kind": "toy"}, "dog": {"kind": "animal"}, "bedside table": {"kind": "furniture"}, "lamp": {"kind":
    "lamp"},
    "table": {"kind": "furniture"}, "lily": {"kind": "plant", "plural": "lilies"},
}  # fmt: skip
COMMON = {"red", "old", "table", "holiday", "lap", "plate", "his", "under", "beer"}


@pytest.fixture
def names():
    return Resemblance(Vocabulary("nowhere", ENTRIES), lambda word: word not in COMMON)


@pytest.mark.parametrize(
    ("phrase", "label"),
    [
        ("a mgu", "mug"), ("the beer mgu", "beer mug"), ("an old lmap", "lamp"), ("two dols", "doll"), ("a dok", None),
        ("a desck with a mgu", "desk"), ("a lap", None), ("a lilo", None), ("a gazebo", None), ("", None), ("the",
        None),
    ],
)  # fmt: skip
def test_a_misspelt_name_is_recognised_by_its_letters(names, phrase, label):
    assert names.nearest(phrase) == label


def test_the_whole_phrase_may_have_to_be_the_name(names):
    assert names.nearest("bed sde table", whole=True) == "bedside table"
    assert names.nearest("an old mgu", whole=True) is None


def test_what_happens_to_fingers_is_cheaper_than_what_does_not():
    doubled, swapped, vowel, strange = (
        slip_price(typed, "kettle", 9.0) for typed in ("ketle", "ketlte", "kattle", "kezzle")
    )
    assert 0 < doubled < swapped < vowel < strange
    assert slip_price("kettle", "kettle", 9.0) == 0
    assert slip_price("bicycle", "kettle", 2.0) == float("inf")
