"""Guides that nobody drew: a box from the placement prior, the box that a blob stands for, or a person's guide moved a
little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from masker.config import ExamplesConfig
from masker.guides import GUIDE_BOX_LEVEL
from masker.windows import Window, canvas_window
from perception.boxes import Places
from scene.geometry import Box, Size
from scene.guidance import Guidance

MIN_BOX_PX = 4
PLACE_ATTEMPTS = 8
LOOSE_DRAWS = 64
RATIOS, SHIFTS = 26, 5  # of a blob's size to its object's, of its centre off the object's


def guide_from_prior(places: Places, size: Size, generator: torch.Generator, top_p: float) -> Guidance | None:
    """A box drawn from the placement prior; None when none of some draws shows on the canvas.

    Args:
        places: The prior of this canvas and object.
        size: Canvas.
        generator: Source of the draw.
        top_p: See `Places.sample`.
    """
    for _ in range(PLACE_ATTEMPTS):
        box = view_box(places.sample(generator, top_p), canvas_window(size)).clip(size)
        if min(box.width, box.height) >= MIN_BOX_PX:
            return Guidance.from_box(box, size)
    return None


@dataclass(frozen=True)
class LikelyBoxes:
    """Boxes (N, 4), canvas px, and their chances (N,)."""

    boxes: torch.Tensor
    chances: torch.Tensor

    @classmethod
    def of_blob(
        cls, blob: Sequence[float], places: Places, center: Sequence[float], size: Size, config: ExamplesConfig
    ) -> LikelyBoxes:
        """Which object a blob stands for. A blob as training draws them leaves open how large the object is (its sigma
        is a share of the side, the same one both ways) and where within a tenth of a side its centre of mass lies; what
        fits the scene says the rest: chances are the placement prior's, among the boxes that the blob allows.

        Args:
            blob: (cx, cy, rx, ry), canvas px, of `Guidance.from_blob`.
            places: The prior of this canvas and object.
            center: Where in its box such an object has its centre of mass, x and y, 0 to 1.
            size: Canvas.
            config: How blobs are drawn in training.
        """
        shifts = torch.linspace(-config.blob_jitter, config.blob_jitter, SHIFTS)
        grid = torch.meshgrid(torch.linspace(*config.blob_sigma, RATIOS), shifts, shifts, indexing="ij")
        ratio, *moved_by = (values.flatten() for values in grid)
        edges = []
        for axis in (0, 1):
            side = blob[2 + axis] / ratio
            start = blob[axis] - (moved_by[axis] + center[axis]) * side
            edges.append((start, start + side))
        boxes = torch.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]], dim=1)
        return cls(boxes, _log_density(places, boxes, size).softmax(0))

    def guide(self, size: Size, tightness: float, generator: torch.Generator | None = None) -> Guidance | None:
        """One of them as a guide, or with no `generator` the mean of all; None where nothing of it is on the canvas."""
        row = self.chances @ self.boxes
        if generator is not None:
            row = self.boxes[int(torch.multinomial(self.chances, 1, generator=generator))]
        box = Box(*(round(float(edge)) for edge in row)).clip(size)
        return Guidance.from_box(box, size, tightness) if min(box.width, box.height) >= MIN_BOX_PX else None


def guide_box(guidance: Guidance) -> Box:
    """The box that a guide speaks of, canvas px: where it is above `GUIDE_BOX_LEVEL` of its maximum."""
    peak = float(guidance.map.max())
    box = Box.from_mask(guidance.map >= GUIDE_BOX_LEVEL * peak)
    if box is None:
        raise ValueError("the guide is empty")
    return box


def view_box(box: torch.Tensor, window: Window) -> Box:
    """A box (4,), 0 to 1 across a view, in canvas px; at least 1 px wide and high."""
    x0, x1 = (window.x0 + float(box[i]) * window.side for i in (0, 2))
    y0, y1 = (window.y0 + float(box[i]) * window.side for i in (1, 3))
    left, top = round(x0), round(y0)
    return Box(left, top, max(round(x1), left + 1), max(round(y1), top + 1))


def _log_density(places: Places, boxes: torch.Tensor, size: Size) -> torch.Tensor:
    """`Places.log_density` (N,) of boxes (N, 4) in canvas px."""
    window = canvas_window(size)
    corner = torch.tensor([window.x0, window.y0, window.x0, window.y0])
    return places.log_density((boxes - corner) / window.side)


def loosened(guidance: Guidance, places: Places | None, size: Size, generator: torch.Generator) -> Guidance:
    """A guide near the one given: moved and scaled, its box still overlapping the given one by IoU >= tightness.

    Args:
        guidance: Its `tightness` is below 1.
        places: Among such boxes, likely ones are preferred; None: all are alike.
        size: Canvas.
        generator: Source of the draw.
    """
    given, slack = guide_box(guidance), 1 - guidance.tightness
    shift = torch.rand((LOOSE_DRAWS, 4), generator=generator) * 2 - 1
    shift[0] = 0  # the guide itself is always among them
    sides = torch.tensor([given.width, given.height]) * (slack * shift[:, 2:] * 0.7).exp()
    centers = torch.tensor([given.x0 + given.x1, given.y0 + given.y1]) / 2
    centers = centers + slack * shift[:, :2] * torch.tensor([given.width, given.height])
    edges = torch.cat([centers - sides / 2, centers + sides / 2], dim=1)
    boxes = [Box(*(round(float(edge)) for edge in row)) for row in edges]
    near = [box.iou(given) >= guidance.tightness and box.clip(size).area > 0 for box in boxes]
    density = _log_density(places, edges, size) if places is not None else torch.zeros(LOOSE_DRAWS)
    density = density.masked_fill(~torch.tensor(near), -float("inf"))
    chosen = int(torch.multinomial(density.softmax(0), 1, generator=generator))
    return moved(guidance, given, boxes[chosen])


def moved(guidance: Guidance, source: Box, target: Box) -> Guidance:
    """A guide carried from one box into another, canvas px: shifted, and stretched by nearest pixels."""
    height, width = guidance.map.shape
    ys = source.y0 + (np.arange(height) + 0.5 - target.y0) * source.height / target.height
    xs = source.x0 + (np.arange(width) + 0.5 - target.x0) * source.width / target.width
    valid = ((ys >= 0) & (ys < height))[:, None] & ((xs >= 0) & (xs < width))[None, :]
    rows, columns = ys.astype(np.intp).clip(0, height - 1), xs.astype(np.intp).clip(0, width - 1)
    return Guidance(guidance.kind, np.where(valid, guidance.map[np.ix_(rows, columns)], np.float32(0)))
