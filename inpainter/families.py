"""What each family of public ControlNet-inpaint pipelines takes for text, and how it is called.

| family | pipeline of diffusers | text of one window | pixels to draw, in the control image |
|---|---|---|---|
| sd15 | `StableDiffusionControlNetInpaintPipeline` | CLIP tokens (77, 768) | -1 |
| sdxl | `StableDiffusionXLControlNetInpaintPipeline` | tokens of two CLIPs (77, 2048) and a pooled (1280,) | white |
| zimage | `ZImageControlNetInpaintPipeline` | Qwen3 states (T, 2560), T as long as the words | no control image |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.pipelines.z_image.pipeline_z_image_controlnet_inpaint import calculate_shift
from torch import Tensor

from inpainter.config import SamplerConfig
from inpainter.models import MASKED
from inpainter.pipeline import Paint, WindowBatch, paint_stable_diffusion

WHITE = 1.0
INPAINTING_UNET_CHANNELS = 9
NEARLY_ALL = 0.99  # SDXL's inpainting weights: "make sure to use `strength` below 1.0" (their model card)


class XLText(NamedTuple):
    """SDXL's text: tokens (77, C) and the second encoder's pooled vector (P,)."""

    tokens: Tensor
    pooled: Tensor


def embed_sd15(pipeline: Any) -> Callable[[str], Tensor]:
    """Words -> CLIP tokens (77, C) by the pipeline's own text encoder."""

    def embed(words: str) -> Tensor:
        tokens: Tensor = pipeline.encode_prompt(words, pipeline._execution_device, 1, False)[0]
        return tokens[0]

    return embed


def embed_sdxl(pipeline: Any) -> Callable[[str], XLText]:
    """Words -> tokens and pooled vector; no words are zeros where the weights were trained so."""

    def embed(words: str) -> XLText:
        tokens, _, pooled, _ = pipeline.encode_prompt(
            words, device=pipeline._execution_device, do_classifier_free_guidance=False
        )
        if not words and pipeline.config.force_zeros_for_empty_prompt:
            tokens, pooled = torch.zeros_like(tokens), torch.zeros_like(pooled)
        return XLText(tokens[0], pooled[0])

    return embed


def embed_zimage(pipeline: Any) -> Callable[[str], Tensor]:
    """Words -> states (T, C) of the chat-templated words; no padding."""

    def embed(words: str) -> Tensor:
        states: list[Tensor] = pipeline.encode_prompt(
            words, device=pipeline._execution_device, do_classifier_free_guidance=False
        )[0]
        return states[0]

    return embed


def paint_sd15(masked: float | None) -> Paint:
    """`Paint` of the SD 1.x pipeline; `masked` as in `DiffusersConfig`."""
    value = MASKED if masked is None else masked

    def paint(pipeline: Any, batch: WindowBatch, sampler: SamplerConfig) -> np.ndarray:
        return paint_stable_diffusion(pipeline, batch, sampler, masked=value)

    return paint


def paint_sdxl(masked: float | None) -> Paint:
    """`Paint` of the SDXL pipeline."""
    value = WHITE if masked is None else masked

    def paint(pipeline: Any, batch: WindowBatch, sampler: SamplerConfig) -> np.ndarray:
        most = NEARLY_ALL if pipeline.unet.config.in_channels == INPAINTING_UNET_CHANNELS else 1.0
        tokens = replace(
            batch,
            text=[text.tokens for text in batch.text],
            empty_text=batch.empty_text.tokens,
            strength=min(batch.strength, most),
        )
        return paint_stable_diffusion(
            pipeline,
            tokens,
            sampler,
            masked=value,
            pooled_prompt_embeds=torch.stack([text.pooled for text in batch.text]),
            negative_pooled_prompt_embeds=batch.empty_text.pooled[None].repeat(len(batch.text), 1),
        )

    return paint


def paint_zimage(masked: float | None) -> Paint:
    """`Paint` of the Z-Image pipeline.

    Unlike the other two it takes tensors in [-1, 1] as they are, knows no strength, and guides by
    `positive + scale * (positive - negative)`, which is 0 where the others' scale is 1.
    """

    def paint(pipeline: Any, batch: WindowBatch, sampler: SamplerConfig) -> np.ndarray:
        guidance = sampler.guidance_scale - 1
        image = batch.image * 2 - 1
        output: np.ndarray = pipeline(
            image=image,
            mask_image=batch.cells,
            control_image=torch.full_like(image, -1.0),  # `without_control_picture` drops it
            height=image.shape[2],
            width=image.shape[3],
            prompt_embeds=batch.text,
            negative_prompt_embeds=[batch.empty_text] * len(batch.text) if guidance > 0 else None,
            num_inference_steps=sampler.steps,
            guidance_scale=guidance,
            controlnet_conditioning_scale=sampler.control_scale,
            generator=batch.generators,
            output_type="np",
            **({} if batch.strength >= 1 else _last_steps(pipeline, batch, sampler.steps)),
        ).images
        return output

    return paint


def _last_steps(pipeline: Any, batch: WindowBatch, steps: int) -> dict[str, Any]:
    """Arguments that make the Z-Image pipeline run the last steps only, from `batch.start` under as much noise."""
    count = max(1, int(steps * batch.strength))
    sigmas = np.linspace(1.0, 1 / steps, steps)[-count:].tolist()
    device, vae, config = pipeline._execution_device, pipeline.vae, pipeline.scheduler.config
    with torch.no_grad():
        clean = vae.encode((batch.start * 2 - 1).to(device, vae.dtype)).latent_dist.mode()
    clean = ((clean - vae.config.shift_factor) * vae.config.scaling_factor).float()
    shift = calculate_shift(
        clean.shape[2] * clean.shape[3] // 4,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", 1.15),
    )
    pipeline.scheduler.set_timesteps(sigmas=sigmas, mu=shift, device=device)
    level = pipeline.scheduler.sigmas[0].to(clean)  # as the scheduler shifts it
    noise = torch.stack([torch.randn(clean.shape[1:], generator=generator) for generator in batch.generators])
    return {"sigmas": sigmas, "latents": level * noise.to(clean) + (1 - level) * clean}


def without_control_picture(controlnet: Any) -> None:
    """Zeroes the control picture's latents, which come first in a union ControlNet's input, at every call.

    The diffusers pipeline insists on a control picture (pose, edges, depth). We have none, and the union ControlNet was
    taught to inpaint without one by zero latents, which no picture encodes to.

    Source: `pipeline_z_image_control.py` of aigc-apps/VideoX-Fun, which the weights come from.
    """

    def zero(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        latents, timestep, text, control, *rest = arguments
        channels = latents[0].shape[0]
        emptied = torch.cat([torch.zeros_like(control[:, :channels]), control[:, channels:]], dim=1)
        return (latents, timestep, text, emptied, *rest)

    controlnet.register_forward_pre_hook(zero)
