"""Where an object touches what lies behind it: its lower contact, its upper end, and what it covers.

Everything is read off the amodal mask and the layout of the layers placed before it; nothing is known of depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scene.geometry import Box
from scene.layout import EMPTY, SemanticLayout

EDGE = "<edge>"  # cut by the canvas: what it rests on, or hangs from, is not in the picture
NOTHING = "<nothing>"
STRIP_FRAC = 0.06  # columns that end within this share of the height above the lowest point touch down
INSIDE_PX, OUTSIDE_PX = 2, 2  # rows of each touching column that are looked at, within and beyond the mask
NEARER_FRAC = 0.02  # of the canvas height: a base lower by more than this stands nearer


@dataclass(frozen=True)
class Overlap:
    """What a mask hides of one thing that was there before.

    Attributes:
        position: of the thing in the layout.
        buried: share of the mask that lies on the thing, where the thing stands nearer (its base is lower); else 0.
            High values are usual for what stands on it, and else mean that one is stuck in the other.
        covered: share of the thing's visible part that the mask hides.
    """

    position: int
    buried: float
    covered: float


def lower_contact(mask: np.ndarray, layout: SemanticLayout) -> dict[int, float]:
    """What lies under and just inside the lowest columns of a mask.

    Args:
        mask: bool (H, W), not empty.
        layout: What was there before.

    Returns:
        Position in the layout (`EMPTY` where nothing lies) -> share of the contact, falling; {} where the canvas's
        bottom cuts the mask.
    """
    box = _box(mask)
    if box.y1 == mask.shape[0]:
        return {}
    return _contact(mask[box.y0 : box.y1], layout.index, box.y0, downwards=True)


def upper_contact(mask: np.ndarray, layout: SemanticLayout) -> dict[int, float]:
    """As `lower_contact` for the highest columns; {} where the canvas's top cuts the mask."""
    box = _box(mask)
    if box.y0 == 0:
        return {}
    return _contact(mask[box.y0 : box.y1], layout.index, box.y0, downwards=False)


def _box(mask: np.ndarray) -> Box:
    box = Box.from_mask(mask)
    if box is None:
        raise ValueError("the mask is empty")
    return box


def _contact(rows: np.ndarray, index: np.ndarray, y0: int, *, downwards: bool) -> dict[int, float]:
    thickness = max(2, round(STRIP_FRAC * len(rows)))
    strip = rows[::-1][:thickness] if downwards else rows[:thickness]
    columns = np.flatnonzero(strip.any(axis=0))
    ends = np.argmax(strip[:, columns], axis=0)
    ends = y0 + len(rows) - 1 - ends if downwards else y0 + ends
    sign = 1 if downwards else -1
    seen = []
    for step in range(1 - INSIDE_PX, OUTSIDE_PX + 1):
        y = ends + sign * step
        inside = (y >= 0) & (y < index.shape[0])
        seen.append(index[y[inside], columns[inside]])
    positions, counts = np.unique(np.concatenate(seen), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {int(positions[i]): float(counts[i] / counts.sum()) for i in order}


def overlaps(mask: np.ndarray, layout: SemanticLayout) -> list[Overlap]:
    """What a mask hides of each thing it overlaps."""
    area, base = int(mask.sum()), _box(mask).y1
    count = len(layout.labels) + 1
    hidden = np.bincount(layout.index[mask].astype(np.intp) + 1, minlength=count)
    found = []
    for position in np.flatnonzero(hidden[1:]):
        visible = layout.visible(int(position))
        its_base = int(np.flatnonzero(visible.any(axis=1))[-1]) + 1
        nearer = its_base > base + NEARER_FRAC * mask.shape[0]
        share = int(hidden[position + 1])
        found.append(Overlap(int(position), share / area if nearer else 0.0, share / int(visible.sum())))
    return found


def height_on(position: int, base: int, layout: SemanticLayout) -> float:
    """Where on a thing a base lies: 0 at the top of its visible part, 1 at its bottom."""
    rows = np.flatnonzero(layout.visible(position).any(axis=1))
    return float((base - rows[0]) / max(rows[-1] + 1 - rows[0], 1))


def contact_label(position: int, layout: SemanticLayout) -> str:
    """Label of a layout position, `NOTHING` for bare canvas."""
    return NOTHING if position == EMPTY else layout.labels[position]
