"""Things that a prompt describes instead of naming them: "the gadget that shrieks when the toast burns" is read as "the
smoke detector".

A world may have a reverse dictionary: for every label a few ways to say it without its name (`scene.words`). What
sounds like such a description is compared with them by the sentence encoder that the masker reads texts with, and
replaced by the name where it is near enough.

Source: reverse dictionaries (Hill et al., TACL 2016), with all-MiniLM-L6-v2 to compare; how a prompt is cut is
ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, Self

import torch
from torch import Tensor
from tqdm import tqdm

from runtime.assets import asset_dir, cache_dir
from runtime.weights import read_weights, save_weights
from scene.colours import plain_colour
from scene.errors import UserError
from scene.vocabulary import Vocabulary
from scene.words import reverse_dictionary

FEWEST, MOST = 3, 16  # words of a description
TOKENS = 24
NEAR = 0.53  # cosine from which a description is taken for a thing
SURE = 0.6  # where it names things: others in passing ("something to hang coats on"), or its kind ("a seat that spins")
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve")
_OPENING = ("a", "an", "the", "that", "those", "this", "these", "some", "one", "another", "my", "our", *_NUMBERS)
_ANYTHING = ("something", "somewhere", "someplace", "anything", "whatever")
_VAGUE = (
    *_ANYTHING, "thing", "thingy", "gadget", "contraption", "device", "machine", "appliance", "object", "affair",
    "tool", "item", "gizmo", "instrument", "stuff", "sort", "kind",
)  # fmt: skip
_USED = (
    "place", "spot", "button", "knob", "switch", "sign", "holder", "frame", "board", "bag", "box", "stand", "seat",
    "surface", "container", "canister", "cylinder", "light", "machine", "furniture", "cloth", "piece", "bit",
)  # fmt: skip  # tell something before "for" and "to"
_HEADS = (
    "seat", "chair", "bed", "table", "pot", "bag", "box", "bin", "lamp", "light", "cup", "glass", "rack", "stand",
    "shelf", "cabinet", "basket", "bowl", "brush", "case", "screen", "mat", "clock", "bike", "toy", "desk", "piano",
)  # fmt: skip  # names of many kinds: "a seat that spins" is an office chair, "a sofa that keeps food cold" is a sofa
_BEFORE_THAT = (
    "and", "plus", "or", "with", "of", "know", "remember", "see", "show", "draw", "has", "got", "had",
    "want", "need", "get", "add", "put", "place", "like", "is", "by", "have",
)  # fmt: skip
_NO_HEAD = ("left", "right", "side", "sort", "kind", "type", "rest", "middle")
_ROOMS = (
    "room", "bathroom", "bedroom", "kitchen", "lounge", "parlour", "hall", "hallway", "garden", "patio", "terrace",
    "flat", "nursery", "study", "office", "street", "garage", "attic", "cellar", "corner", "nook",
)  # fmt: skip  # a bedroom where somebody does something is no thing
_TELLING = (
    "folk", "folks", "they", "that", "which", "where", "you", "we",
    "one", "i", "used", "when", "full", "stuck", "meant",
)  # fmt: skip
_PEOPLE = ("who", "whose", "somebody", "someone", "anybody", "anyone", "person", "people", "everybody", "nobody")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_STOP = re.compile(r"[,;:.!?()\n+&]|\s-\s")
_HINGE = re.compile(
    r"\b(?:plus|but|then|is|are|goes|stands|sits|hangs|should|would|please)\b"
    r"|\b(?:and|next to|beside|in front of|behind|above|below|under|underneath|near|alongside|by|on top of|on|in|at"
    rf"|from|against)\s+(?:{'|'.join(_OPENING)}|it|something)\b|\b(?:and|or) (?:also|then|maybe|perhaps|even|finally)\b"
    r"|\b(?:to|on|at|in) the (?:left|right|side|middle|corner|top|bottom)\b",
    re.IGNORECASE,
)


class Reading(NamedTuple):
    """A stretch of a text and what it is taken for; `score` is a cosine."""

    start: int
    end: int
    label: str
    score: float


class Circumlocutions:
    """Reads descriptions of things as their names.

    Args:
        vocabulary: the world's words.
        phrases: label -> ways to say it without its name; under "" what is no object at all.
        embed: a text's vector of unit length, float32 (D,).
    """

    def __init__(
        self, vocabulary: Vocabulary, phrases: Mapping[str, Sequence[str]], embed: Callable[[str], Tensor]
    ) -> None:
        self._vocabulary, self._phrases, self._embed = vocabulary, phrases, embed

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> Self | None:
        """With the reverse dictionary of the vocabulary's world; None where it has none."""
        known = {"", *vocabulary.labels}
        phrases = {label: said for label, said in reverse_dictionary(vocabulary.name).items() if label in known}
        return cls(vocabulary, phrases, _embedded) if phrases.keys() - {""} else None

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
            several = said.split()[0].lower() in (*_NUMBERS, "those", "these", "some")
            vocabulary, label = self._vocabulary, found.label
            told = next((word for word in _WORD.findall(said.lower()) if plain_colour(word)), "")
            words = f"{told} {vocabulary.plural(label) if several else label}".strip()
            name = f"{said.split()[0]} {words}" if several else vocabulary.with_article(label, words)
            text = text[: found.start] + name + text[found.end :]
            notes.insert(0, f"read {said!r} as {found.label!r}")
        return text, tuple(notes)

    def readings(self, text: str) -> Iterator[Reading]:
        """What stretches of a text may be taken for, overlapping ones included."""
        things = [
            mention
            for mention in self._vocabulary.find(text.lower())
            if self._vocabulary.kind(mention.label) != "surface"
        ]
        for start, told, end in stretches(text):
            within = [mention for mention in things if mention.start < end and start < mention.end]
            heads = [mention for mention in within if mention.start < told]
            if len(heads) > 1 or not all(text[mention.start : told].lower().strip() in _HEADS for mention in heads):
                continue
            score, label = self.nearest(text[start:end])
            if label and label not in (mention.label for mention in within) and score >= (SURE if within else NEAR):
                yield Reading(start, end, label, score)

    def nearest(self, said: str) -> tuple[float, str]:
        """Cosine and label of the nearest phrase."""
        labels, table = self._table
        scores = table @ self._embed(said)
        best = int(scores.argmax())
        return float(scores[best]), labels[best]

    @cached_property
    def _table(self) -> tuple[list[str], Tensor]:
        """Labels and vectors of all phrases, (N, D). The vectors come with the world's weights or, of another
        dictionary, are kept in the cache folder."""
        told = [(label, text) for label, said in self._phrases.items() for text in said]
        texts = [f"{text}: a {label}" if label else text for label, text in told]  # 25 of 32 right; without name 16
        name = f"descriptions-{hashlib.sha256(repr(texts).encode()).hexdigest()[:12]}.safetensors"
        kept = asset_dir("pretrained") / self._vocabulary.name / "planner" / name
        if not kept.is_file():
            kept = cache_dir() / name
        if not kept.is_file():
            shown = tqdm(texts, "reading the dictionary, once", disable=None, leave=False)
            save_weights({"phrases": torch.stack([self._embed(text) for text in shown])}, kept)
        return [label for label, _ in told], read_weights(kept)["phrases"]


