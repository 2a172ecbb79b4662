"""Which colours a prompt asks for: "a scarlet sofa", "a dark red car", "the fridge is red"."""

from __future__ import annotations

import re

from scene.reading import DETERMINERS, PREPOSITIONS
from scene.vocabulary import Vocabulary

PLAIN = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "beige", "cream",
    "turquoise", "golden", "silver", "lilac",
)  # fmt: skip
"""As descriptions of corpora have them."""
_SHADES = {
    "scarlet": "red", "crimson": "red", "maroon": "red", "ruby": "red", "burgundy": "red", "cherry-red": "red",
    "navy": "blue", "azure": "blue", "indigo": "blue", "cobalt": "blue", "sky-blue": "blue", "teal": "turquoise",
    "violet": "purple", "magenta": "pink", "gray": "grey", "charcoal": "grey", "gold": "golden", "ivory": "cream",
    "emerald": "green", "lime": "green", "mint": "green", "khaki": "green", "amber": "orange", "tan": "beige",
    "chestnut": "brown", "mauve": "lilac",
}  # fmt: skip
_WORD = re.compile(r"[a-z0-9][a-z0-9'-]*")
_SAID_AFTER = re.compile(
    r"\s+(?:is|are|should be|must be|has to be|have to be|in|painted|coloured|colored)\s+"
    r"(?:(?:bright|dark|light|pale|deep|all|completely|really|very)\s+)*(?P<colour>[a-z-]+)\b"
)
LOOK_BACK = 5


def plain_colour(word: str) -> str | None:
    """The colour of `PLAIN` that a word means; None where it is none."""
    return word if word in PLAIN else _SHADES.get(word)


def asked_colours(text: str, vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Label -> a colour for each of its mentions that has one, in the order of the text.

    Of several colours ("a black and white cat") the first counts.
    """
    lowered = text.lower()
    found: dict[str, list[str]] = {}
    for mention in vocabulary.find(lowered):
        colour = _before(lowered[: mention.start]) or _after(lowered[mention.end :])
        if colour is not None:
            found.setdefault(mention.label, []).append(colour)
    return found


def _before(text: str) -> str | None:
    """A colour among the adjectives right before a name."""
    if text and text[-1] not in " -":
        return None
    clause = re.split(r"[,.;:!?()]", text)[-1]
    colour = None
    for word in reversed(_WORD.findall(clause)[-LOOK_BACK:]):
        if word in DETERMINERS or word in PREPOSITIONS:
            break
        colour = plain_colour(word) or colour  # the first of "black and white" stays
    return colour


def _after(text: str) -> str | None:
    """A colour that is said of a name right after it."""
    match = _SAID_AFTER.match(text)
    return plain_colour(match["colour"]) if match else None
