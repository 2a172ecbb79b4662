"""The mask model proper: layout encoder + denoiser, the conditions they take, and dropping them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.codec import MaskCodec
from masker.config import DenoiserConfig, LayoutEncoderConfig, TextConfig
from masker.denoiser import build_denoiser
from masker.layout_encoder import LayoutEncoder

GEOMETRY_CHANNELS = 4  # masker.windows.geometry_channels


@dataclass(frozen=True)
class Conditions:
    """Everything the network is told about B views.

    Attributes:
        index: int64 (B, R, R), rows of `labels`; 0 = nothing lies there.
        labels: (N, D) pooled text embeddings, row 0 unused.
        guide: (B, 1, R, R) in [0, 1].
        geometry: (B, 4, R, R), see `masker.windows.geometry_channels`.
        object_tokens, context_tokens: (B, T_o, D), (B, T_c, D), padding zeroed.
        object_mask, context_mask: bool (B, T_o), (B, T_c), False = padding.
    """

    index: Tensor
    labels: Tensor
    guide: Tensor
    geometry: Tensor
    object_tokens: Tensor
    object_mask: Tensor
    context_tokens: Tensor
    context_mask: Tensor


@dataclass(frozen=True)
class Kept:
    """Which conditions are kept, bool (B,) each; the rest are replaced by learned "nothing" values."""

    layout: Tensor
    object: Tensor
    context: Tensor


class MaskModel(nn.Module):
    """`U_theta(z_t, E_phi(S~), T_obj, T_context, t)`.

    Args:
        layout_encoder, denoiser, text: Sub-configs.
        codec: Frozen; gives the latents their shape and shows the layout encoder the guide.
    """

    def __init__(
        self,
        layout_encoder: LayoutEncoderConfig,
        denoiser: DenoiserConfig,
        text: TextConfig,
        codec: MaskCodec,
    ) -> None:
        super().__init__()
        self.latent_channels, self.latent_size = codec.latent_channels, codec.latent_size
        self.object_tokens = text.object_tokens
        self.layout_encoder = LayoutEncoder(layout_encoder, text.width, codec)
        features = self.layout_encoder.out_channels
        self.no_layout = nn.Parameter(torch.zeros(features))
        self.no_object = nn.Parameter(torch.zeros(text.width))
        self.no_context = nn.Parameter(torch.zeros(text.width))
        # The two texts share one cross attention; a learned vector each tells them apart.
        self.roles = nn.Parameter(torch.randn(2, text.width) * 0.5)
        # Attention over tokens learns slowly which of them matter; their mean on every cell names the
        # object from the first step on.
        self.summarise = nn.Linear(text.width, text.summary_channels)
        self.token_norm = nn.LayerNorm(text.width, elementwise_affine=False)
        self.denoiser = build_denoiser(
            denoiser,
            in_channels=codec.latent_channels + features + text.summary_channels + GEOMETRY_CHANNELS,
            out_channels=codec.latent_channels,
            latent_size=codec.latent_size,
            text_width=text.width,
        )

    def spatial(self, conditions: Conditions) -> Tensor:
        """Layout features and geometry, (B, F + 4, h, w); the part that does not change with t."""
        features = self.layout_encoder(conditions.index, conditions.labels, conditions.guide)
        if features.shape[-1] != self.latent_size:
            features = F.adaptive_avg_pool2d(features, self.latent_size)
        geometry = F.adaptive_avg_pool2d(conditions.geometry, self.latent_size)
        return torch.cat([features, geometry], dim=1)

    def texts(self, conditions: Conditions, kept: Kept) -> tuple[Tensor, Tensor]:
        """Tokens (B, T_o + T_c, D) and mask (B, T_o + T_c) after dropping; padding stays zero."""
        parts, masks = [], []
        for role, (tokens, mask, keep, nothing) in enumerate(
            (
                (conditions.object_tokens, conditions.object_mask, kept.object, self.no_object),
                (conditions.context_tokens, conditions.context_mask, kept.context, self.no_context),
            )
        ):
            first = torch.zeros_like(mask)
            first[:, 0] = True
            mask = torch.where(keep[:, None], mask, first)
            tokens = torch.where(keep[:, None, None], self.token_norm(tokens), nothing)
            parts.append((tokens + self.roles[role]) * mask[..., None])
            masks.append(mask)
        return torch.cat(parts, dim=1), torch.cat(masks, dim=1)

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        spatial: Tensor,
        tokens: Tensor,
        token_mask: Tensor,
        keep_layout: Tensor,
    ) -> Tensor:
        """The denoiser on prepared conditions.

        Args:
            noisy: z_t, (B, C, h, w).
            timesteps: int64 (B,).
            spatial: From `spatial`.
            tokens, token_mask: From `texts`.
            keep_layout: bool (B,); geometry is never dropped, it is no condition but the frame.

        Returns:
            v (or x0), (B, C, h, w).
        """
        features, geometry = spatial[:, :-GEOMETRY_CHANNELS], spatial[:, -GEOMETRY_CHANNELS:]
        features = torch.where(keep_layout[:, None, None, None], features, self.no_layout[:, None, None])
        count = self.object_tokens
        mean = tokens[:, :count].sum(1) / token_mask[:, :count].sum(1, keepdim=True)  # padding is zero
        summary = self.summarise(mean)[:, :, None, None].expand(-1, -1, *noisy.shape[2:])
        stacked = torch.cat([noisy, features, summary, geometry], dim=1)
        return self.denoiser(stacked, timesteps, tokens, token_mask, mean)

    def forward(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions, kept: Kept) -> Tensor:
        """Prediction (B, C, h, w) for noisy latents (B, C, h, w) at `timesteps` (B,)."""
        tokens, token_mask = self.texts(conditions, kept)
        return self.predict(noisy, timesteps, self.spatial(conditions), tokens, token_mask, kept.layout)
