"""Where an object goes and how large it is: a placement prior over boxes, p(box | S_k, T_obj, T_context).

Mask-free prediction has two questions in one: where, and what shape. One diffusion over the whole canvas answered both
with fragments (docs/experiments/masker.md). Here the first is answered by itself, as a chain of three discrete draws
(`perception.boxes`). A box drawn from it guides the mask model like any other box.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.config import PlacementConfig
from masker.windows import canvas_window, geometry_channels, sample_cells
from perception.boxes import BoxPrior, Places
from perception.modulated import ModulatedUNet
from scene.geometry import Size

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

    @classmethod
    def of_canvas(
        cls, layout: np.ndarray, labels: Tensor, texts: Mapping[str, Tensor], size: Size, resolution: int
    ) -> PlacementInputs:
        """B = 1: a layout on the canvas, int16 (H, W), and the texts as `masker.texts.TextBook.batch` gives them."""
        window = canvas_window(size)
        return cls(
            index=torch.from_numpy(sample_cells(layout, window, resolution)).long()[None],
            labels=labels,
            geometry=torch.from_numpy(geometry_channels(window, size, resolution))[None],
            object=mean_tokens(texts["object_tokens"], texts["object_mask"]),
            context=mean_tokens(texts["context_tokens"], texts["context_mask"]),
        )


class PlacementPrior(BoxPrior):
    """A convolutional U-Net over the painted layout, modulated by both texts.

    Args:
        config: Sizes.
        text_width: Width of the text tokens.
    """

    def __init__(self, config: PlacementConfig, text_width: int) -> None:
        width = config.text_width
        super().__init__(config.resolution, config.fold, config.widths[0], width, config.size_bins, config.smallest)
        self.config = config
        self.paint = nn.Linear(text_width, config.painted_channels)
        self.empty = nn.Parameter(torch.zeros(config.painted_channels))
        self.read = nn.Sequential(nn.LayerNorm(2 * text_width), nn.Linear(2 * text_width, width), nn.SiLU())
        # Cells also say how like T_obj their label is.
        entering = config.fold**2 * (config.painted_channels + 1) + PLANES
        self.net = ModulatedUNet(entering, config.widths[0], config.widths, 2, width)

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
        logits = self.cells(features)
        logits = torch.where(inputs.geometry[:, 0] > 0, logits, OUTSIDE)
        return logits.flatten(1).log_softmax(1), features, texts

    def loss(self, inputs: PlacementInputs, boxes: Tensor) -> dict[str, Tensor]:
        """Cross entropies, each (B,), of true boxes (B, 4): x0, y0, x1, y1, 0 to 1 across the view."""
        return self.cross_entropies(*self.maps(inputs), boxes)

    @torch.no_grad()
    def places(self, inputs: PlacementInputs) -> Places:
        """Everything that is known about one view (B = 1) before a draw."""
        return Places(self, *self.maps(inputs))


def mean_tokens(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, T, D) tokens over their mask (B, T); 0 where there are none."""
    return cast(Tensor, (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1))
