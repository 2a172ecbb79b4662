"""Prompts with their things marked, in ever new words: what a prompt parser (`planner.parser`) learns from.

A frame (`planner.frames`) keeps its sentence; its things are described, misspelt, called by another name or
exchanged, left and right change places, and it is known where they stand in the text and how they are to stand to
each other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from planner.frames import OWN, Frame, Thing, said_as
from planner.grammar import INVERSE
from planner.parser import ONE_WAY, RELATIONS
from planner.phrases import LIVING, Phraser, slip
from scene.corpus.language import NUMBERS

KEPT_SHARE = 0.5  # of what is described, misspelt or called by another name: as it stands
DESCRIBED_SHARE = 0.35
SLIP_SHARE = 0.2  # of what is called by a name
SWAP_SHARE = 0.8
MIRROR_SHARE = 0.4
LOWER_SHARE = 0.1
OPENINGS = ("a", "the", "that", "my", "our", "this", "her")
_SIDE = re.compile(r"\b(?:left|right)\b", re.IGNORECASE)
_NO_SIDE = re.compile(
    r"\b(?:has|have|had|is|been|was|were|who|got|nothing|all|half|be|lying|i|he|she|they|you|we|someone|"
    r"somebody) left\b"
    r"|\bleft (?:over|behind|out|it|them|there|in|open|a|me|by)\b|\bright (?:up|now|here|there|away|next|beside|"
    r"against|"
    r"under|on|in|by|where|behind|beneath|above|in front|angle)\b|\b(?:all|that's|is that|is it|about) right\b|"
    r"^right\b",
    re.IGNORECASE,
)
_OTHER_SIDE = {"left": "right", "right": "left", "left of": "right of", "right of": "left of"}


class Marked(NamedTuple):
    """A text, (start, end) of the things in it, and (i, j) -> place in `RELATIONS`, i < j."""

    text: str
    phrases: list[tuple[int, int]]
    relations: dict[tuple[int, int], int]


def marked_as_is(frame: Frame) -> Marked:
    """A frame as it was written."""
    return _assembled(frame, [thing.said for thing in frame.things], lambda between: between)


def marked_anew(frame: Frame, phraser: Phraser, told: Mapping[str, Sequence[str]], rng: random.Random) -> Marked:
    """A frame in other words.

    Args:
        frame: the sentence.
        phraser: words and slips of the pen.
        told: label -> descriptions.
        rng: draws.
    """
    said = [_said(thing, phraser, told, rng) for thing in frame.things]
    outside = _assembled(frame, ["" for _ in said], lambda between: between).text
    mirror = rng.random() < MIRROR_SHARE and not _NO_SIDE.search(outside)
    found = _assembled(frame, said, _mirrored if mirror else str)
    if mirror:
        sides = {RELATIONS.index(word): RELATIONS.index(_OTHER_SIDE[word]) for word in ("left of", "right of")}
        found = found._replace(relations={pair: sides.get(word, word) for pair, word in found.relations.items()})
    return found._replace(text=found.text.lower()) if rng.random() < LOWER_SHARE else found


def _assembled(frame: Frame, said: Sequence[str], between: Callable[[str], str]) -> Marked:
    text, at, phrases = "", 0, []
    for thing, words in zip(frame.things, said, strict=True):
        start = frame.prompt.index(thing.said, at)
        text += between(frame.prompt[at:start])
        phrases.append((len(text), len(text) + len(words)))
        text, at = text + words, start + len(thing.said)
    relations: dict[tuple[int, int], int] = {}
    for first, word, second in frame.relations:
        if first > second:
            word = f"{word} <" if word in ONE_WAY else INVERSE[word]
        relations.setdefault((min(first, second), max(first, second)), RELATIONS.index(word))
    return Marked(text + between(frame.prompt[at:]), phrases, relations)


def _mirrored(text: str) -> str:
    """Left and right exchanged."""

    def other(match: re.Match[str]) -> str:
        word = _OTHER_SIDE[match.group().lower()]
        return word.capitalize() if match.group()[0].isupper() else word

    return _SIDE.sub(other, text)


def _said(thing: Thing, phraser: Phraser, told: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """How a thing may be said instead."""
    vocabulary, by_label = phraser.vocabulary, thing.how == "label"
    if not thing.label or (not by_label and rng.random() < KEPT_SHARE):
        return thing.said
    label = thing.label
    if vocabulary.kind(label) in LIVING[:1] and rng.random() < SWAP_SHARE:  # pronouns speak of people
        return thing.said
    if rng.random() < SWAP_SHARE:
        label = rng.choice(
            [other for other in vocabulary.labels if vocabulary.kind(other) not in ("surface", "person")]
        )
    if rng.random() < DESCRIBED_SHARE and told.get(label):
        said = _described(rng.choice(told[label]), rng)
    else:
        said, _ = said_as(thing, label, phraser, rng)
        said = _bare(said, thing.said, rng)
        if rng.random() < SLIP_SHARE:
            said = _misspelt(said, rng)
    return said[0].upper() + said[1:] if thing.said[0].isupper() else said


def _described(said: str, rng: random.Random) -> str:
    """A description, its article perhaps another or none."""
    first, _, rest = said.partition(" ")
    chance = rng.random()
    if chance < 0.15 and first.lower() in ("a", "an", "the") and rest.count(" ") > 1:
        return rest
    return f"{rng.choice(OPENINGS)} {rest}" if chance < 0.35 and first.lower() in ("a", "the") else said


def _bare(said: str, before: str, rng: random.Random) -> str:
    """Without its article, mostly, where there was none before."""
    first, _, rest = said.partition(" ")
    had = before.split()[0].lower() in ("a", "an", *OWN, *NUMBERS)
    return rest if rest and first.lower() in ("a", "an", "the") and not had and rng.random() < 0.7 else said


def _misspelt(said: str, rng: random.Random) -> str:
    """With a slip of the pen in its longest word, or another one."""
    words = said.split(" ")
    at = max(range(len(words)), key=lambda number: len(words[number]) + 2 * rng.random())
    words[at] = slip(words[at], rng)
    return " ".join(words)
