"""Turns a configuration into concrete models: the only place that imports them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config import ComposeConfig
from orchestrator.ports import Models
from runtime.assets import asset_dir, pretrained_dir
from runtime.files import sha256_of
from runtime.hub import Source, absent_message, fetch, present, unpinned_line
from scene.errors import UserError
from scene.vocabulary import Vocabulary

if TYPE_CHECKING:
    from inpainter.controlnet_inpaint import ControlNetInpainter
    from masker.smartmask import SmartMask
    from perception.segmenter import PanopticSegmenter
    from planner.chat import ChatPlanner
    from planner.llava_planner import LlavaPlanner

ROOMS = ("planner", "masker", "inpainter")
SEGMENTER = "segmenter"


def load_vocabulary(world: str) -> Vocabulary:
    """Words of a world, from `configs/worlds/<world>.yaml`."""
    path = asset_dir("configs") / "worlds" / f"{world}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise UserError(f"unknown world {world!r}; there are: {', '.join(known)}")
    return Vocabulary.load(path)


def room_weights(config: ComposeConfig, room: str) -> Path:
    """Weight folder of a room of ours: the configured path, else the preset's own.

    Raises:
        UserError: there is none, or the room runs on public weights.
    """
    if public_sources(config, room):
        raise UserError(
            f"preset {config.preset} runs its {room} on public weights, which have no weight folder of ours; "
            "use preset home or park here"
        )
    path = getattr(config, room).path
    folder = Path(path) if path else pretrained_dir(config.world) / room
    if not folder.is_dir():
        raise UserError(f"no {room} weights in {folder}; train them (smartscene train {room}) or correct {room}.path")
    return folder


def public_sources(config: ComposeConfig, room: str) -> dict[str, Source]:
    """Where the public weights of a room or of `SEGMENTER` come from, by part; empty where its weights are ours."""
    if room == "planner" and config.planner.llava is not None and config.planner.path is not None:
        llava = config.planner.llava
        found = {"model": Source("planner.path", config.planner.path, llava.revision, pin="planner.llava.revision")}
        if config.planner.adapter is not None:
            pin = "planner.llava.adapter_revision"
            found["adapter"] = Source("planner.adapter", config.planner.adapter, llava.adapter_revision, pin=pin)
        return found
    if room == "inpainter" and config.inpainter.diffusers is not None and config.inpainter.path is not None:
        from inpainter.sources import sources

        return sources(config.inpainter.path, config.inpainter.diffusers)
    wanted = config.segmenter
    if room == SEGMENTER and wanted.path is not None:
        return {"model": Source("segmenter.path", wanted.path, wanted.revision, pin="segmenter.revision")}
    return {}


def notices(config: ComposeConfig) -> str:
    """What the user must be told once per run, a line each: licences, and public weights that may change."""
    sources = [source for room in (*ROOMS, SEGMENTER) for source in public_sources(config, room).values()]
    return "\n".join(line for line in (config.notice, unpinned_line(sources, config.preset)) if line)


def public_folders(config: ComposeConfig) -> dict[str, dict[str, Path]]:
    """Folders of all public weights, by room and part, before anything is loaded.

    Raises:
        UserError: some are neither on this machine nor, unless `offline`, to be had; the message names all of them.
    """
    wanted = {room: public_sources(config, room) for room in ROOMS}
    found: dict[str, dict[str, Path]] = {room: {} for room in ROOMS}
    absent = []
    for room, sources in wanted.items():
        for part, source in sources.items():
            folder = present(source)
            if folder is not None:
                found[room][part] = folder
            elif config.offline:
                absent.append(source)
            else:
                found[room][part] = fetch(source)
    if absent:
        raise UserError(absent_message(absent, config.preset))
    return found


def load_segmenter(config: ComposeConfig) -> PanopticSegmenter:
    """The model that says what a photo shows, as `config.segmenter` names it.

    Raises:
        UserError: none is named, or its weights are not here.
    """
    from perception.segmenter import PanopticSegmenter

    wanted = config.segmenter
    if wanted.path is None:
        raise UserError("no segmentation model is named; set segmenter.path to a folder or hub id (docs/photos.md)")
    (source,) = public_sources(config, SEGMENTER).values()
    folder = present(source) if config.offline else fetch(source)
    if folder is None:
        raise UserError(
            f"{wanted.path} is not on this machine; fetch it once with --set offline=false, or name a folder: "
            "--set segmenter.path=DIR"
        )
    return PanopticSegmenter.from_pretrained(folder, device=wanted.device, threshold=wanted.threshold)


def assemble(config: ComposeConfig) -> Models:
    """Loads planner, masker and inpainter of a configuration.

    Raises:
        UserError: weights or a weight package are missing.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it warns about torchvision, which nothing here needs
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    if config.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    public = public_folders(config)
    own = {room: room_weights(config, room) for room in ROOMS if not public[room]}
    vocabulary = load_vocabulary(config.world)

    from runtime.seeding import set_threads

    set_threads(config.threads)
    inpainter = _inpainter(config, public["inpainter"], own)
    planner = _planner(config, public["planner"], own, vocabulary)
    return Models(
        planner=planner,
        read=lambda prompt: planner.reader.read(prompt)[0],
        masker=_masker(config, own["masker"]),
        inpainter=inpainter,
        footprint=inpainter.sees,
        vocabulary=vocabulary,
        notice=notices(config),
        weights=_provenance(config, public, own),
    )


