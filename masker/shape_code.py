"""Which of its shapes an object shows: a short code, and a diffusion model over codes.

A text and a box leave open from which side a laptop is seen, and the mean over all sides is a blob. What tells
one silhouette from another is a code (`perception.codes`) of the mask seen in its guide's frame. With it the shape
prior draws one of the shapes instead of their mean; at run time it is drawn from everything known and the guide as it
lies in its frame.

A learned encoder (a conditional VAE) in the components' place was far behind them after 50 k samples; see
docs/experiments/masker.md.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from masker.config import ShapePriorConfig
from masker.layout_encoder import cell_centers
from perception.codes import CodeModel

SKETCH_GAIN = 12.0  # logits per unit of coverage
FARTHEST = 5.0  # deviations that a guide's code may lie off


class ShapeCode(CodeModel):
    """Codes of shapes: read off masks seen in their frames, (B, 1, side, side), or drawn from facts and hints.

    Args:
        config: Sizes.
        facts: Width of what is known about an object, see `masker.shape_prior.ShapePrior.facts`.
    """

    def __init__(self, config: ShapePriorConfig, facts: int) -> None:
        known = facts + 2 * config.code + config.guide_cells**2
        sizes = {"hidden": config.code_hidden, "layers": config.code_layers, "steps": config.code_steps}
        super().__init__(config.side**2, config.code, known, **sizes)
        self.config = config

    def sketch(self, codes: Tensor) -> Tensor:
        """Logits, (B, 1, side, side), of the masks that codes (B, C) stand for, as far as components can draw them."""
        seen = self.stand_for(codes)
        return SKETCH_GAIN * (seen - 0.5).view(-1, 1, self.config.side, self.config.side)

    def look(self, guide: Tensor) -> Tensor:
        """What is seen of guides in their frames, (B, 1, side, side): their own codes and a coarse picture, (B, G)."""
        cells = F.adaptive_avg_pool2d(guide, self.config.guide_cells)
        return torch.cat([self.read(guide).clamp(-FARTHEST, FARTHEST), 2 * cells.flatten(1) - 1], dim=1)


def in_frame(values: Tensor, center: Tensor, half: Tensor, side: int) -> Tensor:
    """What a view shows of an object's frame, (B, 1, side, side); 0 beyond the view.

    Args:
        values: (B, 1, R, R).
        center, half: (B, 2), x and y of the frame's centre, and how far it reaches; the view runs from -1 to 1.
        side: Cells asked for.
    """
    unit = cell_centers(side, values.device)
    return sampled_at(values, center[:, :1] + half[:, :1] * unit, center[:, 1:] + half[:, 1:] * unit)


def sampled_at(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(B, 1, R, R) at columns x and rows y, (B, N) each, bilinear; the map runs from -1 to 1 and is 0 beyond."""
    shape = (len(values), y.shape[1], x.shape[1])
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
