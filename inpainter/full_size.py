"""`ControlNetInpainter` on public weights of full size: SD 1.5, SDXL or Z-Image with a ControlNet that inpaints.

The pipelines are diffusers' own, read from folders in their public layout (a local folder, or the hub's cache), from
safetensors only, without remote code. What is ours stays as with the small weights: the window, the exact mask, seeds.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import (
    ControlNetModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    ZImageControlNetInpaintPipeline,
    ZImageControlNetModel,
)

from inpainter import families
from inpainter.config import DiffusersConfig
from inpainter.controlnet_inpaint import ControlNetInpainter, EmbedText
from inpainter.pipeline import Paint
from runtime.hardware import HardwareConfig, place_pipeline, resolve_device, resolve_dtype
from runtime.hub import WEIGHTS
from scene.errors import UserError


class Family(NamedTuple):
    """A family of pipelines: its class, what else it is made of, its text, its call."""

    pipeline: Any
    further: dict[str, Any]
    embed: Callable[[Any], EmbedText]
    paint: Callable[[float | None], Paint]


FAMILIES: dict[str, Family] = {
    "sd15": Family(
        StableDiffusionControlNetInpaintPipeline,
        {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None, "image_encoder": None},
        families.embed_sd15,
        families.paint_sd15,
    ),
    "sdxl": Family(
        StableDiffusionXLControlNetInpaintPipeline,
        {"add_watermarker": False, "feature_extractor": None, "image_encoder": None},
        families.embed_sdxl,
        families.paint_sdxl,
    ),
    "zimage": Family(
        ZImageControlNetInpaintPipeline,
        {},
        families.embed_zimage,
        families.paint_zimage,
    ),
}


def load(folders: dict[str, Path], config: DiffusersConfig, hardware: HardwareConfig) -> ControlNetInpainter:
    """The inpainter on public weights.

    Args:
        folders: where the parts of `inpainter.sources.sources` lie on this machine.
        config: family, window, sampler.
        hardware: device, precision, savings.

    Raises:
        UserError: weights do not fit together, or the hardware is not there.
    """
    device = resolve_device(hardware)
    dtype = resolve_dtype(hardware, device)
    family = FAMILIES[config.family]
    try:
        if config.family == "zimage":
            controlnet = load_zimage_controlnet(folders["controlnet"], folders["base"], config.controlnet_file, dtype)
        else:
            controlnet = ControlNetModel.from_pretrained(
                folders["controlnet"],
                dtype=dtype,
                variant=config.controlnet_variant if folders["controlnet"].parent != folders["base"] else None,
                use_safetensors=True,
                local_files_only=True,
            )
        pipeline = family.pipeline.from_pretrained(
            folders["base"],
            controlnet=controlnet,
            dtype=dtype,
            variant=config.variant,
            use_safetensors=True,
            local_files_only=True,
            **family.further,
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"cannot load {config.family} weights from {folders['base']} and {folders['controlnet']}: {reason}"
        ) from None
    _check(pipeline, config)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler(pipeline.scheduler, config.scheduler)
    if "lora" in folders:
        _fuse_lora(pipeline, folders["lora"], config)
    if config.family == "zimage":
        families.without_control_picture(pipeline.controlnet)
    place_pipeline(pipeline, hardware, device)
    return ControlNetInpainter(
        pipeline, family.embed(pipeline), config.window, config.sampler, paint=family.paint(config.masked)
    )


def _check(pipeline: Any, config: DiffusersConfig) -> None:
    """What the pipelines do not check, or only in the middle of a drawing."""
    if config.family == "zimage":
        return
    channels = pipeline.unet.config.in_channels
    if channels not in (4, 9) or pipeline.vae.config.latent_channels != 4:
        raise UserError(
            f"{config.family}: the U-Net takes {channels} channels and the VAE gives "
            f"{pipeline.vae.config.latent_channels}; only 4 or 9, and 4, can inpaint"
        )
    widths = pipeline.controlnet.config.cross_attention_dim, pipeline.unet.config.cross_attention_dim
    if widths[0] != widths[1]:
        raise UserError(
            f"the ControlNet attends to text of width {widths[0]}, the U-Net of {widths[1]}; "
            "choose a ControlNet made for these base weights"
        )


def make_scheduler(stored: Any, kind: str) -> Any:
    """The sampler that `DiffusersConfig.scheduler` names, with the stored one's noise schedule."""
    if kind == "dpm":
        return DPMSolverMultistepScheduler.from_config(stored.config)
    if kind == "euler":
        return EulerDiscreteScheduler.from_config(stored.config, timestep_spacing="trailing")
    if kind == "lcm":
        return LCMScheduler.from_config(stored.config)
    return stored


