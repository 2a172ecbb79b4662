"""Tiny checkpoints, made once per test session, and short settings for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sd15/`, `sdxl/`, `zimage/` (each `base/` and `controlnet/`), `llava/`, `llava_next/`, `onevision/`."""
    from tests.presets import checkpoints as write

    folder = tmp_path_factory.mktemp("checkpoints")
    write.write_sd15(folder / "sd15")
    write.write_sdxl(folder / "sdxl")
    write.write_zimage(folder / "zimage")
    write.write_llava(folder / "llava")
    write.write_llava_next(folder / "llava_next")
    write.write_onevision(folder / "onevision")
    return folder


PLANNERS = {"sd15": "llava", "sdxl": "llava", "zimage": "onevision"}


def local_settings(preset: str, checkpoints: Path) -> list[str]:
    """`--set` values that run a preset on tiny local checkpoints: 64-pixel windows, two steps."""
    settings = [
        f"planner.path={checkpoints / PLANNERS[preset]}",
        f"inpainter.path={checkpoints / preset / 'base'}",
        f"inpainter.diffusers.controlnet={checkpoints / preset / 'controlnet'}",
        "inpainter.diffusers.window.resolution_px=64",
        "inpainter.diffusers.sampler.steps=2",
        "planner.llava.max_prompt_tokens=20000",  # their tokenizers cut words into letters
        "hardware.device=cpu",
        "threads=1",
    ]
    if preset == "sdxl":
        settings += ["inpainter.diffusers.variant=null", "inpainter.diffusers.controlnet_variant=null"]
    return settings
