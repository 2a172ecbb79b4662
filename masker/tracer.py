"""The tracer: from a scribble to the outline of the object that it was drawn round.

A scribble is its object, dilated by a radius that nobody told, its outline bent by a hand. The radius can be read off
it: a dilated shape has no corner that is sharper than the radius, and no part that is thinner than twice it. So what
openings and erosions by one disc after another take of it (its granulometry) are the inputs of a small network, whose
output is the radius; the mask is the scribble, eroded by that.

Source: ours. Granulometry: Matheron 1975, "Random sets and integral geometry".
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from masker.config import TracerConfig
from masker.guides import continued
from masker.windows import Window, inside_view, sample_coverage, window_round
from scene.geometry import Box, Size

USUAL_RADIUS = 0.09  # of training's scribbles, on average, over sqrt(area of the object)
SMALLEST = 0.003  # radius over sqrt(area of the scribble)
FARTHEST = 4.0  # deviations of an input
DISCS = (0.015, 0.025, 0.035, 0.045, 0.055, 0.065, 0.075, 0.085, 0.095, 0.11, 0.125, 0.14, 0.16, 0.19, 0.23, 0.28)
"""Radii over sqrt(area of the scribble)."""
NUMBERS = 2 * len(DISCS) + 5
SUPERSAMPLE = 2
EDGE_PX = 1.0  # how soft a traced outline is


class ScribbleTracer(nn.Module):
    """Reads the radius by which a scribble was dilated off its `scribble_numbers`.

    Args:
        config: Sizes.
    """

    def __init__(self, config: TracerConfig) -> None:
        super().__init__()
        self.config = config
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(NUMBERS))
        self.register_buffer("deviation", torch.ones(NUMBERS))
        last = nn.Linear(config.hidden, 1)
        nn.init.zeros_(last.weight)  # at first every scribble is taken for one of the mean hand
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(
            nn.Linear(NUMBERS, config.hidden),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            last,
        )

    def learn_scale(self, numbers: Tensor) -> None:
        """Takes mean and deviation of training's numbers, (N, NUMBERS)."""
        self.mean.copy_(numbers.mean(0))
        self.deviation.copy_(numbers.std(0).clamp_min(1e-4))

    def forward(self, numbers: Tensor) -> Tensor:
        """Log of the radius over sqrt(area of the scribble), (B,), from `scribble_numbers`, (B, NUMBERS)."""
        scaled = ((numbers - self.mean) / self.deviation).clamp(-FARTHEST, FARTHEST)
        change: Tensor = self.net(scaled)[:, 0]
        return numbers[:, -1] + change


@torch.no_grad()
def trace(tracer: ScribbleTracer, scribble: np.ndarray, box: Box, size: Size) -> tuple[Window, np.ndarray]:
    """Reads a mask off a scribble.

    Args:
        tracer: In evaluation mode.
        scribble: On the canvas, float32 (H, W) in [0, 1].
        box: Its box, canvas px.
        size: Canvas.

    Returns:
        a view of one cell a pixel, and the soft mask there, float32 (S, S); the scribble itself where it fills the
        canvas.
    """
    window = Window(float(box.x0), float(box.y0), float(max(box.width, box.height)))
    drawn = scribble >= 0.5 * max(float(scribble.max()), 1e-6)
    soft = drawn.astype(np.float32)
    numbers = scribble_numbers(*tracer_view(scribble, box, size, tracer.config))
    if numbers is not None and not drawn.all():
        radius = float(tracer(torch.from_numpy(numbers)[None]).exp()) * np.sqrt(drawn.sum())
        depth = distance_transform_edt(drawn) - 0.5
        radius = min(radius, float(depth.max()) - EDGE_PX)  # something always stays
        soft = ((depth - radius) / EDGE_PX + 0.5).clip(0, 1).astype(np.float32)
    return window, sample_coverage(soft, window, int(window.side), supersample=1)


def tracer_view(
    scribble: np.ndarray, box: Box, size: Size, config: TracerConfig, jitter: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """A scribble in the view round its own box (round its object's, the frame would tell how large the object is).

    Args:
        scribble: On the canvas, (H, W).
        box: Its box, canvas px.
        size: Canvas.
        config: Cells, and how wide the view is.
        jitter: So much wider.

    Returns:
        the scribble, and the share of each cell on the canvas, float32 (S, S).
    """
    window = window_round(box, config.window * (1 + jitter), size)
    seen = sample_coverage(scribble, window, config.cells, supersample=SUPERSAMPLE)
    return seen, inside_view(window, size, config.cells)


def scribble_numbers(guide: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
    """What tells how thickly somebody drew, float32 (NUMBERS,): the share of the scribble that an opening by each of
    `DISCS` takes, the share that an erosion leaves, log(width / height), the share of its box, its greatest depth and
    the cells' size over sqrt(area), and the log of the radius that the mean hand would have drawn with.

    Args:
        guide: The scribble in its view, float32 (S, S) in [0, 1].
        inside: Share of each cell on the canvas, float32 (S, S).

    Returns:
        None where there is no scribble, or nothing else.
    """
    solid = continued(guide, inside)
    if solid is None or not solid.any() or solid.all():
        return None
    size = float(np.sqrt(solid.sum()))
    depth = distance_transform_edt(solid) - 0.5
    taken = np.ones(len(DISCS))
    for number, disc in enumerate(DISCS):
        kept = depth >= disc * size
        if not kept.any():
            break
        taken[number] = 1 - (distance_transform_edt(~kept) - 0.5 <= disc * size)[solid].mean()
    left = [float((depth > disc * size).sum()) / size**2 for disc in DISCS]
    rows, columns = (np.flatnonzero(solid.any(axis)) for axis in (1, 0))
    height, width = (float(np.ptp(edges) + 1) for edges in (rows, columns))
    rest = [np.log(width / height), size**2 / (width * height), depth.max() / size, 1 / size]
    return np.asarray([*taken, *left, *rest, np.log(usual_radius(depth, solid))], dtype=np.float32)


def usual_radius(depth: np.ndarray, solid: np.ndarray) -> float:
    """The dilation, over sqrt(area), of a scribble that was dilated by `USUAL_RADIUS` of its object's size.

    The size is unknown: the eroded area falls as the assumed one grows, so exactly one A gives an eroded area of A.

    Args:
        depth: How far inside the outline each cell lies, (S, S).
        solid: Which cells are the scribble's, bool (S, S), not empty.
    """
    levels = np.sort(depth[solid]) / np.sqrt(solid.sum())
    left = 1 - np.arange(len(levels)) / len(levels)  # what erosion by the k-th smallest depth leaves
    return max(float(levels[np.abs(levels - USUAL_RADIUS * np.sqrt(left)).argmin()]), SMALLEST)
