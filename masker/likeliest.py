"""The likeliest of the shapes that come to mind, brought in line with what is known of the object's side and pose.

A soft mean of everything that fits overlaps the truth more than any shape that exists, and is no thing's shape. So the
remembered shape is chosen that overlaps the mean most, and is then seen from a little elsewhere: a homography, under
which straight edges stay straight, turns, leans and foreshortens it towards the mean.

Source: ours. Soft IoU as in Rahman & Wang 2016, "Optimizing intersection-over-union in deep neural networks".
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CELLS = 48  # along a side of the maps that are compared
STEPS, RATE = 30, 0.03  # of Adam
STRAIN = 0.06  # weight of the mean squared strain: how far a shape bends before it is another's
NEAREST_HORIZON = 0.3  # the plane's points stay so far in front of whoever looks at it


def likely_map(chances: Tensor, shapes: Tensor, drawn: Tensor | None) -> Tensor:
    """How likely each part of a box belongs to its object, in [0, 1], (`CELLS`, `CELLS`).

    Args:
        chances: (K,), summing to 1, of shapes that come to mind.
        shapes: Their silhouettes in their boxes, in [0, 1], (K, S, S).
        drawn: What a network holds for likely in the same box, in [0, 1], (R, R); None = memory alone says.
    """
    remembered = torch.einsum("k,kij->ij", chances, resized(shapes))
    return remembered if drawn is None else (remembered + resized(drawn[None])[0]) / 2


def likeliest_shape(shapes: Tensor, likely: Tensor) -> tuple[int, Tensor]:
    """Which of silhouettes (K, S, S) overlaps most with a `likely_map`, and how it is to be seen.

    Returns:
        its number, and the homography (3, 3) that takes points of the box, -1 to 1, to points of the silhouette.
    """
    coarse = resized(shapes)
    chosen = int(soft_iou(coarse, likely).argmax())
    return chosen, _homography(coarse[chosen], likely)


def overlap_with_likely(shape: Tensor, likely: Tensor) -> float:
    """Soft IoU of a silhouette (S, S) with a `likely_map`."""
    return float(soft_iou(resized(shape[None])[0], likely))


def seen_through(homography: Tensor, shape: Tensor, cells: int) -> Tensor:
    """A silhouette (S, S) as a homography of `likeliest_shape` shows it, in [0, 1], (cells, cells)."""
    return _warped(shape, _plane(homography, cells))


def soft_iou(shapes: Tensor, wanted: Tensor) -> Tensor:
    """Of maps (..., R, R) in [0, 1] with one (R, R)."""
    shared = (shapes * wanted).sum((-2, -1))
    return shared / (shapes.sum((-2, -1)) + wanted.sum() - shared).clamp_min(1e-6)


def resized(maps: Tensor) -> Tensor:
    """Maps (K, S, S) on `CELLS` cells a side."""
    return F.interpolate(maps[:, None], size=(CELLS, CELLS), mode="bilinear", antialias=True, align_corners=False)[:, 0]


def _homography(shape: Tensor, wanted: Tensor) -> Tensor:
    """The (3, 3) that brings a silhouette in line with a soft map, both (R, R), without much strain."""
    with torch.enable_grad():
        bends = torch.zeros(8, requires_grad=True)
        adam = torch.optim.Adam([bends], lr=RATE)
        still = _plane(torch.eye(3), len(shape))
        for _ in range(STEPS):
            plane = _plane(_bent(bends), len(shape))
            moved = (plane - still) * (len(shape) / 2)  # in cells: differences of neighbours are strains
            strain = moved.diff(dim=0).square().mean() + moved.diff(dim=1).square().mean()
            loss = STRAIN * 2 * strain - soft_iou(_warped(shape, plane), wanted)
            adam.zero_grad()
            loss.backward()
            adam.step()
    return _bent(bends.detach())


def _bent(bends: Tensor) -> Tensor:
    """The homography of eight numbers; zeros change nothing."""
    return torch.cat([bends, bends.new_zeros(1)]).view(3, 3) + torch.eye(3)


def _plane(homography: Tensor, cells: int) -> Tensor:
    """Where cell centres come from, (cells, cells, 2), x and y from -1 to 1."""
    steps = (torch.arange(cells) + 0.5) * (2 / cells) - 1
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ homography.T
    return points[..., :2] / points[..., 2:].clamp_min(NEAREST_HORIZON)


def _warped(shape: Tensor, plane: Tensor) -> Tensor:
    """A map (S, S) at points (cells, cells, 2); what touches the box's edge goes on beyond it."""
    return F.grid_sample(shape[None, None], plane[None], padding_mode="border", align_corners=False)[0, 0]
