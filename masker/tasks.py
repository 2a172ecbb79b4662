"""What the one training loop needs from the mask model: data, loss, sample sheet and export of each stage."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from masker.codec import KLCodec, MaskVAE, codec_loss
from masker.examples import MaskExample
from masker.layout_encoder import palette_table
from masker.model import Conditions, Kept, MaskModel, Prepared, pooled
from masker.refiner import tile_hints, tile_of, zoomed_geometry
from masker.sheet import codec_sheet, denoiser_sheet
from masker.sources import MixedSource
from masker.stable_diffusion import (
    clip_texts,
    export_public_parts,
    find_weights,
    load_kl_codec,
    start_from_unet,
    with_unet_config,
)
from masker.stage_config import CodecConfig, MaskerConfig
from masker.texts import TextBook
from masker.weights import build_model, export_codec, export_masker, load_codec
from perception.diffusion import NoiseProcess, spread_timesteps
from runtime.seeding import sample_noise, seeded
from scene.corpus.shards import AnyCorpus
from scene.seeds import derive_seed

TILE_PARTS = 16  # tiles of the refiner's second level start at sixteenths of a view
STANDARDISE_SAMPLES = 1024  # masks over which the codec's latent mean and deviation are measured


def stack(arrays: Sequence[np.ndarray]) -> Tensor:
    """Arrays of one shape as a batch."""
    return torch.from_numpy(np.stack(arrays))


@dataclass(frozen=True)
class CodecBatch:
    """Masks (B, 1, R, R) in [0, 1] and the VAE's noise (B, C, h, w)."""

    masks: Tensor
    noise: Tensor


class CodecTask:
    """Stage `codec`: the mask VAE on masks in windows and on the whole canvas."""

    def __init__(self, config: CodecConfig, corpora: Sequence[AnyCorpus]) -> None:
        self.config = config
        self.source = MixedSource(corpora, "train", config.examples, config.codec.resolution, config.fit.seed)
        self.held_out = MixedSource(corpora, "val", config.examples, config.codec.resolution, config.fit.seed)
        self.model: nn.Module = seeded(lambda: MaskVAE(config.codec), config.fit.seed)

    def batch(self, samples: Sequence[int]) -> CodecBatch:
        """See `runtime.training.TrainingTask`."""
        codec = self.config.codec
        shape = (codec.latent_channels, codec.latent_size, codec.latent_size)
        masks = [self.source.mask_only(sample) for sample in samples]
        return CodecBatch(stack(masks)[:, None], sample_noise(self.config.fit.seed, "codec", samples, shape))

    def loss(self, model: nn.Module, batch: CodecBatch) -> tuple[Tensor, dict[str, float]]:
        """See `runtime.training.TrainingTask`."""
        return codec_loss(cast(MaskVAE, model), batch.masks, batch.noise, self.config.codec)

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Validation masks and their reconstructions."""
        codec_sheet(cast(MaskVAE, model), self.held_out, path)

    def export(self, model: nn.Module, out: Path) -> None:
        """Measures the latents' scale over training masks, then writes the codec folder."""
        masks = stack([self.source.mask_only(sample) for sample in range(STANDARDISE_SAMPLES)])[:, None]
        codec = cast(MaskVAE, model)
        codec.standardise(masks)
        export_codec(codec, self.config, out)


@dataclass(frozen=True)
class DenoiserBatch:
    """Everything one step needs; B samples.

    `tiles`: x, y of the tile that the refiner learns on, 0 to `TILE_PARTS`. `code_noise`: (B, C), what codes of shapes
    are drawn from.
    """

    masks: Tensor
    conditions: Conditions
    kept: Kept
    noise: Tensor
    timesteps: Tensor
    tiles: tuple[int, int]
    code_noise: Tensor


