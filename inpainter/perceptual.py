"""A perceptual loss: distance of EfficientNet-Lite0 features, for VAE and denoiser.

Built like LPIPS (Zhang et al., arXiv 1801.03924) with all weights 1: no calibrated ones exist for these features.
Mind that judges and the kernel distance look at the last of these features, too: a gain there alone proves nothing.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perception.efficientnet import EfficientNetTrunk

TAPS = (0, 2, 4, 7, 10)  # the last blocks at 1/2, 1/4, 1/8, 1/16 and 1/16 of the side


class PerceptualDistance(nn.Module):
    """Squared distance of features, unit length at each place, mean over places and over `TAPS`; frozen.

    Args:
        trunk: the features; None loads those beside the crop judge.
    """

    def __init__(self, trunk: EfficientNetTrunk | None = None) -> None:
        super().__init__()
        self.trunk = (trunk or EfficientNetTrunk.load()).requires_grad_(False)

    def forward(self, output: Tensor, truth: Tensor, inside: Tensor | None = None) -> Tensor:
        """Scalar; 0 for equal pictures, at most 4.

        Args:
            output, truth: (B, 3, H, W) in [-1, 1], clamped; the gradient goes to `output`.
            inside: (B, 1, h, w), weight of the places; None: all alike.
        """
        with torch.no_grad():
            known = self._features(truth)
        total = output.new_zeros(())
        for mine, theirs in zip(self._features(output), known, strict=True):
            apart = (mine - theirs).square().sum(dim=1, keepdim=True)
            if inside is None:
                total = total + apart.mean()
            else:
                weight = F.interpolate(inside, size=apart.shape[2:], mode="area")
                total = total + (apart * weight).sum() / weight.sum().clamp(min=1e-6)
        return total / len(TAPS)

    def _features(self, picture: Tensor) -> list[Tensor]:
        found = self.trunk.stages((picture.clamp(-1, 1) + 1) * 127.5, TAPS)
        return [F.normalize(features, dim=1) for features in found]


class LatentPerceptualDistance(nn.Module):
    """`PerceptualDistance` of what latents decode to; of targets, too, so that what the VAE loses is no distance.

    Args:
        vae: an `AutoencoderKL`; its decoder is copied, since the task's own stays where data is made.
        trunk: see `PerceptualDistance`.
    """

    def __init__(self, vae: Any, trunk: EfficientNetTrunk | None = None) -> None:
        super().__init__()
        self.decoder: Any = copy.deepcopy(nn.Sequential(vae.post_quant_conv, vae.decoder)).requires_grad_(False)
        self.scale, self.distance = float(vae.config.scaling_factor), PerceptualDistance(trunk)

    def forward(self, output: Tensor, truth: Tensor, inside: Tensor) -> Tensor:
        """Scalar.

        Args:
            output, truth: scaled latents (B, 4, h, w); the gradient goes to `output`.
            inside: (B, 1, h, w), weight of the places.
        """
        with torch.no_grad():
            wanted = self.decoder(truth / self.scale)
        return self.distance(self.decoder(output / self.scale), wanted, inside)
