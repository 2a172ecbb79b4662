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

TOLD = 0.12  # probability from which a stretch is taken for a thing: where a word tells of a description,
PLAIN = 0.4  # where none does,
BARE = 0.85  # where there is not even an article,
TOLD_NAMING = 0.4  # where its kind is named: "a seat that spins",
NAMING = 0.6  # and no word tells: "a chair with big wheels for someone who cannot walk"
NOTHING = 0.4  # how much less likely it is than in training that no thing is meant where a word tells of one
KINDS = (
    "seat", "chair", "bed", "table", "pot", "bag", "box", "bin", "lamp", "light", "cup", "glass", "rack", "stand",
    "shelf", "cabinet", "basket", "bowl", "brush", "case", "screen", "mat", "clock", "bike", "toy", "desk", "piano",
    "tree", "dish", "basin", "door", "mattress", "ladder", "bottle", "plate", "knife", "spoon", "pan", "tub", "phone",
    "shoe", "car", "sofa", "couch", "house", "ball", "bat", "picture", "machine", "chest", "pool", "baby", "bird",
    "animal", "rocker", "panel", "umbrella", "sponge", "step",
)  # fmt: skip  # names of many kinds: "a seat that spins" is an office chair, "a sofa that keeps food cold" is a sofa
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_OWN = "|".join(("a", "an", "one", *NUMBERS, *OWNERS))
_NOUN = r"(?:[A-Za-z'-]+\s+){0,2}$"  # up to two words before a name
_ITS_OWN = re.compile(rf"\b(?:{_OWN})\s+{_NOUN}", re.IGNORECASE)  # "with an (old) armchair"
_ARTICLE = re.compile(rf"\b(?:the|{_OWN})\s+{_NOUN}", re.IGNORECASE)
_PLACED = "with|and|on|in|by|near|beside|next to|under|above|below|behind|in front of"
_BESIDE = re.compile(rf"\b(?:{_PLACED})\s+(?:{_OWN})\s+{_NOUN}", re.IGNORECASE)
_ANOTHER = re.compile(rf"\b(?:and|plus|or)\s+(?:the|what|something|somewhere|{_OWN})\b", re.IGNORECASE)
_HEAD = re.compile(r"[A-Za-z'-]+\s+(?:[A-Za-z'-]+\s+){0,2}")  # before the name that a phrase begins with
_LITTLE = re.compile(
    r"(?:\s+(?:on|in|under|near|beside|by|of|next|to|it|them|top|front))*\s*(?:[A-Za-z'-]+)?", re.IGNORECASE
)  # after a name: too little to tell it from others of its kind
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
                taken.append(_widest(found, readings, taken))
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
            telling = [found for found in within if stretch.told is not None and found.start >= stretch.told]
            passing = [found.label for found in telling if not _ARTICLE.search(text[stretch.start : found.start])]
            if not _is_kind(text, stretch, within) or _names_another(text, stretch, within):
                continue
            weight = NOTHING if stretch.told is not None else 1.0
            score, label = self._head.nearest(self._embed(text[stretch.start : stretch.end]), passing, weight)
            named = [found.label for found in within if found.label not in passing]
            if label and label not in named and score >= _bar(stretch, named):
                yield Reading(stretch.start, stretch.end, label, score)


def _is_kind(text: str, stretch: Stretch, within: Sequence[Mention]) -> bool:
    """Whether a stretch begins with no name, or with a name of many kinds."""
    if not within or (stretch.told is not None and stretch.told <= within[0].start):
        return True
    if within[0].start > stretch.start and not _HEAD.fullmatch(text[stretch.start : within[0].start]):
        return True
    return text[within[0].start : within[0].end].lower().removesuffix("s") in KINDS


def _widest(found: Reading, readings: Sequence[Reading], taken: Sequence[Reading]) -> Reading:
    """The longest reading of the same label with the same end: "the thing that ..." for "that ..."."""
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


def _bar(stretch: Stretch, heads: Sequence[str]) -> float:
    """The least probability for a stretch in which these labels are named, what tells of it left out."""
    if stretch.told is not None:
        return TOLD_NAMING if heads else TOLD
    return max(BARE if stretch.bare else PLAIN, NAMING if heads else 0.0)


def _names_another(text: str, stretch: Stretch, within: Sequence[Mention]) -> bool:
    """Whether a stretch is a name ("a double bed") or goes on to a thing of its own ("a table with an armchair")."""
    if _ANOTHER.search(text[stretch.start : stretch.end]):
        return True
    if not within:
        return False
    if stretch.told is None and _LITTLE.fullmatch(text[within[-1].end : stretch.end]):
        return True
    for number, found in enumerate(within):
        before = text[stretch.start : found.start]
        telling = stretch.told is not None and stretch.told < found.start  # "a table for doing your make-up"
        own = (_BESIDE if telling else _ITS_OWN).search(before, 1) is not None and not _ITS_OWN.fullmatch(before)
        if own or (number and _LIST.search(before)):
            return True
    return False
