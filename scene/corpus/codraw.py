"""Importer of CoDraw 1.0 (Kim et al., ACL 2019; Abstract Scenes art by Zitnick & Parikh, 2013). CC BY-NC 4.0.

A scene string is ``N`` followed by N times ``png, local_index, object_index, type_index, x, y, z, flip``: (x, y) is
the sprite's centre on a 500x400 canvas, z the depth (scale 1, 0.7, 0.49). Sky and grass become the first two layers.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from scene.corpus.language import global_prompts
from scene.corpus.records import LayerRecord, Turn
from scene.corpus.store import Corpus, CorpusWriter
from scene.errors import UserError
from scene.geometry import DEFAULT_SIZE
from scene.vocabulary import Vocabulary

SOURCE_SIZE = (500, 400)
DEPTH_SCALE = (1.0, 0.7, 0.49)
HORIZON_FRAC = 191 / 400  # first grass row of background.png
FIELDS_PER_SPRITE = 8


@dataclass(frozen=True)
class Sprite:
    """One drawn object of a scene string; x, y = centre in 500x400 source pixels, z = depth 0 (near) to 2."""

    png: str
    type_index: int
    x: float
    y: float
    z: int
    flip: bool


def parse_scene(text: str) -> list[Sprite]:
    """Sprites of a scene string that the official viewer draws (x >= 0), in paint order, back to front.

    Order: the sun, then other sky objects, then the rest; each group from z = 2 to 0, then by list position.

    Raises:
        ValueError: the string is not of the documented form.
    """
    fields = [field for field in text.strip().split(",") if field != ""]
    if not fields:
        return []
    count = int(fields[0])
    if len(fields) != 1 + count * FIELDS_PER_SPRITE:
        raise ValueError(f"{count} sprites announced, {len(fields) - 1} fields found, need {count * FIELDS_PER_SPRITE}")
    sprites = []
    for start in range(1, len(fields), FIELDS_PER_SPRITE):
        png, _, _, kind, x, y, z, flip = fields[start : start + FIELDS_PER_SPRITE]
        depth = int(z)
        if depth not in (0, 1, 2):
            raise ValueError(f"sprite {png} has depth z = {z}; allowed are 0, 1, 2")
        if float(x) >= 0:
            sprites.append(Sprite(png.removesuffix(".png"), int(kind), float(x), float(y), depth, flip == "1"))

    def paint_group(sprite: Sprite) -> int:
        return 0 if sprite.png == "s_3s" else 1 if sprite.type_index == 0 else 2

    return sorted(sprites, key=lambda sprite: (paint_group(sprite), -sprite.z))  # stable: list order last


def split_of(image_id: int) -> str:
    """Split by seed-sentence group: ten scenes share one sentence, so whole groups go one way."""
    return {8: "val", 7: "test"}.get((image_id // 10) % 10, "train")


class _Sprites:
    """Sprite files scaled, mirrored and stored on first use."""

    def __init__(self, folder: Path, world: dict[str, Any], writer: CorpusWriter) -> None:
        self._folder, self._writer = folder, writer
        self._scale = DEFAULT_SIZE.width / SOURCE_SIZE[0]
        self._words = sprite_words(world)
        self._numbers: dict[tuple[str, int, bool], int] = {}

    def place(self, sprite: Sprite) -> LayerRecord:
        key = (sprite.png, sprite.z, sprite.flip)
        if key not in self._numbers:
            label, description = self._words[sprite.png]
            picture = self._load(*key)
            self._numbers[key] = self._writer.add_asset(
                picture, label=label, description=description, source=sprite.png
            )
        info = self._writer.assets[self._numbers[key]]
        x = round(sprite.x * self._scale - info.width / 2)
        y = round(sprite.y * self._scale - info.height / 2)
        return LayerRecord(info.label, info.description, self._numbers[key], x, y)

    def _load(self, png: str, z: int, flip: bool) -> np.ndarray:
        path = self._folder / f"{png}.png"
        try:
            image = Image.open(path).convert("RGBA")
        except OSError as error:
            raise UserError(f"cannot read sprite {path} ({error}); SRC must hold CoDraw's Pngs/ folder") from None
        scale = self._scale * DEPTH_SCALE[z]
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(image)


def sprite_words(world: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Sprite name -> (label, description `T_obj`), from the world file."""
    vocabulary = Vocabulary(world["name"], world["labels"])
    words: dict[str, tuple[str, str]] = {}
    for label, entry in world["labels"].items():
        for sprite, text in entry.get("sprites", {}).items():
            words[sprite] = (label, vocabulary.with_article(label, text))
        if "poses" in entry:
            poses, expressions = world["poses"][entry["poses"]], world["expressions"]
            for number in range(len(poses) * len(expressions)):
                pose, expression = poses[number // len(expressions)], expressions[number % len(expressions)]
                text = f"{'an' if expression[0] in 'aeiou' else 'a'} {expression} {label} {pose}"
                words[f"{entry['poses']}_{number}s"] = (label, text)
    return words


def _background(folder: Path, writer: CorpusWriter) -> tuple[LayerRecord, LayerRecord]:
    """Sky (amodal: the whole canvas, its last colour carried on behind the ground) and grass below the horizon."""
    path = folder / "background.png"
    try:
        picture = Image.open(path).convert("RGB").resize(DEFAULT_SIZE, Image.Resampling.BICUBIC)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error}); SRC must hold CoDraw's Pngs/ folder") from None
    pixels = np.asarray(picture)
    horizon = round(HORIZON_FRAC * DEFAULT_SIZE.height)
    opaque = np.full((*DEFAULT_SIZE.shape, 1), 255, dtype=np.uint8)
    sky = pixels.copy()
    sky[horizon - 2 :] = pixels[horizon - 3]  # two rows blend into the grass when scaled
    grass = pixels[horizon:].copy()
    grass[:2] = pixels[horizon + 2]
    full = writer.add_asset(np.concatenate([sky, opaque], 2), label="sky", description="blue sky", source="sky")
    ground = writer.add_asset(
        np.concatenate([grass, opaque[horizon:]], 2), label="grass", description="green grass", source="grass"
    )
    return LayerRecord("sky", "blue sky", full, 0, 0), LayerRecord("grass", "green grass", ground, 0, horizon)


