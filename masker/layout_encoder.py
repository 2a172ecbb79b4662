"""The trainable layout encoder `E_phi` and the blending of guidance into the layout (Eq. 5).

Labels become vectors through the frozen text encoder and a learned projection, so there is no table of
known classes: "couch" lands near "sofa", and a label never seen in training still has a place. The paper's form, a
table of colours that the guide whitens, can be chosen for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from masker.codec import MaskCodec
from masker.config import LayoutEncoderConfig
from scene.layout import label_colour

FRAME_CHANNELS = 17  # GuideFrame.features: 2 axes x (position, 6 waves), 2 sizes, 1 flag
EMPTY_ROW = 0  # row 0 of every label table: no object there


def palette_table(labels: Sequence[str]) -> Tensor:
    """(N, 3) colours in [0, 1]; row 0, "nothing", is black, on which a guide's white shows."""
    table = torch.tensor([(0, 0, 0), *(label_colour(label) for label in labels[1:])], dtype=torch.float32)
    return table / 255


def blend_guidance(layout: Tensor, guide: Tensor, target: Tensor, alpha: float) -> Tensor:
    """S~ = S * (1 - alpha G) + alpha G * g.

    The paper whitens an RGB layout (g = 1). In text-embedding space white has no meaning, so g is a
    learned vector and S is squashed to (0, 1) first.

    Args:
        layout: S, (B, C, H, W) in [0, 1].
        guide: G_obj, (B, 1, H, W) in [0, 1]; all 0 = mask-free.
        target: g, (C,) in [0, 1].
        alpha: Strength in [0, 1]; 0.7 in the paper.

    Returns:
        S~, (B, C, H, W), in [0, 1] where its inputs are.

    Source: SmartMask, arXiv 2312.05039, Eq. 5 (g learned: ours).
    """
    weight = alpha * guide
    return layout * (1 - weight) + weight * target.view(1, -1, 1, 1)


@dataclass(frozen=True)
class GuideFrame:
    """The guide's own frame: its centre and half-sides in a view, read off the map's mean and standard deviation.

    Attributes:
        center, half: (B, 2), x and y; the view runs from -1 to 1. For a box, half is half its side.
        fill: (B,), sum of the guide over the frame's area: 1 for a box, about 0.5 for a blob.
        present: bool (B,), False = there is no guide, and no frame.
    """

    center: Tensor
    half: Tensor
    fill: Tensor
    present: Tensor

    @classmethod
    def of(cls, guide: Tensor) -> GuideFrame:
        """The frame of G_obj, (B, 1, R, R) in [0, 1]; all 0 = mask-free."""
        positions = cell_centers(guide.shape[-1], guide.device)
        centers, halves = [], []
        for axis in (2, 1):  # x, then y
            profile = guide[:, 0].sum(dim=3 - axis)
            profile = profile / profile.sum(1, keepdim=True).clamp_min(1e-6)
            mean = profile @ positions
            centers.append(mean)
            halves.append((profile @ positions**2 - mean**2).clamp_min(1e-4).sqrt() * 3**0.5)
        half = torch.stack(halves, 1)
        fill = guide.mean(dim=(1, 2, 3)) / half.prod(1)
        return cls(torch.stack(centers, 1), half, fill, guide.amax(dim=(1, 2, 3)) > 1e-3)

    def row(self, number: int) -> GuideFrame:
        """The frame of one view, B = 1."""
        part = slice(number, number + 1)
        return GuideFrame(self.center[part], self.half[part], self.fill[part], self.present[part])

    def cells(self, count: int) -> tuple[Tensor, Tensor]:
        """u (B, count) along x and v (B, count) along y of a view's cell centres; -1 to 1 inside a box."""
        unit = (cell_centers(count, self.center.device) - self.center[..., None]) / self.half[..., None]
        return unit[:, 0], unit[:, 1]

    def features(self, count: int) -> Tensor:
        """(B, FRAME_CHANNELS, count, count): u, v, sines and cosines of both, log sizes, 1; all 0 without a guide.

        "Upper left of the object" is then an input, not something to be found by attention.
        """
        u, v = (unit.clamp(-3, 3) for unit in self.cells(count))
        across, down = _waves(u)[:, :, None, :], _waves(v)[:, :, :, None]
        sizes = torch.cat([self.half.log(), torch.ones_like(self.half[:, :1])], dim=1)[:, :, None, None]
        parts = [part.expand(-1, -1, count, count) for part in (across, down, sizes)]
        return torch.cat(parts, dim=1) * self.present[:, None, None, None]


