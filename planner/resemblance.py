"""Which name of the world a misspelt one looks like, where it is known that a thing is meant: "a beer mgu on a tarry".

`planner.spelling` looks at words alone, has to leave alone whatever may be another word, and so forgives little.
Here the prompt parser has told that a phrase means a thing, and no name was found in it. The distance is an edit
distance with prices: a doubled letter is cheaper than a strange one, a vowel for a vowel than for a consonant, a
key for its neighbour than for another.

Source: Damerau, 1964; prices as in noisy-channel spelling (Brill and Moore, ACL 2000), set by hand here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache, cached_property

from planner.phrases import KEYBOARD
from scene.vocabulary import Vocabulary

VOWELS = "aeiouy"
DOUBLED, SWAPPED, VOWEL, ALIKE, NEAR, MISSED, STRANGE = 0.45, 0.6, 0.75, 0.65, 0.75, 0.8, 1.2
LOOKALIKES = ("ck", "sz", "cs", "kq", "vw", "gj", "td", "bp", "mn", "fv", "iy", "xs")
FIRST_WRONG = 0.6  # more where the first letter is another
MOST_PER_LETTER = 0.25
SHORT = {3: 0.7, 4: 0.7}  # highest price in words of so many letters
MOST = 0.23  # highest `_misfit` of what is taken
MOST_WORDS, MIN_LETTERS = 3, 3
CUT = (
    "with",
    "that",
    "which",
    "for",
    "of",
    "to",
    "in",
    "on",
    "where",
    "who",
    "from",
    "and",
    "when",
    "you",
    "is",
    "at",
    "by",
)
NO_NAME = (
    "a", "an", "the", "my", "our", "his", "her", "their", "your", "its", "some", "two", "three", "four", "five", "six",
    "seven", "eight", "nine", "one", "this", "that", "those", "these", "another", "few", "couple", "pair", "teh", "hte",
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z]+")


class Resemblance:
    """Finds the name that a phrase resembles.

    Args:
        vocabulary: the world's words.
        rare: whether a word is unknown to English; a phrase of common words is not misspelt.
    """

    def __init__(self, vocabulary: Vocabulary, rare: Callable[[str], bool]) -> None:
        self._vocabulary, self._rare = vocabulary, rare

    @cached_property
    def _names(self) -> dict[tuple[int, str], list[tuple[str, str, float]]]:
        """Number of letters, first letter -> letters run together, label, and how much against it: labels are
        likeliest."""
        found: dict[str, tuple[str, float]] = {}
        for form in self._vocabulary.forms():
            letters, label = "".join(_WORD.findall(form.lower())), self._vocabulary.exact(form)
            if label is None or len(letters) < MIN_LETTERS or not letters.isascii() or re.search(r"\d", form):
                continue
            plain = 0.04 if self._vocabulary.plain.exact(form) else 0.1
            against = 0.0 if form in (label, self._vocabulary.plural(label)) else plain
            if against <= found.get(letters, ("", 1.0))[1]:
                found[letters] = (label, against)
        alike: dict[tuple[int, str], list[tuple[str, str, float]]] = {}
        for letters, (label, against) in found.items():
            alike.setdefault((len(letters), letters[0]), []).append((letters, label, against))
        return alike

    def nearest(self, phrase: str, *, whole: bool = False) -> str | None:
        """The label whose name a phrase resembles; None = none enough, or nothing in it looks misspelt.

        Args:
            phrase: of a few words.
            whole: all its words have to be the name, not just some of them.
        """
        best = min(self._candidates(phrase, whole), default=None)
        return best[1] if best is not None and best[0] <= MOST else None

    def _candidates(self, phrase: str, whole: bool) -> Iterator[tuple[float, str]]:
        """Misfit and label of what the words of a phrase may be; the last words before what follows are the name."""
        words = [word.lower() for word in _WORD.findall(phrase)]
        while words and words[0] in NO_NAME:
            words = words[1:]
        words = words[: next((at for at, word in enumerate(words) if word in CUT), len(words))]
        for count in range(1, MOST_WORDS + 1):
            for at in range(len(words) - count + 1):
                part = words[at : at + count]
                if whole and count < len(words):
                    continue
                letters = "".join(part)
                if len(letters) < MIN_LETTERS or not any(self._is_slip(word) for word in part):
                    continue
                after = 0.1 * (len(words) - at - count)
                for label, price, against in self._near(letters):
                    yield price / len(letters) ** 0.5 + against + after - 0.05 * len(letters), label

    def _is_slip(self, word: str) -> bool:
        """Whether a word is none of English, nor one with two letters changed round ("readign")."""
        if len(word) < MIN_LETTERS or not self._rare(word):
            return False
        turned = (word[:at] + word[at + 1] + word[at] + word[at + 2 :] for at in range(1, len(word) - 1))
        return not any(len(word) > 4 and not self._rare(other) and not self._is_name(other) for other in turned)

    def _is_name(self, letters: str) -> bool:
        return any(letters == name for name, _, _ in self._names.get((len(letters), letters[0]), ()))

    def _near(self, letters: str) -> Iterator[tuple[str, float, float]]:
        most = MOST_PER_LETTER * len(letters) + 0.1
        firsts = {letters[0], letters[1], *(pair.replace(letters[0], "") for pair in LOOKALIKES if letters[0] in pair)}
        for length in range(len(letters) - 3, len(letters) + 4):
            for first in firsts:
                for meant, label, against in self._names.get((length, first), ()):
                    if len(set(letters) ^ set(meant)) > len(letters) // 2:
                        continue
                    price = slip_price(letters, meant, most)
                    if price <= SHORT.get(len(letters), most):
                        yield label, price, against


def slip_price(typed: str, meant: str, most: float) -> float:
    """What it costs to type `typed` for `meant`: lower-case letters; anything above `most` counts as infinite.

    >>> slip_price("mgu", "mug", 2.0) < slip_price("mug", "bug", 2.0)
    True
    """
    before: list[float] = []
    row = [0.0]
    for j in range(len(meant)):
        row.append(row[-1] + _omitted(meant, j))
    for i, letter in enumerate(typed):
        above, row, older = row, [row[0] + 1.0], before
        for j, other in enumerate(meant):
            swap = above[j] + _exchanged(letter, other, first=i == 0)
            extra = above[j + 1] + (DOUBLED if i and typed[i - 1] == letter else MISSED)
            best = min(swap, extra, row[j] + _omitted(meant, j))
            if i and j and letter != other and letter == meant[j - 1] and typed[i - 1] == other:
                best = min(best, older[j - 1] + SWAPPED)
            row.append(best)
        if min(row) > most:
            return float("inf")
        before = above
    return row[-1]


def _omitted(meant: str, at: int) -> float:
    """Price of leaving a letter out."""
    if at and meant[at - 1] == meant[at]:
        return DOUBLED
    return MISSED - 0.1 if meant[at] in VOWELS or meant[at] == "h" else MISSED


def _exchanged(typed: str, meant: str, *, first: bool) -> float:
    """Price of one letter for another."""
    if typed == meant:
        return 0.0
    return _mistaken(typed, meant) + (FIRST_WRONG if first else 0.0)


@cache
def _mistaken(typed: str, meant: str) -> float:
    if typed in VOWELS and meant in VOWELS:
        return VOWEL
    if typed + meant in LOOKALIKES or meant + typed in LOOKALIKES:
        return ALIKE
    (x, row), (y, other) = _key(typed), _key(meant)
    return NEAR if abs(x - y) <= 1.1 and abs(row - other) <= 1 else STRANGE


def _key(letter: str) -> tuple[float, int]:
    """Where a letter's key is: (column, row), rows shifted as on keyboards."""
    row = next(number for number, keys in enumerate(KEYBOARD) if letter in keys)
    return KEYBOARD[row].index(letter) + 0.3 * row, row
