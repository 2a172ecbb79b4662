"""The run folder: every file written atomically; a step exists once its `step.json` does. See docs/run-folder.md."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orchestrator.disk import digest, png_bytes, save_png, told_clearly
from orchestrator.history import MAIN, ROOT, History, StepRecord
from orchestrator.lock import LOCK, Lock
from orchestrator.migrations import RUN_SCHEMA_VERSION, read_json
from orchestrator.photograph import FOLDER as PHOTO_FOLDER
from orchestrator.photograph import KeptPhoto
from runtime.files import write_bytes, write_json
from scene.errors import UserError
from scene.geometry import Size
from scene.guidance import Guidance
from scene.layers import Layer, LayeredScene
from scene.layout import layout_picture
from scene.vocabulary import Vocabulary

LOST_HISTORY = "delete it, and the run goes on from its newest step (names of branches are lost)"


class RunFolder:
    """A run on disk. Use `create` or `open`; `close` gives the lock back."""

    def __init__(self, path: Path, facts: dict[str, Any], history: History, lock: Lock | None) -> None:
        self.path, self.facts, self.history, self._lock = path, facts, history, lock
        self.size = Size(*facts["size"])
        self.photo = KeptPhoto(path, facts["photo"]) if facts.get("photo") else None
        if self.photo:
            self.history = replace(history, reserved=max(self.photo.ids, default=ROOT))

    @property
    def writable(self) -> bool:
        """It was opened for writing and still holds its lock."""
        return self._lock is not None

    @staticmethod
    def check_free(path: Path) -> None:
        """Raises UserError unless a run can be made at `path` (absent or an empty folder, on a writable disk)."""
        if path.is_dir() and not _is_bare(path):
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
    def create(cls, path: Path, facts: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> RunFolder:
        """Makes a new run; `facts` goes into `run.json` and must hold prompt, seed, size and config.

        Args:
            path: where.
            facts: for `run.json`.
            files: written before it, by path within the run.
        """
        cls.check_free(path)
        with told_clearly(path):
            (path / "steps").mkdir(parents=True, exist_ok=True)
        lock = Lock.take(path)
        complete = {"schema_version": RUN_SCHEMA_VERSION, **facts}
        try:
            with told_clearly(path):
                _sweep(path)
                for name, data in (files or {}).items():
                    (path / name).parent.mkdir(exist_ok=True)
                    write_bytes(path / name, data)
                write_json(path / "run.json", complete)
        except BaseException:
            lock.close()
            raise
        return cls(path, complete, History(), lock)

    @classmethod
    def open(cls, path: Path, *, write: bool = True) -> RunFolder:
        """Opens a run; with `write`, takes its lock and clears half-written steps away.

        Raises:
            UserError: no run there, broken files, or another process works on it.
        """
        if not (path / "run.json").is_file():
            raise UserError(f"no run in {path} (run.json is missing); name a folder that smartscene generate made")
        facts = read_json(path / "run.json", "run")
        if not {"prompt", "seed", "size", "config"} <= facts.keys():
            raise UserError(f"{path / 'run.json'} lacks prompt, seed, size or config; restore it or start a new run")
        lock = Lock.take(path) if write else None
        try:
            if write:
                with told_clearly(path):
                    _sweep(path)
            steps = _read_steps(path)
            return cls(path, facts, _read_history(path, steps), lock)
        except BaseException:
            if lock:
                lock.close()
            raise

    def close(self) -> None:
        """Gives the lock back."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def vocabulary(self) -> Vocabulary:
        """The words of the run's world, without loading a model."""
        from orchestrator.assemble import load_vocabulary

        try:
            return load_vocabulary(self.facts["config"]["world"])
        except (KeyError, TypeError):
            raise UserError(f"{self.path / 'run.json'} lacks config.world; restore it") from None

    def step_dir(self, index: int) -> Path:
        """Folder of a step."""
        return self.path / "steps" / f"{index:04d}"

    def add_step(self, step: StepRecord, pictures: Mapping[str, np.ndarray]) -> StepRecord:
        """Writes a step's pictures, then its `step.json`, then the new head; returns the step with its `files`."""
        folder = self.step_dir(step.index)
        with told_clearly(self.path):
            if folder.exists():
                shutil.rmtree(folder)  # what an attempt that ran out of disk space left
            folder.mkdir()
            files = {name: save_png(folder / f"{name}.png", pixels) for name, pixels in pictures.items()}
            step = replace(step, files=files)
            write_json(folder / "step.json", {"schema_version": RUN_SCHEMA_VERSION, **step.to_json()})
        self.history = self.history.add(step)  # from here on the step exists, whatever happens to history.json
        self.set_history(self.history)
        return step

    def set_history(self, history: History) -> None:
        """Stores the tree and its head."""
        nodes = [{"id": s.index, "parent": s.parent, "outcome": s.outcome} for s in history.steps.values()]
        data = {"schema_version": RUN_SCHEMA_VERSION, "head": history.head, "branch": history.branch}
        data |= {"branches": dict(history.branches), "trail": list(history.trail), "steps": nodes}
        with told_clearly(self.path):
            write_json(self.path / "history.json", data)
        self.history = history

    def picture(self, index: int, name: str, mode: str) -> np.ndarray:
        """Reads a PNG of a step in a PIL mode; one that is lost or was changed is made again from what it came from.

        Raises:
            UserError: missing, unreadable, not what was written, or of another size than the canvas; and it cannot be
                made again.
        """
        path = self.step_dir(index) / f"{name}.png"
        wanted = self.history.steps[index].files.get(name, "")
        try:
            return self._read(path, wanted, mode)
        except UserError:
            data = self._again(index, name) if wanted else None
            if data is None:
                raise
        if self.writable:
            with told_clearly(self.path):
                write_bytes(path, data)
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert(mode))

    def shown(self, step: StepRecord) -> np.ndarray:
        """What a step looks like, uint8 (H, W, 3): the picture after it, or the layout where nothing was drawn."""
        name = "layout" if step.files and "image" not in step.files else "image"
        return self.picture(step.index, name, "RGB")

    def _read(self, path: Path, wanted: str, mode: str) -> np.ndarray:
        parent = self.history.steps[int(path.parent.name)].parent
        remedy = f"restore it, or go on from before that step: smartscene branch {self.path} {parent}"
        try:
            data = path.read_bytes()
            if wanted and digest(data) != wanted:
                raise UserError(f"{path} cannot be read (it is not what was written: its sha256 differs); {remedy}")
            with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
                if picture.size != tuple(self.size):
                    raise UserError(f"{path} is {picture.size}, the canvas is {tuple(self.size)}; {remedy}")
                return np.asarray(picture.convert(mode))
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{path} cannot be read ({str(error)[:80]}); {remedy}") from None

    def _again(self, index: int, name: str) -> bytes | None:
        """The bytes of a lost picture, made from the step's other pictures or its scene; None if they do not serve."""
        step = self.history.steps[index]
        folder = self.step_dir(index)
        kind, _, layer = name.partition("-")
        other = f"-{layer}" if layer else ""
        try:
            if kind == "amodal":
                rgba = self._read(folder / f"layer{other}.png", step.files[f"layer{other}"], "RGBA")
                pixels = rgba[..., 3] > 0
            elif name == "layer":
                image = self._read(folder / "image.png", step.files["image"], "RGB")
                mask = self._read(folder / "amodal.png", step.files["amodal"], "L") > 0
                pixels = np.dstack([image * mask[..., None], mask.astype(np.uint8) * 255])
            elif name in ("image", "layout"):
                scene = self.scene(index)
                pixels = scene.image if name == "image" else layout_picture(scene.layout)
            else:
                return None
        except (UserError, KeyError):
            return None
        data = png_bytes(pixels)
        return data if digest(data) == step.files[name] else None

    @cached_property
    def start(self) -> LayeredScene:
        """What the run starts from: an empty canvas, or a photo and its parts."""
        prompt = self.facts["prompt"]
        return self.photo.scene(self.size, prompt) if self.photo else LayeredScene(self.size, prompt)

    def scene(self, to: int | None = None) -> LayeredScene:
        """The scene at a step (default: the head), rebuilt from the steps.

        Raises:
            UserError: a picture is missing or broken, or a step names layers that are not there.
        """
        scene = self.start
        for step in self.history.path(to):
            try:
                scene = self._replay(scene, step)
            except (KeyError, ValueError) as error:
                path = self.step_dir(step.index) / "step.json"
                raise UserError(f"{path} is broken ({error}); restore it or start a new run") from None
        return scene

    def _replay(self, scene: LayeredScene, step: StepRecord) -> LayeredScene:
        if step.outcome == "reordered":
            return scene.reordered(step.order)
        if step.outcome in ("edited", "drawn"):
            for id in step.removed:
                scene = scene.without(id)
            for change in step.changes:
                id = int(change["layer"])
                provenance = {"step": step.index, "mask": f"steps/{step.index:04d}/amodal-{id}.png"}
                mask = self.picture(step.index, f"amodal-{id}", "L") > 0
                rgba = self.picture(step.index, f"layer-{id}", "RGBA")
                scene = scene.with_changed(Layer(id, change["label"], change["description"], mask, rgba, provenance))
            return scene
        if step.outcome != "placed" or step.proposal is None:
            return scene
        mask = self.picture(step.index, "amodal", "L") > 0
        laid_only = bool(step.files) and "layer" not in step.files  # layout-first: pixels come with a drawn step
        pixels = None if laid_only else self.picture(step.index, "layer", "RGBA")
        label, description = step.proposal.label, step.proposal.description
        return scene.with_layer(Layer(step.index, label, description, mask, pixels, {"step": step.index}), step.behind)

    def keys(self) -> dict[int, str]:
        """Of each layer at the head, the content address of its pixels; "" where a person changed them."""
        found: dict[int, str] = {}
        for step in self.history.path():
            if step.outcome == "placed":
                found[step.index] = step.key
            found |= {int(change["layer"]): str(change["key"]) for change in step.changes}
        return found

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


