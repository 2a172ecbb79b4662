"""The user's spatial guidance `G_obj`: a box, a coarse blob or a scribble as a map in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from scene.errors import UserError
from scene.geometry import Box, Size, parse_numbers

GuidanceKind = Literal["box", "blob", "scribble"]


@dataclass(frozen=True, eq=False)
class Guidance:
    """Spatial guidance.

    Attributes:
        kind: form it was given in.
        map: float32 (H, W) in [0, 1], canvas frame. Source: SmartMask Eq. 5, `G_obj`.
        tightness: 0 to 1. 1 = the object follows the guide as drawn; the lower, the further its place and size may
            lie from the guide's.
        blob: (cx, cy, rx, ry) in canvas pixels of a blob, as `from_blob` takes them; else None.
    """

    kind: GuidanceKind
    map: np.ndarray
    tightness: float = 1.0
    blob: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.map.dtype != np.float32 or self.map.ndim != 2:
            raise ValueError(f"guidance map is {self.map.dtype} {self.map.shape}; need float32 (H, W)")
        if not (np.isfinite(self.map).all() and self.map.min() >= 0 and self.map.max() <= 1):
            raise ValueError("guidance map must lie in [0, 1]")
        if not self.map.any():
            raise UserError(f"the {self.kind} is empty; draw at least one pixel inside the canvas")
        if not 0 <= self.tightness <= 1:  # nan is refused too
            raise UserError(f"tightness is {self.tightness}; need 0 (near the guide) to 1 (as the guide is drawn)")

    @classmethod
    def from_box(cls, box: Box, size: Size, tightness: float = 1.0) -> Guidance:
        """1 inside the box (clipped to the canvas), else 0."""
        inside = box.clip(size)
        values = np.zeros(size.shape, dtype=np.float32)
        values[inside.y0 : inside.y1, inside.x0 : inside.x1] = 1
        return cls("box", values, tightness)

    @classmethod
    def from_blob(cls, cx: float, cy: float, rx: float, ry: float, size: Size, tightness: float = 1.0) -> Guidance:
        """Gaussian `exp(-1/2 [((x-cx)/rx)^2 + ((y-cy)/ry)^2])`; centre and radii (sigmas) in canvas pixels."""
        if not np.isfinite((cx, cy, rx, ry)).all():
            raise UserError(f"blob {cx},{cy},{rx},{ry} is not finite; give four plain numbers")
        if rx <= 0 or ry <= 0:
            raise UserError(f"blob radii are {rx},{ry}; both must be above 0 pixels")
        x = (np.arange(size.width) + 0.5 - cx) / rx
        y = (np.arange(size.height) + 0.5 - cy) / ry
        values = np.exp(-0.5 * (x[None] ** 2 + y[:, None] ** 2)).astype(np.float32)
        return cls("blob", values, tightness, (cx, cy, rx, ry))

    @classmethod
    def from_scribble(cls, scribble: np.ndarray, tightness: float = 1.0) -> Guidance:
        """1 where the scribble (bool (H, W)) was drawn, else 0."""
        return cls("scribble", scribble.astype(np.float32), tightness)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: `kind`, `box` [x0, y0, x1, y1] of what is above 0.5, `tightness`, and `blob` of a blob.

        A scribble's drawing is not in it: its map is a picture of its own.
        """
        box = Box.from_mask(self.map > 0.5)
        data: dict[str, Any] = {"kind": self.kind, "box": list(box) if box else None, "tightness": self.tightness}
        return data | {"blob": list(self.blob)} if self.blob else data

    @classmethod
    def from_json(cls, data: Mapping[str, Any], size: Size, scribble: np.ndarray | None = None) -> Guidance:
        """Inverse of `to_json`; a scribble's drawing is given beside it, bool (H, W).

        Raises:
            ValueError: what the kind needs is missing.
        """
        tightness = float(data.get("tightness", 1.0))  # runs of schema version 1 have none
        if data["kind"] == "box" and data.get("box"):
            return cls.from_box(Box(*data["box"]), size, tightness)
        if data["kind"] == "blob" and data.get("blob"):
            cx, cy, rx, ry = data["blob"]
            return cls.from_blob(cx, cy, rx, ry, size, tightness)
        if data["kind"] == "scribble" and scribble is not None:
            return cls.from_scribble(scribble, tightness)
        raise ValueError(f"guidance {dict(data)} lacks its {data['kind']}")


def parse_blob(text: str, size: Size) -> tuple[float, float, float, float]:
    """Reads ``"cx,cy,rx,ry"``: canvas pixels, or fractions of the canvas (see `parse_numbers`).

    Returns:
        Centre and radii (one sigma) in canvas pixels.

    Raises:
        UserError: not four numbers, centre off the canvas, or radii not above 0 and within the canvas.
    """
    wanted = "cx,cy,rx,ry in pixels, like 320,400,60,90, or in fractions of the canvas, like 0.5,0.8,0.1,0.2"
    cx, cy, rx, ry = parse_numbers(text, size, "blob", wanted)
    if not (0 <= cx <= size.width and 0 <= cy <= size.height):
        raise UserError(f"blob {text[:60]!r} has its centre off the {size.width}x{size.height} canvas; write {wanted}")
    if not (0 < rx <= size.width and 0 < ry <= size.height):
        raise UserError(
            f"blob {text[:60]!r} has radii {rx:g},{ry:g} pixels; need above 0 and at most {size.width},{size.height}"
        )
    return cx, cy, rx, ry
