"""Pictures of the icons world's surfaces: vertical gradients in a few simple shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scene.corpus.icons.world import Colour
from scene.geometry import Box, Size

RIDGE_FRAC = (0.08, 0.22)  # how far hills rise above the horizon, share of the canvas height
SHORE_FRAC = 0.02  # how far a shoreline waves, share of the canvas height
QUAD_NEAR_FRAC = 0.92  # width of a blanket's near edge, share of the canvas width


@dataclass(frozen=True)
class SurfacePicture:
    """RGBA uint8 (h, w, 4) and the canvas position of its corner."""

    rgba: np.ndarray
    x: int
    y: int


def surface_mask(
    shape: str, extent: tuple[float, ...], horizon_px: int, size: Size, rng: np.random.Generator
) -> np.ndarray:
    """Mask of a surface, bool (H, W).

    Args:
        shape: full, below, band, ridge, shore or quad; see `configs/worlds/icons.yaml`.
        extent: where it begins and ends, 0 = horizon, 1 = bottom of the canvas.
        horizon_px: row of the horizon.
        size: canvas.
        rng: shapes of hills and shores.
    """
    rows, columns = np.mgrid[0 : size.height, 0 : size.width]
    first, last = (*(round(horizon_px + part * (size.height - horizon_px)) for part in extent), 0, size.height)[:2]
    if shape == "full":
        return np.ones(size.shape, dtype=bool)
    if shape == "below":
        return np.asarray(rows >= first)
    if shape == "band":
        return np.asarray((rows >= first) & (rows < last))
    if shape == "ridge":
        low, high = (part * size.height for part in RIDGE_FRAC)
        edge = horizon_px - low - (high - low) * (0.5 + 0.5 * _waves(size.width, 5, rng))
        return np.asarray((rows >= edge[None, :]) & (rows < size.height))
    if shape == "shore":
        edge = first + SHORE_FRAC * size.height * _waves(size.width, 4, rng)
        return np.asarray(rows >= edge[None, :])
    if shape == "quad":
        # A rectangle on the ground: its edges run towards the vanishing point in the middle of the horizon.
        near = 0.5 * QUAD_NEAR_FRAC * size.width
        half = near * (rows - horizon_px) / max(last - horizon_px, 1)
        return np.asarray((rows >= first) & (rows < last) & (np.abs(columns - size.width / 2) < half))
    raise ValueError(f"surface shape {shape!r} is not full, below, band, ridge, shore or quad")


def paint_surface(mask: np.ndarray, far: Colour, near: Colour) -> SurfacePicture:
    """A vertical gradient over the mask's box, cut out by the mask."""
    box = Box.from_mask(mask)
    if box is None:
        raise ValueError("surface with an empty mask")
    share = np.linspace(0, 1, box.height)[:, None, None]
    colours = (1 - share) * np.asarray(far) + share * np.asarray(near)
    rgba = np.empty((box.height, box.width, 4), dtype=np.uint8)
    rgba[..., :3] = colours.round()
    rgba[..., 3] = 255 * mask[box.y0 : box.y1, box.x0 : box.x1]
    return SurfacePicture(rgba, box.x0, box.y0)


def _waves(width: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth random waves in [-1, 1], one value a column."""
    x = np.linspace(0, 2 * np.pi, width)
    waves = sum(
        rng.uniform(0.4, 1) / k * np.sin(k * x * rng.uniform(0.6, 1.2) + rng.uniform(0, 2 * np.pi))
        for k in range(1, count + 1)
    )
    return np.asarray(waves) / np.abs(waves).max()