def _read_json(source: Path) -> dict[str, Any]:
    if source.is_dir():
        found = sorted(source.glob("CoDraw*.json")) + sorted(source.glob("CoDraw*.json.xz"))
        if not found:
            raise UserError(f"no CoDraw*.json or CoDraw*.json.xz in {source}; point SRC at the CoDraw folder")
        source = found[0]
    try:
        opener: Callable[[Path], Any] = lzma.open if source.suffix == ".xz" else open
        with opener(source) as file:
            data = json.load(file)["data"]
    except (OSError, ValueError, KeyError, TypeError, lzma.LZMAError) as error:
        raise UserError(f"{source} is not CoDraw JSON ({type(error).__name__}: {error})") from None
    if not isinstance(data, dict):
        raise UserError(f"{source}: 'data' is not an object of scenes; use the official CoDraw_1_0.json")
    return data


def import_codraw(
    source: Path,
    destination: Path,
    world_file: Path,
    progress: Callable[[Iterator[Any], int], Iterator[Any]] | None = None,
) -> Corpus:
    """Imports CoDraw into a corpus folder.

    Args:
        source: folder with `CoDraw*.json` (or `.json.xz`) and `Pngs/`, or the JSON file itself beside `Pngs/`.
        destination: corpus folder to write; an older corpus there is replaced.
        world_file: `configs/worlds/park.yaml`.
        progress: optional wrapper of the scene iterator (iterator, total) that draws a bar.

    Raises:
        UserError: files missing or malformed; the message names the scene.
    """
    data = _read_json(source)
    sprites_folder = (source if source.is_dir() else source.parent) / "Pngs"
    world = yaml.safe_load(world_file.read_text(encoding="utf-8"))
    vocabulary = Vocabulary(world["name"], world["labels"])
    writer = CorpusWriter(
        destination, name=world["name"], licence=world["licence"], size=DEFAULT_SIZE, vocabulary=vocabulary
    )
    background = _background(sprites_folder, writer)
    sprites = _Sprites(sprites_folder, world, writer)
    names = sorted(data)
    for name in progress(iter(names), len(names)) if progress else names:
        entry = data[name]
        try:
            image_id = int(entry["image_id"])
            objects = [sprites.place(sprite) for sprite in parse_scene(entry["abs_t"])]
            turns = [
                Turn(
                    " ".join(turn["msg_t"].split()),
                    " ".join(turn["msg_d"].split()),
                    tuple(sprites.place(sprite) for sprite in parse_scene(turn["abs_b"])),
                    tuple(sprites.place(sprite) for sprite in parse_scene(turn["abs_d"])),
                )
                for turn in entry["dialog"]
            ]
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"CoDraw scene {name} is malformed ({type(error).__name__}: {error})") from None
        boxes = [
            (
                layer.x,
                layer.y,
                layer.x + writer.assets[layer.asset].width,
                layer.y + writer.assets[layer.asset].height,
            )
            for layer in objects
        ]
        prompts = global_prompts(name, objects, boxes, [turn.teller for turn in turns], vocabulary)
        writer.add_scene(name, image_id // 10, split_of(image_id), (*background, *objects), prompts, turns)
    return writer.finish(source="CoDraw 1.0", art="Abstract Scenes, Zitnick & Parikh 2013")
