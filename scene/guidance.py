"""The user's spatial guidance `G_obj`: a box, a coarse blob or a scribble as a map in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from scene.errors import UserError
from scene.geometry import Box, Size

GuidanceKind = Literal["box", "blob", "scribble"]


@dataclass(frozen=True, eq=False)
class Guidance:
    """Spatial guidance.

    Attributes:
        kind: form it was given in.
        map: float32 (H, W) in [0, 1], canvas frame. Source: SmartMask Eq. 5, `G_obj`.
    """

    kind: GuidanceKind
    map: np.ndarray
    tightness: float = 1.0

    def __post_init__(self) -> None:
        if self.map.dtype != np.float32 or self.map.ndim != 2:
            raise ValueError(f"guidance map is {self.map.dtype} {self.map.shape}; need float32 (H, W)")
        if not (np.isfinite(self.map).all() and self.map.min() >= 0 and self.map.max() <= 1):
            raise ValueError("guidance map must lie in [0, 1]")
        if not self.map.any():
            raise UserError(f"the {self.kind} is empty; draw at least one pixel inside the canvas")

    @classmethod
    def from_box(cls, box: Box, size: Size) -> Guidance:
        """1 inside the box (clipped to the canvas), else 0."""
        inside = box.clip(size)
        values = np.zeros(size.shape, dtype=np.float32)
        values[inside.y0 : inside.y1, inside.x0 : inside.x1] = 1
        return cls("box", values)

    @classmethod
    def from_blob(cls, cx: float, cy: float, rx: float, ry: float, size: Size) -> Guidance:
        """Gaussian `exp(-1/2 [((x-cx)/rx)^2 + ((y-cy)/ry)^2])`; centre and radii (sigmas) in canvas pixels."""
        if rx <= 0 or ry <= 0:
            raise UserError(f"blob radii are {rx},{ry}; both must be above 0 pixels")
        x = (np.arange(size.width) + 0.5 - cx) / rx
        y = (np.arange(size.height) + 0.5 - cy) / ry
        return cls("blob", np.exp(-0.5 * (x[None] ** 2 + y[:, None] ** 2)).astype(np.float32))

    @classmethod
    def from_scribble(cls, scribble: np.ndarray) -> Guidance:
        """1 where the scribble (bool (H, W)) was drawn, else 0."""
        return cls("scribble", scribble.astype(np.float32))
