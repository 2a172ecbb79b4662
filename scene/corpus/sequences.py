"""Layout sequences on disk: what a planner learns from, as JSONL and as LLaVA conversations. Schema: docs/planner.md.

One entry per (scene, k): prompt, the k objects that are there, the picture of their layout, and what comes next.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scene.corpus.records import LayerRecord, SceneRecord
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.geometry import Box
from scene.layout import label_colour
from scene.seeds import derive_seed

INSTRUCTION = "Plan a picture back to front. Answer with the next object as JSON, or with {\"stop\":true}."  # fmt: skip
_HUMAN = re.compile(
    r"<image>\n" + re.escape(INSTRUCTION) + r"\nScene: (?P<prompt>[^\n]*)\n"
    r"Canvas: (?P<width>\d+)x(?P<height>\d+)\nObjects:\n(?P<objects>(?:\{[^\n]*\}\n)*)Next\?"
)
RelationOf = Callable[[str, Sequence[LayerRecord]], "tuple[str, str] | None"]
"""(prompt, layers, the new one last) -> how it stands to one before it."""


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SequenceObject(_Schema):
    """An object; `box` = x0, y0, x1, y1 in canvas pixels, half open."""

    label: str = Field(min_length=1)
    description: str = Field(min_length=1)
    box: tuple[int, int, int, int]

    @model_validator(mode="after")
    def _ordered(self) -> SequenceObject:
        x0, y0, x1, y1 = self.box
        if x0 >= x1 or y0 >= y1:
            raise ValueError(f"box {list(self.box)} is empty; need x0 < x1 and y0 < y1")
        return self


class SequenceAnswer(_Schema):
    """The next object, or stop alone; `relation` = [word, label of an object that is there]."""

    label: str | None = None
    description: str | None = None
    box: tuple[int, int, int, int] | None = None
    relation: tuple[str, str] | None = None
    stop: bool = False

    @model_validator(mode="after")
    def _complete(self) -> SequenceAnswer:
        given = [self.label is not None, self.description is not None, self.box is not None]
        if (any(given) or self.relation) if self.stop else not all(given):
            raise ValueError("an answer is either stop alone or label, description and box")
        return self


class LayoutSequence(_Schema):
    """One entry: a (scene, k) sample.

    `image` = the layout picture of the k objects, a path relative to the file; without it the picture is painted from
    the boxes. `layers` = [asset, x, y] of these objects in the corpus that the entry comes from.
    """

    schema_version: Literal[1] = 1
    corpus: str = ""
    scene_id: str
    split: Literal["train", "val", "test"] = "train"
    k: int = Field(ge=0)
    prompt: str
    canvas: tuple[int, int]
    objects: tuple[SequenceObject, ...]
    layers: tuple[tuple[int, int, int], ...] | None = None
    image: str | None = None
    answer: SequenceAnswer

    @model_validator(mode="after")
    def _agree(self) -> LayoutSequence:
        if len(self.objects) != self.k:
            raise ValueError(f"k is {self.k}, but there are {len(self.objects)} objects")
        if self.answer.relation and self.answer.relation[1] not in {item.label for item in self.objects}:
            raise ValueError(f"the answer's relation names {self.answer.relation[1]!r}, which is not among the objects")
        return self


def corpus_sequences(
    corpus: Corpus, record: SceneRecord, prompt: str, relation_of: RelationOf | None = None
) -> Iterator[LayoutSequence]:
    """All entries of one scene under one prompt, k = 0 to the stop answer; layers off the canvas are left out."""
    seen = [(layer, box) for layer in record.layers if (box := corpus.box(layer)) is not None]
    objects = [SequenceObject(label=layer.label, description=layer.description, box=tuple(box)) for layer, box in seen]
    for k in range(len(objects) + 1):
        if k == len(objects):
            answer = SequenceAnswer(stop=True)
        else:
            relation = relation_of(prompt, [layer for layer, _ in seen[: k + 1]]) if relation_of else None
            answer = SequenceAnswer(**objects[k].model_dump(), relation=relation)
        yield LayoutSequence(
            corpus=corpus.name,
            scene_id=record.id,
            split=record.split,
            k=k,
            prompt=prompt,
            canvas=(corpus.size.width, corpus.size.height),
            objects=tuple(objects[:k]),
            layers=tuple((layer.asset, layer.x, layer.y) for layer, _ in seen[:k]),
            answer=answer,
        )


def export_sequences(
    corpus: Corpus,
    file: Path,
    split: str = "train",
    *,
    form: Literal["jsonl", "llava"] = "jsonl",
    limit: int | None = None,
    seed: int = 0,
    relation_of: RelationOf | None = None,
    show: Callable[[Sequence[SceneRecord]], Iterator[SceneRecord]] = iter,
) -> int:
    """Write every (scene, k) of a split, one prompt per scene drawn by seed.

    Args:
        corpus: imported or built.
        file: to write; LLaVA conversations put their pictures into a folder beside it.
        split: train, val, test or all.
        form: "jsonl", or "llava" for one JSON array of {id, image, conversations}.
        limit: at most so many scenes.
        seed: draws prompts.
        relation_of: adds relations to answers.
        show: wraps the scenes in a progress bar.

    Returns:
        Number of entries.
    """
    records = list(corpus.records(split))[:limit]
    if not records:
        raise UserError(f"split {split!r} of corpus {corpus.name!r} has no scenes")
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary, count = file.with_name(f".{file.name}.tmp"), 0
    with temporary.open("w", encoding="utf-8") as out:
        out.write("[\n" if form == "llava" else "")
        for record in show(records):
            prompt = random.Random(derive_seed(seed, "prompt", record.id)).choice(record.prompts)
            for entry in corpus_sequences(corpus, record, prompt, relation_of):
                if form == "llava":
                    picture = f"{file.stem}_pictures/{record.id}_{entry.k:02d}.png"
                    _paint(corpus, record, entry, file.parent / picture)
                    text = json.dumps(to_conversation(entry, picture), ensure_ascii=False)
                    out.write(",\n" * (count > 0) + text)
                else:
                    out.write(entry.model_dump_json(exclude_none=True) + "\n")
                count += 1
        out.write("\n]\n" if form == "llava" else "")
    temporary.replace(file)
    return count


def _paint(corpus: Corpus, record: SceneRecord, entry: LayoutSequence, target: Path) -> None:
    canvas = np.full((*corpus.size.shape, 3), 255, dtype=np.uint8)
    for layer in [layer for layer in record.layers if corpus.box(layer) is not None][: entry.k]:
        canvas[corpus.mask(layer)] = label_colour(layer.label)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas).save(target, optimize=False, compress_level=1)


def entry_picture(entry: LayoutSequence, folder: Path) -> np.ndarray:
    """The layout picture of an entry, uint8 (H, W, 3): its file, else its boxes painted in their labels' colours.

    Raises:
        UserError: the named file cannot be read.
    """
    if entry.image is not None:
        try:
            with Image.open(folder / entry.image) as picture:
                return np.asarray(picture.convert("RGB"))
        except OSError as error:
            raise UserError(f"cannot read picture {folder / entry.image} of {entry.scene_id} ({error})") from None
    width, height = entry.canvas
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    for item in entry.objects:
        box = Box(*item.box)
        canvas[max(0, box.y0) : max(0, box.y1), max(0, box.x0) : max(0, box.x1)] = label_colour(item.label)
    return canvas


def to_conversation(entry: LayoutSequence, image: str) -> dict[str, Any]:
    """An entry in the form that LLaVA's own training code reads."""
    objects = "".join(item.model_dump_json() + "\n" for item in entry.objects)
    prompt = " ".join(entry.prompt.split())
    width, height = entry.canvas
    human = f"<image>\n{INSTRUCTION}\nScene: {prompt}\nCanvas: {width}x{height}\nObjects:\n{objects}Next?"
    said = entry.answer.model_dump_json(exclude_none=True, exclude_defaults=True)
    turns = [{"from": "human", "value": human}, {"from": "gpt", "value": said}]
    return {"id": f"{entry.split}/{entry.scene_id}/{entry.k}", "image": image, "conversations": turns}


