"""Contact shadows: what an object does to the layers behind it, apart from the object and easily switched off."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import ndimage

from runtime.config import Config
from scene.geometry import Box


class ShadowConfig(Config):
    """The contact shadow's look; shares are of the longer side of the object's box."""

    strength: float = Field(0.45, ge=0, le=1)
    """Darkest alpha; 0 switches shadows off."""
    reach: float = Field(0.08, gt=0)
    """Standard deviation sideways."""
    flatness: float = Field(0.35, gt=0, le=1)
    """Height over width: the floor is seen at a slant."""
    feet: float = Field(0.3, ge=0, le=1)
    """Feet of one object stand within so much of its height above the lowest."""


def contact_shadow(mask: np.ndarray, config: ShadowConfig | None = None) -> np.ndarray:
    """The soft dark patch under an object's feet.

    Feet are the places where the mask's lower outline is lowest among its neighbours: a chair has one per leg, a
    box its whole lower edge. An object that is cut off by the canvas's lower edge stands beyond it and gets no shadow.

    Args:
        mask: bool (H, W), the amodal mask.
        config: look; None = defaults.

    Returns:
        The effect, uint8 (H, W, 4): black, and 0 all over the mask itself.
    """
    config = config or ShadowConfig()
    effect = np.zeros((*mask.shape, 4), dtype=np.uint8)
    box = Box.from_mask(mask)
    if box is None or config.strength == 0:
        return effect
    across = config.reach * max(box.width, box.height)
    lowest = np.where(mask.any(axis=0), mask.shape[0] - 1 - mask[::-1].argmax(axis=0), -1)
    near = ndimage.maximum_filter1d(lowest, 2 * max(round(across), 1) + 1)
    floor = box.y1 - 1 - config.feet * box.height
    feet = np.flatnonzero((lowest >= floor) & (lowest >= near - 1) & (lowest < mask.shape[0] - 1))
    if not feet.size:
        return effect
    touched = np.zeros(mask.shape, dtype=np.float32)
    touched[lowest[feet], feet] = 1
    soft = ndimage.gaussian_filter(touched, (across * config.flatness, across), mode="constant")
    alpha = config.strength * soft / soft.max()
    effect[..., 3] = np.where(mask, 0, alpha * 255 + 0.5).astype(np.uint8)
    return effect
