"""Things that a prompt describes instead of naming them: "the gadget that shrieks when the toast burns" is read as "the
smoke detector".

Every stretch of a text that may be such a description (`planner.stretches`) is asked of the world's trained reverse
dictionary (`planner.descriptions`), and replaced by the name where that is sure enough. How sure depends on what speaks
for a description: words that tell of one, an article, nothing; and against it: a thing named within.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from planner.descriptions import DescriptionHead, Embed, embedded
from planner.stretches import NUMBERS, OWNERS, Stretch, stretches
from runtime.assets import asset_dir
from scene.colours import plain_colour
from scene.errors import UserError
from scene.vocabulary import Mention, Vocabulary

TOLD = 0.2  # probability from which a stretch is taken for a thing: where a word tells of a description,
PLAIN = 0.5  # where none does,
BARE = 0.8  # where there is not even an article,
NAMING = 0.65  # where something is named within: "a chair with big wheels for someone who cannot walk"
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_ITS_OWN = re.compile(
    rf"\b(?:{'|'.join(('a', 'an', 'one', *NUMBERS, *OWNERS))})\s+(?:[A-Za-z'-]+\s+){{0,2}}$", re.IGNORECASE
)


_LIST = re.compile(r"\band\b|,", re.IGNORECASE)


class Reading(NamedTuple):
    """A stretch of a text and what it is taken for; `score` is a probability."""

    start: int
    end: int
    label: str
    score: float


class Circumlocutions:
    """Reads descriptions of things as their names.

    Args:
        vocabulary: the world's words.
        head: its reverse dictionary.
        embed: a text's vector of unit length, float32 (384,).
    """

    def __init__(self, vocabulary: Vocabulary, head: DescriptionHead, embed: Embed = embedded) -> None:
        self._vocabulary, self._head, self._embed = vocabulary, head, embed

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> Self | None:
        """With the reverse dictionary of the vocabulary's world; None where it has none."""
        if not vocabulary.name.isidentifier():
            return None
        head = DescriptionHead.load(asset_dir("pretrained") / vocabulary.name / "planner")
        return cls(vocabulary, head) if head is not None and set(head.labels) <= set(vocabulary.labels) else None

    def named(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The text with descriptions replaced by names, and a note for each."""
        taken: list[Reading] = []
        try:
            readings = list(self.readings(text))
        except UserError as error:
            return text, (f"descriptions not read: {error}",)
        for found in sorted(readings, key=lambda each: (-each.score, each.start)):
            if all(found.end <= other.start or other.end <= found.start for other in taken):
                taken.append(found)
        notes: list[str] = []
        for found in sorted(taken, reverse=True):
            said = text[found.start : found.end]
            text = text[: found.start] + self._name(found.label, said) + text[found.end :]
            notes.insert(0, f"read {said!r} as {found.label!r}")
        return text, tuple(notes)

    def _name(self, label: str, said: str) -> str:
        """The name that takes a description's place, with its number and colour."""
        vocabulary, first = self._vocabulary, said.split()[0]
        several = first.lower() in (*NUMBERS, "those", "these", "some")
        told = next((word for word in _WORD.findall(said.lower()) if plain_colour(word)), "")
        words = f"{told} {vocabulary.plural(label) if several else label}".strip()
        return f"{first} {words}" if several else vocabulary.with_article(label, words)

    def readings(self, text: str) -> Iterator[Reading]:
        """What stretches of a text may be taken for, overlapping ones included."""
        vocabulary = self._vocabulary
        things = [found for found in vocabulary.find(text.lower()) if vocabulary.kind(found.label) != "surface"]
        for stretch in stretches(text):
            within = [found for found in things if found.start < stretch.end and stretch.start < found.end]
            if _names_another(text, stretch, within):
                continue
            score, label = self._head.nearest(self._embed(text[stretch.start : stretch.end]))
            if label and label not in (found.label for found in within) and score >= _bar(stretch, within):
                yield Reading(stretch.start, stretch.end, label, score)


def _bar(stretch: Stretch, within: Sequence[Mention]) -> float:
    bar = TOLD if stretch.told is not None else BARE if stretch.bare else PLAIN
    return max(bar, NAMING) if within else bar


def _names_another(text: str, stretch: Stretch, within: Sequence[Mention]) -> bool:
    """Whether a stretch is a name ("a double bed") or goes on to a thing of its own ("a table with an armchair")."""
    if within and stretch.told is None and within[-1].end >= stretch.end:
        return True
    for number, found in enumerate(within):
        before = text[stretch.start : found.start]
        if _ITS_OWN.search(before, 1) is not None and not _ITS_OWN.fullmatch(before):
            return True
        if number and _LIST.search(before):
            return True
    return False
