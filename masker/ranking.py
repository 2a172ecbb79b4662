"""The score by which candidates are ranked: a product of parts, each 0 to 1, each measured to help or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from masker.support import SupportStatistics
from scene.candidates import MaskCandidate
from scene.geometry import Box
from scene.layout import SemanticLayout

WRONG_SUPPORT = 0.3
USUAL_DEVIATION = 1.0  # standard deviations of size that cost nothing
SURE = 0.05  # soft values below this are background and say nothing about confidence


def confidence(soft: np.ndarray) -> float:
    """How far the cells in or near the object stand from the fence, 0 to 1; 0 where there is no object."""
    near = soft[soft > SURE]
    return float(np.abs(2 * near - 1).mean()) if near.size else 0.0


def habits(statistics: SupportStatistics, label: str, mask: np.ndarray, layout: SemanticLayout) -> dict[str, float]:
    """How a mask agrees with what training scenes show of its label.

    support: 1 where it rests on what such things rest on, else `WRONG_SUPPORT`.
    size: falls with the deviation from the usual size at its place.
    room: 1 minus how far it overlaps a movable thing more than training ever shows.
    """
    excess = max(statistics.size_deviation(label, mask) - USUAL_DEVIATION, 0.0)
    return {
        "support": 1.0 if statistics.is_right(label, mask, layout) else WRONG_SUPPORT,
        "size": float(np.exp(-0.5 * excess**2)),
        "room": 1.0 - statistics.impossible_overlap(label, mask, layout),
    }


def ranked(candidates: Sequence[MaskCandidate], guided: bool) -> list[MaskCandidate]:
    """Best first. Under a guide, all draw the same thing: what most of them agree on is the likeliest ("agreement"),
    unless each was compared with more than the others ("likely")."""
    compared = any("likely" in candidate.details for candidate in candidates)
    if guided and not compared and len(candidates) > 1:
        candidates = [_with_agreement(candidate, candidates) for candidate in candidates]
    return sorted(candidates, key=lambda candidate: -candidate.score)


def _with_agreement(candidate: MaskCandidate, all_of_them: Sequence[MaskCandidate]) -> MaskCandidate:
    others = [iou(candidate.mask, other.mask) for other in all_of_them if other is not candidate]
    agreement = float(np.mean(others))
    return replace(candidate, score=candidate.score * agreement, details={**candidate.details, "agreement": agreement})


def box_fit(mask: np.ndarray, guide: Box) -> float:
    """IoU of the mask's box and the guide's."""
    box = Box.from_mask(mask)
    return box.iou(guide) if box is not None else 0.0


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two bool masks; 1 where both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0