def cell_centers(count: int, device: torch.device) -> Tensor:
    """Centres of `count` cells along a side that runs from -1 to 1, (count,)."""
    return (torch.arange(count, device=device) + 0.5) * (2 / count) - 1


def _waves(unit: Tensor) -> Tensor:
    """A coordinate (B, N) and its sines and cosines at three frequencies, (B, 7, N)."""
    waves = [f(unit * (torch.pi / 2) * k) for k in (1, 2, 4) for f in (torch.sin, torch.cos)]
    return torch.stack([unit, *waves], dim=1)


class LayoutEncoder(nn.Module):
    """`E_phi`: label indices and guidance to features at latent resolution.

    Painted vectors have one coordinate more than the learned ones: it is 0 for every label and 1 for g, so
    that after Eq. 5 it is exactly alpha G. The frozen mask codec reads the guide off that coordinate, in
    the very latents the denoiser works in; the trained convolutions read all coordinates. Without this
    the convolutions alone needed tens of thousands of samples to carry a scribble's shape.

    Args:
        config: Sizes; 2 ** len(widths) is the reduction from view cells to latent cells.
        text_width: Width of the pooled label embeddings.
        codec: Encodes the guide coordinate; frozen, and not part of this module's weights.
    """

    def __init__(self, config: LayoutEncoderConfig, text_width: int, codec: MaskCodec) -> None:
        super().__init__()
        self.config = config
        self.out_channels = config.widths[-1] + codec.latent_channels + FRAME_CHANNELS
        self.latent_size = codec.latent_size
        self._codec = (codec,)  # a tuple hides it from nn.Module's registration
        if config.labels == "text":
            self.project = nn.Linear(text_width, config.painted_channels)
            self.empty = nn.Parameter(torch.zeros(config.painted_channels))
            self.guide_vector = nn.Parameter(torch.full((config.painted_channels,), 2.0))
        layers: list[nn.Module] = []
        before = config.layout_channels
        for width in config.widths:
            layers += [
                nn.Conv2d(before, width, 3, stride=2, padding=1),
                nn.GroupNorm(max(width // 16, 1), width),
                nn.SiLU(),
            ]
            before = width
        layers.append(nn.Conv2d(before, before, 3, padding=1))
        self.convolutions = nn.Sequential(*layers)

    def paint(self, index: Tensor, labels: Tensor) -> Tensor:
        """S: every cell takes the squashed projection of its label, or its colour.

        Args:
            index: int64 (B, H, W), rows of `labels`; `EMPTY_ROW` where nothing lies.
            labels: (N, D) pooled text embeddings; row `EMPTY_ROW` is ignored (a learned vector stands in). Or (N, 3),
                what `palette_table` gives.

        Returns:
            (B, 1 + C, H, W) in [0, 1]; channel 0 is the guide's coordinate, 0 for every label.
        """
        if self.config.labels == "palette":
            return nn.functional.pad(labels, (1, 0))[index].permute(0, 3, 1, 2)
        # Unit-norm embeddings have entries of about 1 / sqrt(D): scaled up so that the sigmoid has contrast.
        vectors = self.project(labels * labels.shape[1] ** 0.5)
        table = nn.functional.pad(torch.cat([self.empty[None], vectors[1:]]).sigmoid(), (1, 0))
        return table[index].permute(0, 3, 1, 2)

    def forward(self, painted: Tensor, guide: Tensor, frame: GuideFrame) -> Tensor:
        """Features of the guided layout, (B, out_channels, h, w).

        Args:
            painted: S, as `paint` gives it.
            guide: (B, 1, H, W) in [0, 1].
            frame: The guide's.
        """
        blended = blend_guidance(painted, guide, self._guide_target(painted), self.config.alpha)
        with torch.no_grad():
            shape = self._codec[0].encode(blended[:, :1] / self.config.alpha)
        return torch.cat([self.convolutions(blended), shape, frame.features(self.latent_size)], dim=1)

    def _guide_target(self, painted: Tensor) -> Tensor:
        """g, (1 + C,): 1 on the guide's coordinate, then the learned vector, or white."""
        if self.config.labels == "palette":
            return painted.new_ones(painted.shape[1])
        return nn.functional.pad(self.guide_vector.sigmoid(), (1, 0), value=1.0)
