import pytest

from planner.parser import Span
from planner.restating import SURE, restated
from scene.vocabulary import Vocabulary

ENTRIES = {
    "floor": {"kind": "surface"}, "cat": {"kind": "animal"}, "sofa": {"kind": "furniture"}, "clock": {"kind": "decor"},
    "lamp": {"kind": "lamp"}, "scissors": {"kind": "tool", "plural_only": True},
}  # fmt: skip
HOME = Vocabulary("nowhere", ENTRIES)


class Told:
    """Relations that it is told, between things in the order of the text."""

    def __init__(self, **relations):
        self.relations, self.phrases = relations, []

    def best(self, text):
        return []

    def related(self, text, phrases):
        self.phrases = [text[start:end] for start, end in phrases]
        return {(int(key[1]), int(key[2])): value for key, value in self.relations.items()}


def test_what_is_understood_is_added_in_plain_words():
    parser = Told(r01=("above", 0.95), r21=("next to", 0.9))
    text, notes = restated("Clock! Farther down: the sofa. Two lamps for company", HOME, parser)
    assert text.endswith("company. The clock is above the sofa. The lamps are next to the sofa.")
    assert notes == ("understood: The clock is above the sofa.", "understood: The lamps are next to the sofa.")
    assert parser.phrases == ["Clock", "sofa", "lamps"]


def test_scissors_are():
    assert (
        restated("scissors! sofa!", HOME, Told(r01=("on", 0.9)))[0] == "scissors! sofa! The scissors are on the sofa."
    )


@pytest.mark.parametrize(
    ("text", "relations"),
    [
        ("a cat on the sofa", {"r01": ("above", 0.99)}),  # is told in plain words already
        ("cat, sofa", {"r01": ("above", SURE - 0.01)}),
        ("a cat here, a cat there", {"r01": ("next to", 0.99)}),
        ("cat and floor", {"r01": ("on", 0.99)}),
        ("", {}),
    ],
)
def test_nothing_is_added_to(text, relations):
    assert restated(text, HOME, Told(**relations)) == (text, ())


def test_the_phrase_around_a_name_is_what_stands_somewhere():
    parser = Told()
    parser.best = lambda text: [Span(0, 9, 0.9), Span(14, 29, 0.8)]
    restated("a red cat, the sofa and a lamp", HOME, parser)
    assert parser.phrases == ["a red cat", "sofa", "lamp"]
