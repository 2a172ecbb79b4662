"""Slips of the pen in a prompt, seen against the world's words: "soffa" is read as "sofa", "bunkbed" as "bunk bed"."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import cached_property
from itertools import pairwise

from scene.vocabulary import Vocabulary

MIN_LETTERS = 4
FEWEST_ELSE = 6  # of words that do not stand in the world file: short ones look like too much else
LONG_LETTERS = 7  # from here on two slips are forgiven
_WORD = re.compile(r"[A-Za-z]+")
_GRAMMAR = (
    "three", "four", "five", "seven", "eight", "nine", "twelve", "behind", "beside", "between", "under", "above",
    "below", "green", "yellow", "orange", "purple", "brown", "black", "white", "grey",
)  # fmt: skip
_COMMON = ("there", "closest", "cast", "fries", "coal", "coals")  # twisted letters of "three", "closets" ...
_ENDINGS = ("s", "ed", "ing", "ly", "er", "ers", "y", "ish", "ist", "less", "like")  # of common words: no slips


class Speller:
    """Corrects words that nobody knows.

    Args:
        vocabulary: the world's words.
        rare: whether a word is unknown to English (the planner asks its tokenizer: common words are one token). A word
            that is not rare is touched only where two letters have changed places or a letter is doubled or not
            ("cras", "stret"): fragments such as "stret" are tokens, too. "beach" does not become "bench".
    """

    def __init__(self, vocabulary: Vocabulary, rare: Callable[[str], bool]) -> None:
        self._vocabulary, self._rare = vocabulary, rare

    @cached_property
    def _targets(self) -> dict[str, str]:
        """What may be meant: letters run together -> as the vocabulary writes it."""
        found = {"".join(_WORD.findall(form)).lower(): form for form in self._vocabulary.forms()}
        found |= {form.lower(): form for form in self._vocabulary.forms() if _WORD.fullmatch(form)}
        found = {letters: form for letters, form in found.items() if len(letters) >= self._fewest(form)}
        return found | {word: word for word in _GRAMMAR}

    @cached_property
    def _targets_by_start(self) -> dict[tuple[str, int], dict[str, str]]:
        """`_targets` by first letter and length."""
        found: dict[tuple[str, int], dict[str, str]] = {}
        for letters, form in self._targets.items():
            found.setdefault((letters[0], len(letters)), {})[letters] = form
        return found

    def _fewest(self, form: str) -> int:
        return MIN_LETTERS if self._vocabulary.plain.exact(form) else FEWEST_ELSE

    @cached_property
    def _parts(self) -> dict[str, set[str]]:
        """Word of a longer name -> the words that stand beside it in names: "trafic cone" is a traffic cone."""
        found: dict[str, set[str]] = {}
        for form in self._vocabulary.forms():
            words = _WORD.findall(form.lower())
            for one, two in pairwise(words):
                found.setdefault(one, set()).add(two)
                found.setdefault(two, set()).add(one)
        return {word: beside for word, beside in found.items() if len(word) >= MIN_LETTERS}

    def corrected(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The text with slips mended, and a note for each."""
        notes: list[str] = []
        matches = list(_WORD.finditer(text))

        def mend(match: re.Match[str]) -> str:
            word, at = match.group(), next(i for i, each in enumerate(matches) if each.start() == match.start())
            if word.istitle() and re.search(r"[a-z,;] $", text[: match.start()]) and not text.istitle():
                return word  # somebody's name
            beside = {each.group().lower() for each in (*matches[max(0, at - 1) : at], *matches[at + 1 : at + 2])}
            meant = self._meant(word.lower(), beside)
            if meant is None:
                return word
            notes.append(f"read {word!r} as {meant!r}")
            return meant

        return _WORD.sub(mend, text), tuple(notes)

    def _meant(self, word: str, beside: Collection[str] = ()) -> str | None:
        if len(word) < MIN_LETTERS or word in self._vocabulary.forms() or word in self._parts:
            return None
        if word in (*_GRAMMAR, *_COMMON):
            return None
        rare = self._rare(word)
        if word in self._targets and rare:
            return self._targets[word]
        if word in self._vocabulary.ordinary or (rare and self._is_inflected(word)):
            return None
        parts = {part: part for part, others in self._parts.items() if others & set(beside)}
        most = 1 if len(word) < LONG_LETTERS or not rare else 2
        lengths = range(len(word) - most, len(word) + most + 1)
        alike = [self._targets_by_start.get((word[0], length), {}) for length in lengths]
        for targets in ({letters: form for each in alike for letters, form in each.items()}, parts):
            near = (
                letters
                for letters in targets
                if letters[0] == word[0]
                and abs(len(letters) - len(word)) <= most
                and len(set(letters) ^ set(word)) <= 2 * most  # cheap, and true of whatever lies near enough
            )
            scored = sorted(
                (edit_distance(word, letters, most), len(letters), letters)
                for letters in near
                if rare or is_twisted(word, letters)
            )
            best = [targets[letters] for distance, _, letters in scored if distance == scored[0][0] <= most]
            best = [form for form in best if self._vocabulary.plain.exact(form)] or best  # the world's own words first
            if best and len({self._vocabulary.exact(form) or form for form in best}) == 1:
                return best[0]
        return None

    def _is_inflected(self, word: str) -> bool:
        stems = (word.removesuffix(ending) for ending in _ENDINGS if word.endswith(ending))
        return any(len(stem) >= MIN_LETTERS and not self._rare(stem) for stem in stems)


def is_twisted(word: str, meant: str) -> bool:
    """Whether two neighbouring letters of a word have changed places, or one is doubled, or a double one single.

    >>> is_twisted("cras", "cars"), is_twisted("stret", "street"), is_twisted("beach", "bench")
    (True, True, False)
    """
    if len(word) == len(meant):
        return sorted(word) == sorted(meant) and edit_distance(word, meant, 1) == 1
    short, long = sorted((word, meant), key=len)
    doubled = (long[:i] + long[i + 1 :] for i in range(1, len(long)) if long[i] == long[i - 1])
    return short in doubled


def edit_distance(a: str, b: str, most: int) -> int:
    """Damerau-Levenshtein distance (optimal string alignment); anything above `most` counts as `most + 1`.

    Source: Damerau, "A technique for computer detection and correction of spelling errors", 1964.
    """
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        above, row, older = row, [i], before
        for j, right in enumerate(b, start=1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left != right))
            if older and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
        before = above
    return min(row[-1], most + 1)
