"""Blocks that networks of several rooms are built of: a plain residual one, and a small convolutional U-Net that a
vector steers (refiner, placement prior and the planner's place head have one).

Source: FiLM, Perez et al., "Visual Reasoning with a General Conditioning Layer", arXiv 1709.07871.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = max(channels // 16, 1)
        self.body = nn.Sequential(
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ModulatedBlock(nn.Module):
    """A residual block whose second normalisation is scaled and shifted by a vector (FiLM).

    Args:
        channels: Of the map.
        width: Of the vector.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        groups = max(channels // 16, 1)
        self.first = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.norm = nn.GroupNorm(groups, channels)
        self.modulate = nn.Linear(width, 2 * channels)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)
        for layer in (self.modulate, self.last):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """x (B, C, h, w), vector (B, width) -> (B, C, h, w)."""
        scale, shift = self.modulate(vector)[:, :, None, None].chunk(2, dim=1)
        return x + self.last(F.silu(self.norm(self.first(x)) * (1 + scale) + shift))


class ModulatedUNet(nn.Module):
    """A small convolutional U-Net, every block modulated by one vector.

    Args:
        in_channels, out_channels: Of the maps.
        widths: Channels per level, from full resolution down by 2.
        blocks: Residual blocks per level and direction.
        vector: Width of the modulating vector.
    """

    def __init__(self, in_channels: int, out_channels: int, widths: tuple[int, ...], blocks: int, vector: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(in_channels, widths[0], 3, padding=1)

        def level(width: int) -> nn.ModuleList:
            return nn.ModuleList(ModulatedBlock(width, vector) for _ in range(blocks))

        self.down = nn.ModuleList(level(width) for width in widths)
        self.up = nn.ModuleList(level(width) for width in widths[:-1])
        steps = list(pairwise(widths))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in steps)
        self.grow = nn.ModuleList(nn.Sequential(nn.Conv2d(b, 4 * a, 1), nn.PixelShuffle(2)) for a, b in steps)
        self.leave = nn.Sequential(
            nn.GroupNorm(max(widths[0] // 16, 1), widths[0]),
            nn.SiLU(),
            nn.Conv2d(widths[0], out_channels, 3, padding=1),
        )

    def forward(self, x: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, in_channels, h, w), vector (B, width) -> (B, out_channels, h, w) and the deepest level, mean (B, C)."""
        x = self.enter(x)
        kept: list[Tensor] = []
        for number, level in enumerate(self.down):
            if number > 0:
                kept.append(x)
                x = self.shrink[number - 1](x)
            for block in level:  # type: ignore[attr-defined]
                x = block(x, vector)
        deepest = x.mean(dim=(2, 3))
        for number in reversed(range(len(self.up))):
            x = self.grow[number](x) + kept[number]
            for block in self.up[number]:  # type: ignore[attr-defined]
                x = block(x, vector)
        return self.leave(x), deepest
