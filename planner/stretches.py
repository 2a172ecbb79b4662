"""Where a text may describe a thing instead of naming it: noun phrases with what follows them, up to each place where
they may end. Which of them do is for `planner.descriptions` to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

FEWEST, PLAIN_FEWEST, MOST = 3, 4, 16  # words; "a red cushion" names a thing, if one that nobody knows
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve")
ANYTHING = ("something", "somewhere", "someplace", "anything", "whatever", "what")
OWNERS = ("my", "our", "his", "her", "their", "your", "its")
ARTICLES = ("a", "an", "the", "that", "those", "this", "these", "some", "one", "another", *NUMBERS)
OPENING = (*ARTICLES, *OWNERS)
VAGUE = (
    *ANYTHING[:-1], "thing", "thingy", "gadget", "contraption", "device", "machine", "appliance", "object", "affair",
    "tool", "item", "gizmo", "instrument", "stuff", "sort", "kind", "whatsit",
)  # fmt: skip
USED = (
    "place", "spot", "button", "knob", "switch", "sign", "holder", "frame", "board", "bag", "box", "stand", "seat",
    "surface", "container", "canister", "cylinder", "light", "machine", "furniture", "cloth", "piece", "bit",
)  # fmt: skip  # tell something before "for" and "to"
TELLING = (
    "folk", "folks", "they", "that", "which", "where", "you", "we",
    "one", "i", "used", "when", "full", "stuck", "meant",
)  # fmt: skip
SOMEBODY = ("somebody", "someone")
PEOPLE = ("who", "whose", *SOMEBODY, "anybody", "anyone", "person", "people", "everybody", "nobody")
ROOMS = (
    "room", "bathroom", "bedroom", "kitchen", "lounge", "parlour", "hall", "hallway", "garden", "patio", "terrace",
    "flat", "nursery", "study", "office", "street", "garage", "attic", "cellar", "corner", "nook", "gym", "balcony",
    "backyard", "yard", "lawn", "landing", "cabin", "porch", "studio", "shop", "house", "home",
)  # fmt: skip  # a bedroom where somebody does something is no thing
_BEFORE_THAT = (
    "and", "plus", "or", "with", "of", "know", "remember", "see", "show", "draw", "has", "got", "had", "call",
    "want", "need", "get", "add", "put", "place", "like", "is", "by", "have",
)  # fmt: skip
_NO_START = (
    "i", "they", "you", "we", "when", "it", "he", "she", "there", "and", "with", "or", "plus", "please", "of", "is",
    "are", "into", "onto", "up", "down", "over", "under", "inside", "outside", "about", "like", "on", "in", "at", "to",
    "for", "from", "by", "no", "not", "without", "then", "so", "but", "if", "as", "where", "which", "who", "how", "why",
    "can", "could", "would", "let", "make", "give", "show", "draw", "put", "add",
)  # fmt: skip
_SORTS = ("sort", "kind", "type")
_SIDES = (
    "left", "right", "side", "rest", "middle", "right-hand", "left-hand", "far", "same", "other", "opposite", "top",
    "bottom", "front", "back", "corner",
)  # fmt: skip
_VERBS = (
    "would", "could", "can", "is", "are", "was", "were", "has", "have", "had", "takes", "should", "must", "will",
    "gets", "goes",
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_STOP = re.compile(r"[,;:.!?()\n+&]|\s-\s")
_HINGE = re.compile(
    r"\b(?:plus|but|then|is|are|goes|stands|sits|hangs|should|would|please)\b"
    r"|\b(?:and|next to|beside|in front of|behind|above|below|under|underneath|near|alongside|by|on top of|on|in|at"
    rf"|from|against)\s+(?:{'|'.join((*ARTICLES, 'something', 'somewhere', 'whatever'))}|it)\b"
    r"|\b(?:and|or) (?:also|then|maybe|perhaps|even|finally)\b"
    r"|\b(?:to|on|at|in) the (?:left|right|side|middle|corner|top|bottom)\b",
    re.IGNORECASE,
)
_ITEM = re.compile(
    r"(?:^|[,;:.!?()\n+&]|\s-\s|\b(?:and|plus|with|or|has|have|add|put|then|get|gets|need|needs|want|wants|show|draw"
    r"|picture|paint|of))\s*[\"']?$",
    re.IGNORECASE,
)


class Stretch(NamedTuple):
    """A part of a text. `told` is where what makes it a description begins: a vague noun ("thing") or what it does
    ("that ...", "for ...ing"); None where there is no such word. `bare`: it has no article."""

    start: int
    end: int
    told: int | None = None
    bare: bool = False


def stretches(text: str) -> list[Stretch]:
    """All stretches of a text, overlapping ones included; of one that is found twice, the one that is told."""
    found = {(each.start, each.end): each for each in _plain(text)}
    found |= {(each.start, each.end): each for each in _told(text)}
    return list(found.values())


class _Ends:
    """Where a stretch may end."""

    def __init__(self, text: str) -> None:
        self.words = list(_WORD.finditer(text))
        self._stops = {len(text), *(match.start() for match in _STOP.finditer(text))}
        self._hinges = {match.start() for match in _HINGE.finditer(text)}
        self._length = len(text)

    def after(self, number: int) -> tuple[bool, bool]:
        """Whether a stretch may end after this word, and whether it must."""
        joining = self.words[number].group().lower() in ("and", "or", "plus")
        end = self.words[number].end()
        following = self.words[number + 1].start() if number + 1 < len(self.words) else self._length
        stopped = any(end <= stop <= following for stop in self._stops)
        return (stopped or following in self._hinges) and not joining, stopped


def _plain(text: str) -> Iterator[Stretch]:
    """Noun phrases of any kind."""
    ends = _Ends(text)
    words = ends.words
    for at, first in enumerate(words):
        opening, last = first.group().lower(), words[at - 1].group().lower() if at else ""
        touching = bool(at) and text[words[at - 1].end() : first.start()].isspace()
        bare = opening not in (*OPENING, *ANYTHING)
        if opening in (*_NO_START, *SOMEBODY) or "'" in opening or (touching and last in OPENING):
            continue
        if at + 1 < len(words) and words[at + 1].group().lower() in (*_SORTS, *_SIDES):
            continue  # "the right of that door"
        if bare and not _ITEM.search(text[: first.start()]):
            continue
        for number in range(at, min(at + MOST, len(words))):
            word = words[number].group().lower()
            if (word in ROOMS and number - at < FEWEST) or (bare and word in _VERBS):
                break
            may, must = ends.after(number)
            hyphened = "-" in text[first.start() : words[number].end()]
            if may and (number - at + 1 >= PLAIN_FEWEST or (hyphened and number > at)):
                yield Stretch(first.start(), words[number].end(), None, bare)
            if must:
                break


def _does(word: str) -> bool:
    """Whether "what" and this word tell of a thing: "what keeps milk cold", "what you sit on"."""
    return word in ("you", "we", "one") or (word.endswith("s") and not word.endswith("ss") and word not in _VERBS)


def _told(text: str) -> Iterator[Stretch]:
    """Noun phrases with a word that tells of a description."""
    ends = _Ends(text)
    words = ends.words
    for at, first in enumerate(words):
        opening, last = first.group().lower(), words[at - 1].group().lower() if at else ""
        if opening not in (*OPENING, *ANYTHING) or last in ("the", "that", "this", "another"):
            continue
        head, of = ([word.group().lower() for word in words[at + 1 : at + 3]] + ["", ""])[:2]
        if (opening in ("this", "that") and head == "one") or head in _VERBS:
            continue  # "in this one there is ...", "one would love ..."
        if head in _SIDES or (head in _SORTS and of != "of"):
            continue  # "the right of that door", "the sort that stands on the floor"
        if opening == "that" and last not in ("", *_BEFORE_THAT) and text[words[at - 1].end() : first.start()] == " ":
            continue  # "a bag that sags"
        told, before = words[at + 1].start() if opening == "what" and _does(head) else None, ""
        for number in range(at, min(at + MOST, len(words))):
            word = words[number]
            lowered = word.group().lower()
            if lowered in PEOPLE:
                break
            if told is None and number > at and lowered in (*OPENING, *ANYTHING) and lowered not in TELLING:
                break  # another noun phrase
            is_vague = lowered.removesuffix("s") in VAGUE
            tells = is_vague or (number > at and lowered in TELLING)
            room = before in ROOMS and words[number - 2].group().lower() != "and"  # "something long and flat"
            if room and not is_vague and (told is None or opening in ANYTHING):
                break
            after = words[number + 1].group().lower() if number + 1 < len(words) else ""
            used = before.removesuffix("s") in USED and lowered in ("to", "for") and (lowered, after) != ("to", "the")
            if told is None and (tells or used or (before == "for" and lowered.endswith("ing"))):
                told = word.start()
            before = lowered
            may, must = ends.after(number)
            if may and told is not None and number - at + 1 >= FEWEST:
                yield Stretch(first.start(), word.end(), told)
            if must:
                break
