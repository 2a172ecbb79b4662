"""Where an inpainter's public weights come from; light, so that missing ones are told before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from inpainter.config import DiffusersConfig
from runtime.hub import Source

_CLIP_PARTS = {"scheduler": False, "tokenizer": False, "text_encoder": True, "unet": True, "vae": True}
PARTS = {
    "sd15": _CLIP_PARTS,
    "sdxl": {**_CLIP_PARTS, "tokenizer_2": False, "text_encoder_2": True},
    "zimage": {"scheduler": False, "tokenizer": False, "text_encoder": True, "transformer": True, "vae": True},
}
"""What the base folder of each family holds: subfolder -> whether weights lie in it."""


def sources(path: str, config: DiffusersConfig) -> dict[str, Source]:
    """Where "base", "controlnet" and "lora" (where one is named) come from.

    Args:
        path: hub id or folder of the base weights.
        config: the rest.
    """
    setting = "inpainter.diffusers."
    parts = PARTS[config.family]
    found = {"base": Source("inpainter.path", path, config.revision, config.variant, parts, pin=setting + "revision")}
    own = Path(path).expanduser() / "controlnet"
    named = config.controlnet
    if own.is_dir() and not Path(named).expanduser().is_dir():
        found["controlnet"] = Source(setting + "controlnet", str(own), file=config.controlnet_file)
    else:
        found["controlnet"] = Source(
            setting + "controlnet",
            named,
            config.controlnet_revision,
            config.controlnet_variant,
            file=config.controlnet_file,
            pin=setting + "controlnet_revision",
        )
    if config.lora is not None:
        pin = setting + "lora_revision"
        found["lora"] = Source(setting + "lora", config.lora, config.lora_revision, file=config.lora_file, pin=pin)
    return found
