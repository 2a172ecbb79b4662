"""Turns of phrase put plainly before a prompt is read: "to the toaster's right" as "to the right of the toaster", a
question and its answer as one sentence. Names and numbers stay as they are."""

from __future__ import annotations

import re

_WHERE = (
    r"on top of|in front of|next to|on|under|underneath|beneath|below|above|over|beside|behind|near|inside|in|by|"
    r"to the (?:left|right) of|left of|right of"
)
_THE = r"(?:the|my|our|his|her|their|that|this|a|an)"
_VERB = r"(?:sits?|stands?|lies?|lives?|hangs?|rests?|goes|waits?|is|are)"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # "bread bin to the toaster's right"
    (
        re.compile(
            rf"\b(to|on|at) ({_THE} (?:[a-z-]+ ){{0,2}}[a-z-]+)'s? (left|right)(?:(?:-hand| hand)? side)?\b(?!-| of)"
        ),
        r"\1 the \3 of \2",
    ),
    # "what sits on the board? a knife and a loaf."
    (
        re.compile(rf"\bwhat(?:'s| {_VERB}| have we| do we have)?( (?:{_WHERE}) [^.?!]+)\?\s*([^.?!]+)"),
        r"\2 stand\1",
    ),
    # "where's the remote? on the armchair"
    (re.compile(rf"\bwhere(?:'s|'re| is| are) ({_THE} [a-z -]+)\? (?=(?:{_WHERE})\b)"), r"\1 is "),
    # "the cat? asleep under the table"
    (re.compile(rf"((?:^|[.!?] ){_THE} [a-z -]+)\? (?=[a-z]+ (?:{_WHERE})\b|(?:{_WHERE})\b)"), r"\1 is "),
    # "in front of the tree someone has parked a train"
    (
        re.compile(
            r"\b(?:someone|somebody|we|they|i|he|she)(?: has| have|'s|'ve)? "
            r"(?:parked|left|put|placed|dropped|stood|set|hung|propped|dumped|laid)\b"
        ),
        "stands",
    ),
    # "on the desk: a stapler and a pencil"
    (re.compile(rf"((?:^|[.!?;] )(?:{_WHERE}) {_THE} [a-z -]+): (?=\S)"), r"\1 there are "),
    # "a table and, on that, a lamp"
    (
        re.compile(
            rf"\b({_WHERE}) (?:that|this)(?: one)?(?=\s*[,;.]|\s+(?:is|are|stands?|sits?|lies?|there|an?|the|my|his|her"
            r"|our|their|some|two|three|four|[a-z]+'s)\b)"
        ),
        r"\1 it",
    ),
)


def plainly(lowered: str) -> str:
    """A text in lower case with such turns put plainly; saying it twice changes nothing more.

    >>> plainly("bread bin to the toaster's right")
    'bread bin to the right of the toaster'
    >>> plainly("what sits on the board? a knife and a loaf.")
    'a knife and a loaf stand on the board.'
    >>> plainly("on the desk: a stapler and a pencil")
    'on the desk there are a stapler and a pencil'
    >>> plainly("the cat? asleep beneath the table")
    'the cat is asleep beneath the table'
    """
    for pattern, plain in _RULES:
        lowered = pattern.sub(plain, lowered)
    return lowered
