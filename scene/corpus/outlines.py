"""Masks as COCO writes them: run lengths (pycocotools) and polygons (contourpy), both without loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scene.errors import UserError

_NEEDS = "needs {}; run: pip install 'smartscene[data]'"


def to_rle(mask: np.ndarray) -> dict[str, Any]:
    """Compressed COCO RLE {"size": [H, W], "counts": str} of a bool (H, W)."""
    encoded = _coco_mask().encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def from_rle(rle: dict[str, Any]) -> np.ndarray:
    """Inverse of `to_rle`."""
    return np.asarray(_coco_mask().decode({"size": rle["size"], "counts": rle["counts"].encode("ascii")}), dtype=bool)


def from_counts(counts: Sequence[int] | str, shape: tuple[int, int]) -> np.ndarray:
    """COCO run lengths of either kind, checked: column by column, the first run is False.

    Args:
        counts: lengths, or COCO's compressed string of them.
        shape: H, W.

    Returns:
        Bool (H, W).

    Raises:
        ValueError: not run lengths, or they do not fill the mask (pycocotools would return whatever was in memory).
    """
    lengths = _unpacked(counts) if isinstance(counts, str) else list(counts)
    if not all(isinstance(length, int) and length >= 0 for length in lengths):
        raise ValueError("run lengths must be whole numbers of 0 or more")
    if sum(lengths) != shape[0] * shape[1]:
        raise ValueError(f"run lengths cover {sum(lengths)} pixels, the mask has {shape[0] * shape[1]}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.ascontiguousarray(flat.reshape(shape, order="F"))


def _unpacked(text: str) -> list[int]:
    """Run lengths of COCO's compressed string: 5 bits a character, low bits first, bit 5 = more follow; signed.

    From the fourth on each is stored as its difference to the one before the last.
    Source: rleFrString of the COCO API, maskApi.c.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"run lengths hold the character {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("run lengths break off")
    return lengths


def polygon_mask(rings: Sequence[Sequence[float]], shape: tuple[int, int]) -> np.ndarray:
    """The union of COCO polygons as COCO's own tools paint them (pycocotools), bool (H, W).

    Args:
        rings: flat lists x, y, x, y, ... in pixels.
        shape: H, W.

    Raises:
        ValueError: a ring with an odd number of coordinates, fewer than three points, or points far off the picture.
    """
    height, width = shape
    for ring in rings:
        values = np.asarray(ring, dtype=np.float64)
        if values.ndim != 1 or len(values) % 2 or len(values) < 6:
            raise ValueError(f"a polygon has {len(values)} numbers; need x, y of three points or more")
        beyond = np.resize((width + 1, height + 1), len(values))
        if not np.isfinite(values).all() or values.min() < -1 or (values > beyond).any():
            raise ValueError(f"a polygon leaves the {width}x{height} picture")
    tools = _coco_mask()
    painted = tools.merge(tools.frPyObjects([list(map(float, ring)) for ring in rings], height, width))
    return np.asarray(tools.decode(painted), dtype=bool)


def to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines of a bool (H, W) as flat lists x, y, x, y, ...; holes are rings of their own (even-odd rule).

    Coordinates have pixel centres at whole numbers; lines run half-way between inner and outer centres.
    """
    try:
        from contourpy import LineType, contour_generator
    except ImportError:
        raise UserError("tracing outlines " + _NEEDS.format("contourpy")) from None
    padded = np.pad(mask.astype(np.float64), 1)
    lines = contour_generator(z=padded, line_type=LineType.Separate).lines(0.5)
    return [(np.asarray(line)[:-1] - 1).ravel().tolist() for line in lines]


def from_polygons(polygons: Sequence[Sequence[float]], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies inside an odd number of rings, bool (H, W); inverse of `to_polygons`.

    Args:
        polygons: flat lists x, y, x, y, ...; each ring is closed from its last point to its first.
        shape: H, W.
    """
    height, width = shape
    toggles = np.zeros((height, width + 1), dtype=np.int32)
    for polygon in polygons:
        points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
        start, end = points, np.roll(points, -1, axis=0)
        upward = start[:, 1] > end[:, 1]
        low, high = np.where(upward[:, None], end, start), np.where(upward[:, None], start, end)
        first, stop = np.ceil(low[:, 1]).astype(int), np.ceil(high[:, 1]).astype(int)  # half open: low <= row < high
        edge = np.repeat(np.arange(len(points)), stop - first)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(stop - first) - (stop - first), stop - first) + first[edge]
        slope = (high[edge, 0] - low[edge, 0]) / (high[edge, 1] - low[edge, 1])
        column = np.ceil(low[edge, 0] + (row - low[edge, 1]) * slope).astype(int)
        inside = (row >= 0) & (row < height)
        np.add.at(toggles, (row[inside], np.clip(column[inside], 0, width)), 1)
    return np.asarray(np.cumsum(toggles, axis=1)[:, :width] % 2, dtype=bool)


def _coco_mask() -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise UserError("COCO run lengths " + _NEEDS.format("pycocotools")) from None
    return mask
