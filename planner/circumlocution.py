"""Things that a prompt describes or misspells instead of naming them: "the gadget that shrieks when the toast burns"
is read as "a smoke detector", "a beer mgu" as "a beer mug".

The prompt parser (`planner.parser`) tells where a text speaks of things; each such phrase is asked of the world's
trained reverse dictionary (`planner.descriptions`) and, where it looks misspelt, compared with the world's names
(`planner.resemblance`). It is replaced where the answer is sure enough, the less so the surer the parser is of the
phrase; a phrase that is just a name is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self

from planner.descriptions import DescriptionHead, Embed, embedded
from planner.parser import PromptParser, Span
from planner.resemblance import Resemblance
from runtime.assets import asset_dir
from scene.colours import plain_colour
from scene.corpus.language import NUMBERS
from scene.errors import UserError
from scene.vocabulary import Mention, Vocabulary

LEAST_SPAN = 0.05
FEW, FEW_WORDS = 2, 0.3  # of the label, where the phrase is two words beside its article
BARS = ((0.4, 0.15), (0.2, 0.25), (LEAST_SPAN, 0.45))  # from this probability of the phrase on, this one of the label
TOLD_SPAN, TOLD = 0.5, 0.12  # the same where a word tells that it is a description ("something to ...")
ONE_WORD, BARE_WORD = 0.45, 0.7  # of the label, where the phrase is one word beside its article, or without one
NAMING = 0.3  # where a name of something else stands within ("somewhere to hang coats"),
KIND = 0.35  # where its kind is named ("a seat that spins"),
VERB = 0.9  # and a verb follows, or what looks like one ("a box ships carry"),
PERSON = 0.8  # where it begins with a person ("a fat white fellow with a carrot for a nose"),
KIND_LAST = 0.75  # and nothing is said after that ("a tiny old-looking tree")
MISSPELT_SPAN, MISSPELT_WORDS = 0.3, 3  # so short a phrase of so likely a thing may be a misspelt name
SURE = 0.6  # of the label: not misspelt
DETERMINERS = (
    "a", "an", "the", "that", "those", "this", "these", "some", "one", "another", "my", "our", "his", "her", "their",
    "your", "its", *NUMBERS[2:], "pair", "pairs", "couple", "few", "set", "of", "exactly", "just", "any", "several",
    "other",
)  # fmt: skip
TELLING = (
    "that", "which", "who", "where", "what", "whatever", "with", "without", "for", "to", "you", "we", "i", "they", "on",
    "in", "like", "used", "when", "from", "something", "somewhere", "thing", "things", "those",
)  # fmt: skip  # where a name stands behind one of these, it is not what is meant
PEOPLE = ("someone", "somebody", "anyone", "anybody", "everyone", "everybody", "nobody", "people")
MOST_BEFORE = 3  # words before a name that a phrase is about
VAGUE = ("something", "somewhere", "what", "whatever", "where", "anything", "which")
SEVERAL = (*NUMBERS[2:], "those", "these", "some")
PLACING = ("on", "in", "under", "at", "to", "near", "beside", "behind", "above", "below", "over")
UNFINISHED = ("the", "a", "an", "of", "with", "and", "or", "next", "by")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_WHO = re.compile(r"(?:(?!for\b|to\b|with\b|that\b)[\w'-]+\s+){1,4}(?:who|whose)\b", re.IGNORECASE)
_OWN = "|".join(("a", "an", "one", *NUMBERS[2:], "my", "our", "his", "her", "their"))
_BESIDE = re.compile(
    r"\b(?:with|and|near|beside|next to|under|above|below|behind|in front of)"
    rf"\s+(?:{_OWN})\s+(?:[A-Za-z'-]+\s+){{0,2}}$",
    re.IGNORECASE,
)  # "... beside a (little old)", before a name


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
        head: the world's reverse dictionary.
        rare: whether a word is unknown to English; None = nothing is misspelt.
        embed: a text's vector of unit length, float32 (384,).
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        parser: PromptParser,
        head: DescriptionHead,
        rare: Callable[[str], bool] | None = None,
        embed: Embed = embedded,
    ) -> None:
        self._vocabulary, self.parser, self._head, self._embed = vocabulary, parser, head, embed
        self._resemblance = Resemblance(vocabulary, rare) if rare is not None else None

    @classmethod
    def of(cls, vocabulary: Vocabulary, rare: Callable[[str], bool] | None = None) -> Self | None:
        """With parser and reverse dictionary of the vocabulary's world; None where it has none."""
        if not vocabulary.name.isidentifier():
            return None
        folder = asset_dir("pretrained") / vocabulary.name / "planner"
        parser, head = PromptParser.load(folder), DescriptionHead.load(folder)
        if parser is None or head is None or not set(head.labels) <= set(vocabulary.labels):
            return None
        return cls(vocabulary, parser, head, rare)

    def named(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The text with descriptions and misspelt names replaced by names, and a note for each."""
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
        """The name that takes a phrase's place, with its number and colour."""
        vocabulary, first = self._vocabulary, said.split()[0]
        last = said.split()[-1].lower()
        plural = len(_content(said)) <= FEW and last.endswith("s") and not last.endswith("ss")
        several = first.lower() in SEVERAL or first.isdigit()
        told = next((word for word in _WORD.findall(said.lower()) if plain_colour(word)), "")
        words = f"{told} {vocabulary.plural(label) if several else label}".strip()
        if not several and plural and not vocabulary.entries[label].get("plural_only"):
            return f"some {told} {vocabulary.plural(label)}".replace("  ", " ")
        return f"{first} {words}" if several else vocabulary.with_article(label, words)

    def readings(self, text: str) -> Iterator[Reading]:
        """What phrases of a text may be taken for, overlapping ones included."""
        vocabulary = self._vocabulary
        things = [found for found in vocabulary.find(text.lower()) if vocabulary.kind(found.label) != "surface"]
        for span in self.parser.spans(text):
            within = [found for found in things if found.start < span.end and span.start < found.end]
            if span.score < LEAST_SPAN or any(found.start < span.start or span.end < found.end for found in within):
                continue
            said = text[span.start : span.end]
            if text.startswith(("'s", "’s"), span.end) or vocabulary.exact(said.lower()):
                continue  # "my neighbour's van" shows no neighbour
            after = _WORD.match(text[span.end :].lstrip())
            hanging = UNFINISHED + (PLACING if after and after[0].lower() in DETERMINERS else ())
            if (
                not said[-1].isalnum()
                or said.split()[-1].lower() in hanging
                or any(_BESIDE.search(text[span.start : found.start]) for found in within)
            ):
                continue  # "a table with an armchair" are two things
            label, score = self._described(said, span, within)
            if score < SURE:
                label, score = self._misspelt(said, span, within) or (label, score)
            if label is not None:
                yield Reading(span.start, span.end, label, score * span.score**0.5)

    def _misspelt(self, said: str, span: Span, within: Sequence[Mention]) -> tuple[str, float] | None:
        """What a short phrase's name looks like; as a whole, where a name stands within ("bed sde table")."""
        named = [word for found in within for word in _content(said[found.start - span.start : found.end - span.start])]
        if self._resemblance is None or span.score < MISSPELT_SPAN or len(_content(said)) > MISSPELT_WORDS:
            return None
        if named and len(named) == len(_content(said)):
            return None
        label = self._resemblance.nearest(said, whole=bool(within))
        return (label, 1.0) if label is not None and label not in [found.label for found in within] else None

    def _described(self, said: str, span: Span, within: Sequence[Mention]) -> tuple[str | None, float]:
        """What a phrase describes, and how likely."""
        words, passing = _content(said), list[str]()
        bar = next(least for likely, least in BARS if span.score >= likely)
        if within:
            first = within[0]
            named = _content(said[first.start - span.start : first.end - span.start])
            before = [word.lower() for word in _WORD.findall(said[: first.start - span.start])]
            is_kind = not any(word in TELLING for word in before[1:]) and not (before and before[0] in VAGUE)
            if is_kind and (len(words) - len(named) < 2 or len(_content(" ".join(before))) > MOST_BEFORE):
                return None, 0.0  # "a red cushion": a name
            last = is_kind and not _WORD.search(said[first.end - span.start :])
            bar = max(bar, KIND_LAST if last else KIND if is_kind else NAMING)
            after = _WORD.match(said[first.end - span.start :].lstrip())
            if is_kind and after and after[0].endswith("s") and after[0].lower() not in TELLING:
                bar = VERB  # "the bed takes up most of the space"
            if is_kind and self._vocabulary.kind(first.label) == "person":
                bar = PERSON  # "a lady in a pink skirt"
            passing = [found.label for found in within[is_kind:]]
        elif len(words) < 2:
            bar = max(bar, ONE_WORD if said.count(" ") else BARE_WORD) if words and words[0] not in PEOPLE else 2.0
        elif any(word in TELLING for word in _WORD.findall(said.lower())):
            bar = TOLD if span.score >= TOLD_SPAN else bar
        elif len(words) == FEW:
            bar = max(bar, FEW_WORDS)
        score, label = self._head.nearest(self._embed(said), passing)
        if label and _WHO.match(said) and self._vocabulary.kind(label) != "person":
            return None, 0.0  # "two friends who talk about the weather"
        known = [found.label for found in within]
        return (label, score) if label and label not in known and score >= bar else (None, 0.0)


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


def _content(said: str) -> list[str]:
    """Words of a phrase beside articles, numbers, owners and colours."""
    words = [word.lower() for word in _WORD.findall(said)]
    return [word for word in words if word not in DETERMINERS and not plain_colour(word)]
