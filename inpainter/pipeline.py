"""Drawing windows through diffusers' own `StableDiffusionControlNetInpaintPipeline`.

What this file adds to the stock pipeline is only what it cannot know: text that was embedded elsewhere, a mask in whole
latent cells, and one generator per window. Full-size weights run on these lines too; `inpainter.families` holds what
SDXL and Z-Image pipelines want to be told instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionControlNetInpaintPipeline
from torch import Tensor

from inpainter.appearance import Appearance
from inpainter.config import SamplerConfig
from inpainter.memory import keep_detail
from inpainter.models import LATENT_CHANNELS, MASKED, ControlNet, Scheduler, UNet, Vae, control_image
from inpainter.window import dilate
from runtime.seeding import torch_generator
from scene.seeds import derive_seed


class WindowPipeline(StableDiffusionControlNetInpaintPipeline):
    """The stock pipeline with text embedded elsewhere and no safety checker (the small world needs none)."""

    def __init__(
        self,
        vae: Vae,
        unet: UNet,
        controlnet: ControlNet,
        scheduler: Scheduler,
        text_encoder: Any = None,
        tokenizer: Any = None,
        safety_checker: Any = None,
        feature_extractor: Any = None,
        image_encoder: Any = None,
        requires_safety_checker: bool = False,
    ) -> None:
        super().__init__(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            controlnet=controlnet,
            scheduler=scheduler,
            safety_checker=safety_checker,
            feature_extractor=feature_extractor,
            image_encoder=image_encoder,
            requires_safety_checker=requires_safety_checker,
        )
        self.set_progress_bar_config(disable=True)  # type: ignore[attr-defined]

    def prepare_mask_latents(self, mask: Tensor, masked_image: Tensor, batch_size: int, *rest: Any) -> Any:
        """As in the stock pipeline, which encodes the masked picture even where the U-Net does not see it."""
        pipeline: Any = super()
        if self.unet.config.in_channels == LATENT_CHANNELS:  # type: ignore[attr-defined]
            masked_image = masked_image.new_zeros(batch_size, LATENT_CHANNELS, 1, 1)  # taken for latents as they are
        return pipeline.prepare_mask_latents(mask, masked_image, batch_size, *rest)


@dataclass(frozen=True)
class WindowBatch:
    """One call of a pipeline: B windows of R x R model pixels.

    Attributes:
        image: (B, 3, R, R) in [0, 1], the canvas.
        start: (B, 3, R, R) in [0, 1], what the drawing starts from, where `strength` is below 1; else the canvas.
        mask: (B, 1, R, R), 1 = the object, exact.
        cells: (B, 1, R, R), 1 = what the model repaints, see `cell_mask`.
        text: B embedded descriptions, as the pipeline's family has them.
        empty_text: the unconditional half.
        generators: one per window, on the CPU.
        strength: share of the sampler's steps that run, the last ones; 1 = all, from pure noise.
        planes: (B, P, R, R) in [0, 1], what a ControlNet in training also sees (`inpainter.planes`); else None.
    """

    image: Tensor
    start: Tensor
    mask: Tensor
    cells: Tensor
    text: list[Any]
    empty_text: Any
    generators: list[torch.Generator]
    strength: float
    planes: Tensor | None = None


Paint = Callable[[Any, WindowBatch, SamplerConfig], np.ndarray]
"""(pipeline, windows, sampler) -> float (B, R, R, 3) in [0, 1]."""


def paint_stable_diffusion(
    pipeline: Any, batch: WindowBatch, sampler: SamplerConfig, *, masked: float = MASKED, **further: Any
) -> np.ndarray:
    """`Paint` for `StableDiffusionControlNetInpaintPipeline`; text is (T, C) each.

    Args:
        pipeline, batch, sampler: see `Paint`.
        masked: value of the control image's pixels that are to be drawn.
        further: more arguments of the pipeline's call.
    """
    output: np.ndarray = pipeline(
        image=batch.start,
        mask_image=batch.cells,
        control_image=control_image(batch.image, batch.mask, masked, batch.planes),
        height=batch.image.shape[2],
        width=batch.image.shape[3],
        strength=batch.strength,
        prompt_embeds=torch.stack(batch.text),
        negative_prompt_embeds=batch.empty_text[None].repeat(len(batch.text), 1, 1),
        num_inference_steps=sampler.steps,
        guidance_scale=sampler.guidance_scale,
        controlnet_conditioning_scale=sampler.control_scale,
        generator=batch.generators,
        output_type="np",
        **further,
    ).images
    return output


def cell_mask(mask: np.ndarray, dilate_px: int, cell_px: int) -> np.ndarray:
    """The mask that the model repaints: dilated, then grown to whole latent cells.

    The pipeline shrinks masks by nearest neighbour, which drops thin parts; whole cells survive it exactly.

    Args:
        mask: bool (H, W), multiples of `cell_px`.
        dilate_px: growth before the cells are filled.
        cell_px: pixels per latent cell (the VAE's factor).

    Returns:
        bool (H, W), a superset of `mask`.
    """
    rows, columns = (extent // cell_px for extent in mask.shape)
    grown = dilate(mask, dilate_px).reshape(rows, cell_px, columns, cell_px).any(axis=(1, 3))
    return grown.repeat(cell_px, axis=0).repeat(cell_px, axis=1)


def draw_windows(
    pipeline: Any,
    images: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    text: Sequence[Any],
    empty_text: Any,
    seeds: Sequence[int],
    sampler: SamplerConfig,
    *,
    dilate_px: int,
    batch: int = 1,
    appearance: Appearance | None = None,
    starts: Sequence[np.ndarray] | None = None,
    last_steps: int | None = None,
    paint: Paint = paint_stable_diffusion,
    planes: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Draws the masked object into each window, always `batch` windows per pipeline call.

    CPU kernels differ in the last bits between batch sizes, and a picture must not depend on what was drawn beside it:
    so every call has the same number of rows, and missing ones repeat the first.

    Args:
        pipeline: what `paint` calls; a `StableDiffusionControlNetInpaintPipeline` with 4 or 9 U-Net input channels.
        images: uint8 (R, R, 3) each, the canvas.
        masks: bool (R, R) each, True = draw.
        text: (T, C) tokens each, padding zeroed.
        empty_text: (T, C) tokens of the unconditional half.
        seeds: one per window.
        sampler: steps and scales.
        dilate_px: see `cell_mask`.
        batch: rows of every call.
        appearance: draws what each window starts from, if the sampler has `draft_steps`; None: pure noise.
        starts: uint8 (R, R, 3) each: drawings to refine instead. Needs `last_steps`.
        last_steps: so many of the sampler's steps run, the last ones.
        paint: calls the pipeline, family by family.
        planes: uint8 (R, R, P) each, for a ControlNet in training that also sees the layout; else None.

    Returns:
        uint8 (R, R, 3) each: the model's whole window, not yet pasted.
    """
    detail_px = 0.0
    if starts is None and appearance is not None and sampler.draft_steps:
        temperature, last_steps = sampler.draft_temperature, sampler.draft_steps
        starts = [
            appearance.draft(image, mask, words, seed=derive_seed(seed, "draft"), temperature=temperature)
            for image, mask, words, seed in zip(images, masks, text, seeds, strict=True)
        ]
        if appearance.memory is not None and temperature > 0:
            detail_px = sampler.detail_px
    strength = 1.0 if last_steps is None else min((last_steps + 0.5) / sampler.steps, 1.0)
    drawn: list[np.ndarray] = []
    for first in range(0, len(images), batch):
        rows = [first + i if first + i < len(images) else first for i in range(batch)]
        unit = _unit(images, rows)
        exact = torch.from_numpy(np.stack([masks[row] for row in rows]))[:, None].float()
        cells = np.stack([cell_mask(masks[row], dilate_px, pipeline.vae_scale_factor) for row in rows])
        windows = WindowBatch(
            image=unit,
            start=unit if starts is None else _unit(starts, rows),
            mask=exact,
            cells=torch.from_numpy(cells)[:, None].float(),
            text=[text[row] for row in rows],
            empty_text=empty_text,
            generators=[torch_generator(seeds[row]) for row in rows],
            strength=strength,
            planes=None if planes is None else _unit(planes, rows),
        )
        output = paint(pipeline, windows, sampler)
        drawn += [(picture * 255 + 0.5).astype(np.uint8) for picture in output[: len(images) - first]]
    if detail_px > 0 and starts is not None:
        decoded = [_through_vae(pipeline.vae, start) for start in starts]
        drawn = [keep_detail(*one, detail_px) for one in zip(drawn, starts, decoded, masks, strict=True)]
    return drawn


@torch.no_grad()
def _through_vae(vae: Vae, picture: np.ndarray) -> np.ndarray:
    """A picture uint8 (R, R, 3), encoded and decoded, always alone."""
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample[0]
    return ((decoded.permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5 + 0.5).numpy().astype(np.uint8)


def _unit(images: Sequence[np.ndarray], rows: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.stack([images[row] for row in rows])).permute(0, 3, 1, 2).float() / 255
