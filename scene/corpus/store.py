"""A corpus on disk: `corpus.json` (facts, assets), `scenes.jsonl` (records), `assets.bin` (RGBA, memory-mapped).

A layer is three integers, so a CoDraw scene with its whole dialogue takes about 2 kB; the pictures are stored once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scene.corpus.records import SPLITS, AssetInfo, LayerRecord, SceneRecord, Turn, pack_layers, unpack_layers
from scene.errors import UserError
from scene.geometry import Size
from scene.layers import Layer, LayeredScene
from scene.layout import SemanticLayout, f_layer
from scene.vocabulary import Vocabulary

CORPUS_SCHEMA_VERSION = 1
MASK_ALPHA = 128  # a pixel belongs to the object from this alpha on


class Corpus:
    """Read access to a corpus folder; get one with `Corpus.open`."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self.name: str = facts["name"]
        self.licence: str = facts["licence"]
        self.size = Size(*facts["size"])
        self.assets: tuple[AssetInfo, ...] = tuple(AssetInfo(**asset) for asset in facts["assets"])
        self.vocabulary = Vocabulary(self.name, facts["vocabulary"])
        self._pixels = np.memmap(path / "assets.bin", dtype=np.uint8, mode="r")

    @classmethod
    def open(cls, path: Path | str) -> Corpus:
        """Opens a corpus folder.

        Raises:
            UserError: no corpus there, or one of another schema version.
        """
        path = Path(path)
        try:
            facts = json.loads((path / "corpus.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"no corpus in {path}; make one with: smartscene data import codraw SRC {path}") from None
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {path / 'corpus.json'} ({error}); import the corpus again") from None
        if facts.get("schema_version") != CORPUS_SCHEMA_VERSION:
            raise UserError(
                f"corpus {path} has schema {facts.get('schema_version')}, this version reads "
                f"{CORPUS_SCHEMA_VERSION}; import it again"
            )
        return cls(path, facts)

    @property
    def labels(self) -> tuple[str, ...]:
        """All categories of the world."""
        return self.vocabulary.labels

    @cached_property
    def _all(self) -> tuple[SceneRecord, ...]:
        records = []
        with (self.path / "scenes.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                raw = json.loads(line)
                records.append(
                    SceneRecord(
                        raw["id"],
                        raw["group"],
                        raw["split"],
                        unpack_layers(raw["layers"], self.assets),
                        tuple(raw["prompts"]),
                        raw["turns"],
                        self.assets,
                    )
                )
        return tuple(records)

    def records(self, split: str = "all") -> Sequence[SceneRecord]:
        """Scenes of a split (train, val, test or all), in file order."""
        if split not in SPLITS:
            raise UserError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        return self._all if split == "all" else [record for record in self._all if record.split == split]

    def asset(self, layer: LayerRecord) -> tuple[np.ndarray, int, int]:
        """Uncropped picture uint8 (h, w, 4) and the canvas position (x, y) of its top-left corner."""
        info = self.assets[layer.asset]
        flat = self._pixels[info.offset : info.offset + info.height * info.width * 4]
        return flat.reshape(info.height, info.width, 4), layer.x, layer.y

    def rgba(self, layer: LayerRecord) -> np.ndarray:
        """The layer on the canvas, uint8 (H, W, 4); alpha is 0 outside its mask."""
        picture, x, y = self.asset(layer)
        canvas = np.zeros((*self.size.shape, 4), dtype=np.uint8)
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + picture.shape[1], self.size.width), min(y + picture.shape[0], self.size.height)
        if x0 < x1 and y0 < y1:
            canvas[y0:y1, x0:x1] = picture[y0 - y : y1 - y, x0 - x : x1 - x]
        canvas[canvas[..., 3] < MASK_ALPHA] = 0
        return canvas

    def mask(self, layer: LayerRecord) -> np.ndarray:
        """Amodal mask on the canvas, bool (H, W)."""
        return self.rgba(layer)[..., 3] > 0

    def layout(self, record: SceneRecord, k: int | None = None) -> SemanticLayout:
        """`S_k`: semantic layout of the first `k` layers (default: all)."""
        layers = record.layers[:k]
        return f_layer([self.mask(layer) for layer in layers], [layer.label for layer in layers], self.size)

    def scene(self, record: SceneRecord, k: int | None = None) -> LayeredScene:
        """The first `k` layers (default: all) with their pixels; the prompt is the record's first."""
        layers = []
        for number, layer in enumerate(record.layers[:k]):
            rgba = self.rgba(layer)
            layers.append(Layer(number + 1, layer.label, layer.description, rgba[..., 3] > 0, rgba))
        return LayeredScene(self.size, record.prompts[0] if record.prompts else "", tuple(layers))


class CorpusWriter:
    """Writes a corpus folder; nothing is visible as a corpus until `finish` has written `corpus.json`."""

    def __init__(self, path: Path, *, name: str, licence: str, size: Size, vocabulary: Vocabulary) -> None:
        self.path, self.name, self.licence, self.size, self.vocabulary = path, name, licence, size, vocabulary
        path.mkdir(parents=True, exist_ok=True)
        (path / "corpus.json").unlink(missing_ok=True)
        self._assets: list[AssetInfo] = []
        self._bytes = 0
        self._bin = (path / "assets.bin").open("wb")
        self._lines = (path / "scenes.jsonl").open("w", encoding="utf-8")

    @property
    def assets(self) -> Sequence[AssetInfo]:
        """What `add_asset` was given so far."""
        return self._assets

    def add_asset(self, rgba: np.ndarray, *, label: str, description: str, source: str) -> int:
        """Stores uint8 (h, w, 4) once and returns its number."""
        self._bin.write(np.ascontiguousarray(rgba).tobytes())
        self._assets.append(AssetInfo(label, description, source, self._bytes, rgba.shape[0], rgba.shape[1]))
        self._bytes += rgba.size
        return len(self._assets) - 1

    def add_scene(
        self,
        id: str,
        group: int,
        split: str,
        layers: Sequence[LayerRecord],
        prompts: Sequence[str],
        turns: Iterable[Turn],
    ) -> None:
        """Appends one record."""
        raw = {
            "id": id,
            "group": group,
            "split": split,
            "layers": pack_layers(layers),
            "prompts": list(prompts),
            "turns": [[t.teller, t.drawer, pack_layers(t.before), pack_layers(t.after)] for t in turns],
        }
        self._lines.write(json.dumps(raw, ensure_ascii=False, separators=(",", ":")) + "\n")

    def finish(self, **facts: Any) -> Corpus:
        """Flushes everything, writes `corpus.json` last, and opens the result."""
        for file in (self._bin, self._lines):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        head = {
            "schema_version": CORPUS_SCHEMA_VERSION,
            "name": self.name,
            "licence": self.licence,
            "size": list(self.size),
            **facts,
            "vocabulary": self.vocabulary.entries,
            "assets": [asdict(asset) for asset in self._assets],
        }
        temporary = self.path / "corpus.json.tmp"
        temporary.write_text(json.dumps(head, ensure_ascii=False, indent=1), encoding="utf-8")
        temporary.replace(self.path / "corpus.json")
        return Corpus.open(self.path)
