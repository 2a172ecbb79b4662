"""A corpus cut into shards, for corpora whose table of scenes is too large to be read whole (docs/data.md).

`shards.json` lists the shards; each is a folder, and in itself a corpus of one split's scenes with just the assets that
they use (`train-00000/`, `train-00001/`, ..., `val-00000/`). Nothing of a shard is read before somebody asks for it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scene.corpus.assets import EncodedAsset
from scene.corpus.attribution import ATTRIBUTION_FILE
from scene.corpus.records import SPLITS, AssetInfo, LayerRecord, Turn, unpack_layers
from scene.corpus.store import CORPUS_SCHEMA_VERSION, SHARDS_FILE, Corpus, CorpusWriter, read_facts, write_json
from scene.errors import UserError
from scene.geometry import Size
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary

SHARDS_SCHEMA_VERSION = 1
_CHECKED = ("corpus.json", "scenes.jsonl", "assets.jsonl", "assets.bin")
Progress = Callable[[Iterator[int], int], Iterator[int]]


class Shard(NamedTuple):
    """One shard as `shards.json` lists it.

    Attributes:
        name: folder in the folder of shards.
        split: train, val or test.
        scenes: how many it holds.
        files: name -> (bytes, sha256).
    """

    name: str
    split: str
    scenes: int
    files: Mapping[str, tuple[int, str]]


class ShardedCorpus:
    """Read access to a folder of shards; get one with `ShardedCorpus.open`."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path, self.facts = path, facts["corpus"]
        self.name: str = self.facts["name"]
        self.licence: str = self.facts["licence"]
        self.size = Size(*self.facts["size"])
        self.vocabulary = Vocabulary(self.name, self.facts["vocabulary"])
        self._shards = tuple(Shard(*raw) for raw in facts["shards"])

    @classmethod
    def open(cls, path: Path) -> ShardedCorpus:
        """Opens a folder of shards; reads its list, and none of them.

        Raises:
            UserError: there is no readable list.
        """
        file = path / SHARDS_FILE
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            if facts["schema_version"] != SHARDS_SCHEMA_VERSION:
                raise ValueError(f"schema {facts['schema_version']}, this version reads {SHARDS_SCHEMA_VERSION}")
            return cls(path, facts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot read {file} ({error}); make it again: smartscene data shard CORPUS OUT") from None

    @property
    def labels(self) -> tuple[str, ...]:
        """All categories of the world."""
        return self.vocabulary.labels

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that tell its scenes from those of another corpus."""
        return hashlib.sha256((self.path / SHARDS_FILE).read_bytes()).hexdigest()[:16]

    def shards(self, split: str) -> Sequence[Shard]:
        """Shards of a split (train, val, test or all), in order of their names."""
        if split not in SPLITS:
            raise UserError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        return [shard for shard in self._shards if split in ("all", shard.split)]

    def shard(self, shard: Shard) -> Corpus:
        """Opens one shard, after reading it once to compare it with the list.

        Raises:
            UserError: a file is missing, cut off or altered.
        """
        folder = self.path / shard.name
        for name, (size, digest) in shard.files.items():
            try:
                with (folder / name).open("rb") as file:
                    found, same = file.seek(0, 2), False
                    if found == size:
                        file.seek(0)
                        same = hashlib.file_digest(file, "sha256").hexdigest() == digest
            except OSError as error:
                raise _broken(self.path, shard, f"{name} cannot be read ({error.strerror})") from None
            if found != size:
                raise _broken(self.path, shard, f"{name} has {found} bytes, the list says {size}")
            if not same:
                raise _broken(self.path, shard, f"{name} is not what was written (sha256)")
        return Corpus.open(folder)

    def parts(self, split: str) -> Iterator[Corpus]:
        """The shards of a split, one after the other, as corpora."""
        return (self.shard(shard) for shard in self.shards(split))


AnyCorpus = Corpus | ShardedCorpus


def open_any(path: Path) -> AnyCorpus:
    """A corpus folder or a folder of shards.

    Raises:
        UserError: it is neither.
    """
    return ShardedCorpus.open(path) if (path / SHARDS_FILE).exists() else Corpus.open(path)


def _broken(path: Path, shard: Shard, reason: str) -> UserError:
    return UserError(f"shard {shard.name} of {path}: {reason}; copy it again, or make the shards again")


def write_shards(
    source: Path,
    out: Path,
    *,
    scenes_per_shard: int,
    seed: int = 0,
    progress: Progress = lambda numbers, total: numbers,
) -> ShardedCorpus:
    """Cuts a corpus into shards of equal size, to one scene, split by split.

    Which scenes come together is drawn by `seed`, so every shard is a fair sample; within a shard they keep their
    order. Of the corpus, only the places of its lines are held in memory.

    Args:
        source: Corpus folder.
        out: Folder of shards; must not exist or be empty.
        scenes_per_shard: At most so many.
        seed: Same seed, same shards.
        progress: Wraps the numbers of the shards, of which it is told how many there are.

    Raises:
        UserError: `source` is no corpus of schema version 2, has no scenes, or `out` is not empty.
    """
    facts = read_facts(source)
    if facts["schema_version"] != CORPUS_SCHEMA_VERSION:
        raise UserError(f"corpus {source} has schema {facts['schema_version']}; import it again, then cut it")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty; choose another folder")
    plans = source / "plans.jsonl"
    scenes, plan_lines = _Lines(source / "scenes.jsonl"), _Lines(plans) if plans.exists() else None
    assets, pixels = _AssetTable(source), np.memmap(source / "assets.bin", dtype=np.uint8, mode="r")
    planned = _planned(scenes, scenes_per_shard, seed)
    if not planned:
        raise UserError(f"corpus {source} has no scenes to cut")
    out.mkdir(parents=True, exist_ok=True)
    shards = []
    for number in progress(iter(range(len(planned))), len(planned)):
        split, name, chosen = planned[number]
        writer = CorpusWriter(
            out / name,
            name=facts["name"],
            licence=facts["licence"],
            size=Size(*facts["size"]),
            vocabulary=Vocabulary(facts["name"], facts["vocabulary"]),
        )
        copy = _Copy(writer, assets, pixels)
        for scene in chosen:
            copy.scene(scenes[scene], None if plan_lines is None else plan_lines[scene])
        writer.finish(**facts)
        shards.append(Shard(name, split, len(chosen), {file: _fact(out / name / file) for file in _CHECKED}))
    if (source / ATTRIBUTION_FILE).exists():
        shutil.copyfile(source / ATTRIBUTION_FILE, out / ATTRIBUTION_FILE)
    listed = {"schema_version": SHARDS_SCHEMA_VERSION, "corpus": facts, "shards": [list(shard) for shard in shards]}
    write_json(out / SHARDS_FILE, listed)
    return ShardedCorpus.open(out)


def _planned(scenes: _Lines, most: int, seed: int) -> list[tuple[str, str, np.ndarray]]:
    """Split, name and numbers of scenes of every shard."""
    splits = array("b", (SPLITS.index(scenes[number]["split"]) for number in range(len(scenes))))
    planned = []
    for position, split in enumerate(SPLITS[:-1]):
        mine = np.flatnonzero(np.asarray(splits) == position)
        mixed = np.random.default_rng(derive_seed(seed, "shards", split)).permutation(mine)
        for number, part in enumerate(np.array_split(mixed, -(-len(mine) // most)) if len(mine) else []):
            planned.append((split, f"{split}-{number:05d}", np.sort(part)))
    return planned


def _fact(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


class _Lines:
    """The JSON lines of a file, of which only the places are kept."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._starts = array("q", [0])
        for line in self._file:
            self._starts.append(self._starts[-1] + len(line))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> Any:
        self._file.seek(self._starts[number])
        return json.loads(self._file.read(self._starts[number + 1] - self._starts[number]))


class _AssetTable(Mapping[int, AssetInfo]):
    """`assets.jsonl` by number, read when asked."""

    def __init__(self, path: Path) -> None:
        self._lines = _Lines(path / "assets.jsonl")

    def __getitem__(self, number: int) -> AssetInfo:
        return AssetInfo(*self._lines[number])

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._lines)))

    def __len__(self) -> int:
        return len(self._lines)