def from_conversation(raw: Any) -> LayoutSequence:
    """Inverse of `to_conversation`.

    Raises:
        ValueError: not such a conversation; the message says what is missing.
    """
    if not isinstance(raw, dict) or not {"id", "image", "conversations"} <= raw.keys():
        raise ValueError("need an object with id, image and conversations")
    turns = raw["conversations"]
    if not isinstance(turns, list) or [isinstance(t, dict) and t.get("from") for t in turns] != ["human", "gpt"]:
        raise ValueError("conversations must be one turn from human, then one from gpt")
    match = _HUMAN.fullmatch(str(turns[0].get("value")))
    if match is None:
        raise ValueError("the human turn is not '<image>', instruction, Scene, Canvas, Objects, 'Next?'")
    *front, k = str(raw["id"]).rsplit("/", 1)
    split, _, scene = (front[0] if front else "").partition("/")
    known = scene and split in ("train", "val", "test")
    objects = [json.loads(line) for line in match["objects"].splitlines()]
    return LayoutSequence.model_validate(
        {
            "scene_id": scene if known else str(raw["id"]),
            "split": split if known else "train",
            "k": int(k) if known and k.isdigit() else len(objects),
            "prompt": match["prompt"],
            "canvas": (int(match["width"]), int(match["height"])),
            "objects": objects,
            "image": str(raw["image"]),
            "answer": json.loads(str(turns[1].get("value"))),
        }
    )


class _Raw(NamedTuple):
    line: int
    value: Any


def read_sequences(file: Path) -> Iterator[LayoutSequence]:
    """Read either format back; a file that starts with "[" holds LLaVA conversations.

    Raises:
        UserError: an entry does not follow the schema; the message names its line and what is wrong.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file} ({getattr(error, 'strerror', None) or error})") from None
    array = text.lstrip().startswith("[")
    for raw in _array(file, text) if array else _lines(file, text):
        try:
            yield from_conversation(raw.value) if array else LayoutSequence.model_validate(raw.value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the entry"
            raise UserError(f"{file}, line {raw.line} is no layout sequence: {where}: {first['msg']}") from None
        except (ValueError, TypeError) as error:
            raise UserError(f"{file}, line {raw.line} is no layout sequence: {error}") from None


def _lines(file: Path, text: str) -> Iterator[_Raw]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield _Raw(number, json.loads(line))
        except ValueError as error:
            raise UserError(f"{file}, line {number} is no layout sequence: not JSON ({error})") from None


def _array(file: Path, text: str) -> Iterator[_Raw]:
    """Entries of a JSON array with the line on which each begins."""
    decoder, position = json.JSONDecoder(), text.index("[") + 1
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        line = text.count("\n", 0, position) + 1
        if text[position : position + 1] == "]":
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except ValueError as error:
            raise UserError(f"{file}, line {line} is no layout sequence: not JSON ({error})") from None
        yield _Raw(line, value)
