"""A corpus on disk, schema version 2 (docs/data.md).

`corpus.json` (facts), `scenes.jsonl` (records), `assets.jsonl` (asset table), `assets.bin` (masks and pictures,
memory-mapped), and for built worlds `plans.jsonl` (what each scene was made from). All but the first are only ever
appended to, so a build can be stopped anywhere and goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scene.corpus.assets import MASK_ALPHA, EncodedAsset, Encoding, decode_picture, encode_asset, unpack_mask
from scene.corpus.records import (
    SPLITS,
    AssetInfo,
    LayerRecord,
    Placement,
    SceneRecord,
    Turn,
    pack_layers,
    unpack_layers,
)
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.layers import Layer, LayeredScene, composite
from scene.layout import SemanticLayout, f_layer
from scene.vocabulary import Vocabulary

CORPUS_SCHEMA_VERSION = 2
CHECKPOINT_FILE = "unfinished.json"
SHARDS_FILE = "shards.json"  # in a folder of shards, see `scene.corpus.shards`
_APPENDED = ("scenes.jsonl", "assets.jsonl", "assets.bin", "plans.jsonl")


class Corpus:
    """Read access to a corpus folder; get one with `Corpus.open`."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path, self.facts = path, facts
        self.name: str = facts["name"]
        self.licence: str = facts["licence"]
        self.size = Size(*facts["size"])
        self.assets: tuple[AssetInfo, ...] = tuple(_assets(path, facts))
        self.vocabulary = Vocabulary(self.name, facts["vocabulary"])
        self._bytes = np.memmap(path / "assets.bin", dtype=np.uint8, mode="r")
        self._boxes: dict[int, Box | None] = {}

    @classmethod
    def open(cls, path: Path | str) -> Corpus:
        """Opens a corpus folder of schema version 1 or 2.

        Raises:
            UserError: no corpus there, an unfinished one, or one of another schema version.
        """
        path = Path(path)
        facts = read_facts(path)
        return cls(path, facts)

    @classmethod
    def only(cls, paths: Sequence[Path]) -> Corpus:
        """Opens the one corpus of a list, for whoever cannot mix several.

        Raises:
            UserError: there is not exactly one, or `open` fails.
        """
        if len(paths) != 1:
            raise UserError(f"got {len(paths)} corpora; give --data once")
        return cls.open(paths[0])

    @property
    def labels(self) -> tuple[str, ...]:
        """All categories of the world."""
        return self.vocabulary.labels

    @cached_property
    def held_out(self) -> frozenset[str]:
        """Asset sources (3D models, drawings) that this corpus keeps out of training; empty where it names none."""
        return frozenset(source for part in self.facts.get("held_out", {}).values() for source in part)

    @cached_property
    def descriptions(self) -> tuple[tuple[str, str], ...]:
        """Every distinct (label, description), sorted."""
        return tuple(sorted({(asset.label, asset.description) for asset in self.assets}))

    @cached_property
    def _all(self) -> tuple[SceneRecord, ...]:
        return tuple(
            SceneRecord(
                raw["id"],
                raw["group"],
                raw["split"],
                unpack_layers(raw["layers"], self.assets),
                tuple(raw["prompts"]),
                raw.get("turns", ()),
                self.assets,
                raw.get("recipe", ""),
            )
            for raw in _read_lines(self.path / "scenes.jsonl")
        )

    def records(self, split: str = "all") -> Sequence[SceneRecord]:
        """Scenes of a split (train, val, test or all), in file order."""
        if split not in SPLITS:
            raise UserError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        return self._all if split == "all" else [record for record in self._all if record.split == split]

    def parts(self, split: str) -> Iterator[Corpus]:
        """The corpora that hold a split's scenes: this one. A `ShardedCorpus` has one for each shard."""
        return iter((self,))

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that tell its scenes from those of another corpus."""
        with (self.path / "scenes.jsonl").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def plans(self) -> Iterator[dict[str, Any]]:
        """What each scene was made from, JSON-ready, in the order of `records()`; none for imported corpora."""
        path = self.path / "plans.jsonl"
        return _read_lines(path) if path.exists() else iter(())

    def surfaces(self, record: SceneRecord) -> list[LayerRecord]:
        """The record's surfaces (sky, grass): what its objects stand on and before, back to front."""
        return [layer for layer in record.layers if self.vocabulary.kind(layer.label) == "surface"]

    def shape(self, layer: LayerRecord) -> np.ndarray:
        """The asset's mask, bool (h, w), without decoding its picture; its corner lies at (layer.x, layer.y)."""
        info = self.assets[layer.asset]
        if not info.mask_bytes:  # schema version 1
            return np.asarray(self._picture(layer.asset)[..., 3] >= MASK_ALPHA)
        bits = np.asarray(self._bytes[info.offset : info.offset + info.mask_bytes])
        return unpack_mask(bits, info.height, info.width)

    def box(self, layer: LayerRecord) -> Box | None:
        """Tightest box of the layer's mask, cut at the canvas edge; None when it lies off the canvas."""
        if layer.asset not in self._boxes:
            self._boxes[layer.asset] = Box.from_mask(self.shape(layer))
        box = self._boxes[layer.asset]
        if box is None:
            return None
        placed = Box(box.x0 + layer.x, box.y0 + layer.y, box.x1 + layer.x, box.y1 + layer.y).clip(self.size)
        return placed if placed.area else None

    def asset(self, layer: LayerRecord | Placement) -> tuple[np.ndarray, int, int]:
        """Uncropped picture uint8 (h, w, 4) and the canvas position (x, y) of its top-left corner."""
        return self._picture(layer.asset), layer.x, layer.y

    def _picture(self, number: int) -> np.ndarray:
        info = self.assets[number]
        start = info.offset + info.mask_bytes
        data = np.asarray(self._bytes[start : start + info.picture_bytes])
        return decode_picture(data, info.encoding, info.height, info.width)

    def rgba(self, layer: LayerRecord) -> np.ndarray:
        """The layer on the canvas, uint8 (H, W, 4); alpha is 0 outside its mask, effects left out."""
        canvas = np.zeros((*self.size.shape, 4), dtype=np.uint8)
        _paste(canvas, *self.asset(layer))
        canvas[canvas[..., 3] < MASK_ALPHA] = 0
        return canvas

    def rgba_with_effect(self, layer: LayerRecord) -> np.ndarray:
        """The layer over its shadow, uint8 (H, W, 4); painting it equals painting both, to rounding."""
        rgba = self.rgba(layer)
        if layer.effect is None:
            return rgba
        shadow = np.zeros_like(rgba)
        _paste(shadow, *self.asset(layer.effect))
        over, under = rgba[..., 3].astype(np.float32) / 255, shadow[..., 3].astype(np.float32) / 255
        alpha = over + under * (1 - over)
        share = np.divide(over, alpha, out=np.zeros_like(over), where=alpha > 0)
        mixed = rgba[..., :3] * share[..., None] + shadow[..., :3] * (1 - share[..., None])
        return np.concatenate([mixed, alpha[..., None] * 255], axis=2).round().astype(np.uint8)

    def painted(self, layers: Sequence[LayerRecord]) -> np.ndarray:
        """Layers over white, effects left out, uint8 (H, W, 3); touches only the pixels of each layer's asset."""
        canvas = np.full((*self.size.shape, 3), 255, dtype=np.uint8)
        for layer in layers:
            picture, x, y = self.asset(layer)
            part = Box(x, y, x + picture.shape[1], y + picture.shape[0]).clip(self.size)
            rgba = np.array(picture[part.y0 - y : part.y1 - y, part.x0 - x : part.x1 - x])
            rgba[rgba[..., 3] < MASK_ALPHA] = 0
            here = (slice(part.y0, part.y1), slice(part.x0, part.x1))
            canvas[here] = composite(canvas[here], rgba)
        return canvas

    def mask(self, layer: LayerRecord) -> np.ndarray:
        """Amodal mask on the canvas, bool (H, W)."""
        canvas = np.zeros(self.size.shape, dtype=bool)
        _paste(canvas, self.shape(layer), layer.x, layer.y)
        return canvas

    def layout(self, record: SceneRecord, k: int | None = None) -> SemanticLayout:
        """`S_k`: semantic layout of the first `k` layers (default: all)."""
        layers = record.layers[:k]
        return f_layer([self.mask(layer) for layer in layers], [layer.label for layer in layers], self.size)

    def scene(self, record: SceneRecord, k: int | None = None) -> LayeredScene:
        """The first `k` layers (default: all) with their pixels and effects; the prompt is the record's first."""
        layers = tuple(
            Layer(number + 1, layer.label, layer.description, self.mask(layer), self.rgba_with_effect(layer))
            for number, layer in enumerate(record.layers[:k])
        )
        return LayeredScene(self.size, record.prompts[0] if record.prompts else "", layers)