class DenoiserTask:
    """Stage `denoiser`: layout encoder and denoiser, in the latents of a frozen codec.

    The training loop is told what else has to lie on the device (`frozen`), and for models that are cut up over several
    processes, into which blocks, and which methods are called beside `forward` (`entrances`).

    Args:
        config: Root config.
        corpora: Training data.
        codec: Overrides `config.codec` (tests).
        texts: Overrides the shared text encoder (tests).
    """

    blocks = ("BasicTransformerBlock", "ResnetBlock2D")
    entrances = ("prepare", "predict", "read", "draw_codes", "sharpen")

    def __init__(
        self,
        config: MaskerConfig,
        corpora: Sequence[AnyCorpus],
        codec: MaskVAE | KLCodec | None = None,
        texts: TextBook | None = None,
    ) -> None:
        self.folder = find_weights(config.public) if config.public is not None else None
        self.config = config = config if self.folder is None else with_unet_config(config, self.folder)
        self.codec = codec if codec is not None else self._load_codec()
        self.codec.eval().requires_grad_(False)
        self.frozen = (self.codec,)
        resolution, seed = self.codec.resolution, config.fit.seed
        self.process = NoiseProcess.of(config.diffusion)
        self.whole = seeded(lambda: build_model(config, self.codec), seed)
        self.model: nn.Module = self._trained()
        self.source = MixedSource(corpora, "train", config.examples, resolution, seed, self.whole.fine)
        self.held_out = MixedSource(corpora, "val", config.examples, resolution, seed, self.whole.fine)
        self.texts = texts if texts is not None else self._load_texts()
        palette = config.layout_encoder.labels == "palette"
        self.labels = (palette_table if palette else self.texts.label_table)(self.source.labels)

    def _trained(self) -> nn.Module:
        """The part of the mask model that this stage trains; all others are frozen."""
        if self.config.shape_prior is not None and not self.config.shape_prior.loss_weight:
            self.whole.freeze_silhouettes()
        return self.whole

    def _load_codec(self) -> MaskVAE | KLCodec:
        if self.folder is not None and self.config.public is not None:
            return load_kl_codec(self.folder, self.config.public.resolution)
        assert self.config.codec is not None  # the config saw to it
        return load_codec(Path(self.config.codec))

    def _load_texts(self) -> TextBook:
        return TextBook.load(self.config.text) if self.folder is None else clip_texts(self.folder, self.config.text)

    def begin(self) -> None:
        """What a training that does not resume needs once the weights that it starts from are in place."""
        if self.folder is not None and not self.config.start_from:
            start_from_unet(self.whole.denoiser, self.folder)

    def batch(self, samples: Sequence[int]) -> DenoiserBatch:
        """See `runtime.training.TrainingTask`."""
        seed = self.config.fit.seed
        examples = [self.source.example(sample) for sample in samples]
        shape = (self.codec.latent_channels, self.codec.latent_size, self.codec.latent_size)
        return DenoiserBatch(
            stack([example.target for example in examples])[:, None],
            self.conditions(examples),
            self._kept(samples),
            sample_noise(seed, "denoiser", samples, shape),
            self._timesteps(samples),
            self._tile(samples[0]),
            sample_noise(seed, "code", samples, (self.whole.code_width,)),
        )

    def conditions(self, examples: Sequence[MaskExample]) -> Conditions:
        """The network's view of some examples."""
        return Conditions(
            index=stack([example.index for example in examples]).long(),
            labels=self.labels,
            guide=stack([example.guide for example in examples])[:, None],
            distance=stack([example.distance for example in examples])[:, None],
            geometry=stack([example.geometry for example in examples]),
            code=torch.zeros(len(examples), self.whole.code_width),
            **self.texts.batch([example.object for example in examples], [example.context for example in examples]),
        )

    def _kept(self, samples: Sequence[int]) -> Kept:
        dropout = self.config.dropout
        draws = np.array(
            [np.random.default_rng(derive_seed(self.config.fit.seed, "mask dropout", n)).random(4) for n in samples]
        )
        kept = draws[:, 3:] >= dropout.all
        shares = np.array([dropout.layout, dropout.object, dropout.context])
        keep = torch.from_numpy((draws[:, :3] >= shares) & kept)
        return Kept(keep[:, 0], keep[:, 1], keep[:, 2])

    def _tile(self, sample: int) -> tuple[int, int]:
        x, y = np.random.default_rng(derive_seed(self.config.fit.seed, "mask tile", sample)).integers(
            0, TILE_PARTS // 2 + 1, 2
        )
        return int(x), int(y)

    def _timesteps(self, samples: Sequence[int]) -> Tensor:
        offset = derive_seed(self.config.fit.seed, "mask timesteps") % 10**6 / 10**6
        diffusion = self.config.diffusion
        return spread_timesteps(samples, diffusion.train_timesteps, power=diffusion.timestep_power, offset=offset)

    def loss(self, model: nn.Module, batch: DenoiserBatch) -> tuple[Tensor, dict[str, float]]:
        """See `runtime.training.TrainingTask`."""
        masks = pooled(batch.masks, self.codec.resolution)
        fast = self.config.fit.precision == "bf16"
        with torch.no_grad(), torch.autocast(masks.device.type, torch.bfloat16) if fast else nullcontext():
            clean = self.codec.encode(masks).float()
        noisy = self.process.add_noise(clean, batch.noise, batch.timesteps)
        conditions = self._with_codes(batch, masks)
        output, prepared = model(noisy, batch.timesteps, conditions, batch.kept)
        error = (output - self.process.target(clean, batch.noise, batch.timesteps)).square().mean((1, 2, 3))
        latent_loss = (error * self.process.weights(batch.timesteps, self.config.diffusion.snr_gamma)).mean()
        terms = self._mask_losses(noisy, output, prepared, batch)
        return self._total(latent_loss, error, {**terms, **self._silhouette_loss(prepared, masks)})

    def _with_codes(self, batch: DenoiserBatch, masks: Tensor) -> Conditions:
        """Conditions with the true shapes' codes, so that silhouettes are believed; under scribbles with drawn ones.

        A scribble shows more than a silhouette drawn for it; how far that is to be believed has to be learned.
        """
        if not self.whole.code_width:
            return batch.conditions
        drawn = self.whole.draw_codes(batch.conditions, batch.code_noise[:, None]).code
        read = self.whole.read_codes(batch.conditions, masks)
        scribbled = (batch.conditions.distance != 0).flatten(1).any(1, keepdim=True)
        return replace(batch.conditions, code=torch.where(scribbled, drawn, read))

    def _total(
        self, latent_loss: Tensor, error: Tensor, terms: dict[str, tuple[float, Tensor]]
    ) -> tuple[Tensor, dict[str, float]]:
        """Weighted sum of the losses, and all of them for the log."""
        loss = self.config.diffusion.latent_loss_weight * latent_loss
        facts = {"v_loss": error.detach().mean().item()}
        for name, (weight, term) in terms.items():
            loss = loss + weight * term
            facts[name] = term.item()
        return loss, facts

    def _silhouette_loss(self, prepared: Prepared, masks: Tensor) -> dict[str, tuple[float, Tensor]]:
        prior = self.config.shape_prior
        if prior is None or not prior.loss_weight:
            return {}
        return {"silhouette_loss": (prior.loss_weight, silhouette_loss(prepared.silhouette, prepared.guided, masks))}

    def _mask_losses(
        self, noisy: Tensor, output: Tensor, prepared: Prepared, batch: DenoiserBatch
    ) -> dict[str, tuple[float, Tensor]]:
        """`_reading_losses` of the estimate of z_0, on every other sample, since decoding costs time.

        At high noise and without a guide the estimate is an average over places, and a sharp mask is the wrong thing
        to ask for: there the weight is the share of signal left.
        """
        half = slice(0, None, 2)
        if not self.config.diffusion.mask_loss_weight and self.config.refiner is None:
            return {}
        steps = batch.timesteps[half]
        estimate = self.process.estimate_clean(noisy[half], output[half], steps)
        kept = prepared.rows(half)
        trust = torch.where(kept.guided, 1.0, self.process.alphas_cumprod[steps]) * self.process.estimate_weights(steps)
        return self._reading_losses(estimate, kept, batch.masks[half], trust, batch.tiles)

    def _reading_losses(
        self, latents: Tensor, prepared: Prepared, masks: Tensor, trust: Tensor, tiles: tuple[int, int]
    ) -> dict[str, tuple[float, Tensor]]:
        """Weight and loss of the mask read off latents (B, C, h, w), coarse and refined, `trust` (B,) weighing each.

        Mean squared error in latents does not know which errors move an outline; these terms do.
        """
        config = self.config
        coarse = self.codec.decode(latents)

        def loss(logits: Tensor, truth: Tensor) -> Tensor:
            return (mask_loss(logits, pooled(truth, logits.shape[-1])) * trust[: len(logits)]).mean()

        losses = {"mask_loss": (config.diffusion.mask_loss_weight, loss(coarse, masks))}
        if config.refiner is None or not config.refiner.loss_weight:
            return losses
        fine = self.whole.refine(coarse, prepared)
        losses["refined_loss"] = (config.refiner.loss_weight, loss(fine, masks))
        if config.refiner.levels > 1:
            few = slice(0, (len(fine) + 3) // 4)  # a tile costs as much as a view
            truth = tile_of(masks[few], *tiles, TILE_PARTS)
            tile = self._tile_logits(fine[few].detach(), prepared, tiles)
            losses["tile_loss"] = (config.refiner.loss_weight / 2, loss(tile, truth))
        return losses

    def _tile_logits(self, fine: Tensor, kept: Prepared, tile: tuple[int, int]) -> Tensor:
        """The refiner's second level on one tile, (B, 1, 2R, 2R), from its first level's logits."""
        assert self.whole.refiner is not None
        count = len(fine)
        guide = tile_of(kept.guide[:count], *tile, TILE_PARTS)
        planes = zoomed_geometry(kept.geometry[:count], *tile, TILE_PARTS)
        hints, text = tile_hints(guide, fine.shape[-1]), kept.summary[:count].detach()
        return cast(Tensor, self.whole.refiner(tile_of(fine, *tile, TILE_PARTS), hints, planes, text))

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Validation objects under the four forms of guidance."""
        source = self.held_out.first
        denoiser_sheet(cast(MaskModel, model), self.codec, self.conditions, source, self.config, path)

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the masker folder: config, labels, codec and model weights."""
        export_masker(model, self.codec, self.config, self.source.corpora, out)
        if self.folder is not None:
            export_public_parts(cast(KLCodec, self.codec), self.folder, out)


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy and a light soft Dice of logits (B, 1, R, R) against coverage in [0, 1], (B,)."""
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean((1, 2, 3))
    soft = logits.sigmoid()
    overlap, total = (soft * masks).sum((1, 2, 3)), (soft + masks).sum((1, 2, 3))
    return entropy + 0.2 * (1 - (2 * overlap + 1) / (total + 1))


def silhouette_loss(silhouette: Tensor, guided: Tensor, masks: Tensor) -> Tensor:
    """`mask_loss` of the text's silhouette (B, 1, R, R) against the masks, over guided samples (bool (B,))."""
    return (mask_loss(silhouette, masks) * guided).mean()
