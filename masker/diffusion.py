"""Classifier-free guidance in three compositions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from masker.config import GuidanceWeights

# Which of (layout, T_obj, T_context) a branch keeps.
NOTHING, LAYOUT, OBJECT, CONTEXT, ALL = (
    (False, False, False),
    (True, False, False),
    (True, True, False),
    (True, False, True),
    (True, True, True),
)


@dataclass(frozen=True)
class Branch:
    """One evaluation of the network inside a guided step, and its share of the sum."""

    layout: bool
    object: bool
    context: bool
    coefficient: float


Kept = tuple[bool, bool, bool]


def guidance_terms(
    weights: GuidanceWeights, composition: Literal["chained", "one_text", "joint"]
) -> tuple[tuple[float, Kept, Kept], ...]:
    """Guidance as e(nothing) + sum of weight * [e(more) - e(less)]: (weight, more, less) of each term."""
    w_layout, w_object, w_context = weights.layout, weights.object, weights.context
    if composition == "joint":
        return ((w_layout, ALL, NOTHING),)
    if composition == "one_text":
        # T_obj last: the last branch is the one whose conditions read the mask.
        return (w_layout, LAYOUT, NOTHING), (w_context, CONTEXT, LAYOUT), (w_object, OBJECT, LAYOUT)
    return (w_layout, LAYOUT, NOTHING), (w_object, OBJECT, LAYOUT), (w_context, ALL, OBJECT)


def guidance_branches(
    weights: GuidanceWeights, composition: Literal["chained", "one_text", "joint"] = "chained"
) -> tuple[Branch, ...]:
    """The evaluations that guidance needs, each once, the fullest last.

    chained:  e(0,0,0) + w_S [e(S,0,0) - e(0,0,0)] + w_o [e(S,o,0) - e(S,0,0)] + w_c [e(S,o,c) - e(S,o,0)]
    one_text: e(0,0,0) + w_S [e(S,0,0) - e(0,0,0)] + w_o [e(S,o,0) - e(S,0,0)] + w_c [e(S,0,c) - e(S,0,0)]
    joint:    e(0,0,0) + w [e(S,o,c) - e(0,0,0)]

    Branches whose coefficients add up to 0 are left out: chained or joint, weight 1 costs one evaluation.

    Source: ours, after composable guidance of InstructPix2Pix (arXiv 2211.09800, Eq. 3).
    """
    coefficients: dict[Kept, float] = defaultdict(float, {NOTHING: 1.0})
    for weight, more, less in guidance_terms(weights, composition):
        coefficients[less] -= weight
        coefficients[more] += weight
    return tuple(Branch(*kept, value) for kept, value in coefficients.items() if abs(value) > 1e-9)


def combine(predictions: Tensor, branches: tuple[Branch, ...]) -> Tensor:
    """Weighted sum over branches.

    Args:
        predictions: (K * B, C, h, w), branch by branch.
        branches: K of them.

    Returns:
        (B, C, h, w).
    """
    parts = predictions.chunk(len(branches))
    total = parts[0] * branches[0].coefficient
    for part, branch in zip(parts[1:], branches[1:], strict=True):
        total = total + part * branch.coefficient
    return total