def read_facts(path: Path) -> dict[str, Any]:
    """`corpus.json` of a corpus folder of schema version 1 or 2.

    Raises:
        UserError: no corpus there, an unfinished one, or one of another schema version.
    """
    try:
        facts: dict[str, Any] = json.loads((path / "corpus.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (path / CHECKPOINT_FILE).exists():
            raise UserError(f"{path} is not finished; run the same `smartscene data build` again") from None
        if (path / SHARDS_FILE).exists():
            raise UserError(
                f"{path} holds shards, which `smartscene train masker` reads; here name the corpus that they were made "
                "from, or one of the folders in it"
            ) from None
        raise UserError(f"no corpus in {path}; make one with: smartscene data import codraw SRC {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path / 'corpus.json'} ({error}); import the corpus again") from None
    if facts.get("schema_version") not in (1, CORPUS_SCHEMA_VERSION):
        raise UserError(
            f"corpus {path} has schema {facts.get('schema_version')}, this version reads 1 and "
            f"{CORPUS_SCHEMA_VERSION}; import it again"
        )
    return facts


def _assets(path: Path, facts: dict[str, Any]) -> Iterator[AssetInfo]:
    if facts["schema_version"] > 1:
        yield from (AssetInfo(*raw) for raw in _read_lines(path / "assets.jsonl"))
        return
    for old in facts["assets"]:  # version 1: a table in corpus.json, and raw pictures without packed masks
        height, width = old["height"], old["width"]
        words = (old["label"], old["description"], old["source"])
        yield AssetInfo(*words, "raw", height, width, old["offset"], 0, height * width * 4)


def _read_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _paste(canvas: np.ndarray, crop: np.ndarray, x: int, y: int) -> None:
    """Copies `crop` into `canvas` at (x, y); what lies off the canvas is cut."""
    height, width = canvas.shape[:2]
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + crop.shape[1], width), min(y + crop.shape[0], height)
    if x0 < x1 and y0 < y1:
        canvas[y0:y1, x0:x1] = crop[y0 - y : y1 - y, x0 - x : x1 - x]


class CorpusWriter:
    """Writes a corpus folder; nothing is visible as a corpus until `finish` has written `corpus.json`.

    Args:
        path: folder; an older corpus in it is replaced.
        name, licence, size, vocabulary: facts of the corpus.
        resume: go on from the checkpoint in `path`, if there is one.

    Attributes:
        state: what the last checkpoint was given; None when nothing is resumed.
    """

    def __init__(
        self, path: Path, *, name: str, licence: str, size: Size, vocabulary: Vocabulary, resume: bool = False
    ) -> None:
        self.path, self.name, self.licence, self.size, self.vocabulary = path, name, licence, size, vocabulary
        path.mkdir(parents=True, exist_ok=True)
        (path / "corpus.json").unlink(missing_ok=True)
        checkpoint = read_checkpoint(path) if resume else None
        self.state: dict[str, Any] | None = checkpoint and checkpoint["state"]
        lengths = checkpoint["lengths"] if checkpoint else {}
        if checkpoint is None:
            (path / CHECKPOINT_FILE).unlink(missing_ok=True)
        self._files = {}
        for file in _APPENDED:
            self._files[file] = (path / file).open("r+b" if checkpoint and (path / file).exists() else "wb")
            self._files[file].truncate(lengths.get(file, 0))
            self._files[file].seek(0, os.SEEK_END)
        self._assets: list[AssetInfo] = [AssetInfo(*raw) for raw in _read_lines(path / "assets.jsonl")]

    @property
    def assets(self) -> Sequence[AssetInfo]:
        """What `add_asset` was given so far."""
        return self._assets

    def add_asset(
        self, picture: np.ndarray, *, label: str, description: str, source: str, encoding: Encoding = "raw"
    ) -> int:
        """Stores uint8 (h, w, 4) once and returns its number; see `encode_asset`."""
        return self.add_encoded(
            encode_asset(picture, label=label, description=description, source=source, encoding=encoding)
        )

    def add_encoded(self, asset: EncodedAsset) -> int:
        """Appends an encoded asset and returns its number."""
        offset = self._files["assets.bin"].tell()
        self._files["assets.bin"].write(asset.mask + asset.picture)
        info = AssetInfo(*asset[:6], offset, len(asset.mask), len(asset.picture))
        self._append("assets.jsonl", list(info))
        self._assets.append(info)
        return len(self._assets) - 1

    def add_scene(
        self,
        id: str,
        group: int,
        split: str,
        layers: Sequence[LayerRecord],
        prompts: Sequence[str],
        turns: Iterable[Turn] = (),
        *,
        recipe: str = "",
        plan: Mapping[str, Any] | None = None,
    ) -> None:
        """Appends one record; `plan` is what the scene was made from, JSON-ready (all scenes have one, or none)."""
        raw: dict[str, Any] = {
            "id": id, "group": group, "split": split, "layers": pack_layers(layers), "prompts": list(prompts),
        }  # fmt: skip
        rounds = [[t.teller, t.drawer, pack_layers(t.before), pack_layers(t.after)] for t in turns]
        if rounds:
            raw["turns"] = rounds
        if recipe:
            raw["recipe"] = recipe
        self._append("scenes.jsonl", raw)
        if plan is not None:
            self._append("plans.jsonl", plan)

    def _append(self, file: str, value: Any) -> None:
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
        self._files[file].write(line.encode())

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Makes everything so far durable; a writer opened with `resume` goes on from here with `state`."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        lengths = {name: file.tell() for name, file in self._files.items()}
        write_json(self.path / CHECKPOINT_FILE, {"lengths": lengths, "state": state})

    def finish(self, **facts: Any) -> Corpus:
        """Flushes everything, writes `corpus.json` last, and opens the result."""
        for name, file in self._files.items():
            empty = not file.tell()
            file.flush()
            os.fsync(file.fileno())
            file.close()
            if empty and name == "plans.jsonl":
                (self.path / name).unlink()
        head = {
            "schema_version": CORPUS_SCHEMA_VERSION,
            "name": self.name,
            "licence": self.licence,
            "size": list(self.size),
            **facts,
            "vocabulary": self.vocabulary.entries,
        }
        write_json(self.path / "corpus.json", head)
        (self.path / CHECKPOINT_FILE).unlink(missing_ok=True)
        return Corpus.open(self.path)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint of an unfinished build in `path`: {"lengths", "state"}; None when there is none."""
    try:
        checkpoint: dict[str, Any] = json.loads((path / CHECKPOINT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return checkpoint


def write_json(path: Path, value: Any) -> None:
    """JSON to a file that is there whole or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
