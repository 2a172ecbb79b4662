"""Semantic layouts: `f_layer` of the SmartMask paper and the picture of it that people and planners see."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from scene.geometry import Size

EMPTY = -1


@dataclass(frozen=True)
class SemanticLayout:
    """Which object is on top at each pixel.

    Attributes:
        labels: category of each object, back to front.
        index: int16 (H, W); position in `labels` of the topmost object, `EMPTY` (-1) where there is none.
    """

    labels: tuple[str, ...]
    index: np.ndarray

    @property
    def size(self) -> Size:
        return Size(self.index.shape[1], self.index.shape[0])

    def visible(self, position: int) -> np.ndarray:
        """Bool (H, W): where object `position` is not hidden by nearer ones."""
        return self.index == position


def f_layer(masks: Sequence[np.ndarray], labels: Sequence[str], size: Size) -> SemanticLayout:
    """Paints amodal masks over each other, back to front (`S_k = f_layer(A_1..A_k)`).

    Args:
        masks: bool (H, W) each, back to front.
        labels: one category per mask.
        size: canvas size; every mask must have it.

    Returns:
        The semantic layout.

    Raises:
        ValueError: numbers or shapes disagree.

    Source: SmartMask, arXiv 2312.05039, section 3.1.
    """
    if len(masks) != len(labels):
        raise ValueError(f"{len(masks)} masks but {len(labels)} labels; give one label per mask")
    index = np.full(size.shape, EMPTY, dtype=np.int16)
    for position, mask in enumerate(masks):
        if mask.shape != size.shape or mask.dtype != np.bool_:
            raise ValueError(f"mask {position} is {mask.dtype} {mask.shape}; need bool {size.shape}")
        index[mask] = position
    return SemanticLayout(tuple(labels), index)


# Colours of common surfaces are chosen to look natural; everything else gets a stable colour by hash.
_FIXED_COLOURS = {
    "sky": (158, 206, 240),
    "grass": (124, 190, 96),
    "sun": (255, 210, 40),
    "wall": (205, 200, 190),
    "floor": (170, 130, 95),
}


@lru_cache(maxsize=4096)
def label_colour(label: str) -> tuple[int, int, int]:
    """A colour that depends on the label only: same label, same colour, in every run."""
    if label in _FIXED_COLOURS:
        return _FIXED_COLOURS[label]
    digest = hashlib.sha256(label.encode()).digest()
    hue = int.from_bytes(digest[:4], "big") / 2**32
    saturation = 0.55 + 0.40 * digest[4] / 255
    value = 0.50 + 0.45 * digest[5] / 255
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def layout_picture(layout: SemanticLayout) -> np.ndarray:
    """Label-coloured picture of a layout.

    Returns:
        uint8 (H, W, 3) RGB; white where nothing lies.
    """
    colours = [label_colour(label) for label in layout.labels] + [(255, 255, 255)]  # last: EMPTY = -1
    return np.asarray(colours, dtype=np.uint8)[layout.index]
