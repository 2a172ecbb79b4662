"""What the page sees of a run folder: read like the command line reads it, without its lock; kept until it changes."""

from __future__ import annotations

import io
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orchestrator.asked import live_graph, verdicts
from orchestrator.graph_picture import shown_edges
from orchestrator.history import StepRecord
from orchestrator.lock import Holder
from orchestrator.products import SHOWN
from orchestrator.run_folder import RunFolder
from orchestrator.studio.library import changed
from orchestrator.tree import tree_json
from runtime.files import write_json
from scene.errors import UserError
from scene.layers import LayeredScene
from scene.vocabulary import Vocabulary

READ_AGAIN_S = (0.02, 0.1, 0.3)
MAX_VIEWS, MAX_GLANCES, MAX_SCENES, MAX_THUMBNAILS = 8, 256, 128, 512
MAX_THUMBNAIL_PX = 640
FLAGS = "studio.json"


def opened(path: Path) -> RunFolder:
    """A run to read that someone may be writing meanwhile: what seems broken half-way through a step is read again.

    Raises:
        UserError: the folder is broken.
    """
    for patience_s in READ_AGAIN_S:
        try:
            return RunFolder.open(path, write=False)
        except UserError:
            time.sleep(patience_s)
    return RunFolder.open(path, write=False)


