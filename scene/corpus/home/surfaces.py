"""Procedural materials by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scene.corpus.home.plan import Material


@dataclass(frozen=True, eq=False)
class Patch:
    """Points of a plane to be coloured, all arrays of one length.

    Attributes:
        u, v: metres in the plane; v is upwards on upright planes, y on level ones.
        du, dv: how far a pixel reaches along each, metres.
    """

    u: np.ndarray
    v: np.ndarray
    du: np.ndarray
    dv: np.ndarray


def colour(material: Material, patch: Patch, seed: int) -> np.ndarray:
    return np.tile(np.array(material.colours[0], np.float32) / 255, (len(patch.u), 1))


def sky_colour(material: Material, rays: np.ndarray, seed: int) -> np.ndarray:
    return np.tile(np.array(material.colours[0], np.float32) / 255, (len(rays), 1))
