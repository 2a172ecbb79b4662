"""Surfaces (walls, floors, skies, lawns) by their outlines: from which row to which row they reach in every column.

A surface is not a thing with a silhouette. It ends where a room's corner or the horizon is, in straight lines, or
where another surface begins. A mask of cells drawn like an object's has ragged edges and leaves gaps; here an outline
is two heights a column, read and drawn as a short code (`perception.codes`) from the texts, the layout and a box, if
one is given. Straightened and joined to the surfaces that are there already, it is exact to the pixel.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.config import SurfaceConfig
from perception.codes import CodeModel
from scene.geometry import Box, Size

ROWS = 64  # rows of the layout that are looked at
OPENING_FRAC = 0.08  # an edge that jumps by so much of the canvas height within a column is that of an opening
STRAIGHT_FRAC = 0.016  # an outline may be straightened by so much of the canvas height
BORDER_FRAC = 0.015  # an edge so near to the canvas border, on average, lies on it
GAP_FRAC = 0.12  # of the canvas height: smaller gaps between two surfaces are closed,
OVERLAP_FRAC = 0.2  # and smaller overlaps cut


@dataclass(frozen=True)
class SurfaceInputs:
    """What B outlines are drawn from.

    Attributes:
        columns: int64 (B, ROWS, N), rows of `labels` in N columns of the canvas; 0 = nothing lies there.
        runs: (B, 2 N), see `runs`.
        labels: (L, D) pooled text embeddings, row 0 unused.
        object, context: (B, D), means of the tokens of T_obj and T_context.
        box: (B, 5): 1 and x0, y0, x1, y1 of a box on the canvas, each 0 to 1; all 0 where none is given.
    """

    columns: Tensor
    runs: Tensor
    labels: Tensor
    object: Tensor
    context: Tensor
    box: Tensor


class SurfacePrior(nn.Module):
    """Outlines of surfaces, (B, 2 N): N heights of the upper edge, then N of the lower one, 0 to 1 down the canvas.

    Args:
        config: Sizes.
        text_width: Width of the text tokens.
    """

    def __init__(self, config: SurfaceConfig, text_width: int) -> None:
        super().__init__()
        self.config = config
        self.paint = nn.Linear(text_width, config.painted_channels)
        self.read_object = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, config.text_channels))
        self.read_context = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, config.text_channels))
        painted = config.painted_channels * config.layout_cells**2
        known = 2 * config.text_channels + painted + 2 * config.columns + 5
        self.code = CodeModel(
            2 * config.columns,
            config.code,
            known,
            hidden=config.hidden,
            layers=config.layers,
            steps=config.steps,
        )

    def known(self, inputs: SurfaceInputs) -> Tensor:
        """Everything that an outline is drawn from, (B, F)."""
        vectors = self.paint(inputs.labels * inputs.labels.shape[1] ** 0.5)
        table = torch.cat([torch.zeros_like(vectors[:1]), vectors[1:]])
        painted = table[inputs.columns].permute(0, 3, 1, 2)
        cells = F.adaptive_avg_pool2d(painted, self.config.layout_cells).flatten(1)
        texts = [self.read_object(inputs.object), self.read_context(inputs.context)]
        return torch.cat([*texts, cells, 2 * inputs.runs - 1, inputs.box], dim=1)

    def loss(self, inputs: SurfaceInputs, outlines: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Squared error of v, (B,), at true outlines (B, 2 N)."""
        return self.code.loss(self.code.read(outlines), noise, timesteps, self.known(inputs))

    @torch.no_grad()
    def draw(self, inputs: SurfaceInputs, noise: Tensor) -> Tensor:
        """Outlines (B, 2 N) from noise (B, code)."""
        return self.code.stand_for(self.code.draw(noise, self.known(inputs)))


def column_places(count: int, width: int) -> np.ndarray:
    """The canvas columns, px, int64 (N,), at which outlines are read; the first and the last are the canvas's own."""
    return np.linspace(0, width - 1, count).round().astype(np.int64)


def read_outline(mask: np.ndarray) -> np.ndarray:
    """The outline of a mask seen in N columns, bool (H, N): float32 (2 N,), 0 to 1 down the canvas.

    A column that holds nothing of it counts as an empty one at the nearer of the canvas's borders.
    """
    height = len(mask)
    any_here = mask.any(axis=0)
    rows = np.nonzero(mask)[0]
    empty_at = 0.0 if not len(rows) or rows.mean() < height / 2 else 1.0
    top = np.where(any_here, mask.argmax(axis=0) / height, empty_at)
    bottom = np.where(any_here, 1 - mask[::-1].argmax(axis=0) / height, empty_at)
    return np.concatenate([_bridged(top, 1), _bridged(bottom, -1)]).astype(np.float32)


