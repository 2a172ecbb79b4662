"""Things that a prompt describes or misspells instead of naming them: "the gadget that shrieks when the toast burns"
is read as "a smoke detector", "a beer mgu" as "a beer mug".

The prompt parser (`planner.parser`) tells where a text speaks of things; each such phrase is asked of the world's
trained reverse dictionary (`planner.descriptions`) and, where it looks misspelt, compared with the world's names
(`planner.resemblance`). It is replaced where that is likely to be right (`planner.acceptance`); a phrase that is just a
name is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self

from planner.acceptance import SHORT, WORD, Acceptance, Candidate, candidates, content
from planner.descriptions import ReverseDictionary
from planner.parser import PromptParser, Span
from planner.resemblance import Resemblance
from runtime.assets import asset_dir
from scene.colours import plain_colour
from scene.corpus.language import NUMBERS
from scene.vocabulary import Vocabulary

LEAST, LEAST_WORD = 0.3, 0.6  # probability that a reading is right; where it is of one word ("kicking")
MISSPELT_SPAN, MISSPELT_WORDS = 0.3, 3  # so short a phrase of so likely a thing may be a misspelt name
SURE = 0.6  # of the label: not misspelt
SEVERAL = (*NUMBERS[2:], "those", "these", "some")
_COUPLE = re.compile(r"an?\s+(?:couple|pair)\s+of\s+", re.IGNORECASE)


class Reading(NamedTuple):
    """A phrase of a text and what it is taken for; `score` is a probability."""

    start: int
    end: int
    label: str
    score: float


class Circumlocutions:
    """Reads descriptions and misspelt names of things as their names.

    Args:
        vocabulary: the world's words.
        parser: tells where things are spoken of.
        dictionary: the world's reverse dictionary.
        acceptance: tells which of its answers to take.
        rare: whether a word is unknown to English; None = nothing is misspelt.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        parser: PromptParser,
        dictionary: ReverseDictionary,
        acceptance: Acceptance,
        rare: Callable[[str], bool] | None = None,
    ) -> None:
        self._vocabulary, self.parser = vocabulary, parser
        self._dictionary, self._acceptance = dictionary, acceptance
        self._resemblance = Resemblance(vocabulary, rare) if rare is not None else None

    @classmethod
    def of(cls, vocabulary: Vocabulary, rare: Callable[[str], bool] | None = None) -> Self | None:
        """With what the weight folder of the vocabulary's world holds; None where it lacks a part."""
        if not vocabulary.name.isidentifier():
            return None
        folder = asset_dir("pretrained") / vocabulary.name / "planner"
        parser, dictionary = PromptParser.load(folder), ReverseDictionary.load(folder)
        acceptance = Acceptance.load(folder)
        if parser is None or dictionary is None or acceptance is None:
            return None
        if not set(dictionary.labels) <= set(vocabulary.labels):
            return None
        return cls(vocabulary, parser, dictionary, acceptance, rare)

    def named(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The text with descriptions and misspelt names replaced by names, and a note for each."""
        taken = self.taken(text)
        notes: list[str] = []
        for found in sorted(taken, reverse=True):
            said = text[found.start : found.end]
            text = text[: found.start] + self._name(found.label, said) + text[found.end :]
            notes.insert(0, f"read {said!r} as {found.label!r}")
        return text, tuple(notes)

    def taken(self, text: str) -> list[Reading]:
        """The likeliest readings that do not overlap. Each phrase is read twice: the second time it is known what the
        others may mean."""
        taken: list[Reading] = []
        spans = self.parser.spans(text)
        for _ in range(2):
            readings = list(self.readings(text, spans, taken))
            taken = []
            for found in sorted(readings, key=lambda each: (-each.score, each.start)):
                if all(found.end <= other.start or other.end <= found.start for other in taken):
                    taken.append(_widest(found, readings, taken))
            if not taken:
                break  # nothing new is known
        return taken

    def _name(self, label: str, said: str) -> str:
        """The name that takes a phrase's place, with its number and colour."""
        vocabulary, first = self._vocabulary, said.split()[0]
        last = said.split()[-1].lower()
        plural = len(content(said)) <= SHORT and last.endswith("s") and not last.endswith("ss")
        several = first.lower() in SEVERAL or first.isdigit()
        if (couple := _COUPLE.match(said)) and not vocabulary.entries[label].get("plural_only"):
            first, several = couple[0].strip(), True
        told = next((word for word in WORD.findall(said.lower()) if plain_colour(word)), "")
        words = f"{told} {vocabulary.plural(label) if several else label}".strip()
        if not several and plural and not vocabulary.entries[label].get("plural_only"):
            return f"some {told} {vocabulary.plural(label)}".replace("  ", " ")
        return f"{first} {words}" if several else vocabulary.with_article(label, words)

    def readings(self, text: str, spans: Sequence[Span], known: Sequence[Reading] = ()) -> Iterator[Reading]:
        """What parts of a text may be taken for, overlapping ones included; `known` are likely readings of others."""
        told = [(each.start, each.end, each.label) for each in known]
        for found in candidates(text, spans, self._vocabulary, self._dictionary, told):
            just_named = found.label in [each.label for each in found.within]
            misspelt = self._misspelt(text, found) if found.chance < SURE or just_named else None
            score = self._acceptance(found)
            if misspelt is not None:
                yield Reading(found.start, found.end, misspelt, found.likely**0.5)
            elif score >= (LEAST if " " in text[found.start : found.end] else LEAST_WORD) and not just_named:
                yield Reading(found.start, found.end, found.label, score)

    def _misspelt(self, text: str, found: Candidate) -> str | None:
        """What a short phrase's name looks like; as a whole, where a name stands within ("bed sde table")."""
        said = text[found.start : found.end]
        if self._resemblance is None or found.likely < MISSPELT_SPAN or len(content(said)) > MISSPELT_WORDS:
            return None
        if any(" " in text[each.start : each.end] for each in found.within):
            return None  # "two litle coffee tables": a whole name
        label = self._resemblance.nearest(said, whole=bool(found.within))
        return label if label not in [each.label for each in found.within] else None


def _widest(found: Reading, readings: Sequence[Reading], taken: Sequence[Reading]) -> Reading:
    """The longest reading as the same thing that ends where one does: "a chair with big wheels" for "big wheels"."""
    around = [
        each
        for each in readings
        if each.label == found.label
        and each.score >= found.score / 2
        and each.start <= found.start
        and each.end == found.end
        and all(each.end <= other.start or other.end <= each.start for other in taken)
    ]
    return max(around, key=lambda each: each.end - each.start)
