"""What a prompt claims: how many of each category, and which stands how to which. Read off the words alone, so that it
can convict the generator that wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scene.geometry import Box
from scene.relations import Relation, box_relations, mask_relations
from scene.vocabulary import Vocabulary

_PHRASES: dict[str, Relation] = {
    "to the left of": "left of",
    "on the left of": "left of",
    "left of": "left of",
    "to the right of": "right of",
    "on the right of": "right of",
    "right of": "right of",
    "above": "above",
    "over": "above",
    "below": "below",
    "under": "below",
    "beneath": "below",
    "next to": "next to",
    "near": "next to",
    "beside": "next to",
    "by": "next to",
    "in front of": "in front of",
    "on": "on",
    "on top of": "on",
}
_INVERSE: dict[str, Relation] = {"behind": "in front of"}  # A behind B: B in front of A
_IDIOMS = ("under the sun",)  # says that the sun shines, not where anything stands
_LINK = re.compile(
    rf"^(?P<before>[^,;.]*?)\b(?P<phrase>{'|'.join(sorted([*_PHRASES, *_INVERSE], key=len, reverse=True))})"
    r"\s+(?:[\w'-]+\s+){0,6}$"
)


@dataclass(frozen=True)
class RelationClaim:
    """`first` stands in `relation` to `second`; categories, with the words that say so."""

    first: str
    relation: Relation
    second: str
    words: str


def relation_claims(text: str, vocabulary: Vocabulary) -> Iterator[RelationClaim]:
    """Relations between categories that follow each other in a sentence ("a red ball next to a dog")."""
    lowered = text.lower()
    mentions = vocabulary.find(lowered)
    for left, right in pairwise(mentions):
        between = lowered[left.end : right.start]
        match = _LINK.match(between)
        if match is None or re.search(r"\band\b", between):
            continue
        words, phrase = lowered[left.start : right.end], match["phrase"]
        if words.endswith(_IDIOMS):
            continue
        if phrase in _PHRASES:
            yield RelationClaim(left.label, _PHRASES[phrase], right.label, words)
        else:
            yield RelationClaim(right.label, _INVERSE[phrase], left.label, words)


def holds(claim: RelationClaim, labels: Sequence[str], masks: Sequence[np.ndarray]) -> bool:
    """Whether some two layers of the claim's categories stand so.

    Args:
        claim: what is claimed.
        labels: categories of the layers, back to front.
        masks: their amodal masks, bool (H, W).
    """
    boxes = [Box.from_mask(mask) for mask in masks]
    for i, first in enumerate(labels):
        for j, second in enumerate(labels):
            a, b = boxes[i], boxes[j]
            if i == j or first != claim.first or second != claim.second or a is None or b is None:
                continue
            if claim.relation in box_relations(a, b) or claim.relation in mask_relations(masks[i], masks[j], i > j):
                return True
    return False


def false_claims(text: str, vocabulary: Vocabulary, labels: Sequence[str], masks: Sequence[np.ndarray]) -> list[str]:
    """One line for every count and relation of a prompt that the layers do not bear out."""
    wrong = [
        f"says {count} x {label}, the scene has {labels.count(label)}"
        for label, count in vocabulary.plain.counts(text).items()
        if labels.count(label) < count
    ]
    for claim in relation_claims(text, vocabulary):
        if not holds(claim, labels, masks):
            wrong.append(f"says {claim.words!r}, but no {claim.first} is {claim.relation} a {claim.second}")
    return wrong