def _embedded(text: str) -> Tensor:
    from perception.text import TextEncoder

    return TextEncoder.load().encode(text, TOKENS).pooled


def stretches(text: str) -> Iterator[tuple[int, int, int]]:
    """Where a text may describe a thing: from the start of a noun phrase to where its clause may end, and in between
    what makes it a description: a vague noun ("thing") or the start of what it does ("that ...", "for ...ing").

    Yields:
        start, place of that word, end.
    """
    words = list(_WORD.finditer(text))
    stops = {len(text), *(match.start() for match in _STOP.finditer(text))}
    hinges = {match.start() for match in _HINGE.finditer(text)}
    for at, first in enumerate(words):
        opening, last = first.group().lower(), words[at - 1].group().lower() if at else ""
        if opening not in (*_OPENING, *_ANYTHING) or last in ("the", "that", "this", "another"):
            continue
        head, of = ([word.group().lower() for word in words[at + 1 : at + 3]] + ["", ""])[:2]
        if opening in ("this", "that") and head == "one":
            continue  # "in this one there is ..."
        if head in _NO_HEAD and of != "of":
            continue  # "the sort that stands on the floor"
        if opening == "that" and last not in ("", *_BEFORE_THAT) and text[words[at - 1].end() : first.start()] == " ":
            continue  # "a bag that sags"
        told, before = None, ""
        for number in range(at, min(at + MOST, len(words))):
            word, following = words[number], words[number + 1].start() if number + 1 < len(words) else len(text)
            lowered = word.group().lower()
            if lowered in _PEOPLE:
                break
            if told is None and number > at and lowered in (*_OPENING, *_ANYTHING) and lowered not in _TELLING:
                break  # another noun phrase
            is_vague = lowered.removesuffix("s") in _VAGUE
            tells = is_vague or (number > at and lowered in _TELLING)
            room = before in _ROOMS and words[number - 2].group().lower() != "and"  # "something long and flat"
            if room and not is_vague and (told is None or opening in _ANYTHING):
                break
            after = words[number + 1].group().lower() if number + 1 < len(words) else ""
            used = before.removesuffix("s") in _USED and lowered in ("to", "for") and (lowered, after) != ("to", "the")
            if told is None and (tells or used or (before == "for" and lowered.endswith("ing"))):
                told = word.start()
            before = lowered
            stopped = any(word.end() <= stop <= following for stop in stops)
            if told is not None and number - at + 1 >= FEWEST and (stopped or following in hinges):
                yield first.start(), told, word.end()
            if stopped:
                break
