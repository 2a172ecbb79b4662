"""The tracer: from a scribble to the outline of the object that it was drawn round.

A scribble is its object, dilated by a radius that nobody told, its outline bent by a hand. The radius can be read off
it: a dilated shape has no corner that is sharper than the radius, and no part that is thinner than twice it. So the
outline is a level of the distance to the scribble's own outline; the network says which, for every place anew, since
edges of things are straighter than hands, and adds what a level cannot show: gaps that the dilation closed.

Source: ours; granulometries are Matheron's (1975), the network is FiLM-modulated (`perception.modulated`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.config import TracerConfig
from masker.guides import signed_distance
from masker.windows import Window, inside_view, sample_coverage, window_round
from perception.modulated import ModulatedUNet
from scene.geometry import Box, Size

LOGIT_LIMIT = 8.0
STEEP = 32.0  # logits per unit of distance, `masker.guides.DISTANCE_REACH` of the scribble's size
FIRST_RADIUS = 0.24  # of training's scribbles, on average, in the same unit
CALM = 0.1  # a number that moves every cell would drown all other gradients
SUPERSAMPLE = 2


class ScribbleTracer(nn.Module):
    """Scribbles and what they are called, to masks.

    Args:
        config: Sizes.
        text_width: Width of a text's pooled embedding, D.
    """

    def __init__(self, config: TracerConfig, text_width: int) -> None:
        super().__init__()
        self.config = config
        folded = config.fold**2
        self.read = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, config.text_width), nn.SiLU())
        self.net = ModulatedUNet(3 * folded, folded + 1, config.widths, config.blocks, config.text_width)
        leave = self.net.leave[-1]
        last = nn.Linear(config.widths[-1] + config.text_width, 1)
        assert isinstance(leave, nn.Conv2d) and leave.bias is not None
        for layer in (leave, last):  # at first every scribble is eroded by the mean radius
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        self.settle = nn.Sequential(nn.LayerNorm(last.in_features), last)

    def forward(self, scribble: Tensor, distance: Tensor, inside: Tensor, text: Tensor) -> Tensor:
        """Logits of the masks, (B, 1, S, S).

        Args:
            scribble: (B, 1, S, S) in [0, 1].
            distance: (B, 1, S, S), see `masker.guides.signed_distance`.
            inside: Share of each cell on the canvas, (B, 1, S, S).
            text: Pooled embeddings of T_obj, (B, D).
        """
        told = self.read(text)
        seen = F.pixel_unshuffle(torch.cat([scribble, distance, inside], dim=1), self.config.fold)
        change, deepest = self.net(seen, told)
        whole = self.settle(torch.cat([deepest, told], dim=1))[:, :, None, None]
        local = F.interpolate(change[:, :1], size=distance.shape[-2:], mode="bilinear", align_corners=False)
        radius = FIRST_RADIUS + CALM * (whole + local)
        return STEEP * (distance - radius) + F.pixel_shuffle(change[:, 1:], self.config.fold)


@torch.no_grad()
def trace(
    tracer: ScribbleTracer, scribble: np.ndarray, box: Box, embedding: Tensor, size: Size
) -> tuple[Window, np.ndarray]:
    """Reads a mask off a scribble.

    Args:
        tracer: In evaluation mode.
        scribble: On the canvas, float32 (H, W) in [0, 1].
        box: Its box, canvas px.
        embedding: Pooled embedding of T_obj, (D,).
        size: Canvas.

    Returns:
        the view, and the soft mask there, float32 (S, S).
    """
    cells = tracer.config.cells
    window = tracer_window(box, tracer.config.window, size)
    inputs = tracer_inputs(seen_in(scribble, window, cells), inside_view(window, size, cells))
    soft: np.ndarray = tracer(*inputs, embedding[None]).sigmoid()[0, 0].numpy()
    return window, soft


def tracer_window(box: Box, factor: float, size: Size) -> Window:
    """The view round a scribble's own box: round the object's it would tell how large the object is."""
    return window_round(box, factor, size)


def tracer_inputs(guide: np.ndarray, inside: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """A scribble in its view and where the canvas is there, both (S, S), as `ScribbleTracer` takes them, B = 1."""
    maps = (guide, signed_distance(guide, inside), inside)
    scribble, distance, canvas = (torch.from_numpy(np.ascontiguousarray(one))[None, None].float() for one in maps)
    return scribble, distance, canvas


def seen_in(values: np.ndarray, window: Window, cells: int) -> np.ndarray:
    """A map in a view of `cells` a side, float32."""
    return sample_coverage(values, window, cells, supersample=SUPERSAMPLE)