def _fuse_lora(pipeline: Any, folder: Path, config: DiffusersConfig) -> None:
    """Adds a LoRA to the denoiser's weights for good, so that it costs nothing per step."""
    names = [config.lora_file] if config.lora_file else sorted(path.name for path in folder.glob(WEIGHTS))
    if len(names) != 1:
        raise UserError(
            f"{folder} holds {len(names)} safetensors files; say which is the LoRA: "
            "--set inpainter.diffusers.lora_file=NAME.safetensors"
        )
    try:
        pipeline.load_lora_weights(folder, weight_name=names[0], use_safetensors=True, local_files_only=True)
        if not {"unet", "transformer"} & pipeline.get_list_adapters().keys():  # diffusers only logs that
            raise ValueError("none of its weights belongs to the denoiser")
        pipeline.fuse_lora(lora_scale=config.lora_scale)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"LoRA {folder / names[0]} does not fit these weights: {reason}") from None
    pipeline.unload_lora_weights()


def load_zimage_controlnet(folder: Path, base: Path, file: str | None, dtype: torch.dtype) -> Any:
    """A Z-Image union ControlNet, from diffusers' layout or from the one file that its authors publish.

    That file comes without a config, and diffusers would look for one on the hub; it is read off the weights instead.

    Raises:
        UserError: version 1, which cannot inpaint.
    """
    if (folder / "config.json").is_file():
        controlnet: Any = ZImageControlNetModel.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True
        )
    else:
        path = folder / file if file else next(iter(sorted(folder.glob(WEIGHTS))))
        layers = json.loads((base / "transformer" / "config.json").read_text(encoding="utf-8"))["n_layers"]
        with tempfile.TemporaryDirectory() as config:
            values = json.dumps(union_config(path, layers))
            (Path(config) / "config.json").write_text(values, encoding="utf-8")
            controlnet = ZImageControlNetModel.from_single_file(
                str(path), config=config, dtype=dtype, local_files_only=True
            )
    channels = json.loads((base / "transformer" / "config.json").read_text(encoding="utf-8"))["in_channels"]
    if controlnet.config.control_in_dim != 2 * channels + 1:
        raise UserError(
            f"this Z-Image ControlNet takes {controlnet.config.control_in_dim} channels; inpainting needs "
            f"{2 * channels + 1}: use version 2.0 or 2.1 of the union ControlNet"
        )
    return controlnet


def union_config(path: Path, layers: int) -> dict[str, Any]:
    """Arguments of `ZImageControlNetModel` for a union ControlNet's file.

    Args:
        path: the safetensors file; only its header and one small tensor are read.
        layers: of the transformer that it controls; the control layers sit at even distances among them.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        if "control_all_x_embedder.2-1.weight" not in names:
            raise UserError(f"{path} is no Z-Image union ControlNet (it has no control_all_x_embedder)")
        width, patch = file.get_slice("control_all_x_embedder.2-1.weight").get_shape()
        head = file.get_slice("control_layers.0.attention.norm_q.weight").get_shape()[0]
        first = "control_noise_refiner.0.before_proj.weight"
        refines = first in names and bool((file.get_tensor(first) != 0).any())
    count = len({match.group(1) for name in names if (match := re.match(r"control_layers\.(\d+)\.", name))})
    refiners = len({match.group(1) for name in names if (match := re.match(r"control_noise_refiner\.(\d+)\.", name))})
    return {
        "_class_name": "ZImageControlNetModel",
        "control_layers_places": list(range(0, layers, max(1, layers // count)))[:count],
        "control_refiner_layers_places": list(range(refiners or 2)),
        "control_in_dim": patch // 4,
        # Version 2.0 refines with its first control layers, 2.1 with layers of its own.
        "add_control_noise_refiner": "control_noise_refiner" if refines else "control_layers",
        "dim": width,
        "n_refiner_layers": refiners or 2,
        "n_heads": width // head,
        "n_kv_heads": width // head,
    }
