"""Last stage: U-Net and ControlNet learn together to draw objects into windows, in the frozen VAE's latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inpainter.appearance import load_appearance
from inpainter.config import DenoiserTraining, InpainterTraining
from inpainter.examples import Example, ExampleSource, validation_examples
from inpainter.models import (
    LATENT_CHANNELS,
    Denoiser,
    InpainterFile,
    Vae,
    build_scheduler,
    control_image,
    copy_denoiser,
    load_folder,
    load_vae,
    save_folder,
)
from inpainter.perceptual import LatentPerceptualDistance
from inpainter.pipeline import WindowPipeline, cell_mask, draw_windows
from inpainter.planes import PLANES
from inpainter.sheets import grid, save_sheet
from inpainter.text import TextTokens
from inpainter.vae_task import psnr_inside, to_unit
from perception.diffusion import NoiseProcess, spread_timesteps
from runtime.seeding import sample_noise
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.seeds import derive_seed

SHEET_COLUMNS, SHEET_ROWS = 12, 2


def load_shipped_vae(training: DenoiserTraining, trained_on: Vae) -> Vae:
    """The VAE that goes into the deployable folder.

    Raises:
        UserError: its encoder is not the one that the denoiser's latents come from.
    """
    if training.decoder is None:
        return trained_on
    shipped = load_vae(Path(training.decoder))
    theirs, ours = shipped.state_dict(), trained_on.state_dict()
    kept = [name for name in ours if name.startswith(("encoder.", "quant_conv."))]
    same = all(name in theirs and torch.equal(theirs[name], ours[name]) for name in kept)
    if not same or shipped.config.scaling_factor != trained_on.config.scaling_factor:
        raise UserError(
            f"{training.decoder} has another encoder than {training.vae}; "
            "train it from there with vae_training.freeze_encoder=true"
        )
    return shipped


def start_from(model: Denoiser, folder: Path, prediction: str) -> None:
    """Copies an exported denoiser into `model`, see `copy_denoiser`.

    One trained without pooled text goes on with it; those layers start fresh. A denoiser trained on v can go on as one
    that predicts z_0: at pure noise v = -z_0, so its answer changes sign.

    Raises:
        UserError: no weights there, or of a prediction that cannot be carried over.
    """
    source = load_folder(folder)
    foreign = copy_denoiser(model, source.unet, source.controlnet)
    if foreign is not None:
        raise UserError(f"weights in {folder} do not fit this model ({foreign}); use the config they came from")
    trained_on = source.facts.noise.prediction
    if trained_on == prediction:
        return
    if {trained_on, prediction} != {"v_prediction", "sample"}:
        raise UserError(f"{folder} predicts {trained_on}; it cannot start a run that predicts {prediction}")
    with torch.no_grad():
        model.unet.conv_out.weight.neg_()
        model.unet.conv_out.bias.neg_()


@dataclass(frozen=True, eq=False)
class Prepared:
    """An example with its target encoded: image uint8 (R, R, 3), mask bool (R, R), latents half (4, r, r), text.

    `draft`: latents of a draft of its true look; None where nothing draws drafts. `planes`: see `Example`.
    """

    image: np.ndarray
    mask: np.ndarray
    latents: Tensor
    text: str
    draft: Tensor | None
    planes: np.ndarray | None = None


class DenoiserTask:
    """`TrainingTask` of the `denoiser` stage.

    Args:
        config: root configuration with `denoiser_training`.
        corpus: opened corpus; trains on `train`, looks at `val`.
        embed: text -> (T, C); None takes the shared encoder.

    Attributes:
        prepared: the pool, by number; tasks on the same data may share one.

    Raises:
        UserError: no `denoiser_training` in the config, or no VAE at its path.
    """

    def __init__(self, config: InpainterTraining, corpus: Corpus, embed: Any = None) -> None:
        if config.denoiser_training is None:
            raise UserError("stage denoiser needs a denoiser_training section that names the VAE's folder")
        self.config, self.training, self.corpus = config, config.denoiser_training, corpus
        self.vae = load_vae(Path(self.training.vae))
        self.shipped_vae = load_shipped_vae(self.training, self.vae)
        self.appearance = load_appearance(Path(self.training.appearance)) if self.training.appearance else None
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.side = config.window.resolution_px // self.factor
        self.prepared: dict[int, Prepared] = {}
        self.planes = PLANES[config.denoiser.control_inputs]
        self.perceptual = LatentPerceptualDistance(self.vae) if self.training.perceptual_weight else None
        self.frozen = () if self.perceptual is None else (self.perceptual,)
        self.embed = embed or TextTokens(config.sampler.max_tokens)
        self.scheduler = build_scheduler(config.noise)
        self.schedule = NoiseProcess(self.scheduler.alphas_cumprod, config.noise.prediction)
        torch.manual_seed(derive_seed(config.fit.seed, "inpainter-denoiser-init"))  # diffusers initialises globally
        denoiser = Denoiser(config.denoiser, self.side)
        if config.initial_weights:
            start_from(denoiser, Path(config.initial_weights), config.noise.prediction)
        self.model: nn.Module = denoiser
        self.source = ExampleSource(
            corpus, corpus.records("train"), config.examples, config.window, config.fit.seed, planes=self.planes > 0
        )

    def batch(self, samples: Sequence[int]) -> dict[str, Tensor]:
        """Latents, control images, texts, noise and timesteps; all but the last two come from the pool."""
        pooled = [self._pooled(n % self.training.pool) for n in samples]
        return {**self._stack(pooled), **self._noise(samples)}

    def collate(self, examples: Sequence[Example], samples: Sequence[int]) -> dict[str, Tensor]:
        """Given examples as a batch; noise and timesteps come from the sample numbers."""
        prepared = [self._prepare(example, number) for example, number in zip(examples, samples, strict=True)]
        return {**self._stack(prepared), **self._noise(samples)}

    def _pooled(self, number: int) -> Prepared:
        if number not in self.prepared:
            self.prepared[number] = self._prepare(self.source.example(number), number)
        return self.prepared[number]

    @torch.no_grad()
    def _prepare(self, example: Example, number: int) -> Prepared:
        """Encodes one example; always alone, so that a picture's latents do not depend on its batch."""
        draft = None
        if self.appearance is not None and example.mask.any():
            code = self.appearance.read(self.appearance.examples([example.target], [example.mask]))
            blur = sample_noise(self.config.fit.seed, "draft", [number], (self.appearance.code_width,))
            code = code + self.training.draft_blur * blur
            draft = self._encode(self.appearance.paint(code[0], example.image, example.mask))
        latents = self._encode(example.target)
        return Prepared(example.image, example.mask, latents, example.text, draft, example.planes)

    def _encode(self, picture: np.ndarray) -> Tensor:
        """Scaled latents of a picture uint8 (R, R, 3), half (4, r, r)."""
        pixels = to_unit(picture[None]) * 2 - 1
        latents: Tensor = self.vae.encode(pixels).latent_dist.mean[0] * self.vae.config.scaling_factor
        return latents.half()

    def _stack(self, prepared: Sequence[Prepared]) -> dict[str, Tensor]:
        masks = np.stack([p.mask for p in prepared])
        cells = np.stack([cell_mask(mask, self.config.window.dilate_px, self.factor) for mask in masks])
        images = to_unit(np.stack([p.image for p in prepared]))
        planes = self._seen([p.planes for p in prepared])
        return {
            "latents": torch.stack([p.latents for p in prepared]).float(),
            "drafts": torch.stack([p.latents if p.draft is None else p.draft for p in prepared]).float(),
            "control": control_image(
                images, torch.from_numpy(masks)[:, None].float(), planes=None if planes is None else to_unit(planes)
            ),
            "inside": torch.from_numpy(cells[:, None, :: self.factor, :: self.factor]).float(),
            "text": torch.stack([self.embed(p.text) for p in prepared]),
        }

    def _seen(self, planes: Sequence[np.ndarray | None]) -> np.ndarray | None:
        """Those planes that the ControlNet sees, uint8 (B, R, R, P); None where it sees none."""
        return np.stack([p[..., : self.planes] for p in planes if p is not None]) if self.planes else None

    def _noise(self, samples: Sequence[int]) -> dict[str, Tensor]:
        seed, power = self.config.fit.seed, self.training.timestep_power
        drafted = [derive_seed(seed, "drafted", n) % 1000 < 1000 * self.training.draft_share for n in samples]
        return {
            "noise": sample_noise(seed, "inpaint", samples, (LATENT_CHANNELS, self.side, self.side)),
            "timesteps": spread_timesteps(samples, self.config.noise.train_timesteps, power=power),
            "drafted": torch.tensor(drafted),
        }

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Mean squared error of the prediction; latents inside the dilated mask weigh 1, the others less.

        With a `perceptual_weight`, also the distance of features of what the estimate of z_0 decodes to.

        Some of those that are noised no further than drafts are start from the draft: how to finish one is learned.
        """
        clean, timesteps = batch["latents"], batch["timesteps"]
        drafted = batch["drafted"] & (timesteps < self.training.draft_until * self.config.noise.train_timesteps)
        start = torch.where(drafted.view(-1, 1, 1, 1), batch["drafts"], clean)
        noisy = self.schedule.add_noise(start, batch["noise"], timesteps)
        target = self.schedule.target(clean, batch["noise"], timesteps)
        output = model(noisy, timesteps, batch["text"], batch["control"])
        error = (output - target) ** 2
        inside = batch["inside"]
        weight = inside + self.training.outside_weight * (1 - inside)
        loss = (error * weight).sum() / (weight.sum() * LATENT_CHANNELS)
        with torch.no_grad():
            inner = (error * inside).sum(dim=(1, 2, 3)) / (inside.sum(dim=(1, 2, 3)).clamp(min=1) * LATENT_CHANNELS)
            late = timesteps >= self.config.noise.train_timesteps * 3 // 4
            facts = {"inside": inner.mean().item()}
            if late.any():
                facts["inside_noisiest_quarter"] = inner[late].mean().item()
        if self.perceptual is not None:
            estimate = self.schedule.estimate_clean(noisy, output, timesteps)
            first = math.ceil(len(clean) * self.training.perceptual_share)
            distance = self.perceptual(estimate[:first], clean[:first], inside[:first])
            loss = loss + self.training.perceptual_weight * distance
            facts["perceptual"] = distance.item()
        return loss, {name: round(value, 5) for name, value in facts.items()}

    def pipeline(self, model: nn.Module) -> WindowPipeline:
        """The run-time pipeline round the networks as they are now."""
        networks: Any = model
        return WindowPipeline(self.shipped_vae, networks.unet, networks.controlnet, build_scheduler(self.config.noise))

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Rows of canvas with mask, drawing, and truth, of validation objects in their run-time windows."""
        examples = validation_examples(self.corpus, self.config, SHEET_COLUMNS * SHEET_ROWS, planes=self.planes > 0)
        planes = self._seen([e.planes for e in examples])
        drawn = draw_windows(
            self.pipeline(model),
            [e.image for e in examples],
            [e.mask for e in examples],
            [self.embed(e.text) for e in examples],
            self.embed(""),
            [derive_seed("sheet", i) for i in range(len(examples))],
            self.config.sampler,
            dilate_px=self.config.window.dilate_px,
            appearance=self.appearance,
            planes=None if planes is None else list(planes),
        )
        pasted = [np.where(e.mask[..., None], d, e.image) for e, d in zip(examples, drawn, strict=True)]
        values = [psnr_inside(p, e.target, e.mask) for p, e in zip(pasted, examples, strict=True)]
        shown = [np.where(e.mask[..., None], np.uint8(160), e.image) for e in examples]
        rows: list[np.ndarray] = []
        for start in range(0, len(examples), SHEET_COLUMNS):
            stop = start + SHEET_COLUMNS
            rows += [*shown[start:stop], *pasted[start:stop], *(e.target for e in examples[start:stop])]
        title = f"canvas and mask / drawn / real; PSNR inside the mask: mean {np.mean(values):.2f} dB"
        save_sheet(grid(np.stack(rows), columns=SHEET_COLUMNS), path, title)

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the deployable folder."""
        facts = InpainterFile(
            window=self.config.window,
            sampler=self.config.sampler,
            noise=self.config.noise,
            world=self.corpus.name,
            licence=self.corpus.licence,
        )
        assert isinstance(model, Denoiser)
        save_folder(
            out,
            vae=self.shipped_vae,
            denoiser=model,
            scheduler=self.scheduler,
            facts=facts,
            appearance=self.appearance,
        )
