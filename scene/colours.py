"""Which colours a prompt asks for: "a scarlet sofa", "a dark red car", "the fridge is red"."""

from __future__ import annotations

import re

from scene.reading import DETERMINERS, PREPOSITIONS
from scene.rephrasing import plainly
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
    "chestnut": "brown", "mauve": "lilac", "mustard": "yellow", "blonde": "yellow", "ochre": "yellow",
    "canary": "yellow", "saffron": "yellow", "rust": "orange", "tangerine": "orange",
    "apricot": "orange", "coral": "orange",
    "claret": "red", "vermilion": "red", "vermillion": "red", "brick-red": "red", "ruby-red": "red",
    "wine-red": "red", "sapphire": "blue", "ultramarine": "blue", "cerulean": "blue",
    "midnight-blue": "blue", "aqua": "turquoise", "aquamarine": "turquoise", "cyan": "turquoise",
    "aubergine": "purple", "lilac-coloured": "lilac", "fuchsia": "pink",
    "cerise": "pink", "rose-pink": "pink", "blush": "pink",
    "caramel": "brown",
    "jet-black": "black", "snow-white": "white", "whitewashed": "white", "chalk-white": "white",
    "slate-grey": "grey", "ash-grey": "grey", "anthracite": "grey",
    "taupe": "beige", "ecru": "beige", "off-white": "cream",
    "gilt": "golden", "gilded": "golden",
    "olive": "green", "sage": "green", "moss": "green", "forest-green": "green",
    "silvery": "silver", "pillar-box": "red", "postbox-red": "red",
    "greenish": "green", "reddish": "red", "bluish": "blue", "yellowish": "yellow",
}  # fmt: skip
_WORD = re.compile(r"[a-z0-9][a-z0-9'-]*")
_SHADED = r"(?:(?:an?|the|bright|dark|light|pale|deep|all|completely|really|very|pure|rich|soft)\s+)*"
_THE = r"(?:the|my|our|his|her|their|that|this)\s+$"
_SAID_AFTER = re.compile(
    r"(?:\s*,)?\s+(?:(?:that|which)\s+)?"
    r"(?:is|are|was|were|should be|must be|has to be|have to be|to be|in|painted|dyed|coloured|colored|covered in|"
    r"done in|of)\s+"
    rf"(?:painted\s+|in\s+)?{_SHADED}(?P<colour>[a-z-]+)\b"
)
_LIKENED = re.compile(r"\s*,?\s+(?:as )?(?P<colour>[a-z-]+) as an?\b")  # "an umbrella, yellow as a lemon"
_ASKED = re.compile(rf"\s+{_SHADED}(?P<colour>[a-z-]+)\b")  # "was the kettle red", "paint the door blue"
_ASKING = re.compile(rf"\b(?:is|are|was|were|paint|painted|make|keep|want|spray|dye)\s+{_THE}")
_GIVEN = re.compile(rf"\b(?:go|paint|do|be|use)\s+{_SHADED}(?P<colour>[a-z-]+)\s+(?:on|for|over)\s+{_THE}")
LOOK_BACK = 5


def plain_colour(word: str) -> str | None:
    """The colour of `PLAIN` that a word means; None where it is none."""
    if word in PLAIN or word in _SHADES:
        return word if word in PLAIN else _SHADES[word]
    first, _, last = word.removesuffix("-coloured").removesuffix("-colored").rpartition("-")
    return plain_colour(last) if first or last != word else None  # "bottle-green", "cream-coloured"


def asked_colours(text: str, vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Label -> a colour for each of its mentions that has one, in the order of the text.

    Of several colours ("a black and white cat") the first counts.
    """
    lowered = plainly(text.lower())
    found: dict[str, list[str]] = {}
    mentions = vocabulary.find(lowered)
    for number, mention in enumerate(mentions):
        before, after = lowered[: mention.start], lowered[mention.end :]
        if number + 1 < len(mentions) and _names(lowered[mention.end : mentions[number + 1].start]):
            after = ""
        colour = _before(before) or _within(lowered[mention.start : mention.end], mention.label)
        colour = colour or _after(after) or _asked(before, after)
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
        if word in DETERMINERS or word in PREPOSITIONS or (word == "and" and colour is None):
            break
        colour = plain_colour(word) or colour  # the first of "black and white" stays
    return colour


def _names(between: str) -> bool:
    """What lies between two names and says a colour belongs to the second: "a boy in a red cap"."""
    match = _SAID_AFTER.match(between)
    return match is not None and plain_colour(match["colour"]) is not None and not between[match.end() :].strip()


def _within(name: str, label: str) -> str | None:
    """A colour in the middle of a name: "folded white towels"."""
    return next((colour for word in _WORD.findall(name) if (colour := plain_colour(word)) and word not in label), None)


def _asked(before: str, after: str) -> str | None:
    """A colour that the words around a name give it: "was the kettle red", "paint the door blue", "go navy on it"."""
    match = (_ASKED.match(after) if _ASKING.search(before) else None) or _GIVEN.search(before)
    return plain_colour(match["colour"]) if match else None


def _after(text: str) -> str | None:
    """A colour that is said of a name right after it."""
    match = _SAID_AFTER.match(text) or _LIKENED.match(text)
    return plain_colour(match["colour"]) if match else None
