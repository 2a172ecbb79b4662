"""Sizes and boxes in pixels of the whole canvas; x to the right, y downwards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scene.errors import UserError

MIN_SIDE_PX, MAX_SIDE_PX, SIDE_STEP_PX = 256, 1024, 16


class Size(NamedTuple):
    """Canvas size in pixels, as width and height."""

    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), the shape of a mask."""
        return self.height, self.width

    @classmethod
    def parse(cls, text: str) -> Size:
        """Reads ``"640x512"``.

        Raises:
            UserError: not of that form, or a size that `check` refuses.
        """
        parts = text.lower().split("x")
        if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 6 for p in parts):
            raise UserError(f"size {text[:40]!r} is not WIDTHxHEIGHT; write it like 640x512")
        size = cls(int(parts[0]), int(parts[1]))
        size.check()
        return size

    def check(self) -> None:
        """Raises UserError unless both sides are 256 to 1024 and multiples of 16."""
        for side in self:
            if not MIN_SIDE_PX <= side <= MAX_SIDE_PX or side % SIDE_STEP_PX:
                raise UserError(
                    f"size {self.width}x{self.height} is not supported; both sides must be "
                    f"{MIN_SIDE_PX} to {MAX_SIDE_PX} and multiples of {SIDE_STEP_PX}, for example 640x512"
                )


DEFAULT_SIZE = Size(640, 512)


class Box(NamedTuple):
    """Half-open box ``x0 <= x < x1``, ``y0 <= y < y1`` in canvas pixels; may reach off the canvas."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        """Area in square pixels; 0 for an empty box."""
        return max(self.width, 0) * max(self.height, 0)

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) of the centre in pixels."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    @classmethod
    def from_mask(cls, mask: np.ndarray) -> Box | None:
        """Tightest box round a bool mask (H, W), or None when the mask is empty."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size == 0:
            return None
        return cls(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)

    @classmethod
    def parse(cls, text: str, size: Size) -> Box:
        """Reads ``"x0,y0,x1,y1"``, pixels or fractions (`parse_numbers`), and checks that it lies on the canvas.

        Raises:
            UserError: not four numbers, pixels that are not whole, empty, or off the canvas.
        """
        wanted = "x0,y0,x1,y1; write it like 100,120,260,300, or in fractions of the canvas, like 0.1,0.2,0.5,0.9"
        values = parse_numbers(text, size, "box", wanted)
        if not _are_fractions(text) and any(value != round(value) for value in values):
            raise UserError(f"box {text[:60]!r} has parts of pixels and is not {wanted}")
        box = cls(*(round(value) for value in values))
        if not (0 <= box.x0 < box.x1 <= size.width and 0 <= box.y0 < box.y1 <= size.height):
            raise UserError(
                f"box {text[:60]!r} is empty or off the {size.width}x{size.height} canvas; "
                f"need 0 <= x0 < x1 <= {size.width} and 0 <= y0 < y1 <= {size.height}"
            )
        return box

    def clip(self, size: Size) -> Box:
        """The part on the canvas (possibly empty)."""
        x0, y0 = min(max(self.x0, 0), size.width), min(max(self.y0, 0), size.height)
        return Box(x0, y0, max(min(self.x1, size.width), x0), max(min(self.y1, size.height), y0))

    def intersection(self, other: Box) -> Box:
        """Common part; its area is 0 when the boxes are apart."""
        return Box(max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1))

    def iou(self, other: Box) -> float:
        """Intersection over union, 0 to 1; 0 when both are empty."""
        common = self.intersection(other).area
        union = self.area + other.area - common
        return common / union if union else 0.0

    def expand(self, frac: float) -> Box:
        """Grown on each side by `frac` of its width and height, rounded outwards."""
        dx, dy = frac * self.width, frac * self.height
        return Box(
            int(np.floor(self.x0 - dx)),
            int(np.floor(self.y0 - dy)),
            int(np.ceil(self.x1 + dx)),
            int(np.ceil(self.y1 + dy)),
        )


def parse_numbers(text: str, size: Size, name: str, wanted: str) -> tuple[float, float, float, float]:
    """Reads ``"x,y,x,y"`` in canvas pixels, or in fractions of the canvas.

    They are fractions when every number lies in 0 to 1 and at least one is written with a point: ``0.1,0.2,0.5,1``.

    Args:
        text: what the user wrote.
        size: canvas; fractions at odd places are multiplied by its width, at even places by its height.
        name: what the numbers are ("box"), for the error.
        wanted: how to write them, for the error.

    Returns:
        Four finite numbers in canvas pixels.

    Raises:
        UserError: not four finite numbers.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4 or not np.isfinite(values).all():
        raise UserError(f"{name} {text[:60]!r} is not {wanted}")
    if _are_fractions(text):
        values = [value * side for value, side in zip(values, (*size, *size), strict=True)]
    a, b, c, d = values
    return a, b, c, d


def _are_fractions(text: str) -> bool:
    return "." in text and all(0 <= float(part) <= 1 for part in text.split(","))
