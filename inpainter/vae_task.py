"""Stage one: the VAE learns the look of the world on crops of real renders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inpainter.config import InpainterTraining
from inpainter.examples import ExampleSource
from inpainter.models import build_vae, load_vae, save_component
from inpainter.perceptual import PerceptualDistance
from inpainter.sheets import grid, save_sheet
from runtime.seeding import torch_generator
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.seeds import derive_seed

VALIDATION_WINDOWS = 32


def to_unit(pixels: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255


def to_pixels(images: Tensor) -> np.ndarray:
    """float (B, 3, H, W) in [0, 1] (clamped) -> uint8 (B, H, W, 3)."""
    return (images.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def gradient_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean L1 between horizontal and vertical pixel differences, at full and at half resolution.

    Args:
        a, b: (B, C, H, W).

    Returns:
        Scalar.
    """
    total = a.new_zeros(())
    for scale in (1, 2):
        difference = a - b if scale == 1 else F.avg_pool2d(a - b, scale)
        total = total + difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return total


def colour_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of the colour differences R - G and (R + G) / 2 - B, over cells of 4 pixels.

    Args:
        a, b: (B, 3, H, W); sides are multiples of 4.

    Returns:
        Scalar.
    """
    red, green, blue = F.avg_pool2d(a - b, 4).unbind(1)
    return (red - green).square().mean() + ((red + green) / 2 - blue).square().mean()


def psnr_inside(output: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over the masked pixels of uint8 (..., H, W, 3); peak 255."""
    error = (output.astype(np.float64) - truth.astype(np.float64))[mask]
    return 10 * math.log10(255**2 / max(float((error**2).mean()), 1e-9))


class VaeTask:
    """`TrainingTask` of the `vae` stage.

    Args:
        config: root configuration.
        corpus: opened corpus; trains on `train`, looks at `val`.
    """

    def __init__(self, config: InpainterTraining, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus
        torch.manual_seed(derive_seed(config.fit.seed, "inpainter-vae-init"))  # diffusers initialises globally
        self.model = build_vae(config.vae)
        self.scaling_factor: float | None = None
        if config.initial_weights:
            start = load_vae(Path(config.initial_weights))
            self.model.load_state_dict(start.state_dict(), strict=True)
            if config.vae_training.freeze_encoder:
                self.scaling_factor = start.config.scaling_factor
                for part in (self.model.encoder, self.model.quant_conv):
                    part.requires_grad_(False)
        elif config.vae_training.freeze_encoder:
            raise UserError("vae_training.freeze_encoder needs initial_weights: the VAE whose encoder is kept")
        self.perceptual = PerceptualDistance() if config.vae_training.perceptual_weight else None
        self.frozen = () if self.perceptual is None else (self.perceptual,)
        self.source = ExampleSource(corpus, corpus.records("train"), config.examples, config.window, config.fit.seed)

    def batch(self, samples: Sequence[int]) -> dict[str, Tensor]:
        """`pixels` (B, 3, crop, crop) in [-1, 1] and `noise` (B, 4, crop / f, crop / f)."""
        training = self.config.vae_training
        pixels = np.stack([self.source.picture(n, training) for n in samples])
        side = training.crop_px // 2 ** (len(self.config.vae.block_channels) - 1)
        noise = [
            torch.randn(4, side, side, generator=torch_generator(derive_seed(self.config.fit.seed, "vae-noise", n)))
            for n in samples
        ]
        return {"pixels": to_unit(pixels) * 2 - 1, "noise": torch.stack(noise)}

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """L1 + squared error + gradient L1 + weak KL, if wanted distance of features; the batch brings the noise."""
        vae: Any = model
        posterior = vae.encode(batch["pixels"]).latent_dist
        output = vae.decode(posterior.mean + posterior.std * batch["noise"]).sample
        l1 = (output - batch["pixels"]).abs().mean()
        squared = F.mse_loss(output, batch["pixels"])
        gradient = gradient_distance(output, batch["pixels"])
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        training = self.config.vae_training
        loss = l1 + training.squared_weight * squared + training.gradient_weight * gradient + training.kl_weight * kl
        colour = colour_distance(output, batch["pixels"])
        loss = loss + training.colour_weight * colour
        psnr = 10 * math.log10(4 / max(squared.item(), 1e-9))
        facts = {"l1": l1.item(), "gradient": gradient.item(), "kl": kl.item(), "colour": colour.item(), "psnr": psnr}
        if self.perceptual is not None:
            distance = self.perceptual(output, batch["pixels"])
            loss = loss + training.perceptual_weight * distance
            facts["perceptual"] = distance.item()
        return loss, {name: round(value, 5) for name, value in facts.items()}

    def _validation(self) -> tuple[np.ndarray, np.ndarray]:
        """Whole windows (N, R, R, 3) of validation scenes as drawn at run time, and their object masks."""
        records = self.corpus.records("val")
        source = ExampleSource(self.corpus, records, self.config.examples, self.config.window, 0)
        examples = []
        for number in range(VALIDATION_WINDOWS):
            record = records[number * 7 % len(records)]
            example = source.plain(record, 2 + number % max(1, len(record.layers) - 2))
            if example is not None and example.mask.any():
                examples.append(example)
        return np.stack([e.target for e in examples]), np.stack([e.mask for e in examples])

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Rows of truth and reconstruction of validation windows."""
        truth, masks = self._validation()
        output = reconstruct(model, truth)
        values = [psnr_inside(o, t, m) for o, t, m in zip(output, truth, masks, strict=True)]
        rows = [
            np.stack([part[i : i + 8] for part in (truth, output)]).reshape(-1, *truth.shape[1:])
            for i in range(0, len(truth) - 7, 8)
        ]
        title = f"VAE, truth above output; PSNR inside masks: mean {np.mean(values):.2f} dB, worst {min(values):.2f} dB"
        save_sheet(grid(np.concatenate(rows), columns=8), path, title)

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes `out/vae` (fp16), with the scaling factor that makes latents of unit standard deviation."""
        vae: Any = model
        factor = self.scaling_factor
        if factor is None:
            truth, _ = self._validation()
            with torch.no_grad():
                factor = round(1 / float(vae.encode(to_unit(truth) * 2 - 1).latent_dist.mean.std()), 5)
        vae.register_to_config(scaling_factor=factor)
        save_component(model, out / "vae")


def reconstruct(model: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Encodes and decodes uint8 (B, H, W, 3), one picture at a time."""
    vae: Any = model
    outputs = []
    with torch.no_grad():
        for picture in pixels:
            latents = vae.encode(to_unit(picture[None]) * 2 - 1).latent_dist.mean
            outputs.append(to_pixels(vae.decode(latents).sample / 2 + 0.5)[0])
    return np.stack(outputs)
