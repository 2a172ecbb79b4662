"""Things that a prompt describes instead of naming them: "the gadget that shrieks when the toast burns" is read as "the
smoke detector".

A world may have a reverse dictionary: for every label a few ways to say it without its name. What sounds like such a
description is compared with them by the sentence encoder that the masker reads texts with, and replaced by the name
where it is near enough.

Source: reverse dictionaries (Hill et al., TACL 2016), with all-MiniLM-L6-v2 as the encoder; how a prompt is cut is ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
import yaml
from torch import Tensor

from scene.reading import DETERMINERS
from scene.vocabulary import Vocabulary, pluralise

DATA = Path(__file__).parents[1] / "scene" / "data"
FEWEST, MOST = 3, 18  # words of a description
NEAR = 0.55  # cosine from which a description is taken for a thing
SURE = 0.62  # where it begins with the name of another thing
_VAGUE = (
    "thing", "things", "thingy", "gadget", "gadgets", "contraption", "device", "devices", "machine", "machines", "appliance", "object",
    "something", "somewhere", "someplace", "anything", "whatever", "affair", "tool", "item", "furniture", "gizmo",
    "container", "vessel", "instrument", "toy", "creature", "animal", "garment", "frame", "board", "stuff", "place",
    "sort", "kind", "type", "bit", "piece", "one", "ones", "those", "that",
)  # fmt: skip
_TELLING = ("that", "which", "who", "whose", "where", "when", "you", "we", "one", "i", "for", "to", "with", "used")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_BREAK = re.compile(r"[,;:.!?()\n]|(?<=\s)(?:and|plus|but|then|&|\+)(?=\s)", re.IGNORECASE)
_BETWEEN = re.compile(
    r"\s(?:next to|beside|in front of|behind|above|below|under|underneath|near|alongside|by|on top of|lit by|on|in|at|from|against)\s",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reading:
    """A description and what it is taken for."""

    start: int
    end: int
    label: str
    score: float


class Circumlocutions:
    """Reads descriptions of things as their names.

    Args:
        vocabulary: the world's words.
        phrases: label -> ways to say it without its name.
        embed: a text's vector of unit length, float32 (D,).
    """

    def __init__(
        self, vocabulary: Vocabulary, phrases: Mapping[str, Sequence[str]], embed: Callable[[str], Tensor]
    ) -> None:
        self._vocabulary, self._phrases, self._embed = vocabulary, phrases, embed
        self.named = lru_cache(maxsize=64)(self._named)

    @cached_property
    def _table(self) -> tuple[list[str], Tensor]:
        labels = [label for label, said in self._phrases.items() for _ in said]
        return labels, torch.stack([self._embed(text) for said in self._phrases.values() for text in said])

    def _named(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The text with descriptions replaced by names, and a note for each."""
        taken: list[Reading] = []
        for found in sorted(self.readings(text), key=lambda each: -each.score):
            if all(found.end <= other.start or other.end <= found.start for other in taken):
                taken.append(found)
        notes = []
        for found in sorted(taken, key=lambda each: -each.start):
            said = text[found.start : found.end]
            text = text[: found.start] + f"the {found.label}" + text[found.end :]
            notes.append(f"read {said!r} as {found.label!r}")
        return text, tuple(reversed(notes))

    def readings(self, text: str) -> Iterator[Reading]:
        """What spans of a text may be taken for, overlapping ones included."""
        for start, end in spans(text):
            score, label = self.nearest(text[start:end])
            names = self._vocabulary.find(text[start:end].lower())
            if any(name.label == label for name in names):
                continue
            if score >= (SURE if names else NEAR):
                yield Reading(start, end, label, score)

    def nearest(self, said: str) -> tuple[float, str]:
        """The label with the nearest phrase, and its cosine."""
        labels, table = self._table
        scores = table @ self._embed(said)
        best = int(scores.argmax())
        return float(scores[best]), labels[best]


def spans(text: str) -> Iterator[tuple[int, int]]:
    """Stretches of a text that may describe a thing: from the start of a noun phrase to where a clause may end."""
    words = list(_WORD.finditer(text))
    breaks = [match.start() for match in _BREAK.finditer(text)] + [len(text)]
    stops = sorted({*breaks, *(match.start() for match in _BETWEEN.finditer(text))})
    for at, word in enumerate(words):
        lowered = word.group().lower()
        opens = at == 0 or any(words[at - 1].end() <= place <= word.start() for place in stops)
        if not (lowered in DETERMINERS or lowered in _VAGUE or opens):
            continue
        for stop in stops:
            inside = [each.group().lower() for each in words[at:] if each.end() <= stop]
            if len(inside) > MOST:
                break
            if len(inside) >= FEWEST and _tells(inside):
                yield word.start(), words[at + len(inside) - 1].end()


def _tells(words: Sequence[str]) -> bool:
    return bool({*words} & {*_VAGUE, *_TELLING})
