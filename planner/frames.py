"""Prompts in natural language whose things can be exchanged: what a planner learns the grammar of prompts from.

The phrase book's carriers (`planner.phrases`) hold a list or one relation each. People ramble, correct themselves, and
mention things in passing. A file of frames holds prompts that were written freely, with what they name marked; every
sample puts other things in the same places, so the sentence stays natural and cannot be learned by heart.

Source: ours; the exchange is lexical substitution (as in data augmentation for slot filling).
"""

from __future__ import annotations

import json
import random
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from planner.brief import Item
from planner.grammar import LINKS
from planner.imagined import other_word
from planner.phrases import LIVING, Phraser
from runtime.config import Config, validate
from scene.corpus.language import NUMBERS
from scene.errors import UserError
from scene.vocabulary import Vocabulary, pluralise
from scene.words import reading_words

SWAP_SHARE = 0.9  # of things
SAME_KIND_SHARE = 0.6  # of the exchanges; else any thing at all
WORD_SHARE = 0.35  # in another word than the label: mostly the planner is told labels (`SceneReader.in_own_words`)
RECOUNT_SHARE = 0.7  # of the stated numbers
MOST = 9
OWN = ("the", "my", "our", "his", "her", "their", "your", "this", "that")


class Thing(Config):
    """One thing that a frame names: `said` is how, its article, number or owner included."""

    said: str = Field(min_length=1)
    label: str
    """What it means; "" = something that no label fits."""
    count: int = Field(default=1, ge=1, le=12)
    how: Literal["label", "word", "described", "typo"] = "label"
    """By its label, in another word, told by what it does or looks like, or misspelt."""
    also: tuple[str, ...] = ()
    """Other labels that it may mean."""


class Frame(Config):
    """A line of the file. Relations are (subject, one of `planner.grammar.LINKS`, object), things by their place."""

    prompt: str = Field(min_length=1)
    things: tuple[Thing, ...] = ()
    relations: tuple[tuple[int, str, int], ...] = ()

    @model_validator(mode="after")
    def _stands(self) -> Frame:
        at = 0
        for thing in self.things:
            at = self.prompt.find(thing.said, at)
            if at < 0:
                raise ValueError(f"{thing.said!r} is not in the prompt, after the things before it")
            at += len(thing.said)
        for first, word, second in self.relations:
            if word not in LINKS or not {first, second} <= set(range(len(self.things))) or first == second:
                raise ValueError(f"relation ({first}, {word}, {second}) is none of {', '.join(LINKS)} of two things")
        return self


