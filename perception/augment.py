"""Variations of training silhouettes: another viewpoint, a cut, another outline; all draws from one generator each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from perception.config import AugmentConfig

NOISE_CELLS = 12  # the outline's noise is drawn on so many cells a side
_UNIFORM = 16


def augment(
    pictures: np.ndarray, facts: np.ndarray, rngs: Sequence[np.random.Generator], config: AugmentConfig
) -> tuple[Tensor, Tensor]:
    """Varies B silhouettes; each again fills its square, and its facts say what became of it.

    Args:
        pictures: uint8 (B, S, S).
        facts: float32 (B, 4), see `perception.silhouettes.FACTS`.
        rngs: one generator each.
        config: how much.

    Returns:
        Coverage float32 (B, S, S) in [0, 1], facts float32 (B, 4).
    """
    u = torch.from_numpy(np.stack([rng.random(_UNIFORM, dtype=np.float32) for rng in rngs]))
    noise = torch.from_numpy(
        np.stack([rng.standard_normal((NOISE_CELLS, NOISE_CELLS), dtype=np.float32) for rng in rngs])
    )
    coverage = torch.from_numpy(pictures).float() / 255
    warped, new = _warp(coverage, torch.from_numpy(facts), u, config)
    drawn = _outline(warped, noise, u[:, 8], u[:, 9], config)
    keep = (u[:, 10] < config.outline_share) & (drawn.amax((1, 2)) > 0.5)
    new[:, 1] *= u[:, 11] >= config.facts_dropout
    return torch.where(keep[:, None, None], drawn, warped), new


def _signed(u: Tensor, most: float) -> Tensor:
    return (2 * u - 1) * most


def _warp(coverage: Tensor, facts: Tensor, u: Tensor, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """One resampling does all: linear map, cut, and the new tight box."""
    side = coverage.shape[1]
    axis = (torch.arange(side) + 0.5) * (2 / side) - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angle = _signed(u[:, 0], np.deg2rad(config.turn_deg))
    wide = torch.exp(_signed(u[:, 1], config.stretch) / 2)
    mirror = torch.where(u[:, 2] < config.mirror_share, -1.0, 1.0)
    cos, sin, shear = angle.cos(), angle.sin(), _signed(u[:, 3], config.shear)
    # turn @ shear @ stretch @ mirror, source to result
    a, b = (cos * wide * mirror), (cos * shear - sin) / wide
    c, d = (sin * wide * mirror), (sin * shear + cos) / wide
    solid = coverage > 0.5 * coverage.amax((1, 2), keepdim=True)
    px = a[:, None, None] * x + b[:, None, None] * y
    py = c[:, None, None] * x + d[:, None, None] * y
    lows, highs = _extent(px, solid), _extent(py, solid)
    # a cut from one of the four sides, in the result's frame
    cuts, edge = u[:, 4] < config.cut_share, (u[:, 5] * 4).long()
    amount = u[:, 6] * config.cut_frac
    left, right = lows[0] + amount * (lows[1] - lows[0]), lows[1] - amount * (lows[1] - lows[0])
    top, bottom = highs[0] + amount * (highs[1] - highs[0]), highs[1] - amount * (highs[1] - highs[0])
    far = torch.full_like(left, 9.0)
    bounds = [
        torch.where(cuts & (edge == number), line, far * sign)
        for number, (line, sign) in enumerate([(left, -1), (right, 1), (top, -1), (bottom, 1)])
    ]
    x_low, x_high, y_low, y_high = (bound[:, None, None] for bound in bounds)
    kept = solid & (px >= x_low) & (px <= x_high) & (py >= y_low) & (py <= y_high)
    kept = torch.where(kept.any(2).any(1)[:, None, None], kept, solid)
    (x0, x1), (y0, y1) = _extent(px, kept), _extent(py, kept)
    cell = 2 / side
    width, height = x1 - x0 + cell, y1 - y0 + cell
    (old_x0, old_x1), (old_y0, old_y1) = _extent(x, solid), _extent(y, solid)
    before = torch.log2((old_x1 - old_x0 + cell) / (old_y1 - old_y0 + cell))  # as coarse as the new one
    longer = torch.maximum(width, height)
    gx = ((x0 + x1) / 2)[:, None, None] + x * (longer / 2)[:, None, None]
    gy = ((y0 + y1) / 2)[:, None, None] + y * (longer / 2)[:, None, None]
    inside = (gx >= x_low) & (gx <= x_high) & (gy >= y_low) & (gy <= y_high)
    det = (a * d - b * c)[:, None, None]
    sx = (d[:, None, None] * gx - b[:, None, None] * gy) / det
    sy = (a[:, None, None] * gy - c[:, None, None] * gx) / det
    warped = F.grid_sample(coverage[:, None], torch.stack([sx, sy], dim=3), align_corners=False)[:, 0] * inside
    new = torch.stack(
        [
            facts[:, 0] + torch.log2(width / height) - before,
            (facts[:, 1] + torch.log2(longer / 2) + _signed(u[:, 7], config.rescale)).clamp(max=0),
            torch.maximum(facts[:, 2], (cuts & (edge < 2)).float()),
            torch.maximum(facts[:, 3], (cuts & (edge >= 2)).float()),
        ],
        dim=1,
    )
    return warped, new


def _extent(values: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.where(where, values, torch.inf).amin((1, 2))
    return low, torch.where(where, values, -torch.inf).amax((1, 2))


def _outline(coverage: Tensor, noise: Tensor, kind: Tensor, shift: Tensor, config: AugmentConfig) -> Tensor:
    """Smooths over 3 or 5 cells, adds a shift and smooth noise, and makes the edge sharp again."""
    side = coverage.shape[1]
    planes = coverage[:, None]
    fine, coarse = F.avg_pool2d(planes, 3, 1, 1), F.avg_pool2d(planes, 5, 1, 2)
    smooth = torch.where((kind < 0.7)[:, None, None, None], fine, coarse)
    waves = F.interpolate(noise[:, None], size=(side, side), mode="bilinear", align_corners=False)
    level = smooth + _signed(shift, config.outline_shift)[:, None, None, None] + waves * config.outline_noise
    # Noise must not conjure up specks far from the object or holes deep inside it.
    level = torch.where(smooth <= 0, 0.0, torch.where(smooth >= 1, 1.0, level))
    return ((level - 0.5) * 2.5 + 0.5).clamp(0, 1)[:, 0]
