"""Slips of the pen in a prompt, seen against the world's words: "soffa" is read as "sofa", "bunkbed" as "bunk bed"."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
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
_RUN_TOGETHER = {
    "infront": "in front", "ontop": "on top", "nextto": "next to", "inbetween": "in between",
    "infrontof": "in front of", "ontopof": "on top of",
}  # fmt: skip
_COMMON = ("there", "closest", "cast", "fries", "coal", "coals")  # twisted letters of "three", "closets" ...
_ENDINGS = ("s", "ed", "ing", "ly", "er", "ers", "y", "ish", "ist", "less", "like", "able")  # of common words: no slips


class Speller:
    """Corrects words that nobody knows.

    Args:
        vocabulary: the world's words.
        rare: whether a word is unknown to English (the planner asks its tokenizer: common words are one token). A word
            that is not rare is touched only where two letters have changed places or a letter is doubled or not
            ("cras", "stret"): fragments such as "stret" are tokens, too. "beach" does not become "bench".
    """

    def __init__(self, vocabulary: Vocabulary, rare: Callable[[str], bool]) -> None:
        self._vocabulary, self.rare = vocabulary, rare

    @cached_property
    def _targets(self) -> dict[str, str]:
        """What may be meant: letters run together -> as the vocabulary writes it."""
        forms = sorted(self._vocabulary.forms(), key=lambda form: (self._is_label(form), " " not in form))
        found = {"".join(_WORD.findall(form)).lower(): form for form in forms}  # labels win
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
        joined = self._pairs([match.group() for match in matches], notes)

        def mend(match: re.Match[str]) -> str:
            word, at = match.group(), next(i for i, each in enumerate(matches) if each.start() == match.start())
            if word.istitle() and re.search(r"[a-z,;] $", text[: match.start()]) and not text.istitle():
                return word  # somebody's name
            if at in joined:
                return joined[at]
            beside = {each.group().lower() for each in (*matches[max(0, at - 1) : at], *matches[at + 1 : at + 2])}
            meant = self._meant(word.lower(), beside)
            if meant is None:
                return word
            notes.append(f"read {word!r} as {meant!r}")
            return meant

        return _WORD.sub(mend, text), tuple(notes)

    def _pairs(self, words: Sequence[str], notes: list[str]) -> dict[int, str]:
        """Names of two misspelt words, one at least no word any more ("wasching mashine", "frnech fires"):
        place -> word."""
        found: dict[int, str] = {}
        for at, (one, two) in enumerate(pairwise(word.lower() for word in words)):
            slips = [self._is_slip(word) or self._is_short_slip(word) for word in (one, two)]
            if at in found or not any(slips):
                continue
            most = _slips(one, 1) + _slips(two, 1)
            distances = {
                name: sum(edit_distance(a, b, most) for a, b in zip((one, two), name, strict=True))
                for name in self._two_words.get((one[0], two[0]), ())
                if all(
                    a == b
                    or is_twisted(a, b)
                    or (slip and len(a) >= MIN_LETTERS and edit_distance(a, b, 2) <= _slips(a, 1))
                    for a, b, slip in zip((one, two), name, slips, strict=True)
                )
            }
            least = min(distances.values(), default=most + 1)
            best = [name for name, distance in distances.items() if 0 < distance == least <= most]
            if len({self._vocabulary.exact(" ".join(name)) for name in best}) == 1:
                found |= dict(zip((at, at + 1), best[0], strict=True))
                notes.append(f"read {' '.join(words[at : at + 2])!r} as {' '.join(best[0])!r}")
        return found

    def _is_known(self, word: str) -> bool:
        """Whether a word is too short to tell, a name or a word of one."""
        return len(word) < MIN_LETTERS or word in self._vocabulary.forms() or word in self._parts

    def _is_slip(self, word: str) -> bool:
        """Whether a word is none that anybody knows."""
        known = self._is_known(word) or word in self._vocabulary.ordinary
        return not known and self.rare(word) and not self._is_inflected(word)

    def _is_short_slip(self, word: str) -> bool:
        """Whether a word of three letters is none that anybody knows."""
        return len(word) == MIN_LETTERS - 1 and self.rare(word) and word not in self._vocabulary.forms()

    @cached_property
    def _two_words(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """Names of two words, by their first letters."""
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for form in self._vocabulary.forms():
            match = re.fullmatch(r"([a-z]{3,}) ([a-z]{3,})", form.lower())
            if match:
                found.setdefault((match[1][0], match[2][0]), []).append((match[1], match[2]))
        return found

    def _meant(self, word: str, beside: Collection[str] = ()) -> str | None:
        if self._is_known(word) or word in (*_GRAMMAR, *_COMMON):
            return None
        if word in _RUN_TOGETHER:
            return _RUN_TOGETHER[word]
        rare = self.rare(word)
        if word in self._targets and rare:
            return self._targets[word]
        if word in self._vocabulary.ordinary or (rare and self._is_inflected(word)):
            return None
        parts = {part: part for part, others in self._parts.items() if others & set(beside)}
        most = 1 if len(word) < LONG_LETTERS or not rare else 2
        lengths = range(len(word) - most, len(word) + most + 1)
        alike = [self._targets_by_start.get((word[0], length), {}) for length in lengths]
        for targets in (parts, {letters: form for each in alike for letters, form in each.items()}):
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
            for better in (self._vocabulary.plain.exact, self._is_label):  # the world's own words first
                best = [form for form in best if better(form)] or best
            if best and not is_twisted(word, scored[0][2]) and self._is_single(word):
                return None
            if best and len({self._vocabulary.exact(form) or form for form in best}) == 1:
                return best[0]
        return None

    def _is_single(self, word: str) -> bool:
        """Whether a word that people know has a double letter where this one has a single one: "woden"."""
        doubled = (word[: at + 1] + word[at:] for at in range(1, len(word) - 1))
        return len(word) > MIN_LETTERS and any(not self.rare(each) for each in doubled)

    def _is_label(self, form: str) -> bool:
        label = self._vocabulary.exact(form)
        return label is not None and form in (label, self._vocabulary.plural(label))

    def _is_inflected(self, word: str) -> bool:
        stems = [word.removesuffix(ending) for ending in _ENDINGS if word.endswith(ending)]
        if any(len(stem) >= MIN_LETTERS and not self.rare(stem) for stem in stems):
            return True
        doubled = (stem[:-1] for stem in stems if len(stem) > MIN_LETTERS - 1 and stem[-1] == stem[-2])  # "fatter"
        return any(not self.rare(stem) for stem in doubled)


def _slips(word: str, company: int = 0) -> int:
    """How many slips a word is forgiven; in the company of the rest of its name it may be shorter by that."""
    return 2 if len(word) >= LONG_LETTERS - company else 1


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