def _is_bare(path: Path) -> bool:
    """Empty, but for what a start that was killed before run.json leaves."""
    for item in path.iterdir():
        bare_steps = item.name == "steps" and item.is_dir() and not any(item.iterdir())
        bare_steps |= item.name == PHOTO_FOLDER and item.is_dir() and (path / LOCK).exists()
        if not (item.name == LOCK or bare_steps or (item.name.startswith(".run.json.") and item.suffix == ".tmp")):
            return False
    return True


def _sweep(path: Path) -> None:
    """Clears away what a process that died left: steps without step.json, temporary files."""
    for folder in sorted((path / "steps").glob("[0-9]*")):
        if not (folder / "step.json").is_file():
            shutil.rmtree(folder)
    for left in (*path.glob(".*.tmp"), *path.glob("*/.*.tmp"), *path.glob("steps/*/.*.tmp")):
        left.unlink()


def _read_steps(path: Path) -> dict[int, StepRecord]:
    steps: dict[int, StepRecord] = {}
    for folder in sorted((path / "steps").glob("[0-9]*")):
        if not (folder / "step.json").is_file():
            continue
        remedy = f"restore it, or remove {folder} and what was built on it"
        data = read_json(folder / "step.json", "step", remedy)
        del data["schema_version"]
        try:
            steps[int(folder.name)] = StepRecord.from_json(data)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder / 'step.json'} is broken ({error}); {remedy}") from None
    return steps


def _read_history(path: Path, steps: dict[int, StepRecord]) -> History:
    """The stored tree, moved on to a step that was written just before a crash could store it."""
    file = path / "history.json"
    newest = max(steps, default=ROOT)
    if not file.exists():
        return History(steps, newest, {MAIN: newest})
    data = read_json(file, "history", LOST_HISTORY)
    try:
        known = {int(node["id"]) for node in data["steps"]}
        history = History(
            {index: step for index, step in steps.items() if index in known or index != newest},
            int(data["head"]),
            {str(name): int(step) for name, step in data["branches"].items()},
            str(data["branch"]),
            tuple(map(int, data["trail"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is broken ({error}); {LOST_HISTORY}") from None
    lost = sorted(known - set(steps))
    if lost:
        raise UserError(f"{path / 'steps'} lacks step {lost[0]}, which history.json names; restore steps/{lost[0]:04d}")
    if newest not in history.steps and newest != ROOT:
        if steps[newest].parent == history.head:
            return history.add(steps[newest])
        return replace(history, steps=steps)
    return history
