"""The run folder: every file written atomically; a step exists once its `step.json` does. See docs/run-folder.md."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from orchestrator.history import History, StepRecord
from orchestrator.pictures import strip_picture
from runtime.files import write_atomic, write_json
from scene.errors import UserError
from scene.geometry import Size
from scene.graph import graph_to_json, scene_graph
from scene.guidance import Guidance
from scene.layers import Layer, LayeredScene
from scene.layout import layout_picture

RUN_SCHEMA_VERSION = 2  # 2 adds by, behind, order, context and seed to steps; 1 still opens
READABLE_SCHEMAS = (1, 2)
SCENE_SCHEMA_VERSION = 1


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Writes uint8 (H, W), (H, W, 3) or (H, W, 4), or bool (H, W) as 0/255, atomically."""
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    write_atomic(path, lambda temporary: picture.save(temporary, format="PNG"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({str(error)[:80]}); restore it or start a new run") from None
    if not isinstance(data, dict) or data.get("schema_version") not in READABLE_SCHEMAS:
        found = data.get("schema_version") if isinstance(data, dict) else None
        raise UserError(f"{path} has schema {found}, need 1 to {RUN_SCHEMA_VERSION}; use a matching smartscene")
    return data


class RunFolder:
    """A run on disk. Use `create` or `open`; `close` gives the lock back."""

    def __init__(self, path: Path, facts: dict[str, Any], history: History, lock: IO[bytes] | None) -> None:
        self.path, self.facts, self.history, self._lock = path, facts, history, lock
        self.size = Size(*facts["size"])

    @staticmethod
    def check_free(path: Path) -> None:
        """Raises UserError unless a run can be made at `path` (absent or an empty folder, on a writable disk)."""
        if path.is_dir() and any(path.iterdir()):
            raise UserError(f"{path} is not empty and holds no run of this prompt; choose another --out")
        probe = path if path.is_dir() else next(parent for parent in path.absolute().parents if parent.exists())
        if not probe.is_dir() or (path.exists() and not path.is_dir()):
            raise UserError(f"cannot make a folder at {path}: {probe} is a file; choose another --out")
        try:
            test = probe / ".smartscene-write-test"
            test.touch()
            test.unlink()
        except OSError as error:
            raise UserError(f"cannot write to {probe} ({error.strerror}); choose another --out") from None

    @classmethod
    def create(cls, path: Path, facts: Mapping[str, Any]) -> RunFolder:
        """Makes a new run; `facts` goes into `run.json` and must hold prompt, seed, size and config."""
        cls.check_free(path)
        (path / "steps").mkdir(parents=True)
        lock = _lock(path)
        complete = {"schema_version": RUN_SCHEMA_VERSION, **facts}
        write_json(path / "run.json", complete)
        return cls(path, complete, History(), lock)

    @classmethod
    def open(cls, path: Path, *, write: bool = True) -> RunFolder:
        """Opens a run; with `write`, takes its lock and clears half-written steps away.

        Raises:
            UserError: no run there, broken files, or another process works on it.
        """
        if not (path / "run.json").is_file():
            raise UserError(f"no run in {path} (run.json is missing); name a folder that smartscene generate made")
        facts = _read_json(path / "run.json")
        if not {"prompt", "seed", "size", "config"} <= facts.keys():
            raise UserError(f"{path / 'run.json'} lacks prompt, seed, size or config; restore it or start a new run")
        lock = _lock(path) if write else None
        steps: dict[int, StepRecord] = {}
        for folder in sorted((path / "steps").glob("[0-9]*")):
            if not (folder / "step.json").is_file():
                if write:
                    shutil.rmtree(folder)  # the step under way when the process died
                continue
            data = _read_json(folder / "step.json")
            del data["schema_version"]
            try:
                steps[int(folder.name)] = StepRecord.from_json(data)
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{folder / 'step.json'} is broken ({error}); restore it or start a new run") from None
        return cls(path, facts, History(steps, cls._head(path, steps)), lock)

    @staticmethod
    def _head(path: Path, steps: Mapping[int, StepRecord]) -> int:
        """The stored head, moved on to a step that was written just before a crash could store it."""
        head = int(_read_json(path / "history.json")["head"]) if (path / "history.json").exists() else 0
        newest = max(steps, default=0)
        if newest and steps[newest].parent == head:
            known = _read_json(path / "history.json")["steps"] if (path / "history.json").exists() else []
            if newest not in [node["id"] for node in known]:
                return newest
        return head

    def close(self) -> None:
        """Gives the lock back."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def step_dir(self, index: int) -> Path:
        """Folder of a step."""
        return self.path / "steps" / f"{index:04d}"

    def add_step(self, step: StepRecord, pictures: Mapping[str, np.ndarray]) -> None:
        """Writes a step's pictures, then its `step.json`, then the new head."""
        folder = self.step_dir(step.index)
        folder.mkdir()
        for name, pixels in pictures.items():
            save_png(folder / f"{name}.png", pixels)
        write_json(folder / "step.json", {"schema_version": RUN_SCHEMA_VERSION, **step.to_json()})
        self.set_history(self.history.add(step))

    def set_history(self, history: History) -> None:
        """Stores the tree and its head."""
        self.history = history
        nodes = [{"id": s.index, "parent": s.parent, "outcome": s.outcome} for s in history.steps.values()]
        write_json(
            self.path / "history.json", {"schema_version": RUN_SCHEMA_VERSION, "head": history.head, "steps": nodes}
        )

    def picture(self, index: int, name: str, mode: str) -> np.ndarray:
        """Reads a PNG of a step in a PIL mode.

        Raises:
            UserError: missing, unreadable, or of another size than the canvas.
        """
        path = self.step_dir(index) / f"{name}.png"
        try:
            with Image.open(path, formats=["PNG"]) as picture:
                if picture.size != tuple(self.size):
                    raise UserError(f"{path} is {picture.size}, the canvas is {tuple(self.size)}; restore the file")
                return np.asarray(picture.convert(mode))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({str(error)[:80]}); restore it or start a new run") from None

    def scene(self) -> LayeredScene:
        """The scene at the head, rebuilt from the steps.

        Raises:
            UserError: a picture is missing or broken, or a step names layers that are not there.
        """
        scene = LayeredScene(self.size, self.facts["prompt"])
        for step in self.history.path():
            try:
                scene = self._replay(scene, step)
            except (KeyError, ValueError) as error:
                path = self.step_dir(step.index) / "step.json"
                raise UserError(f"{path} is broken ({error}); restore it or start a new run") from None
        return scene

    def _replay(self, scene: LayeredScene, step: StepRecord) -> LayeredScene:
        if step.outcome == "reordered":
            return scene.reordered(step.order)
        if step.outcome != "placed" or step.proposal is None:
            return scene
        mask = self.picture(step.index, "amodal", "L") > 0
        rgba = self.picture(step.index, "layer", "RGBA")
        label, description = step.proposal.label, step.proposal.description
        return scene.with_layer(Layer(step.index, label, description, mask, rgba, {"step": step.index}), step.behind)

    def guidance(self, step: StepRecord) -> Guidance | None:
        """The guide that a step was given, as it was given.

        Raises:
            UserError: its record or its drawing is broken.
        """
        if step.guidance is None:
            return None
        drawn = self.picture(step.index, "guide", "L") > 0 if step.guidance["kind"] == "scribble" else None
        try:
            return Guidance.from_json(step.guidance, self.size, drawn)
        except (KeyError, TypeError, ValueError) as error:
            path = self.step_dir(step.index) / "step.json"
            raise UserError(f"{path} is broken ({error}); restore it or start a new run") from None

    def write_products(self, scene: LayeredScene) -> None:
        """Writes final.png, layout.png, strip.png, scene.json and layers/ for the head."""
        save_png(self.path / "final.png", scene.image)
        save_png(self.path / "layout.png", layout_picture(scene.layout))
        shown = [step for step in self.history.path() if step.outcome in ("placed", "reordered")]
        frames = [
            (step, self.picture(step.index, "image", "RGB"), self.picture(step.index, "layout", "RGB"))
            for step in shown
        ]
        save_png(self.path / "strip.png", strip_picture(frames, self.size))
        folder = self.path / "layers"
        folder.mkdir(exist_ok=True)
        entries, names = [], set()
        for order, layer in enumerate(scene.layers):
            slug = re.sub(r"[^a-z0-9]+", "-", layer.label.lower()).strip("-") or "object"
            name = f"{order + 1:02d}-{slug}.png"
            names.add(name)
            if layer.rgba is not None:
                save_png(folder / name, layer.rgba)
            box = layer.box
            entries.append(
                {
                    "id": layer.id,
                    "label": layer.label,
                    "description": layer.description,
                    "step": layer.id,
                    "box": list(box) if box else None,
                    "mask": f"steps/{layer.id:04d}/amodal.png",
                    "rgba": f"layers/{name}",
                }
            )
        for old in folder.glob("*.png"):
            if old.name not in names:
                old.unlink()
        write_json(
            self.path / "scene.json",
            {
                "schema_version": SCENE_SCHEMA_VERSION,
                "size": list(scene.size),
                "prompt": scene.prompt,
                "head": self.history.head,
                "layers": entries,
                "graph": graph_to_json(scene_graph(scene)),
            },
        )


def _lock(path: Path) -> IO[bytes]:
    """An advisory lock that ends with the process, however it ends."""
    try:
        file = (path / ".lock").open("wb")
    except OSError as error:
        raise UserError(f"cannot write to {path} ({error.strerror}); make it writable") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UserError(f"another process works on {path}; wait for it or end it") from None
    return file
