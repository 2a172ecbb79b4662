"""What an object of a text looks like on average: a silhouette that the text draws in the guide's own frame.

Without it the transformer has to make shapes out of words and places by multiplying the two inside its layers: after
35 k samples a box still gave a box, whatever stood in it (docs/experiments/masker.md). Here a small network draws the
silhouette outright and is trained on the masks themselves, so it knows the mean shape of a label within minutes. The
frozen mask codec hands it to the denoiser, in the very latents that it works in; the denoiser decides what to make of
it. Mask-free views have no frame, and see nothing of this.

Source: ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.config import ShapePriorConfig
from masker.layout_encoder import GuideFrame

OUTSIDE_LOGIT = -6.0  # nothing of the object lies beyond the map


class ShapePrior(nn.Module):
    """T_obj and a guide's frame to a soft silhouette.

    Args:
        config: Sizes.
        text_width: Width of the summary of T_obj.
    """

    def __init__(self, config: ShapePriorConfig, text_width: int) -> None:
        super().__init__()
        self.config = config
        # Besides the words: the frame's size, whose shape tells a pose or a side of the object from another.
        self.draw = nn.Sequential(
            nn.Linear(text_width + 2, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.side**2)
        )

    def forward(self, text: Tensor, frame: GuideFrame, resolution: int) -> Tensor:
        """Logits of the silhouette in a view, (B, 1, resolution, resolution).

        Args:
            text: Summary of T_obj, (B, D).
            frame: Where the object will lie; where there is none, the result means nothing.
            resolution: Cells along one side of the view.
        """
        side = self.config.side
        maps = self.draw(torch.cat([text, frame.half.log()], dim=1)).view(-1, 1, side, side)
        u, v = frame.cells(resolution)
        shape = (len(text), resolution, resolution)
        grid = torch.stack([u[:, None, :].expand(shape), v[:, :, None].expand(shape)], dim=-1) / self.config.reach
        seen = F.grid_sample(maps - OUTSIDE_LOGIT, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return seen + OUTSIDE_LOGIT
