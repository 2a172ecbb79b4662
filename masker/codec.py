"""The mask codec: masks to latents and back, so that diffusion works on 64 tokens instead of 4,096 cells.

The paper diffuses in the latents of Stable Diffusion's VAE; our own small VAE is the same idea at the
size of two CPU cores. Anything with `encode`, `decode` and the three sizes can take its place: see
`KLCodec`, which puts diffusers' `AutoencoderKL` behind the same protocol.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.config import MaskVAEConfig
from perception.modulated import ResidualBlock


@runtime_checkable
class MaskCodec(Protocol):
    """Masks (B, 1, R, R) in [0, 1] to latents (B, C, h, w) of about unit variance, and back to logits.

    Attributes:
        resolution: R, cells along one side of a view.
        latent_channels: C.
        latent_size: h = w.
    """

    resolution: int
    latent_channels: int
    latent_size: int

    def encode(self, masks: Tensor) -> Tensor:
        """Soft masks (B, 1, R, R) in [0, 1] -> latent means (B, C, h, w), standardised."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents (B, C, h, w) -> logits (B, 1, R, R); above 0 is the object."""
        ...


class MaskVAE(nn.Module):
    """A small convolutional VAE for soft masks.

    Cells are folded 2x2 into channels first (`pixel_unshuffle`): the costly full-resolution layers
    disappear and the boundary is still coded exactly.

    Args:
        config: Sizes. `resolution` / 2 / 2 ** (len(channels) - 1) is the latent size.
    """

    def __init__(self, config: MaskVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.resolution = config.resolution
        self.latent_channels = config.latent_channels
        self.latent_size = config.latent_size
        widths = config.channels
        down: list[nn.Module] = [nn.Conv2d(4, widths[0], 3, padding=1)]
        for i, width in enumerate(widths):
            down += [ResidualBlock(width) for _ in range(config.encoder_blocks)]
            if i + 1 < len(widths):
                down.append(nn.Conv2d(width, widths[i + 1], 3, stride=2, padding=1))
        down += [nn.GroupNorm(max(widths[-1] // 16, 1), widths[-1]), nn.SiLU()]
        down.append(nn.Conv2d(widths[-1], 2 * config.latent_channels, 1))
        self.encoder = nn.Sequential(*down)
        up: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)]
        for i in reversed(range(len(widths))):
            up += [ResidualBlock(widths[i]) for _ in range(config.decoder_blocks)]
            if i > 0:
                up += [nn.Conv2d(widths[i], 4 * widths[i - 1], 1), nn.PixelShuffle(2)]
        up += [nn.GroupNorm(max(widths[0] // 16, 1), widths[0]), nn.SiLU()]
        up += [nn.Conv2d(widths[0], 4, 3, padding=1), nn.PixelShuffle(2)]
        self.decoder = nn.Sequential(*up)
        # Standardisation of the latents; measured over training masks when the codec is exported.
        self.latent_mean: Tensor
        self.latent_std: Tensor
        self.register_buffer("latent_mean", torch.zeros(1, config.latent_channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(1, config.latent_channels, 1, 1))

    def posterior(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Raw mean and log variance, each (B, C, h, w), of the latents of soft masks (B, 1, R, R)."""
        mean, log_variance = self.encoder(F.pixel_unshuffle(masks * 2 - 1, 2)).chunk(2, dim=1)
        return mean, log_variance.clamp(-12.0, 4.0)

    def decode_raw(self, latents: Tensor) -> Tensor:
        """Latents as the encoder gives them, not standardised, -> logits (B, 1, R, R)."""
        return self.decoder(latents)

    def encode(self, masks: Tensor) -> Tensor:
        """See `MaskCodec.encode`."""
        return (self.posterior(masks)[0] - self.latent_mean) / self.latent_std

    def decode(self, latents: Tensor) -> Tensor:
        """See `MaskCodec.decode`."""
        return self.decode_raw(latents * self.latent_std + self.latent_mean)

    @torch.no_grad()
    def standardise(self, masks: Tensor) -> None:
        """Measure mean and standard deviation per latent channel over masks (B, 1, R, R); sets buffers."""
        latents = torch.cat([self.posterior(part)[0] for part in masks.split(64)])
        self.latent_mean.copy_(latents.mean(dim=(0, 2, 3), keepdim=True))
        self.latent_std.copy_(latents.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-3))


def codec_loss(codec: MaskVAE, masks: Tensor, noise: Tensor, config: MaskVAEConfig) -> tuple[Tensor, dict[str, float]]:
    """Loss of the codec: cross entropy + soft Dice + a light KL.

    Args:
        codec: The VAE being trained.
        masks: (B, 1, R, R) in [0, 1], soft at the boundary.
        noise: (B, C, h, w), standard normal; given, so that a resumed run repeats itself.
        config: Weights of the terms.

    Returns:
        Loss, and {"bce", "dice", "kl", "iou"} of the batch for the log.
    """
    mean, log_variance = codec.posterior(masks)
    # `noise_floor` keeps the decoder tolerant of the denoiser's small errors, which a learned variance
    # alone drives to zero.
    spread = (log_variance.exp() + config.noise_floor**2).sqrt()
    logits = codec.decode_raw(mean + spread * noise)
    boundary = config.boundary_weight * boundary_cells(masks)
    bce = (F.binary_cross_entropy_with_logits(logits, masks, reduction="none") * (1 + boundary)).mean()
    soft = logits.sigmoid()
    overlap, total = (soft * masks).sum((1, 2, 3)), (soft + masks).sum((1, 2, 3))
    dice = (1 - (2 * overlap + 1) / (total + 1)).mean()
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    with torch.no_grad():
        iou = mask_iou(logits > 0, masks > 0.5).mean()
    loss = bce + config.dice_weight * dice + config.kl_weight * kl
    return loss, {"bce": bce.item(), "dice": dice.item(), "kl": kl.item(), "iou": iou.item()}


def boundary_cells(masks: Tensor) -> Tensor:
    """1 where a cell's 3x3 surroundings hold both object and background, else 0; shape of `masks`."""
    highest = F.max_pool2d(masks, 3, stride=1, padding=1)
    lowest = -F.max_pool2d(-masks, 3, stride=1, padding=1)
    return ((highest - lowest) > 0.5).to(masks.dtype)


def mask_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of bool masks (B, 1, R, R), (B,); 1 where both are empty."""
    intersection = (first & second).sum((1, 2, 3)).float()
    union = (first | second).sum((1, 2, 3)).float()
    return torch.where(union > 0, intersection / union.clamp_min(1), torch.ones_like(union))


class KLCodec(nn.Module):
    """diffusers' `AutoencoderKL` as a mask codec (full size: Stable Diffusion's VAE, as in the paper).

    Masks go in as grey pictures repeated over the VAE's input channels, in [-1, 1]; the decoded
    channels are averaged.

    Args:
        vae: A `diffusers.AutoencoderKL`.
        resolution: Cells along one side of a view; the VAE's reduction factor must divide it.
    """

    def __init__(self, vae: Any, resolution: int) -> None:
        super().__init__()
        self.vae: Any = vae
        self.resolution = resolution
        reduction = 2 ** (len(vae.config.block_out_channels) - 1)
        if resolution % reduction:
            raise ValueError(f"resolution {resolution} must be a multiple of the VAE's reduction {reduction}")
        self.latent_channels = vae.config.latent_channels
        self.latent_size = resolution // reduction

    def encode(self, masks: Tensor) -> Tensor:
        """See `MaskCodec.encode`."""
        pictures = (masks * 2 - 1).expand(-1, self.vae.config.in_channels, -1, -1)
        return self.vae.encode(pictures).latent_dist.mode() * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """See `MaskCodec.decode`; the picture in [-1, 1] is stretched to logits."""
        pictures = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return 4.0 * pictures.mean(dim=1, keepdim=True)
