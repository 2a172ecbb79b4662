"""diffusers denoisers behind one small protocol: a transformer for small budgets, a U-Net for full size."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from masker.config import DenoiserConfig, StableDiffusionConfig, TransformerConfig, UNetConfig
from scene.errors import UserError


class Denoiser(Protocol):
    """Predicts the noise target of noisy latents."""

    def __call__(
        self, latents: Tensor, timesteps: Tensor, tokens: Tensor, token_mask: Tensor, pooled: Tensor
    ) -> Tensor:
        """One evaluation.

        Args:
            latents: (B, C_in, h, w): noisy latents and conditions along the channels.
            timesteps: int64 (B,).
            tokens: (B, T, D) text tokens, padding zeroed.
            token_mask: bool (B, T), False = padding; no row may be all False.
            pooled: (B, D), mean of T_obj's tokens.

        Returns:
            (B, C_out, h, w).
        """
        ...


class TextTimestepEmbedding(nn.Module):
    """Timestep embedding plus a projection of the pooled text: "which object" modulates every block (adaLN).

    Args:
        timestep: PixArt's own embedding.
        text_width, width: Of the pooled text and of the embedding.

    Source: class conditioning of DiT (Peebles & Xie, arXiv 2212.09748, section 3.2), text in place of a class.
    """

    def __init__(self, timestep: nn.Module, text_width: int, width: int) -> None:
        super().__init__()
        self.timestep = timestep
        last = nn.Linear(width, width)
        nn.init.zeros_(last.weight)  # a start from weights without this embedding changes nothing
        nn.init.zeros_(last.bias)
        self.project = nn.Sequential(nn.Linear(text_width, width), nn.SiLU(), last)

    def forward(self, timestep: Tensor, pooled: Tensor, batch_size: int, hidden_dtype: Any) -> Tensor:
        """(B, width); diffusers hands over what `added_cond_kwargs` holds."""
        embedded = self.timestep(
            timestep, resolution=None, aspect_ratio=None, batch_size=batch_size, hidden_dtype=hidden_dtype
        )
        return embedded + self.project(pooled)


class TransformerDenoiser(nn.Module):
    """`PixArtTransformer2DModel`.

    Args:
        config: Sizes.
        in_channels, out_channels: Of the latents with and without conditions.
        latent_size: h = w. PixArt's position embeddings assume a square, which our views are.
        text_width: Width of the text tokens; a projection inside the model takes them to its own width.
    """

    def __init__(
        self,
        config: TransformerConfig,
        in_channels: int,
        out_channels: int,
        latent_size: int,
        text_width: int,
    ) -> None:
        super().__init__()
        from diffusers import PixArtTransformer2DModel

        net: Any = PixArtTransformer2DModel(
            num_attention_heads=config.width // config.head_width,
            attention_head_dim=config.head_width,
            in_channels=in_channels,
            out_channels=out_channels,
            num_layers=config.layers,
            cross_attention_dim=config.width,
            sample_size=latent_size,
            patch_size=config.patch,
            caption_channels=text_width,
            # Without this, sample_size 128 switches resolution conditions on.
            use_additional_conditions=False,
        )
        embedding = TextTimestepEmbedding(net.adaln_single.emb, text_width, config.width)
        net.adaln_single.emb = embedding
        _start_as_identity(net)
        self.net: Any = net

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor, token_mask: Tensor, pooled: Tensor) -> Tensor:
        """See `Denoiser.__call__`."""
        return self.net(
            latents,
            encoder_hidden_states=tokens,
            timestep=timesteps,
            encoder_attention_mask=token_mask,
            added_cond_kwargs={"pooled": pooled},
            return_dict=False,
        )[0]


def _start_as_identity(net: Any) -> None:
    """adaLN-Zero start of a PixArt transformer: residual branches closed, output 0.

    diffusers leaves the default initialisation; the original DiT and PixArt code do this, and small
    budgets gain from it.
    """
    for parameter in (net.proj_out.weight, net.proj_out.bias):
        nn.init.zeros_(parameter)
    for block in net.transformer_blocks:
        nn.init.zeros_(block.attn2.to_out[0].weight)
        nn.init.zeros_(block.attn2.to_out[0].bias)
    nn.init.xavier_uniform_(net.pos_embed.proj.weight.flatten(1))


class UNetDenoiser(nn.Module):
    """`UNet2DConditionModel`. Arguments as in `TransformerDenoiser`."""

    def __init__(
        self, config: UNetConfig, in_channels: int, out_channels: int, latent_size: int, text_width: int
    ) -> None:
        super().__init__()
        from diffusers import UNet2DConditionModel

        levels = len(config.channels)
        net: Any = UNet2DConditionModel(
            sample_size=latent_size,
            in_channels=in_channels,
            out_channels=out_channels,
            block_out_channels=config.channels,
            layers_per_block=config.blocks,
            down_block_types=("CrossAttnDownBlock2D",) * levels,
            up_block_types=("CrossAttnUpBlock2D",) * levels,
            cross_attention_dim=text_width,
            # diffusers reads this argument as the number of heads (its own note on the naming).
            attention_head_dim=tuple(max(width // config.head_width, 1) for width in config.channels),
            norm_num_groups=config.groups,
            # The pooled text joins the timestep embedding, as in `TextTimestepEmbedding`.
            class_embed_type="projection",
            projection_class_embeddings_input_dim=text_width,
        )
        nn.init.zeros_(net.class_embedding.linear_2.weight)
        nn.init.zeros_(net.class_embedding.linear_2.bias)
        nn.init.zeros_(net.conv_out.weight)
        nn.init.zeros_(net.conv_out.bias)
        self.net = net

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor, token_mask: Tensor, pooled: Tensor) -> Tensor:
        """See `Denoiser.__call__`."""
        return self.net(
            latents,
            timesteps,
            encoder_hidden_states=tokens,
            encoder_attention_mask=token_mask,
            class_labels=pooled,
            return_dict=False,
        )[0]


class StableDiffusionDenoiser(UNetDenoiser):
    """Stable Diffusion's `UNet2DConditionModel` with a wider first convolution and the pooled text beside the timestep.

    Both new parts start at zero, so that with the public weights in place (`masker.stable_diffusion`) it computes
    exactly what they compute, whatever the conditions. Arguments as in `TransformerDenoiser`.
    """

    def __init__(
        self, config: StableDiffusionConfig, in_channels: int, out_channels: int, latent_size: int, text_width: int
    ) -> None:
        nn.Module.__init__(self)
        from diffusers import UNet2DConditionModel

        values = {key: value for key, value in config.unet.items() if not key.startswith("_")}
        if (values.get("cross_attention_dim"), values.get("out_channels", 4)) != (text_width, out_channels):
            raise UserError(
                f"the U-Net attends to text of width {values.get('cross_attention_dim')} and gives "
                f"{values.get('out_channels', 4)} channels; text.width is {text_width} and the codec has {out_channels}"
            )
        changed = {
            "in_channels": in_channels,
            "sample_size": latent_size,
            "class_embed_type": "projection",
            "projection_class_embeddings_input_dim": text_width,
        }
        net: Any = UNet2DConditionModel(**(values | changed))
        for parameter in (net.class_embedding.linear_2.weight, net.class_embedding.linear_2.bias):
            nn.init.zeros_(parameter)
        if config.gradient_checkpointing:
            net.enable_gradient_checkpointing()
        self.net = net


def build_denoiser(
    config: DenoiserConfig, *, in_channels: int, out_channels: int, latent_size: int, text_width: int
) -> nn.Module:
    """The denoiser that `config.kind` names."""
    if isinstance(config, TransformerConfig):
        return TransformerDenoiser(config, in_channels, out_channels, latent_size, text_width)
    if isinstance(config, StableDiffusionConfig):
        return StableDiffusionDenoiser(config, in_channels, out_channels, latent_size, text_width)
    return UNetDenoiser(config, in_channels, out_channels, latent_size, text_width)
