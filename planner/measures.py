"""What a finished plan is worth: pure functions over labels and boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from planner.links import holds
from planner.prompt_sets import PromptCase
from scene.geometry import Box, Size
from scene.proposal import Proposal
from scene.relations import DIRECTIONS, points

Placed = Sequence[tuple[str, Box]]
"""Label and box, in the order of placing."""
CLOSE_IOU = 0.5  # boxes of one label that overlap more are one object twice


def relation_holds(placed: Placed, subject: Collection[str], word: str, partner: Collection[str]) -> bool:
    """Whether some two objects of these labels stand so; the four directions by NSR-1K's rule, the rest by boxes."""
    for i, (first, a) in enumerate(placed):
        for j, (second, b) in enumerate(placed):
            if i == j or first not in subject or second not in partner:
                continue
            if word in DIRECTIONS:
                if points(a, b, word):
                    return True
            elif holds(word, a, b):
                return True
    return False


def case_scores(case: PromptCase, placed: Placed, surfaces: Collection[str]) -> dict[str, list[bool]]:
    """What of a prompt a plan fulfils, item by item.

    Returns:
        complete: everything named is there as often as named; named_objects: per named mention; implied: per implied
        mention; exact: every number that the prompt says is met exactly (empty where it says none); exact_mentions:
        per such number; relations: per relation; boxes: per box, off the canvas; pairs: per pair of one label, all but
        the same box; order: something that carries came after what it carries, or a surface after an object.
    """
    counts = Counter(label for label, _ in placed)

    def number(labels: Iterable[str]) -> int:
        return sum(counts[label] for label in labels)

    named = [number(mention.any_of) >= mention.count for mention in case.named]
    exact = [number(mention.any_of) == mention.count for mention in case.named if mention.exact]
    boxes = [not on_canvas(box, case.size) for _, box in placed]
    pairs = [
        a.iou(b) > CLOSE_IOU
        for i, (first, a) in enumerate(placed)
        for second, b in placed[:i]
        if first == second and first not in surfaces
    ]
    return {
        "complete": [all(named)],
        "named_objects": named,
        "implied": [number(mention.any_of) >= mention.count for mention in case.objects if mention.implied],
        "exact": [all(exact)] if exact else [],
        "exact_mentions": exact,
        "relations": [relation_holds(placed, *relation) for relation in case.relations],
        "boxes": boxes,
        "pairs": pairs,
        "order": [out_of_order([label for label, _ in placed], case, surfaces)],
    }


def attributes_hold(case: PromptCase, described: Iterable[tuple[str, str]]) -> list[bool]:
    """For each colour that a prompt names, whether an object of the label has it in its description.

    Args:
        case: the prompt.
        described: label and description of what was placed.
    """
    placed = list(described)
    return [
        any(label in mention.any_of and mention.attribute in text.split() for label, text in placed)
        for mention in case.objects
        if mention.attribute
    ]


def on_canvas(box: Box, size: Size) -> bool:
    """Whether a box lies on the canvas and is not empty."""
    return 0 <= box.x0 < box.x1 <= size.width and 0 <= box.y0 < box.y1 <= size.height


def out_of_order(labels: Sequence[str], case: PromptCase, surfaces: Collection[str]) -> bool:
    """A surface after an object, or what the prompt sets on something before that thing."""
    laid = [label in surfaces for label in labels]
    if any(later and not earlier for earlier, later in pairwise(laid)):
        return True
    for subject, word, partner in case.relations:
        firsts = [i for i, label in enumerate(labels) if label in subject]
        carriers = [i for i, label in enumerate(labels) if label in partner]
        if word == "on" and firsts and carriers and firsts[0] < carriers[0]:
            return True
    return False


def invented(case: PromptCase, labels: Sequence[str], surfaces: Collection[str]) -> list[str]:
    """Labels beyond what the prompt names or implies."""
    meant = {label for mention in case.objects for label in mention.any_of}
    return [label for label in labels if label not in meant and label not in surfaces]


def plausible(label: str, others: Collection[str], together: Mapping[str, Collection[str]]) -> bool:
    """Whether a label occurs in a held-out scene with at least one of the others.

    Args:
        label: invented.
        others: other objects of the plan.
        together: label -> labels of held-out scenes that hold it.
    """
    return bool(set(together.get(label, ())) & (set(others) - {label}))


def co_occurrence(scenes: Iterable[Collection[str]]) -> dict[str, set[str]]:
    """Label -> labels that stand with it in some scene."""
    found: dict[str, set[str]] = {}
    for labels in scenes:
        for label in labels:
            found.setdefault(label, set()).update(other for other in labels if other != label)
    return found


def placed_of(proposals: Sequence[Proposal], size: Size) -> list[tuple[str, Box]]:
    """Label and box of proposals; no box = the whole canvas."""
    return [(proposal.label, proposal.box or Box(0, 0, *size)) for proposal in proposals]


def mean(values: Sequence[float | bool]) -> float | None:
    """Mean to four digits; None of nothing."""
    return round(float(np.mean(values)), 4) if len(values) else None


def summary(scores: Sequence[Mapping[str, Sequence[bool]]]) -> dict[str, Any]:
    """Shares over all prompts under the names of docs/planner.md; what never occurred is absent."""
    names = {
        "complete": "named_recall",
        "named_objects": "named_object_recall",
        "implied": "implied_recall",
        "exact": "count_exact",
        "exact_mentions": "count_exact_mentions",
        "relations": "relation_accuracy",
        "attributes": "attribute_accuracy",
        "boxes": "off_canvas",
        "pairs": "same_class_overlap",
        "order": "order_violations",
        "plausible": "invented_plausible",
        "stopped": "stopped",
    }
    found = {new: mean([value for score in scores for value in score.get(old, ())]) for old, new in names.items()}
    return {name: value for name, value in found.items() if value is not None}


def stop_truth(named_stand: bool, count: int, low: float, high: float, last: bool) -> bool | None:
    """Whether stopping is due: True at the end of a real scene, False where it would be wrong (something named is
    missing, or the number of objects lies outside the room's 10th to 90th percentile), None where both would do.

    Args:
        named_stand: everything that the prompt names stands there.
        count: objects placed, surfaces included.
        low, high: percentiles of the room.
        last: the real scene ends here.
    """
    right = named_stand and low <= count <= high
    if last:
        return True if right else None
    return None if right else False


def room_percentiles(lengths: Mapping[str, Sequence[int]]) -> dict[str, tuple[float, float]]:
    """Room -> 10th and 90th percentile of the number of layers."""
    return {
        room: (float(np.percentile(values, 10)), float(np.percentile(values, 90))) for room, values in lengths.items()
    }
