"""The mask model proper: layout encoder + denoiser, the conditions they take, and dropping them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.codec import MaskCodec
from masker.config import DenoiserConfig, LayoutEncoderConfig, RefinerConfig, ShapePriorConfig, TextConfig
from masker.denoiser import build_denoiser
from masker.layout_encoder import GuideFrame, LayoutEncoder
from masker.refiner import Refiner, refine_tiles, stack_hints
from masker.shape_prior import ShapePrior

GEOMETRY_CHANNELS = 4  # masker.windows.geometry_channels
TIMESTEPS = 1000  # only a scale
SHORTCUT_RATE = 10.0  # a handful of numbers that may learn faster than the weights of layers


@dataclass(frozen=True)
class Conditions:
    """Everything the network is told about B views.

    Attributes:
        index: int64 (B, R, R), rows of `labels`; 0 = nothing lies there.
        labels: (N, D) pooled text embeddings, row 0 unused; (N, 3) colours for a layout encoder with a palette.
        guide: (B, 1, F, F) in [0, 1]; F is `MaskModel.fine`, R times a power of 2.
        distance: (B, 1, D, D), see `masker.examples.guide_distance`; 0 where the guide is no scribble.
        geometry: (B, 4, R, R), see `masker.windows.geometry_channels`.
        object_tokens, context_tokens: (B, T_o, D), (B, T_c, D), padding zeroed.
        object_mask, context_mask: bool (B, T_o), (B, T_c), False = padding.
        code: (B, C), which of its shapes the object shows, see `masker.shape_code`; C is 0 without codes.
    """

    index: Tensor
    labels: Tensor
    guide: Tensor
    distance: Tensor
    geometry: Tensor
    object_tokens: Tensor
    object_mask: Tensor
    context_tokens: Tensor
    context_mask: Tensor
    code: Tensor


@dataclass(frozen=True)
class Kept:
    """Which conditions are kept, bool (B,) each; the rest are replaced by learned "nothing" values."""

    layout: Tensor
    object: Tensor
    context: Tensor


@dataclass(frozen=True)
class Prepared:
    """Conditions as the denoiser takes them, B views; none of it changes with t.

    Attributes:
        planes: (B, F, h, w): layout features, summary of T_obj, geometry.
        shape: (B, C, h, w): the silhouette's latents, 0 without a guide; C is 0 without a shape prior.
        tokens: (B, T_o + T_c, D), padding zeroed. token_mask: bool (B, T_o + T_c), False = padding.
        summary: (B, D), mean of T_obj's tokens.
        silhouette: (B, 1, R, R), logits of the shape prior.
        guide, distance: (B, 1, F, F), (B, 1, D, D), of G_obj where it was kept, else 0. geometry: (B, 4, R, R).
        guided: bool (B,), there is a guide and it was kept, so the silhouette means something.
    """

    planes: Tensor
    shape: Tensor
    tokens: Tensor
    token_mask: Tensor
    summary: Tensor
    silhouette: Tensor
    guided: Tensor
    guide: Tensor
    distance: Tensor
    geometry: Tensor

    @property
    def prior(self) -> Tensor:
        """The silhouette where it means something, else 0; without gradient, (B, 1, R, R)."""
        return (self.silhouette * self.guided[:, None, None, None]).detach()

    def rows(self, which: slice) -> Prepared:
        """Some of the views."""
        return Prepared(**{name: values[which] for name, values in vars(self).items()})


class MaskModel(nn.Module):
    """`U_theta(z_t, E_phi(S~), T_obj, T_context, t)`.

    Args:
        layout_encoder, denoiser, text: Sub-configs.
        shape_prior: Sub-config, or None: no silhouette is drawn, none is shown to the denoiser.
        refiner: Sub-config, or None: masks are read off the codec as they are.
        codec: Frozen; gives the latents their shape and shows the layout encoder the guide.
        one_shot: The network was trained to give clean latents in one call, from conditions alone.
    """

    def __init__(
        self,
        layout_encoder: LayoutEncoderConfig,
        denoiser: DenoiserConfig,
        text: TextConfig,
        shape_prior: ShapePriorConfig | None,
        refiner: RefinerConfig | None,
        codec: MaskCodec,
        one_shot: bool = False,
    ) -> None:
        super().__init__()
        self._codec = (codec,)  # a tuple hides it from nn.Module's registration
        self.one_shot = one_shot
        self.latent_size, self.latent_channels = codec.latent_size, codec.latent_channels
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
        self.shape_prior = ShapePrior(shape_prior, text.width, layout_encoder.layout_channels) if shape_prior else None
        self.refiner = Refiner(refiner, text.width, GEOMETRY_CHANNELS) if refiner else None
        self.fine = codec.resolution * (2**refiner.levels if refiner else 1)
        # The silhouette's way around the network: at high noise the answer is its latents and a correction. How much of
        # them at which t is learned, per channel, as a parabola in t that starts at 0.
        shape_channels = codec.latent_channels if shape_prior else 0
        self.shortcut = nn.Parameter(torch.zeros(3, codec.latent_channels)) if shape_prior else None
        conditions = features + text.summary_channels + GEOMETRY_CHANNELS + shape_channels
        self.denoiser = build_denoiser(
            denoiser,
            in_channels=codec.latent_channels + conditions,
            out_channels=codec.latent_channels,
            latent_size=codec.latent_size,
            text_width=text.width,
        )

    def prepare(self, conditions: Conditions, kept: Kept) -> Prepared:
        """Everything but z_t and t, computed once for all steps of a sampler."""
        tokens, token_mask = self.texts(conditions, kept)
        mean = self.mean_of_object(tokens, token_mask)
        painted, guide, frame = self._seen(conditions)
        features = self.layout_encoder(painted, guide, frame)
        if features.shape[-1] != self.latent_size:
            features = F.adaptive_avg_pool2d(features, self.latent_size)
        features = torch.where(kept.layout[:, None, None, None], features, self.no_layout[:, None, None])
        # The guide is part of the layout (Eq. 5), and is dropped with it.
        guided = frame.present & kept.layout
        silhouette, shape = torch.zeros_like(guide), features[:, :0]
        if self.shape_prior is not None:
            facts = self.shape_prior.facts(mean, frame, conditions.geometry, painted)
            silhouette = self.shape_prior(facts, conditions.code, frame, guide.shape[-1])
            with torch.no_grad():
                shape = self._codec[0].encode(silhouette.sigmoid()) * guided[:, None, None, None]
        summary = self.summarise(mean)[:, :, None, None].expand(-1, -1, self.latent_size, self.latent_size)
        # Geometry is never dropped: it is no condition but the view's own frame.
        geometry = F.adaptive_avg_pool2d(conditions.geometry, self.latent_size)
        planes = torch.cat([features, summary, geometry], dim=1)
        seen, distance = (values * guided[:, None, None, None] for values in (conditions.guide, conditions.distance))
        return Prepared(
            planes, shape, tokens, token_mask, mean, silhouette, guided, seen, distance, conditions.geometry
        )

    def _seen(self, conditions: Conditions) -> tuple[Tensor, Tensor, GuideFrame]:
        """S (B, C, R, R), G_obj (B, 1, R, R) and its frame."""
        painted = self.layout_encoder.paint(conditions.index, conditions.labels)
        guide = pooled(conditions.guide, painted.shape[-1])
        return painted, guide, GuideFrame.of(guide)

    def known(self, conditions: Conditions, kept: Kept) -> tuple[Tensor, Tensor, GuideFrame]:
        """All that is known about a shape: facts (B, F), G_obj (B, 1, R, R) and its frame."""
        assert self.shape_prior is not None
        painted, guide, frame = self._seen(conditions)
        summary = self.mean_of_object(*self.texts(conditions, kept))
        return self.shape_prior.facts(summary, frame, conditions.geometry, painted), guide, frame

    @torch.no_grad()
    def draw_codes(self, conditions: Conditions, noise: Tensor) -> Conditions:
        """Conditions with codes drawn from noise (B, draws, C); unchanged without codes."""
        if self.shape_prior is None or self.shape_prior.code is None:
            return conditions
        all_kept = torch.ones(len(conditions.index), dtype=torch.bool, device=conditions.index.device)
        facts, guide, frame = self.known(conditions, Kept(all_kept, all_kept, all_kept))
        return replace(conditions, code=self.shape_prior.draw_codes(noise, facts, guide, frame))

    @torch.no_grad()
    def read_codes(self, conditions: Conditions, masks: Tensor) -> Tensor:
        """Codes (B, C) of true masks (B, 1, R, R)."""
        assert self.shape_prior is not None
        return self.shape_prior.read_codes(masks, GuideFrame.of(pooled(conditions.guide, masks.shape[-1])))

    def learn_components(self, guides: Tensor, masks: Tensor) -> None:
        """Gives codes their meaning, from guides (N, 1, F, F) and true masks (N, 1, R, R)."""
        prior = self.shape_prior
        assert prior is not None and prior.code is not None
        frame = GuideFrame.of(pooled(guides, masks.shape[-1]))
        prior.code.learn_components(prior.seen_in_frame(masks, frame)[frame.present])

    @property
    def code_width(self) -> int:
        """Numbers in a shape's code; 0 without codes."""
        return self.shape_prior.config.code if self.shape_prior is not None else 0

    def texts(self, conditions: Conditions, kept: Kept) -> tuple[Tensor, Tensor]:
        """Tokens (B, T_o + T_c, D) and mask (B, T_o + T_c) after dropping; padding stays zero."""
        parts, masks = [], []
        for role, (tokens, mask, keep, nothing) in enumerate(
            (
                (conditions.object_tokens, conditions.object_mask, kept.object, self.no_object),
                (conditions.context_tokens, conditions.context_mask, kept.context, self.no_context),
            )
        ):
            keep = keep & mask.any(1)  # the empty text is a dropped one
            first = torch.zeros_like(mask)
            first[:, 0] = True
            mask = torch.where(keep[:, None], mask, first)
            tokens = torch.where(keep[:, None, None], self.token_norm(tokens), nothing)
            parts.append((tokens + self.roles[role]) * mask[..., None])
            masks.append(mask)
        return torch.cat(parts, dim=1), torch.cat(masks, dim=1)

    def mean_of_object(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Mean of T_obj's tokens, (B, D), from what `texts` gave."""
        count = self.object_tokens
        return tokens[:, :count].sum(1) / token_mask[:, :count].sum(1, keepdim=True)  # padding is zero

    def predict(self, noisy: Tensor, timesteps: Tensor, prepared: Prepared) -> Tensor:
        """v (or x0, or noise), (B, C, h, w), for z_t (B, C, h, w) at `timesteps`, int64 (B,)."""
        stacked = torch.cat([noisy, prepared.planes, prepared.shape], dim=1)
        output: Tensor = self.denoiser(stacked, timesteps, prepared.tokens, prepared.token_mask, prepared.summary)
        if self.shortcut is None:
            return output
        share = timesteps.to(noisy)[:, None] / TIMESTEPS
        gain = torch.stack([torch.ones_like(share), share, share**2], dim=-1) @ (SHORTCUT_RATE * self.shortcut)
        return output + gain.view(-1, self.shortcut.shape[1], 1, 1) * prepared.shape

    def what_silhouettes_read(self) -> list[nn.Module | nn.Parameter]:
        """The shape prior and what else decides its input: it means the same only as long as these stay."""
        if self.shape_prior is None:
            return []
        parts: list[nn.Module | nn.Parameter] = [self.shape_prior]
        if self.shape_prior.config.layout_cells and self.layout_encoder.config.labels == "text":
            parts += [self.layout_encoder.project, self.layout_encoder.empty]
        return parts

    def freeze_silhouettes(self) -> None:
        """Keeps what the shape prior draws as it is, whatever else is trained."""
        for part in self.what_silhouettes_read():
            part.requires_grad_(False)
        for parameter in (self.roles, self.no_object):
            parameter.requires_grad_(False)

    def draw(self, conditions: Conditions) -> tuple[Tensor, Prepared]:
        """Clean latents (B, C, h, w) of a `one_shot` model and the prepared conditions."""
        batch, device = len(conditions.index), conditions.index.device
        kept = torch.ones(batch, dtype=torch.bool, device=device)
        noisy = conditions.geometry.new_zeros(batch, self.latent_channels, self.latent_size, self.latent_size)
        return self(noisy, torch.zeros(batch, dtype=torch.long, device=device), conditions, Kept(kept, kept, kept))  # type: ignore[no-any-return]

    def read(self, latents: Tensor, prepared: Prepared) -> Tensor:
        """Logits of the mask for standardised latents (B, C, h, w): `refine` of what the codec decodes."""
        return self.refine(self._codec[0].decode(latents), prepared)

    def refine(self, coarse: Tensor, prepared: Prepared) -> Tensor:
        """Logits (B, 1, R, R) to refined ones, (B, 1, 2R, 2R); without a refiner, as they are."""
        if self.refiner is None:
            return coarse
        # The refiner learns to read what it is given, and the denoiser is not bent to its wishes.
        side = 2 * coarse.shape[-1]
        hints = stack_hints(prepared.prior, pooled(prepared.guide, side), prepared.distance, side)
        return cast(Tensor, self.refiner(coarse.detach(), hints, prepared.geometry, prepared.summary.detach()))

    def sharpen(self, logits: Tensor, prepared: Prepared) -> Tensor:
        """Refined logits of one view, (1, 1, 2R, 2R), refined once more, (1, 1, F, F)."""
        if self.refiner is None or logits.shape[-1] == self.fine:
            return logits
        return refine_tiles(self.refiner, logits, prepared.guide, prepared.geometry, prepared.summary)

    def forward(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions, kept: Kept) -> tuple[Tensor, Prepared]:
        """`prepare` and `predict` in one, as training needs both."""
        prepared = self.prepare(conditions, kept)
        return self.predict(noisy, timesteps, prepared), prepared


def pooled(values: Tensor, side: int) -> Tensor:
    """(B, C, F, F) averaged over the cells of a coarser view, (B, C, side, side); `side` divides F."""
    return F.avg_pool2d(values, values.shape[-1] // side)


@dataclass(frozen=True)
class DrawnShapes:
    """What the shape prior makes of B masks.

    Attributes:
        silhouette, average: (B, 1, R, R), logits: of each mask's own code, and of the mean.
        guided: bool (B,), there is a guide, so they count.
        code_loss: (B,), error of the model that draws codes.
    """

    silhouette: Tensor
    average: Tensor
    guided: Tensor
    code_loss: Tensor


class SilhouetteModel(nn.Module):
    """The shape prior of a mask model, and nothing else of it, as a module to train: a tenth of the cost per sample."""

    def __init__(self, whole: MaskModel) -> None:
        super().__init__()
        if whole.shape_prior is None:
            raise ValueError("this model has no shape prior")
        self.whole = whole.requires_grad_(False)
        for part in whole.what_silhouettes_read():
            part.requires_grad_(True)

    def forward(self, conditions: Conditions, kept: Kept) -> tuple[Tensor, Tensor]:
        """Logits (B, 1, R, R) of what a text and a code draw under a guide; bool (B,): there is one, so they count."""
        assert self.whole.shape_prior is not None
        facts, guide, frame = self.whole.known(conditions, kept)
        silhouette = self.whole.shape_prior(facts, conditions.code, frame, guide.shape[-1])
        return silhouette, frame.present & kept.layout

    def rebuild(
        self, conditions: Conditions, kept: Kept, masks: Tensor, noise: Tensor, timesteps: Tensor
    ) -> DrawnShapes:
        """Silhouettes from codes read off the true masks (B, 1, R, R), and how well codes are foreseen.

        Args:
            conditions, kept: As in `forward`; `conditions.code` is not read.
            masks: The truth.
            noise: Standard normal, (B, C), of the codes' diffusion. timesteps: int64 (B,).
        """
        prior = self.whole.shape_prior
        assert prior is not None and prior.code is not None
        facts, guide, frame = self.whole.known(conditions, kept)
        code = prior.read_codes(masks, frame)
        hints = prior.hints(facts, guide, frame)
        return DrawnShapes(
            prior(facts, code, frame, guide.shape[-1]),
            prior.in_view(prior.mean_maps(facts), frame, guide.shape[-1]),
            frame.present & kept.layout,
            prior.code.loss(code, noise, timesteps, torch.cat([facts, hints], dim=1)),
        )
