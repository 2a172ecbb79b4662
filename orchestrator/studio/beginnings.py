"""How a run begins in the studio: checked at once, made by the worker; until its folder exists its view is made up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.starting import default_out, prepare

if TYPE_CHECKING:
    from orchestrator.studio.desk import Studio


async def begin(studio: Studio, settings: Mapping[str, Any], auto: bool) -> tuple[str, int]:
    """A new run of a prompt: its name, and the number of the job that makes it.

    Args:
        studio: where.
        settings: those of `orchestrator.starting.prepare`.
        auto: it runs to the end by itself.

    Raises:
        UserError: anything that cannot be used.
    """
    name = studio.reserve(default_out(settings["prompt"], settings["seed"]).name)
    try:
        path = studio.library.root / name
        order = await asyncio.to_thread(prepare, out=path, **settings)
    except BaseException:
        studio.release(name)
        raise
    view = _not_yet(name, order.prompt, settings["seed"], list(order.config.size), order.config)
    return name, studio.start(name, view, auto, {"run": str(path), "settings": dict(settings)})


async def begin_photo(studio: Studio, asked: Mapping[str, Any]) -> tuple[str, int]:
    """A new run with a photo as its starting scene: its name, and the number of the job that makes it.

    Args:
        studio: where.
        asked: the fields of `orders.NewPhoto`.

    Raises:
        UserError: a picture that is not there, or a map that does not fit.
    """
    from orchestrator.cli_photo import order_photo

    photo, seed = studio.uploads.get(asked["photo"]), asked["seed"]
    name = studio.reserve(default_out(asked["caption"] or "photo", seed).name)
    try:
        path = studio.library.root / name
        settings = {"panoptic": _map(studio, asked), "preset": asked["preset"], "seed": seed}
        settings |= {"context": asked["caption"]}
        order = await asyncio.to_thread(order_photo, photo.original, out=path, config=None, overrides=(), **settings)
    except BaseException:
        studio.release(name)
        raise
    view = _not_yet(name, order.prompt, seed, list(order.start.canvas), order.config)
    body = {"run": str(path), "photo": str(photo.original), "settings": settings}
    return name, studio.start(name, view, False, body)


def _map(studio: Studio, asked: Mapping[str, Any]) -> str:
    from orchestrator.cli_photo import NO_MAP

    if asked["panoptic"] is None:
        return NO_MAP
    picture = studio.uploads.get(asked["panoptic"])
    segments: Path = studio.uploads.beside(picture, json.dumps(asked["segments"]))
    return f"{picture.path},{segments}"


def _not_yet(name: str, prompt: str, seed: int, size: list[int], config: Any) -> dict[str, Any]:
    """The view of a run whose folder does not exist yet."""
    tree = {"head": 0, "branch": "main", "branches": {"main": 0}, "redo": [], "steps": []}
    known = {"name": name, "version": "0", "prompt": prompt, "seed": seed, "size": size, "tree": tree}
    known |= {"preset": config.preset, "mode": config.mode, "notice": config.notice, "problem": ""}
    known |= {"starting": True, "finished": False}
    known |= dict.fromkeys(("picture", "ground", "full", "step_seconds"))
    return known | {key: [] for key in ("parts", "layers", "relations", "edges", "wanted", "unknown")}
