"""The tracer: from a scribble to the outline of the object that it was drawn round.

A scribble is its object, dilated by a radius that nobody told, its outline bent by a hand. The radius can be read off
it: a dilated shape has no corner that is sharper than the radius, and no part that is thinner than twice it. How much
of a scribble goes when it is opened by one disc after another (its granulometry), and how thick it is at each place,
therefore are inputs. The outline is a level of the distance to the scribble's own outline; the network says which, for
the whole and for every place anew, since edges of things are straighter than hands, and adds what a level cannot show:
gaps that the dilation closed.

Source: ours. Granulometry: Matheron 1975, "Random sets and integral geometry"; local thickness: Hildebrand and
Rüegsegger 1997, "A new method for the model-independent assessment of thickness in three-dimensional images".
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn import functional as F

from masker.config import TracerConfig
from masker.guides import DISTANCE_REACH, continued, signed_distance
from masker.windows import Window, inside_view, sample_coverage, window_round
from perception.modulated import ModulatedUNet
from scene.geometry import Box, Size

LOGIT_LIMIT = 8.0
STEEP = 32.0  # logits per unit of distance, `masker.guides.DISTANCE_REACH` of the scribble's size
USUAL_RADIUS = 0.09  # of training's scribbles, on average, over sqrt(area of the object)
CALM = 0.1  # a number that moves every cell would drown all other gradients
SUPERSAMPLE = 2
DISCS = (0.02, 0.035, 0.05, 0.065, 0.08, 0.095, 0.11, 0.13, 0.15, 0.18, 0.22, 0.28)  # radii over sqrt(scribble's area)


@dataclass(frozen=True)
class TracerInputs:
    """B scribbles in their views.

    Attributes:
        scribble: (B, 1, S, S) in [0, 1].
        distance: (B, 1, S, S), see `masker.guides.signed_distance`.
        inside: Share of each cell on the canvas, (B, 1, S, S).
        thickness: Number of the largest of `DISCS` that fits into the scribble and covers the cell, over how many
            there are, (B, 1, S / fold, S / fold).
        spectrum: Share of the scribble that is gone when it is opened by each of `DISCS`, (B, len(DISCS)).
        radius: By how much the mean hand would have dilated it, (B,), in the unit of `distance`.
    """

    scribble: Tensor
    distance: Tensor
    inside: Tensor
    thickness: Tensor
    spectrum: Tensor
    radius: Tensor

    @classmethod
    def of(cls, guide: np.ndarray, inside: np.ndarray, fold: int) -> TracerInputs:
        """One scribble in its view, B = 1.

        Args:
            guide: float32 (S, S) in [0, 1].
            inside: Share of each cell on the canvas, float32 (S, S).
            fold: So many cells a side are one of `thickness`.
        """
        distance = signed_distance(guide, inside)
        coarse = continued(*(_folded(values, fold) for values in (guide, inside)))
        side = len(guide) // fold
        thickness, spectrum = granulometry(coarse if coarse is not None else np.zeros((side, side), dtype=bool))
        radius = usual_radius(distance, inside)
        seen = [
            torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32))[None, None]
            for plane in (guide, distance, inside, thickness)
        ]
        return cls(seen[0], seen[1], seen[2], seen[3], torch.from_numpy(spectrum)[None], torch.tensor([radius]))

    @classmethod
    def stack(cls, rows: list[TracerInputs]) -> TracerInputs:
        """Many as one."""
        return cls(*(torch.cat([getattr(row, field.name) for row in rows]) for field in fields(cls)))


class ScribbleTracer(nn.Module):
    """Scribbles and what they are called, to masks.

    Args:
        config: Sizes.
        text_width: Width of a text's pooled embedding, D.
    """

    def __init__(self, config: TracerConfig, text_width: int) -> None:
        super().__init__()
        self.config = config
        folded, width = config.fold**2, config.text_width
        self.read = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, width), nn.SiLU())
        self.weigh = nn.Sequential(nn.Linear(len(DISCS) + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.net = ModulatedUNet(3 * folded + 1, folded + 1, config.widths, config.blocks, 2 * width)
        leave = self.net.leave[-1]
        hidden = nn.Linear(config.widths[-1] + 2 * width, width)
        last = nn.Linear(width, 1)
        assert isinstance(leave, nn.Conv2d)
        for layer in (leave, last):  # at first every scribble is eroded as if the mean hand had drawn it
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        self.settle = nn.Sequential(nn.LayerNorm(hidden.in_features), hidden, nn.SiLU(), last)

    def forward(self, inputs: TracerInputs, text: Tensor) -> Tensor:
        """Logits of the masks, (B, 1, S, S).

        Args:
            inputs: B scribbles.
            text: Pooled embeddings of T_obj, (B, D).
        """
        numbers = torch.cat([inputs.spectrum, inputs.radius[:, None]], dim=1)
        told = torch.cat([self.read(text), self.weigh(numbers)], dim=1)
        planes = torch.cat([inputs.scribble, inputs.distance, inputs.inside], dim=1)
        seen = torch.cat([F.pixel_unshuffle(planes, self.config.fold), inputs.thickness], dim=1)
        change, deepest = self.net(seen, told)
        whole = self.settle(torch.cat([deepest, told], dim=1))
        radius = (inputs.radius[:, None] * whole.exp())[:, :, None, None]
        local = F.interpolate(change[:, :1], size=planes.shape[-2:], mode="bilinear", align_corners=False)
        level = STEEP * (inputs.distance - radius - CALM * local)
        return level + F.pixel_shuffle(change[:, 1:], self.config.fold)


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
    seen, inside = seen_in(scribble, window, cells), inside_view(window, size, cells)
    soft: np.ndarray = (
        tracer(TracerInputs.of(seen, inside, tracer.config.fold), embedding[None]).sigmoid()[0, 0].numpy()
    )
    return window, soft


def tracer_window(box: Box, factor: float, size: Size) -> Window:
    """The view round a scribble's own box: round the object's it would tell how large the object is."""
    return window_round(box, factor, size)


def seen_in(values: np.ndarray, window: Window, cells: int) -> np.ndarray:
    """A map in a view of `cells` a side, float32."""
    return sample_coverage(values, window, cells, supersample=SUPERSAMPLE)


def granulometry(solid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How thick a shape is at each place, and how much of it each opening takes.

    Args:
        solid: bool (S, S).

    Returns:
        thickness, float32 (S, S) in [0, 1], and spectrum, float32 (len(DISCS),): see `TracerInputs`.
    """
    thickness, spectrum = np.zeros(solid.shape, dtype=np.float32), np.ones(len(DISCS), dtype=np.float32)
    area = int(solid.sum())
    if not area or solid.all():
        return thickness + solid, spectrum * (not area)
    depth = distance_transform_edt(solid) - 0.5
    for number, radius in enumerate(DISCS):
        kept = depth >= radius * np.sqrt(area)
        if not kept.any():
            break
        opened = solid & (distance_transform_edt(~kept) - 0.5 <= radius * np.sqrt(area))
        thickness[opened] = (number + 1) / len(DISCS)
        spectrum[number] = 1 - opened.sum() / area
    return thickness, spectrum


def usual_radius(distance: np.ndarray, inside: np.ndarray) -> float:
    """The dilation, in the unit of `distance`, of a scribble that was dilated by `USUAL_RADIUS` of its object's size.

    The size is unknown: the eroded area falls as the assumed one grows, so exactly one A gives an eroded area of A.
    """
    drawn = np.sort(distance[(distance > 0) & (inside > 0.5)])
    if not len(drawn):
        return 0.0
    # Areas over the scribble's: eroded by the k-th smallest distance, 1 - k / n of it is left.
    left = 1 - np.arange(len(drawn)) / len(drawn)
    wanted = USUAL_RADIUS / DISTANCE_REACH * np.sqrt(left)
    return float(drawn[np.abs(drawn - wanted).argmin()])


def _folded(values: np.ndarray, fold: int) -> np.ndarray:
    side = len(values) // fold
    return np.asarray(values.reshape(side, fold, side, fold).mean(axis=(1, 3)))
