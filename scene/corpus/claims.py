"""What a prompt claims: how many of each category, and which stands how to which. Read off the words alone, so that it
can convict the generator that wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scene.clause_words import INVERSE, PHRASES
from scene.clauses import stands
from scene.geometry import Box
from scene.relations import Relation, box_relations, mask_relations
from scene.rephrasing import plainly
from scene.vocabulary import Vocabulary

_IDIOMS = ("under the sun",)  # says that the sun shines, not where anything stands
# "a cat in the armchair"
_SAT_ON = ("chair", "sofa", "bed", "hammock", "bench", "stool", "beanbag", "futon", "lounger")
_LINK = re.compile(
    rf"^(?P<before>[^,;.]*?)\b(?P<phrase>{'|'.join(sorted([*PHRASES, *INVERSE], key=len, reverse=True))})"
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
    """Relations between categories that a prompt asks for, as far as `scene.clauses` reads English."""
    lowered = plainly(text.lower())
    for each in stands(lowered, vocabulary.find(lowered), vocabulary.kind):
        words = lowered[each.start : each.end]
        relation = "on" if each.relation == "inside" and each.second.label.endswith(_SAT_ON) else each.relation
        if not words.endswith(_IDIOMS):
            yield RelationClaim(each.first.label, relation, each.second.label, words)


def stated_claims(text: str, vocabulary: Vocabulary) -> Iterator[RelationClaim]:
    """Only those between categories that follow each other, with one phrase between ("a red ball next to a dog"), in
    the world's own words: enough to convict a generator, and no better, so that a better reader changes no corpus."""
    lowered = text.lower()
    for left, right in pairwise(vocabulary.plain.find(lowered)):
        between = lowered[left.end : right.start]
        match = _LINK.match(between)
        if match is None or re.search(r"\band\b", between):
            continue
        words, phrase = lowered[left.start : right.end], match["phrase"]
        if words.endswith(_IDIOMS):
            continue
        if phrase in PHRASES:
            yield RelationClaim(left.label, PHRASES[phrase], right.label, words)
        else:
            yield RelationClaim(right.label, INVERSE[phrase], left.label, words)


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
    for claim in stated_claims(text, vocabulary):
        if not holds(claim, labels, masks):
            wrong.append(f"says {claim.words!r}, but no {claim.first} is {claim.relation} a {claim.second}")
    return wrong
