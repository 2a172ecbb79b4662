"""Lookups in the textures of a mesh, for many points of any of its materials at once."""

from __future__ import annotations

import numpy as np

from scene.corpus.home.meshes import LEVELS, Mesh


def albedo(mesh: Mesh, colours: np.ndarray, material: np.ndarray, uv: np.ndarray, texels_px: np.ndarray) -> np.ndarray:
    """Diffuse colours as displayed (sRGB).

    Args:
        mesh: whose textures.
        colours: float (M, 3), its materials' colours, recoloured or not.
        material: int (N,).
        uv: float (N, 2).
        texels_px: float (N,), texels of level 0 that one pixel covers: chooses the level.

    Returns:
        float32 (N, 3), 0 to 1.
    """
    found = colours[material].astype(np.float32)
    textured = np.flatnonzero(mesh.levels[material, 0, 1] > 0)
    if not len(textured):
        return found
    level = np.clip(np.log2(np.maximum(texels_px[textured], 1e-3)) + 0.5, 0, LEVELS - 1).astype(np.int64)
    offset, height, width = mesh.levels[material[textured], level].T
    x = _wrap(uv[textured, 0]) * width - 0.5
    y = _wrap(-uv[textured, 1]) * height - 0.5  # v runs upwards
    x0, y0 = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = (x - x0).astype(np.float32)[:, None], (y - y0).astype(np.float32)[:, None]
    left, right = x0 % width, (x0 + 1) % width
    top, bottom = offset + (y0 % height) * width, offset + ((y0 + 1) % height) * width
    texels = mesh.texels
    upper = texels[top + left] * (1 - fx) + texels[top + right] * fx
    lower = texels[bottom + left] * (1 - fx) + texels[bottom + right] * fx
    rgba = upper * (1 - fy) + lower * fy
    found[textured] *= np.clip(rgba[:, :3] / np.maximum(rgba[:, 3:], 1), 0, 1)  # texels are premultiplied
    return found


def _wrap(value: np.ndarray) -> np.ndarray:
    """Fractional part, 0 to 1: textures repeat."""
    return value - np.floor(value)
