"""Slips of the pen in a prompt, seen against the world's words: "soffa" is read as "sofa", "bunkbed" as "bunk bed"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property

from scene.vocabulary import Vocabulary, pluralise

MIN_LETTERS = 4
LONG_LETTERS = 7  # from here on two slips are forgiven
_WORD = re.compile(r"[A-Za-z]+")


class Speller:
    """Corrects words that nobody knows.

    Args:
        vocabulary: the world's words.
        rare: whether a word is unknown to English (the planner asks its tokenizer: common words are one token). A word
            that is not rare is never touched, so "beach" does not become "bench".
    """

    def __init__(self, vocabulary: Vocabulary, rare: Callable[[str], bool]) -> None:
        self._vocabulary, self._rare = vocabulary, rare

    def _forms(self) -> Iterator[str]:
        for label in self._vocabulary.labels:
            yield self._vocabulary.plural(label)
            for form in (label, *self._vocabulary.synonyms(label)):
                yield form
                yield pluralise(form)

    @cached_property
    def _targets(self) -> dict[str, str]:
        """What may be meant: letters run together -> as the vocabulary writes it; single words of names, too."""
        found = {"".join(_WORD.findall(form.lower())): form for form in self._forms()}
        for form in self._forms():
            for word in _WORD.findall(form):
                found.setdefault(word.lower(), word)
        return {letters: form for letters, form in found.items() if len(letters) >= MIN_LETTERS}

    def corrected(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The text with slips mended, and a note for each."""
        notes: list[str] = []

        def mend(match: re.Match[str]) -> str:
            word = match.group()
            meant = self._meant(word.lower())
            if meant is None:
                return word
            notes.append(f"read {word!r} as {meant!r}")
            return meant

        return _WORD.sub(mend, text), tuple(notes)

    def _meant(self, word: str) -> str | None:
        if len(word) < MIN_LETTERS or not self._rare(word):
            return None
        if word in self._targets:
            form = self._targets[word]
            return form if form.lower() != word else None
        most = 1 if len(word) < LONG_LETTERS else 2
        scored = sorted(
            (edit_distance(word, letters, most), letters)
            for letters in self._targets
            if abs(len(letters) - len(word)) <= most and letters[0] == word[0]
        )
        best = [letters for distance, letters in scored if distance == scored[0][0] <= most]
        return self._targets[best[0]] if len(best) == 1 else None


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
