"""Distributions over boxes in a picture, as a chain of three discrete draws: the cell on which the object's base
stands, then its height there, then its width. Diversity comes from the draw; support, because the base is drawn first.

Source: ours; see `masker.placement` and `planner.places`, which are made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 256
CODE = 32


class BoxPrior(nn.Module):
    """The heads of such a chain over a map of features.

    Args:
        resolution: R, cells along one side of the view.
        fold: cells per feature, per axis.
        channels: C of the features.
        vector: W of what steers them.
        size_bins: bins of log height and of log width.
        smallest: side of the first bin's centre over the view's side.
    """

    def __init__(self, resolution: int, fold: int, channels: int, vector: int, size_bins: int, smallest: float) -> None:
        super().__init__()
        self.resolution, self.fold, self.size_bins, self.smallest = resolution, fold, size_bins, smallest
        entering = channels + vector + 2
        self.where = nn.Conv2d(channels, fold**2, 1)
        self.height = nn.Sequential(nn.Linear(entering, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, size_bins))
        self.height_code = nn.Embedding(size_bins, CODE)
        self.width = nn.Sequential(nn.Linear(entering + CODE, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, size_bins))

    def cells(self, features: Tensor) -> Tensor:
        """Logits (B, R, R) of the base's cell of features (B, C, R / fold, R / fold)."""
        return F.pixel_shuffle(self.where(features), self.fold)[:, 0]

    def at(self, features: Tensor, texts: Tensor, base: Tensor) -> Tensor:
        """What decides the size of an object whose base (B, 2), 0 to 1 across the view, lies there; (B, .)."""
        grid = (base * 2 - 1)[:, None, None, :]
        local = F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return torch.cat([local[:, :, 0, 0], texts, base * 2 - 1], dim=1)

    def cross_entropies(self, where: Tensor, features: Tensor, texts: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """Cross entropies, each (B,), of true boxes (B, 4): x0, y0, x1, y1, 0 to 1 across the view."""
        base, sizes = split_boxes(boxes)
        cells = (base * self.resolution).long().clamp(0, self.resolution - 1)
        here = self.at(features, texts, base)
        height, width = self.bin_of(sizes[:, 1]), self.bin_of(sizes[:, 0])
        code = self.height_code(height)
        return {
            "where": -where.gather(1, (cells[:, 1] * self.resolution + cells[:, 0])[:, None])[:, 0],
            "height": F.cross_entropy(self.height(here), height, reduction="none"),
            "width": F.cross_entropy(self.width(torch.cat([here, code], dim=1)), width, reduction="none"),
        }

    def bin_of(self, sides: Tensor) -> Tensor:
        """Nearest size bin, int64, of sides over the view's side."""
        smallest, bins = torch.tensor(self.smallest), self.size_bins
        return ((sides.clamp_min(1e-6).log() / smallest.log() * -1 + 1) * (bins - 1)).round().long().clamp(0, bins - 1)

    def side_of(self, position: Tensor) -> Tensor:
        """Side over the view's side at a (fractional) bin position."""
        smallest = torch.tensor(self.smallest)
        return (smallest.log() * (1 - position / (self.size_bins - 1))).exp()


@dataclass(frozen=True)
class Places:
    """What is known about the place of one object in one view: boxes can be drawn from it, and weighed.

    `where` (1, R * R) log-probabilities, `features` (1, C, h, w), `texts` (1, W).
    """

    prior: BoxPrior
    where: Tensor
    features: Tensor
    texts: Tensor

    def sample(self, generator: torch.Generator, top_p: float = 1.0) -> Tensor:
        """One box (4,) of `samples`."""
        return self.samples(1, generator, top_p)[0]

    @torch.no_grad()
    def samples(self, count: int, generator: torch.Generator, top_p: float = 1.0) -> Tensor:
        """Boxes (count, 4): x0, y0, x1, y1, 0 to 1 across the view, perhaps reaching beyond it; what so many calls for
        one give.

        Args:
            count: how many.
            generator: Source of all draws.
            top_p: Each of the three draws is among the likeliest outcomes that make up this probability.
        """
        prior, resolution = self.prior, self.prior.resolution
        shares = torch.rand((count, 7), generator=generator)
        jitter = shares[:, 1:5]
        cell = draw(self.where, top_p, shares[:, 0])
        place = torch.stack([cell % resolution, cell // resolution], dim=1)
        base = (place + jitter[:, :2]) / resolution
        here = prior.at(self.features.expand(count, -1, -1, -1), self.texts.expand(count, -1), base)
        tall = draw(prior.height(here).log_softmax(1), top_p, shares[:, 5])
        code = prior.height_code(tall)
        wide = draw(prior.width(torch.cat([here, code], dim=1)).log_softmax(1), top_p, shares[:, 6])
        sides = prior.side_of(torch.stack([wide, tall], dim=1) + jitter[:, 2:] - 0.5)
        left, top = base[:, 0] - sides[:, 0] / 2, base[:, 1] - sides[:, 1]
        return torch.stack([left, top, base[:, 0] + sides[:, 0] / 2, base[:, 1]], dim=1)

    @torch.no_grad()
    def log_density(self, boxes: Tensor) -> Tensor:
        """Log-probability (N,) of boxes (N, 4): base cell, height and width together."""
        prior, count = self.prior, len(boxes)
        terms = prior.cross_entropies(
            self.where.expand(count, -1),
            self.features.expand(count, -1, -1, -1),
            self.texts.expand(count, -1),
            boxes,
        )
        return -torch.stack(list(terms.values())).sum(0)


def split_boxes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (B, 4) to base points (B, 2), the middle of the lower edge, and sizes (B, 2), width and height."""
    base = torch.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], dim=1)
    return base, torch.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], dim=1)


def draw(log_probabilities: Tensor, top_p: float, shares: Tensor) -> Tensor:
    """Draws (B,), int64, among the likeliest outcomes of total probability `top_p`.

    Args:
        log_probabilities: (B, N), or (1, N) for all.
        top_p: 0 = always the likeliest.
        shares: (B,) uniform random numbers below 1.
    """
    ordered, order = log_probabilities.sort(dim=1, descending=True, stable=True)
    upto = ordered.exp().cumsum(1)
    last = (upto < top_p).sum(1, keepdim=True).clamp_max(ordered.shape[1] - 1)
    target = shares[:, None] * upto.gather(1, last)
    index = torch.minimum((upto < target).sum(1, keepdim=True), last)
    return order.expand(len(shares), -1).gather(1, index)[:, 0]


def stack_boxes(boxes: Sequence[tuple[float, float, float, float]]) -> Tensor:
    """(B, 4) float32."""
    return torch.tensor(boxes, dtype=torch.float32)
