"""Where an object goes and how large it is: a placement prior over boxes, p(box | S_k, T_obj, T_context).

Mask-free prediction has two questions in one: where, and what shape. One diffusion over the whole canvas answered both
with fragments (docs/experiments/masker.md). Here the first is answered by itself, as a chain of three discrete draws:
the cell on which the object's base stands, then its height there, then its width. A box drawn from it guides the mask
model like any other box. Diversity comes from the draw; so does support, because the base is drawn first.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.config import PlacementConfig
from masker.refiner import ModulatedUNet

PLANES = 4  # masker.windows.geometry_channels
OUTSIDE = -1e4


@dataclass(frozen=True)
class PlacementInputs:
    """B canvas views.

    Attributes:
        index: int64 (B, R, R), rows of `labels`; 0 = nothing lies there.
        labels: (N, D) pooled text embeddings, row 0 unused.
        geometry: (B, 4, R, R), see `masker.windows.geometry_channels`.
        object, context: (B, D), means of the tokens of T_obj and T_context.
    """

    index: Tensor
    labels: Tensor
    geometry: Tensor
    object: Tensor
    context: Tensor


class PlacementPrior(nn.Module):
    """A convolutional U-Net over the painted layout, modulated by both texts.

    Args:
        config: Sizes.
        text_width: Width of the text tokens.
    """

    def __init__(self, config: PlacementConfig, text_width: int) -> None:
        super().__init__()
        self.config = config
        width, bins = config.text_width, config.size_bins
        self.paint = nn.Linear(text_width, config.painted_channels)
        self.empty = nn.Parameter(torch.zeros(config.painted_channels))
        self.read = nn.Sequential(nn.LayerNorm(2 * text_width), nn.Linear(2 * text_width, width), nn.SiLU())
        # Cells also say how like T_obj their label is.
        entering = config.fold**2 * (config.painted_channels + 1) + PLANES
        self.net = ModulatedUNet(entering, config.widths[0], config.widths, 2, width)
        self.where = nn.Conv2d(config.widths[0], config.fold**2, 1)
        hidden = 256
        self.height = nn.Sequential(nn.Linear(config.widths[0] + width + 2, hidden), nn.SiLU(), nn.Linear(hidden, bins))
        self.height_code = nn.Embedding(bins, 32)
        self.width = nn.Sequential(
            nn.Linear(config.widths[0] + width + 2 + 32, hidden), nn.SiLU(), nn.Linear(hidden, bins)
        )

    def maps(self, inputs: PlacementInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the base's cell (B, R * R), features (B, C, R / fold, R / fold), texts (B, W)."""
        vectors = self.paint(inputs.labels * inputs.labels.shape[1] ** 0.5)
        table = torch.cat([self.empty[None], vectors[1:]])
        painted = table[inputs.index].permute(0, 3, 1, 2)
        likeness = F.normalize(inputs.object, dim=1) @ F.normalize(inputs.labels, dim=1).T
        alike = torch.gather(likeness, 1, inputs.index.flatten(1)).view_as(inputs.index)[:, None]
        folded = F.pixel_unshuffle(torch.cat([painted, alike], dim=1), self.config.fold)
        frame = F.adaptive_avg_pool2d(inputs.geometry, folded.shape[-1])
        texts = self.read(torch.cat([inputs.object, inputs.context], dim=1))
        features, _ = self.net(torch.cat([folded, frame], dim=1), texts)
        logits = F.pixel_shuffle(self.where(features), self.config.fold)[:, 0]
        logits = torch.where(inputs.geometry[:, 0] > 0, logits, OUTSIDE)
        return logits.flatten(1).log_softmax(1), features, texts

    def at(self, features: Tensor, texts: Tensor, base: Tensor) -> Tensor:
        """What decides the size of an object whose base (B, 2), 0 to 1 across the view, lies there; (B, .)."""
        grid = (base * 2 - 1)[:, None, None, :]
        local = F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return torch.cat([local[:, :, 0, 0], texts, base * 2 - 1], dim=1)

    def loss(self, inputs: PlacementInputs, boxes: Tensor) -> dict[str, Tensor]:
        """Cross entropies, each (B,), of true boxes (B, 4): x0, y0, x1, y1, 0 to 1 across the view."""
        return self.cross_entropies(*self.maps(inputs), boxes)

    def cross_entropies(self, where: Tensor, features: Tensor, texts: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """`loss` from what `maps` gave."""
        base, sizes = split_boxes(boxes)
        cells = (base * self.config.resolution).long().clamp(0, self.config.resolution - 1)
        here = self.at(features, texts, base)
        height, width = self.bin_of(sizes[:, 1]), self.bin_of(sizes[:, 0])
        code = self.height_code(height)
        return {
            "where": -where.gather(1, (cells[:, 1] * self.config.resolution + cells[:, 0])[:, None])[:, 0],
            "height": F.cross_entropy(self.height(here), height, reduction="none"),
            "width": F.cross_entropy(self.width(torch.cat([here, code], dim=1)), width, reduction="none"),
        }

    def bin_of(self, sides: Tensor) -> Tensor:
        """Nearest size bin, int64, of sides over the view's side."""
        smallest, bins = torch.tensor(self.config.smallest), self.config.size_bins
        return ((sides.clamp_min(1e-6).log() / smallest.log() * -1 + 1) * (bins - 1)).round().long().clamp(0, bins - 1)

    def side_of(self, position: Tensor) -> Tensor:
        """Side over the view's side at a (fractional) bin position."""
        smallest = torch.tensor(self.config.smallest)
        return (smallest.log() * (1 - position / (self.config.size_bins - 1))).exp()

    @torch.no_grad()
    def places(self, inputs: PlacementInputs) -> Places:
        """Everything that is known about one view (B = 1) before a draw."""
        return Places(self, *self.maps(inputs))


@dataclass(frozen=True)
class Places:
    """The prior of one canvas view and object: boxes can be drawn from it, and weighed. Make it with `places`."""

    prior: PlacementPrior
    where: Tensor
    features: Tensor
    texts: Tensor

    @torch.no_grad()
    def sample(self, generator: torch.Generator, top_p: float = 1.0) -> Tensor:
        """One box (4,): x0, y0, x1, y1, 0 to 1 across the view, perhaps reaching beyond it.

        Args:
            generator: Source of all draws.
            top_p: Each of the three draws is among the likeliest outcomes that make up this probability.
        """
        prior, resolution = self.prior, self.prior.config.resolution
        cell = draw(self.where[0], top_p, generator)
        jitter = torch.rand(4, generator=generator)
        place = torch.tensor([cell % resolution, cell // resolution])
        base = (place + jitter[:2]) / resolution
        here = prior.at(self.features, self.texts, base[None])
        tall = draw(prior.height(here)[0].log_softmax(0), top_p, generator)
        code = prior.height_code(torch.tensor([tall]))
        wide = draw(prior.width(torch.cat([here, code], dim=1))[0].log_softmax(0), top_p, generator)
        width, height = prior.side_of(torch.tensor([wide, tall]) + jitter[2:] - 0.5)
        return torch.stack([base[0] - width / 2, base[1] - height, base[0] + width / 2, base[1]])

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


def draw(log_probabilities: Tensor, top_p: float, generator: torch.Generator) -> int:
    """A draw from (N,) log-probabilities among the likeliest outcomes of total probability `top_p`."""
    ordered, order = log_probabilities.sort(descending=True, stable=True)
    upto = ordered.exp().cumsum(0)
    count = int((upto < top_p).sum()) + 1
    kept = ordered[:count].exp()
    share = torch.rand(1, generator=generator) * kept.sum()
    return int(order[min(int((kept.cumsum(0) < share).sum()), count - 1)])


def mean_tokens(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, T, D) tokens over their mask (B, T); 0 where there are none."""
    return cast(Tensor, (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1))


def stack_boxes(boxes: Sequence[tuple[float, float, float, float]]) -> Tensor:
    """(B, 4) float32."""
    return torch.tensor(boxes, dtype=torch.float32)
