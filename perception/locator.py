"""Reads a rendered picture of a world of drawings: which categories are there, where across, and how near.

What the iterative drawing task is scored by (`orchestrator.drawing`): the same reader looks at what was drawn and at
what a person drew. One map of logits per category over a grid; the log of their summed exponentials says whether the
category is there, the highest one where.

Source: ours, in the place of GeNeVA's detector and localiser (El-Nouby et al., arXiv 1811.09845).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from perception.modulated import ResidualBlock
from runtime.config import Config, load_config, save_config
from runtime.training import FitConfig
from runtime.weights import load_weights, save_weights
from scene.errors import UserError

WEIGHTS, SETTINGS = "locator.safetensors", "locator.yaml"
DEPTHS = 3  # CoDraw's z: 0 near, 2 far


class LocatorConfig(Config):
    """Sizes of the reader, its categories and its training (configs/judge/locator_park.yaml)."""

    labels: tuple[str, ...] = ()
    """Categories; empty = all of the corpus but surfaces."""
    side_px: int = Field(default=128, multiple_of=16)
    """The picture is squeezed to this square."""
    widths: tuple[int, int, int] = (48, 64, 128)
    """Channels at a half, a quarter and an eighth of it."""
    blocks: int = Field(default=2, ge=1)
    """Residual blocks at each of the two lower levels."""
    visible_frac: float = Field(default=0.25, ge=0, le=1)
    """A category counts as there when so much of it shows; with less, training leaves it open."""
    fit: FitConfig = FitConfig(batch_size=16, total_samples=16_000, learning_rate=2e-3)


@dataclass(frozen=True)
class Found:
    """A category in a picture: across and down 0 to 1, depth 0 (near) to 2 (far), logit of its being there."""

    x: float
    y: float
    depth: float
    logit: float


class Locator(nn.Module):
    """A convolutional network with maps at a quarter of the picture.

    Args:
        config: sizes; its labels are known.
    """

    def __init__(self, config: LocatorConfig) -> None:
        super().__init__()
        self.config = config
        first, middle, deep = config.widths
        count = len(config.labels)
        self.enter = nn.Sequential(nn.Conv2d(12, first, 3, padding=1), nn.SiLU())
        self.middle = nn.Sequential(
            nn.Conv2d(first, middle, 3, stride=2, padding=1), *(ResidualBlock(middle) for _ in range(config.blocks))
        )
        self.deep = nn.Sequential(
            nn.Conv2d(middle, deep, 3, stride=2, padding=1), *(ResidualBlock(deep) for _ in range(config.blocks))
        )
        self.grow = nn.Sequential(nn.Conv2d(deep, 4 * middle, 1), nn.PixelShuffle(2))
        self.leave = nn.Sequential(ResidualBlock(middle), nn.GroupNorm(middle // 16, middle), nn.SiLU())
        self.where = nn.Conv2d(middle, count, 1)
        self.depth = nn.Conv2d(middle, DEPTHS, 1)
        nn.init.constant_(self.where.bias, -9.0)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, L, h, w) of the categories and (B, 3, h, w) of the depths, of pictures (B, 3, S, S) in [-1, 1]."""
        middle = self.middle(self.enter(F.pixel_unshuffle(pictures, 2)))
        features = self.leave(middle + self.grow(self.deep(middle)))
        return self.where(features), self.depth(features)


class PictureReader:
    """A trained reader.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: Locator) -> None:
        self.model, self.labels = model, model.config.labels

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The reader of a weight folder.

        Raises:
            UserError: there is none, or it does not fit.
        """
        if not (folder / SETTINGS).is_file():
            raise UserError(f"no picture reader in {folder}; train one with python -m perception.locator_train")
        model = Locator(load_config(LocatorConfig, folder / SETTINGS, []))
        load_weights(model, folder / WEIGHTS)
        return cls(model.eval().requires_grad_(False))

    def read(self, pictures: Sequence[np.ndarray]) -> list[dict[str, Found]]:
        """What each picture, uint8 (H, W, 3), shows."""
        with torch.inference_mode():
            where, depth = self.model(torch.stack([squeezed(each, self.model.config.side_px) for each in pictures]))
            return [self._found(maps, near) for maps, near in zip(where, depth, strict=True)]

    def _found(self, maps: Tensor, depth: Tensor) -> dict[str, Found]:
        height, width = maps.shape[1:]
        best, cells = maps.flatten(1).logsumexp(1), maps.flatten(1).argmax(1)
        chances = depth.softmax(0)
        found = {}
        for at in torch.nonzero(best > 0)[:, 0].tolist():
            row, column = divmod(int(cells[at]), width)
            near = float((chances[:, row, column] * torch.arange(DEPTHS)).sum())
            found[self.labels[at]] = Found((column + 0.5) / width, (row + 0.5) / height, near, float(best[at]))
        return found


def squeezed(picture: np.ndarray, side: int) -> Tensor:
    """float32 (3, S, S) in [-1, 1] of a picture uint8 (H, W, 3)."""
    image = Image.fromarray(picture).resize((side, side), Image.Resampling.BOX)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def save_reader(model: Locator, out: Path) -> None:
    """Write the weight folder."""
    out.mkdir(parents=True, exist_ok=True)
    save_weights(model, out / WEIGHTS)
    save_config(model.config, out / SETTINGS)
