"""Turns a configuration into concrete models: the only place that imports them."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.config import ComposeConfig
from orchestrator.ports import Models
from runtime.assets import asset_dir, pretrained_dir
from runtime.files import sha256_of
from scene.errors import UserError
from scene.vocabulary import Vocabulary


def load_vocabulary(world: str) -> Vocabulary:
    """Words of a world, from `configs/worlds/<world>.yaml`."""
    path = asset_dir("configs") / "worlds" / f"{world}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise UserError(f"unknown world {world!r}; there are: {', '.join(known)}")
    return Vocabulary.load(path)


def room_weights(config: ComposeConfig, room: str) -> Path:
    """Weight folder of a room: the configured path, else the preset's own."""
    path = getattr(config, room).path
    folder = Path(path) if path else pretrained_dir(config.world) / room
    if not folder.is_dir():
        raise UserError(f"no {room} weights in {folder}; train them (smartscene train {room}) or correct {room}.path")
    return folder


def assemble(config: ComposeConfig) -> Models:
    """Loads planner, masker and inpainter of a configuration.

    Raises:
        UserError: weights or a weight package are missing.
    """
    from masker.smartmask import SmartMask
    from planner.llava_planner import LlavaPlanner, PlannerConfig

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it warns about torchvision, which nothing here needs
    os.environ["HF_HUB_OFFLINE"] = "1"  # embedded presets never touch the network
    from inpainter.controlnet_inpaint import ControlNetInpainter
    from planner.guards import GuardConfig
    from runtime.seeding import set_threads

    set_threads(config.threads)
    vocabulary = load_vocabulary(config.world)
    folders = {room: room_weights(config, room) for room in ("planner", "masker", "inpainter")}
    guards = GuardConfig(max_objects=config.max_objects, max_implied=config.planner.max_implied)
    adapter = Path(config.planner.adapter) if config.planner.adapter else None
    inpainter = ControlNetInpainter.from_pretrained(folders["inpainter"])

    return Models(
        planner=LlavaPlanner.from_pretrained(folders["planner"], adapter, PlannerConfig(guards=guards), vocabulary),
        masker=SmartMask.from_pretrained(folders["masker"]),
        inpainter=inpainter,
        footprint=inpainter.sees,
        vocabulary=vocabulary,
        notice=config.notice,
        weights={
            f"{room}/{path.relative_to(folder)}": sha256_of(path)
            for room, folder in folders.items()
            for path in sorted(folder.rglob("*.safetensors"))
        },
    )