def _planner(
    config: ComposeConfig, public: dict[str, Path], own: dict[str, Path], vocabulary: Vocabulary
) -> LlavaPlanner | ChatPlanner:
    from planner.decoding import PlannerConfig
    from planner.guards import GuardConfig

    settings = config.planner
    guards = GuardConfig(
        max_objects=config.max_objects,
        max_named=config.max_named,
        max_implied=settings.max_implied,
        min_objects=settings.min_objects,
    )
    planning = PlannerConfig(guards=guards, write_boxes=settings.use_box, box_draws=settings.box_draws)
    if settings.llava is not None:
        from planner.chat import ChatPlanner

        _hide_bars()
        return ChatPlanner.from_folder(
            public["model"],
            vocabulary,
            shots=asset_dir("configs") / "planner" / f"shots_{config.world}.yaml",
            chat=settings.llava,
            hardware=config.hardware,
            adapter=public.get("adapter"),
            config=planning,
        )
    from planner.llava_planner import LlavaPlanner

    adapter = Path(config.planner.adapter) if config.planner.adapter else None
    return LlavaPlanner.from_pretrained(own["planner"], adapter, planning, vocabulary)


def _masker(config: ComposeConfig, folder: Path) -> SmartMask:
    from masker.smartmask import SmartMask
    from runtime.hardware import resolve_device

    masker = SmartMask.from_pretrained(folder)
    if masker.config.public is not None:  # small ones are faster where they are
        masker.to(resolve_device(config.hardware))
    return masker


def _inpainter(config: ComposeConfig, public: dict[str, Path], own: dict[str, Path]) -> ControlNetInpainter:
    if config.inpainter.diffusers is not None:
        from inpainter.full_size import load

        _hide_bars()
        return load(public, config.inpainter.diffusers, config.hardware)
    from inpainter.controlnet_inpaint import ControlNetInpainter

    return ControlNetInpainter.from_pretrained(own["inpainter"])


def _hide_bars() -> None:
    """No progress bars of loading weights where nobody watches them move."""
    if not sys.stderr.isatty():
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging

        diffusers_logging.disable_progress_bar()
        transformers_logging.disable_progress_bar()


def _provenance(config: ComposeConfig, public: dict[str, dict[str, Path]], own: dict[str, Path]) -> dict[str, str]:
    """What weights a run depends on: hashes of ours; hub ids with their commit, or folders, of public ones."""
    hashes = {
        f"{room}/{path.relative_to(folder)}": sha256_of(path)
        for room, folder in own.items()
        for path in sorted(folder.rglob("*.safetensors"))
    }
    named = {
        f"{room}/{part}": f"{source.name}@{public[room][part].name}" if source.is_hub_id else source.name
        for room in public
        for part, source in public_sources(config, room).items()
    }
    return hashes | named
