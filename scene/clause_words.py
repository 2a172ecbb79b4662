"""The words of `scene.clauses`: phrases that say how things stand, and texts cut into tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from scene.reading import DETERMINERS, Mention
from scene.relations import Relation

PHRASES: dict[str, Relation] = {
    "to the left of": "left of", "on the left of": "left of", "left of": "left of",
    "to the right of": "right of", "on the right of": "right of", "right of": "right of",
    "above": "above", "over": "above", "below": "below", "under": "below", "beneath": "below",
    "next to": "next to", "near": "next to", "beside": "next to", "by": "next to",
    "in front of": "in front of", "on": "on", "on top of": "on",
}  # fmt: skip
INVERSE: dict[str, Relation] = {"behind": "in front of"}  # A behind B: B in front of A
_MORE: dict[str, Relation] = {
    "on the left side of": "left of", "on the left-hand side of": "left of", "at the left of": "left of",
    "on the right side of": "right of", "on the right-hand side of": "right of", "at the right of": "right of",
    "left from": "left of", "right from": "right of", "underneath": "below", "atop": "on", "upon": "on", "onto": "on",
    "adjacent to": "next to", "close to": "next to", "near to": "next to", "alongside": "next to", "along": "next to",
    "at the side of": "next to", "by the side of": "next to", "on either side of": "next to",
    "either side of": "next to", "on both sides of": "next to", "on each side of": "next to", "each side of": "next to",
    "not far from": "next to",
    "before": "in front of", "ahead of": "in front of", "at the foot of": "in front of",
    "around": "next to", "all around": "next to", "draped over": "on",
    "draped across": "on", "slung over": "on", "slung across": "on", "thrown over": "on", "thrown across": "on",
    "folded over": "on", "spread over": "on", "spread across": "on", "laid across": "on", "sprawled across": "on",
    "inside": "inside", "inside of": "inside", "within": "inside", "in": "inside", "into": "inside",
}  # fmt: skip
_ROUND = "round"  # an adjective as often: "a round rug"
BEHIND = ("behind", "in back of", "at the back of")
# Said of something named before: "with a lamp above".
ALONE: dict[str, Relation] = {
    "above": "above", "below": "below", "underneath": "below", "beneath": "below", "beside": "next to",
    "alongside": "next to", "nearby": "next to", "in front": "in front of", "on top": "on", "inside": "inside",
    "on either side": "next to", "on each side": "next to", "on both sides": "next to", "at its side": "next to",
    "by its side": "next to", "at its sides": "next to", "on its top": "on",
}  # fmt: skip
# Phrases that place something in a way for which there is no relation; what follows them is an object all the same.
ELSEWISE = (
    "opposite", "opposite to", "across from", "facing", "against", "lean on", "leans on", "leaning on",
    "leaning against", "at", "from", "through", "past", "towards", "for", "like",
)  # fmt: skip
_BEARING = (
    "topped by", "topped with", "laden with", "loaded with", "covered with", "covered in", "covered by", "crowned by",
    "crowned with", "carries", "carry", "carrying", "supports", "supporting", "bears", "bearing", "holds", "holding",
    "set with", "laid with",
)  # fmt: skip
_CONTAINING = ("contains", "contain", "containing", "full of", "filled with", "stuffed with")
_FLANKED = ("flanked by", "framed by", "surrounded by", "bordered by")
_TOGETHER = (
    "side by side", "next to each other", "beside each other", "next to one another", "beside one another",
    "shoulder to shoulder", "near each other", "by each other",
)  # fmt: skip
_VERBS = (
    "is", "are", "was", "were", "stand", "stands", "standing", "sit", "sits", "sitting", "seated", "lie", "lies",
    "lying", "laid", "hang", "hangs", "hanging", "rest", "rests", "resting", "lean", "leans", "leaning", "sleep",
    "sleeps", "wait", "waits", "waiting", "placed", "put", "parked", "perched", "be",
    "all", "goes", "go", "went", "stood", "sat", "hung", "lay", "leant", "propped",
    "squeeze in", "squeezed in", "fit in", "throw in", "bring in", "there is", "there are", "there's", "comes",
    "add", "draw", "show", "want", "i want", "i'd like", "we want", "we'd like", "i see", "you see", "we have",
    "i have", "we've got", "i've got", "you'll find", "you will find", "now", "please",
)  # fmt: skip
_SIDE = (
    r"(?:(?:on|to|at|off to) (?:the |its |his |her |their )?(?:far )?|(?:far )?)(?:left|right)(?:-hand| hand)?"
    r"(?: side)?"
    r"(?= *(?:[,.;:!?()–—]|$|and\b|while\b))|"
    r"(?:on|to) (?:the |its |his |her |their )(?:far )?(?:left|right)(?:-hand| hand)?(?: side)?\b(?! of| from)|"
    r"(?:left|right)(?= *:)"
)

CARRIERS = frozenset(
    (
        "surface furniture fixture appliance outdoor vehicle large object plant electronics music sport tableware toy "
        "bath"
    ).split()
)
PORTABLE = frozenset("tableware food object electronics clothing toy bath lighting plant animal".split())
HOLDERS = frozenset("furniture tableware bath object vehicle outdoor fixture appliance".split())
LIVING = ("person", "animal")
FLAT = ("rug", "mat", "carpet")
NO_INSIDE = tuple("window door wall curtain rug bench chair table stool sofa bed mat desk".split())


def _any(phrases: Sequence[str]) -> str:
    return "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in sorted(phrases, key=len, reverse=True))


_TOKENS = re.compile(
    "|".join(
        [
            rf"(?P<together>\b(?:{_any(_TOGETHER)})\b)",
            r"(?P<passive>\b[a-z]+(?<!plac)(?<!park)(?<!seat)ed by\b(?<!flanked by)(?<!framed by)(?<!surrounded by)"
            r"(?<!bordered by)(?<!topped by)(?<!covered by)(?<!crowned by))",
            rf"(?P<flanked>\b(?:{_any(_FLANKED)})\b)",
            rf"(?P<bearing>\b(?:{_any(_BEARING)})\b)",
            rf"(?P<containing>\b(?:{_any(_CONTAINING)})\b)",
            r"(?P<between>\b(?:in )?between\b)",
            rf"(?P<side>\b(?:{_SIDE}))",
            rf"(?P<relation>\b(?:{_any([*PHRASES, *_MORE, *ALONE, *BEHIND, *ELSEWISE])})\b|"
            rf"\b(?<!\ba )(?<!\bthe ){_ROUND}(?=\s+(?:an?|the|it|them|this|that|my|our|his|her)\b))",
            r"(?P<pronoun>\b(?:it|them|they|itself|him|himself|herself|her(?=\s*(?:[,.;:!?]|$|and\b|is\b)))\b(?!'))",
            r"(?P<which>\b(?:which|whom)\b)",
            r"(?P<with>\b(?:with|has|have|having|featuring)\b)",
            rf"(?P<verb>\b(?:{_any(_VERBS)})\b)",
            r"(?P<and>\band\b|&|\bplus\b)",
            r"(?P<end>[.!?;]+|\b(?:while|whereas|but)\b)",
            r"(?P<stop>[,:()–—]| - )",
        ]
    )
)


@dataclass(frozen=True)
class Token:
    """A name (`kind` "name") or a piece of grammar (`kind`: a group of `_TOKENS`) with its words."""

    kind: str
    words: str
    start: int
    end: int
    mention: Mention | None = None


@dataclass(frozen=True)
class Stands:
    """`first` stands in `relation` to `second`; `start`, `end`: the words that say so, half-open."""

    first: Mention
    relation: Relation
    second: Mention
    start: int
    end: int


@dataclass(frozen=True)
class Side:
    """Who stands on which side of a picture or of something; `end`: of the words that say so."""

    who: Sequence[Mention]
    side: Relation
    end: int


def pairs_of_sides(sides: Sequence[Side]) -> list[Stands]:
    """What stands left stands left of what stands right: "sofa left, tv right"."""
    found: list[Stands] = []
    k = 0
    while k + 1 < len(sides):
        one, two = sides[k], sides[k + 1]
        if one.side != two.side:
            found += [
                Stands(first, one.side, second, first.start, max(two.end, second.end))
                for first in one.who
                for second in two.who
                if first.label != second.label
            ]
            k += 1
        k += 1
    return found


def tokens(text: str, named: Sequence[Mention]) -> list[Token]:
    """Names and grammar of a text in lower case, in order."""
    found = [Token("name", text[m.start : m.end], m.start, m.end, m) for m in named]
    for match in _TOKENS.finditer(_blanked(text, named)):
        words = " ".join(match.group().split())
        found.append(Token(match.lastgroup or "", words, match.start(), match.end()))
    return sorted(found, key=lambda token: token.start)


def _blanked(text: str, named: Sequence[Mention]) -> str:
    """The text with its names crossed out, so that no grammar is read into them."""
    for mention in named:
        text = f"{text[: mention.start]}{'#' * (mention.end - mention.start)}{text[mention.end :]}"
    return text


def relation_of(words: str) -> Relation | None:
    """The relation that a phrase says; None: none, or one that `INVERSE` turns round."""
    return PHRASES.get(words) or _MORE.get(words) or ALONE.get(words) or ("next to" if words == _ROUND else None)


def is_phrase(filler: Sequence[str]) -> bool:
    """Whether words before a name belong to it: at most six, with a determiner only where a phrase begins."""
    inner = [word for word in filler[1:] if word in DETERMINERS and word not in ("single", "twin")]
    opened = bool(filler) and filler[0] in ("all", "both", "each", "one", "some", "just")
    return len(filler) <= 6 and len(inner) <= (2 if opened else 0)