class _Copy:
    """Copies scenes into a shard; assets get the numbers in which they are met."""

    def __init__(self, writer: CorpusWriter, assets: _AssetTable, pixels: np.ndarray) -> None:
        self._writer, self._assets, self._pixels = writer, assets, pixels
        self._numbers: dict[int, int] = {}

    def scene(self, raw: Mapping[str, Any], plan: Any) -> None:
        layers = unpack_layers(raw["layers"], self._assets)
        turns = [
            Turn(teller, drawer, *(self._moved(unpack_layers(packed, self._assets)) for packed in canvases))
            for teller, drawer, *canvases in raw.get("turns", ())
        ]
        self._writer.add_scene(
            raw["id"],
            raw["group"],
            raw["split"],
            self._moved(layers),
            raw["prompts"],
            turns,
            recipe=raw.get("recipe", ""),
            plan=plan,
        )

    def _moved(self, layers: Sequence[LayerRecord]) -> tuple[LayerRecord, ...]:
        return tuple(
            replace(
                layer,
                asset=self._number(layer.asset),
                effect=layer.effect and layer.effect._replace(asset=self._number(layer.effect.asset)),
            )
            for layer in layers
        )

    def _number(self, old: int) -> int:
        if old not in self._numbers:
            info = self._assets[old]
            middle, end = info.offset + info.mask_bytes, info.offset + info.mask_bytes + info.picture_bytes
            mask, picture = self._pixels[info.offset : middle].tobytes(), self._pixels[middle:end].tobytes()
            self._numbers[old] = self._writer.add_encoded(EncodedAsset(*info[:6], mask, picture))
        return self._numbers[old]