class Views:
    """Looks at runs; everything is cached and bounded."""

    def __init__(self) -> None:
        self._views: OrderedDict[Path, tuple[int, dict[str, Any]]] = OrderedDict()
        self._glances: OrderedDict[tuple[Path, int], dict[str, Any]] = OrderedDict()
        self._scenes: OrderedDict[tuple[Path, int, int], dict[str, Any]] = OrderedDict()
        self._thumbnails: OrderedDict[tuple[str, int, int, bool], bytes] = OrderedDict()

    def look(self, name: str, path: Path) -> dict[str, Any]:
        """What run `name` in `path` holds, JSON-ready.

        Raises:
            UserError: the folder is broken.
        """
        stamp = changed(path)
        known = self._views.get(path)
        if known is None or known[0] != stamp:
            view = self._read(name, path)
            self._views[path] = known = (stamp, view)
            _shrink(self._views, MAX_VIEWS)
        self._views.move_to_end(path)
        return known[1]

    def glance(self, name: str, path: Path) -> dict[str, Any]:
        """What the list of runs shows of one; no picture is read.

        Raises:
            UserError: the folder is broken.
        """
        key = (path, changed(path))
        if key not in self._glances:
            folder = opened(path)
            facts, steps = folder.facts, folder.history.path()
            parts = len(folder.photo.ids) if folder.photo else 0
            layers = parts + sum((step.outcome == "placed") - len(step.removed) for step in steps)
            urls = _Urls(name, (path / "run.json").stat().st_mtime_ns)
            shown = [step for step in steps if step.outcome in SHOWN and step.files]
            picture = urls.shown(shown[-1]) if shown else urls.photo("canvas") if folder.photo else None
            self._glances[key] = {
                "name": name,
                "prompt": facts["prompt"],
                "seed": int(facts["seed"]),
                "finished": folder.history.finished,
                "layers": layers,
                "picture": picture,
            }
            _shrink(self._glances, MAX_GLANCES)
        self._glances.move_to_end(key)
        return self._glances[key]

    def _read(self, name: str, path: Path) -> dict[str, Any]:
        folder = opened(path)
        history, facts = folder.history, folder.facts
        born = (path / "run.json").stat().st_mtime_ns
        urls = _Urls(name, born)
        steps = history.steps
        tree = tree_json(history)
        start = urls.photo("canvas") if folder.photo else None
        shown: dict[int, str | None] = {0: start}
        for entry in tree["steps"]:
            step = steps[entry["id"]]
            own = step.outcome in SHOWN and bool(step.files)
            shown[step.index] = urls.shown(step) if own else shown.get(step.parent, start)
            entry |= {"picture": shown[step.index], **_facts(step)}
        placed = [sum(step.timings.values()) for step in history.path() if step.outcome == "placed"]
        return {
            "name": name,
            "version": f"{born:x}-{changed(path):x}",
            "prompt": facts["prompt"],
            "seed": int(facts["seed"]),
            "size": list(folder.size),
            "preset": facts["config"].get("preset", ""),
            "mode": facts["config"].get("mode", "per-object"),
            "notice": facts.get("notice", ""),
            "unknown": list(facts.get("unknown", [])),
            "starting": False,
            "finished": history.finished,
            "picture": shown.get(history.head),
            "ground": start,
            "full": urls.photo("full", changed(path)) if folder.photo else None,
            "parts": sorted(folder.photo.ids) if folder.photo else [],
            "tree": tree,
            "step_seconds": round(statistics.median(placed), 1) if placed else None,
            "next_id": history.next_id,
            **self._scene(folder, urls, born),
        }

    def _scene(self, folder: RunFolder, urls: _Urls, born: int) -> dict[str, Any]:
        key = (folder.path, born, folder.history.head)
        if key not in self._scenes:
            vocabulary = folder.vocabulary()
            try:
                self._scenes[key] = _scene(folder.scene(), vocabulary, urls) | {"problem": ""}
            except UserError as error:  # a picture is broken: the tree is what helps now
                return _scene(LayeredScene(folder.size, folder.facts["prompt"]), vocabulary, urls) | {
                    "problem": str(error)
                }
            _shrink(self._scenes, MAX_SCENES)
        self._scenes.move_to_end(key)
        return self._scenes[key]

    def part(self, canvas: Path, mask: Path, width: int, cut: bool) -> bytes:
        """A part of a photo as PNG: what its mask leaves of the canvas; see `thumbnail`."""
        key = (str(mask), mask.stat().st_mtime_ns, width, cut)

        def make() -> Image.Image:
            with Image.open(canvas, formats=["PNG"]) as picture, Image.open(mask, formats=["PNG"]) as inside:
                made: Image.Image = picture.convert("RGBA")
                made.putalpha(inside.convert("L").point(lambda value: 255 if value else 0))
                return made

        return self._small(key, make, width, cut)

    def thumbnail(self, path: Path, width: int, cut: bool) -> bytes:
        """A picture as PNG, at most `width` pixels wide; `cut` to what is opaque."""

        def make() -> Image.Image:
            with Image.open(path, formats=["PNG"]) as picture:
                return picture.copy()

        return self._small((str(path), path.stat().st_mtime_ns, width, cut), make, width, cut)

    def _small(self, key: tuple[str, int, int, bool], make: Callable[[], Image.Image], width: int, cut: bool) -> bytes:
        if key not in self._thumbnails:
            small = make()
            if cut and small.mode == "RGBA" and (box := small.getchannel("A").getbbox()):
                small = small.crop(box)
            small.thumbnail((width, 2 * width), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            small.save(buffer, format="PNG")
            self._thumbnails[key] = buffer.getvalue()
            _shrink(self._thumbnails, MAX_THUMBNAILS)
        self._thumbnails.move_to_end(key)
        return self._thumbnails[key]


class _Urls:
    """Where the page finds pictures. Steps never change, so their addresses carry when the run was born."""

    def __init__(self, name: str, born: int) -> None:
        self._name, self._born = name, born

    def picture(self, step: int, name: str) -> str:
        return f"/api/runs/{self._name}/steps/{step}/{name}.png?v={self._born:x}"

    def shown(self, step: StepRecord) -> str:
        """What a step looks like: the picture after it, or the layout where nothing was drawn."""
        return self.picture(step.index, "image" if "image" in step.files else "layout")

    def photo(self, name: str, stamp: int | None = None) -> str:
        return f"/api/runs/{self._name}/photo/{name}.png?v={stamp or self._born:x}"

    def layer(self, mask: str, name: str) -> str:
        """`mask` is a layer's mask in the run folder ("steps/0009/amodal-3.png"); its pixels lie beside it.

        The mask of a part of a photo is "photo/mask-03.png"; its pixels are cut from the canvas.
        """
        if mask.startswith("photo/"):
            file = Path(mask).stem
            return self.photo(file if name == "amodal" else file.replace("mask", "part"))
        _, step, file = Path(mask).parts
        return self.picture(int(step), name + file.removeprefix("amodal").removesuffix(".png"))


def _facts(step: StepRecord) -> dict[str, Any]:
    proposal, chosen = step.proposal, step.chosen
    score = step.candidates[chosen].get("score") if chosen is not None and chosen < len(step.candidates) else None
    return {
        "reason": step.reason or (proposal.reason if proposal else ""),
        "confidence": proposal.confidence if proposal else None,
        "label": proposal.label if proposal else "",
        "score": score,
        "seconds": round(sum(step.timings.values()), 2),
    }


def _scene(scene: LayeredScene, vocabulary: Vocabulary, urls: _Urls) -> dict[str, Any]:
    layers = []
    for layer, visible in zip(scene.layers, scene.visible_masks(), strict=True):
        mask = str(layer.provenance.get("mask", f"steps/{layer.id:04d}/amodal.png"))
        layers.append(
            {
                "id": layer.id,
                "label": layer.label,
                "description": layer.description,
                "box": list(layer.box) if layer.box else None,
                "pixels": urls.layer(mask, "layer") if layer.rgba is not None else None,
                "mask": urls.layer(mask, "amodal"),
                "visible": round(float(visible.sum() / max(1, np.count_nonzero(layer.mask))), 3),
            }
        )
    edges = [
        {"first": first, "second": second, "relation": relation, "holds": facts.get("holds")}
        for first, second, relation, facts in shown_edges(live_graph(scene, vocabulary))
    ]
    there = [layer.label for layer in scene.layers]
    wanted = [
        {"label": label, "count": count, "placed": there.count(label)}
        for label, count in vocabulary.counts(scene.prompt).items()
    ]
    return {"layers": layers, "edges": edges, "relations": verdicts(scene, vocabulary), "wanted": wanted}


def read_flags(path: Path) -> dict[str, list[int]]:
    """Layers hidden and locked on the page, as the run folder keeps them; a broken file counts as none."""
    import json

    try:
        data = json.loads((path / FLAGS).read_text(encoding="utf-8"))
        return {name: [int(id) for id in data[name]] for name in ("hidden", "locked")}
    except (OSError, ValueError, KeyError, TypeError):
        return {"hidden": [], "locked": []}


def write_flags(path: Path, flags: Mapping[str, list[int]]) -> None:
    """Keeps them."""
    from orchestrator.disk import told_clearly

    with told_clearly(path):
        write_json(path / FLAGS, {name: sorted(set(flags[name])) for name in ("hidden", "locked")})


def holder_of(path: Path, own: set[int | None]) -> str:
    """Which other program works on the run, "" = none; `own` are process numbers of the studio."""
    holder = Holder.of(path)
    return "" if holder is None or holder.pid in own else f"{holder.command} (process {holder.pid})"


def _shrink(cache: OrderedDict[Any, Any], limit: int) -> None:
    while len(cache) > limit:
        cache.popitem(last=False)
