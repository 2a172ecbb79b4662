"""On what and in which precision models of full size run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from runtime.config import Config
from scene.errors import UserError

if TYPE_CHECKING:
    import torch


class HardwareConfig(Config):
    """Device and memory savings; the embedded presets always run on the CPU in float32."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """"auto" = the first GPU that torch sees, else the CPU."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """"auto" = bfloat16 on GPUs that have it, float16 on others, float32 on the CPU."""
    offload: Literal["none", "model", "sequential"] = "none"
    """Keep weights in main memory and bring them to the GPU when needed: whole models (little slower), or layer by
    layer (much slower, least GPU memory)."""
    compile: bool = False
    """`torch.compile` the denoiser: a minute or more at the first picture, faster afterwards; not worth it on CPUs."""
    attention_slicing: bool = False
    """Compute attention in slices: less memory, slower."""
    vae_tiling: bool = False
    """Encode and decode large windows in tiles: less memory."""
    vae_slicing: bool = False
    """Encode and decode a batch one picture at a time: less memory."""


def resolve_device(config: HardwareConfig) -> torch.device:
    """The device that a configuration means on this machine.

    Raises:
        UserError: it names a device that torch does not see, or offloading without a GPU.
    """
    import torch

    if config.device == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    else:
        name = config.device
    device = torch.device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(
            f"hardware.device is {name!r}, but torch sees {count} CUDA devices; use --set hardware.device=cpu, or "
            "install a torch build for this GPU"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("hardware.device is 'mps', which this machine does not have; use --set hardware.device=cpu")
    if device.type == "cpu" and config.offload != "none":
        raise UserError(
            f"hardware.offload is {config.offload!r}, but models run on the CPU here; use --set hardware.offload=none"
        )
    return device


def resolve_dtype(config: HardwareConfig, device: torch.device) -> torch.dtype:
    """The precision of weights and activations."""
    import torch

    if config.dtype != "auto":
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[config.dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.float16 if device.type == "mps" else torch.float32


def place_pipeline(pipeline: Any, config: HardwareConfig, device: torch.device) -> None:
    """Moves a diffusers pipeline to its device and switches savings on, in place."""
    if config.attention_slicing:
        pipeline.enable_attention_slicing()
    if config.vae_tiling:
        pipeline.vae.enable_tiling()
    if config.vae_slicing:
        pipeline.vae.enable_slicing()
    if config.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif config.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if config.compile:
        for name in ("unet", "transformer", "controlnet"):
            network = getattr(pipeline, name, None)
            if network is not None:
                network.compile()


def refuse_plugins() -> None:
    """Models are cut up in one way only, `runtime.training`'s own: a launcher must not bring another.

    Raises:
        UserError: `accelerate launch` was told to use FSDP, DeepSpeed or Megatron-LM.
    """
    for plugin in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{plugin}", "").lower() in ("1", "true", "yes"):
            raise UserError(
                f"launched with accelerate's {plugin} plugin; launch with --config_file configs/accelerate/gpus.yaml, "
                "and cut the model up with --set fit.shard=true (FSDP 2)"
            )