@lru_cache
def load_frames(path: Path) -> tuple[Frame, ...]:
    """Read a file of frames.

    Raises:
        UserError: no such file, or a line is none; with its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read frames {path} ({error.strerror}); see planner/data/home_frames.jsonl") from None
    frames = []
    for number, line in enumerate(lines, 1):
        try:
            data = json.loads(line)
        except ValueError:
            raise UserError(f"{path}:{number} is no JSON") from None
        frames.append(validate(Frame, data, f"{path}:{number}"))
    return tuple(frames)


def worded(frame: Frame, phraser: Phraser, rng: random.Random) -> tuple[str, tuple[Item, ...]]:
    """A frame with other things in it, perhaps with slips of the pen, and what it asks for, in the order of words."""
    exchanged = _exchanged(frame, phraser.vocabulary, rng)
    text, at, counts = "", 0, dict[str, int]()
    for thing in frame.things:
        start = frame.prompt.index(thing.said, at)
        said = thing.said
        if thing.label:
            label = exchanged[thing.label]
            said, count = said_as(thing, label, phraser, rng)
            counts[label] = counts.get(label, 0) + count
        text += frame.prompt[at:start] + said
        at = start + len(thing.said)
    text += frame.prompt[at:]
    links: dict[str, tuple[str, str]] = {}
    for first, word, second in frame.relations:
        one, other = (exchanged.get(frame.things[place].label) for place in (first, second))
        if one and other and one != other:
            links.setdefault(one, (word, other))
    items = tuple(Item(label, min(count, MOST), links.get(label)) for label, count in counts.items())
    return phraser.slipped(text, rng), items


def _exchanged(frame: Frame, vocabulary: Vocabulary, rng: random.Random) -> dict[str, str]:
    """Label of the frame -> label that takes its place. People stay, for pronouns speak of them."""
    collective = reading_words(vocabulary.name).collective
    outside = frame.prompt
    for thing in frame.things:
        outside = outside.replace(thing.said, "", 1)
    taken = {mention.label for mention in vocabulary.find(outside)} | {thing.label for thing in frame.things}
    found: dict[str, str] = {}
    for label in dict.fromkeys(thing.label for thing in frame.things if thing.label):
        found[label] = label
        if vocabulary.kind(label) in LIVING[:1] or label in collective or rng.random() >= SWAP_SHARE:
            continue
        same_kind = rng.random() < SAME_KIND_SHARE
        fitting = [
            other
            for other in vocabulary.labels
            if other not in taken
            and other not in collective
            and _number_of(other, vocabulary) == _number_of(label, vocabulary)
            and vocabulary.kind(other) not in ("surface", "person")
            and (not same_kind or vocabulary.kind(other) == vocabulary.kind(label))
        ]
        if fitting:
            found[label] = rng.choice(fitting)
            taken.add(found[label])
    return found


def _number_of(label: str, vocabulary: Vocabulary) -> tuple[bool, bool]:
    entry = vocabulary.entries[label]
    return bool(entry.get("mass")), bool(entry.get("plural_only"))


def said_as(thing: Thing, label: str, phraser: Phraser, rng: random.Random) -> tuple[str, int]:
    """How a thing is said with another label in its place, and how many they are."""
    vocabulary, count = phraser.vocabulary, thing.count
    forms = (vocabulary.plural(thing.label), thing.label)
    form = next((form for form in forms if thing.said.lower().endswith(form.lower())), None)
    if form is None:  # said in a way that no other thing could be
        return _named(thing, label, vocabulary), count
    before = thing.said[: len(thing.said) - len(form)]
    word = other_word(phraser, label, rng, WORD_SHARE) or label
    plural = form == forms[0] and forms[0] != forms[1]
    if plural:
        word = vocabulary.plural(label) if word == label else pluralise(word)
        before, count = _recounted(before, count, rng)
    if not before:
        return (word[0].upper() + word[1:] if thing.said[0].isupper() else word), count
    article = re.match(r"(an?)(?=\s)", before, re.IGNORECASE)
    following = before[article.end() :].strip() if article else ""
    if article and not following:
        right = "an" if word[0].lower() in "aeiou" else "a"
        before = (right.capitalize() if before[0].isupper() else right) + before[article.end() :]
    return before + word, count


def _named(thing: Thing, label: str, vocabulary: Vocabulary) -> str:
    """A thing that is described, misspelt or said in another word, by a label: "the seat that spins" is "the stool"."""
    first = thing.said.split()[0]
    if thing.count > 1:
        stated = first if first.lower() in (*NUMBERS, "some", "those", "these") or first.isdigit() else ""
        said = f"{stated or NUMBERS[min(thing.count, MOST)]} {vocabulary.plural(label)}"
    elif first.lower() in OWN:
        said = f"{first} {label}"
    else:
        said = vocabulary.with_article(label)
    return said[0].upper() + said[1:] if first[0].isupper() else said


def _recounted(before: str, count: int, rng: random.Random) -> tuple[str, int]:
    """Another number in the place of a stated one."""
    words = {NUMBERS[number]: number for number in range(2, MOST + 1)}
    match = re.search(r"\b(" + "|".join([*words, r"[2-9]"]) + r")\b", before, re.IGNORECASE)
    if match is None or rng.random() >= RECOUNT_SHARE:
        return before, count
    number = rng.choice((2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9))
    said = str(number) if match.group().isdigit() else NUMBERS[number]
    said = said.capitalize() if match.group()[0].isupper() else said
    return before[: match.start()] + said + before[match.end() :], number
