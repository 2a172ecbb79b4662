"""Spatial relations between two objects, from boxes (left, right, above, below, next to) and masks (the rest)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from scene.geometry import Box

Relation = Literal["in front of", "on", "left of", "right of", "above", "below", "inside", "overlaps", "next to"]

DIRECTIONS = {"right of": 0.0, "above": 90.0, "left of": 180.0, "below": 270.0}
"""Degrees from the second object to the first."""
MIN_OVERLAP_FRAC = 0.02  # of the smaller mask: less is a touch, not an overlap
INSIDE_FRAC = 0.95
CONTACT_FRAC = 0.5  # of the contact strip that must lie on the supporter
STRIP_FRAC = 0.08  # height of the contact strip, as a share of the object's height
NEXT_GAP_FRAC = 0.5  # gap, as a share of the mean width


def points(a: Box, b: Box, word: str) -> bool:
    """Whether `a` lies from `b` as one of `DIRECTIONS` says: the line between their centres within 45 degrees of it.

    Stricter than `box_relations` in one way: a clock at the other end of the wall hangs higher than the chest, but not
    above it.

    Source: NSR-1K's rule, Feng et al., "LayoutGPT", arXiv 2305.15393, appendix.
    """
    (ax, ay), (bx, by) = a.center, b.center
    dx, dy = ax - bx, ay - by
    if dx == dy == 0:
        return False
    angle = math.degrees(math.atan2(-dy, dx)) % 360  # y points down
    apart = abs(angle - DIRECTIONS[word])
    return min(apart, 360 - apart) <= 45


def box_relations(a: Box, b: Box) -> list[Relation]:
    """Relations of `a` to `b` that boxes decide.

    "left of": the centre of `a` lies left of `b`'s by more than a quarter of both widths together; "above" likewise.
    "next to": they share rows, and the gap between them is under half their mean width.
    """
    found: list[Relation] = []
    (ax, ay), (bx, by) = a.center, b.center
    if abs(ax - bx) > (a.width + b.width) / 4:
        found.append("left of" if ax < bx else "right of")
    if abs(ay - by) > (a.height + b.height) / 4:
        found.append("above" if ay < by else "below")
    gap = max(a.x0, b.x0) - min(a.x1, b.x1)
    shares_rows = min(a.y1, b.y1) - max(a.y0, b.y0) > 0
    if shares_rows and ax != bx and -0.25 * min(a.width, b.width) < gap < NEXT_GAP_FRAC * (a.width + b.width) / 2:
        found.append("next to")
    return found


def mask_relations(a: np.ndarray, b: np.ndarray, a_in_front: bool) -> list[Relation]:
    """Relations of mask `a` to mask `b` that need their shapes.

    Args:
        a, b: amodal masks, bool (H, W).
        a_in_front: `a` is painted after `b`.

    Returns:
        Any of "overlaps", "in front of" (they overlap and `a` is nearer), "inside" (95 % of `a` lies in `b`),
        "on" (`a` is nearer and at least half of its lowest strip lies on `b`, which starts below the canvas top:
        what reaches the top, like sky or a wall, is a backdrop and carries nothing).
    """
    box_a, area_a, area_b = Box.from_mask(a), int(a.sum()), int(b.sum())
    if box_a is None or area_b == 0:
        return []
    common = int((a & b).sum())
    found: list[Relation] = []
    if common > MIN_OVERLAP_FRAC * min(area_a, area_b):
        found.append("overlaps")
        if a_in_front:
            found.append("in front of")
    if common >= INSIDE_FRAC * area_a and area_b > area_a:
        found.append("inside")
    if a_in_front and not b[0].any():
        strip_px = max(1, round(STRIP_FRAC * box_a.height))
        foot = a[box_a.y1 - strip_px : box_a.y1]
        ground = b[box_a.y1 - strip_px : box_a.y1]
        if foot.sum() and (foot & ground).sum() >= CONTACT_FRAC * foot.sum():
            found.append("on")
    return found
