"""Overlapping square tiles over a large surface, and blending them back without seams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inpainter.window import Window
from scene.geometry import Box, Size

OVERLAP = 0.2  # of a tile's side that neighbours share at least


def tiles(box: Box, size: Size, side_px: int) -> list[Window]:
    """Tiles that cover a box, row by row, moved onto the canvas as far as they fit.

    Args:
        box: box of the surface's mask, on the canvas.
        size: canvas.
        side_px: side of a tile.

    Returns:
        Windows whose neighbours share at least `OVERLAP` of a side.
    """
    columns = _starts(box.x0, box.x1, size.width, side_px)
    return [Window(x, y, side_px) for y in _starts(box.y0, box.y1, size.height, side_px) for x in columns]


def _starts(low: int, high: int, length: int, side: int) -> list[int]:
    if side >= length:
        return [(length - side) // 2]
    if high - low <= side:
        return [min(max((low + high - side) // 2, 0), length - side)]
    count = int(np.ceil((high - low - side) / (side * (1 - OVERLAP)))) + 1
    return [round(start) for start in np.linspace(low, high - side, count)]


def blend(pictures: Sequence[np.ndarray], windows: Sequence[Window]) -> np.ndarray:
    """Mean of the tiles, each weighing less towards its own edge, so that none ends abruptly.

    Args:
        pictures: uint8 (H, W, 3) each, valid inside its window.
        windows: one per picture.

    Returns:
        uint8 (H, W, 3); black where no tile lies.
    """
    height, width = pictures[0].shape[:2]
    size = Size(width, height)
    total = np.zeros((height, width, 3), dtype=np.float32)
    weights = np.zeros((height, width, 1), dtype=np.float32)
    for picture, window in zip(pictures, windows, strict=True):
        part = window.box.clip(size)
        edge = np.minimum(np.arange(window.side) + 1, np.arange(window.side, 0, -1)).astype(np.float32)
        ramp = np.minimum(edge / (OVERLAP * window.side), 1)
        rows, columns = slice(part.y0, part.y1), slice(part.x0, part.x1)
        weight = (
            ramp[part.y0 - window.y0 : part.y1 - window.y0, None]
            * ramp[None, part.x0 - window.x0 : part.x1 - window.x0]
        )[..., None]
        total[rows, columns] += weight * picture[rows, columns]
        weights[rows, columns] += weight
    return np.asarray(total / np.maximum(weights, 1e-6) + 0.5).astype(np.uint8)