def _bridged(edge: np.ndarray, inwards: int) -> np.ndarray:
    """An edge (N,) without doors and other openings: where it jumps inwards and soon back, it goes straight across."""
    edge, steps = edge.copy(), np.diff(edge) * inwards
    for first in map(int, np.nonzero(steps > OPENING_FRAC)[0]):
        for last in range(first + 1, min(first + 1 + len(edge) // 2, len(steps))):
            if steps[last] < -OPENING_FRAC:
                edge[first : last + 2] = np.linspace(edge[first], edge[last + 1], last + 2 - first)
                break
    return edge


def runs(columns: np.ndarray) -> np.ndarray:
    """How far what lies at the lower, then at the upper canvas border reaches in each column, int (H, N): (2 N,).

    0 where nothing lies there, 1 where one thing fills the column.
    """
    height = len(columns)

    def lengths(seen: np.ndarray) -> np.ndarray:
        other = seen != seen[:1]
        length = np.where(other.any(axis=0), other.argmax(axis=0), height)
        return np.where(seen[0] == 0, 0, length) / height

    return np.concatenate([lengths(columns[::-1]), lengths(columns)]).astype(np.float32)


def sampled_rows(columns: np.ndarray) -> np.ndarray:
    """`ROWS` of the rows of (H, N), evenly spread."""
    centres = (np.arange(ROWS) + 0.5) * len(columns) / ROWS
    return columns[centres.astype(np.int64)]


def box_hint(box: Box | None, size: Size) -> np.ndarray:
    """float32 (5,), see `SurfaceInputs`."""
    if box is None:
        return np.zeros(5, dtype=np.float32)
    width, height = size
    return np.array([1, box.x0 / width, box.y0 / height, box.x1 / width, box.y1 / height], dtype=np.float32)


def draw_outline(outline: np.ndarray, size: Size, surfaces: Sequence[np.ndarray] = ()) -> np.ndarray:
    """The mask that an outline stands for, bool (H, W).

    Args:
        outline: float32 (2 N,), see `SurfacePrior`.
        size: Canvas.
        surfaces: Masks, bool (H, W), of those that are there: small gaps to them are closed, and small overlaps with
            them cut, so that both end in one line.
    """
    width, height = size
    top, bottom = (_edge(heights, width) for heights in outline.reshape(2, -1))
    upper, lower = (np.rint(edge * height).astype(np.int64) for edge in (top, bottom))
    taken = np.zeros((height, width), dtype=bool)
    for other in surfaces:
        taken |= other & ~other.all(axis=0)  # what fills a column lies behind all others there
    lower = np.maximum(height - _joined(height - lower, taken[::-1]), 0)
    upper = np.minimum(_joined(upper, taken), lower)
    rows = np.arange(height)[:, None]
    return (rows >= upper) & (rows < lower)


def _joined(upper: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """An upper edge, rows int (W,), where something taken, bool (H, W), or the border ends above it, if near.

    0 to H; where the surface would begin inside of something, it begins after it.
    """
    height, width = taken.shape
    columns, joined = np.arange(width), upper.copy()
    start = np.minimum(upper, height - 1)
    below = np.where(taken, height, np.arange(height)[:, None])  # rows that are free
    next_free = np.minimum.accumulate(below[::-1], axis=0)[::-1]
    after = next_free[start, columns]
    inside = taken[start, columns] & (after - upper <= OVERLAP_FRAC * height)
    above = np.where(taken, np.arange(height)[:, None], -1)
    last_taken = np.maximum.accumulate(above, axis=0)[start, columns]
    gap = ~taken[start, columns] & (upper - (last_taken + 1) <= GAP_FRAC * height)
    joined[inside] = after[inside]
    joined[gap] = last_taken[gap] + 1
    return joined


def _edge(heights: np.ndarray, width: int) -> np.ndarray:
    """An edge at every pixel of the canvas, (W,), straight between its corners, 0 to 1."""
    places = column_places(len(heights), width).astype(np.float64)
    clean = np.clip(heights.astype(np.float64), 0, 1)
    for border in (0.0, 1.0):  # all of an edge or none: a thin ceiling would break into pieces
        if np.abs(clean - border).mean() < BORDER_FRAC:
            clean[:] = border
    kept = _corners(places / width, clean)
    return np.interp(np.arange(width), places[kept], clean[kept])


def _corners(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Indices of the points that a line straight to within `STRAIGHT_FRAC` needs (Douglas and Peucker 1973)."""
    todo, kept = [(0, len(x) - 1)], {0, len(x) - 1}
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        line = np.interp(x[first : last + 1], x[[first, last]], y[[first, last]])
        off = np.abs(line - y[first : last + 1])
        farthest = first + int(off.argmax())
        if off.max() > STRAIGHT_FRAC:
            kept.add(farthest)
            todo += [(first, farthest), (farthest, last)]
    return sorted(kept)
