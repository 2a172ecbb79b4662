"""Panoptic maps in COCO's format, on the real sample and on broken ones."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.assemble import load_vocabulary
from scene.errors import UserError
from scene.geometry import Size
from scene.panoptic import Category, PanopticMap, Segment, ids_of_rgb, label_in, read_panoptic, rgb_of_ids

CATEGORIES = [{"id": 1, "name": "person", "isthing": 1}, {"id": 193, "name": "grass-merged", "isthing": 0}]


def png(ids: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb_of_ids(ids)).save(buffer, "PNG")
    return buffer.getvalue()


def small() -> tuple[np.ndarray, dict[str, Any]]:
    ids = np.full((80, 100), 70000, dtype=np.int32)
    ids[20:60, 30:50], ids[0] = 5, 0
    listed = [
        {"id": 5, "category_id": 1, "area": 800, "iscrowd": 1},
        {"id": 70000, "category_id": 193, "area": 80 * 100 - 800 - 100},
    ]
    return ids, {"annotations": [{"image_id": 9, "file_name": "a.png", "segments_info": listed}],
                 "categories": copy.deepcopy(CATEGORIES)}  # fmt: skip


def read(ids: np.ndarray, document: Any) -> PanopticMap:
    return read_panoptic(png(ids), json.dumps(document).encode(), name="a.png")


def test_ids_and_colours_are_one_thing() -> None:
    ids = np.random.default_rng(0).integers(0, 1 << 24, (30, 20)).astype(np.int32)
    assert np.array_equal(ids_of_rgb(rgb_of_ids(ids)), ids)


def test_a_map_is_read_and_ordered_back_to_front() -> None:
    ids, document = small()
    found = read(ids, document)
    assert [s.description for s in found.back_to_front()] == ["grass", "a group of people"]
    assert found.mask(5).sum() == 800
    half = found.resized(Size(50, 40))
    assert half.mask(5).sum() == 200 and half.ids.shape == (40, 50)
    with pytest.raises(UserError, match="is 100x80, the picture 50x50"):
        found.resized(Size(50, 50))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][0]["segments_info"][0].update(area=799),
         "the panoptic JSON: segment 5 claims area 799, the PNG has 800 pixels"),
        (lambda d: d["annotations"][0]["segments_info"].pop(), r"segment id 70000 \(7100 pixels\) that is not listed"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(id=6), "segment id 5"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(category_id=2),
         r"image 9: segments_info\[0\]: category_id 2 is not among the 2"),
        (lambda d: d["annotations"][0]["segments_info"][0].pop("id"), r"segments_info\[0\]: id is missing"),
        (lambda d: d["annotations"][0]["segments_info"][1].update(id=5), "id 5 is used twice"),
        (lambda d: d["annotations"].extend([{"file_name": "b.png"}, {"file_name": "c.png"}])
         or d["annotations"][0].update(file_name="z.png"), "0 annotations with file_name 'a.png'"),
        (lambda d: d.pop("annotations"), "neither annotations nor segments_info"),
        (lambda d: d["categories"][0].pop("name"), r"categories\[0\] lacks id or name"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change: Any, message: str) -> None:
    ids, document = small()
    change(document)
    with pytest.raises(UserError, match=message):
        read(ids, document)


def test_the_png_must_hold_ids() -> None:
    ids, document = small()
    grey = io.BytesIO()
    Image.fromarray(ids.astype(np.uint8)).save(grey, "PNG")
    for data, message in ((grey.getvalue(), "is L; need an RGB PNG"), (b"no", "no readable picture")):
        with pytest.raises(UserError, match=message):
            read_panoptic(data, json.dumps(document).encode(), name="a.png")
    with pytest.raises(UserError, match="is not JSON"):
        read_panoptic(png(ids), b"{")


def test_the_sample_holds_what_it_says(coco_panoptic_dir: Path) -> None:
    folder = coco_panoptic_dir / "sample_data"
    document = json.loads((folder / "panoptic_examples.json").read_text())
    for annotation in document["annotations"]:
        found = read_panoptic(folder / "panoptic_examples" / annotation["file_name"], folder / "panoptic_examples.json")
        assert {s.id: int(found.mask(s.id).sum()) for s in found.segments} == {
            entry["id"]: entry["area"] for entry in annotation["segments_info"]
        }
        kinds = [segment.category.thing for segment in found.back_to_front()]
        assert kinds == sorted(kinds)  # stuff first


@pytest.mark.parametrize(
    ("name", "words", "label"),
    [
        ("wall-other-merged", "wall", "wall"), ("wall-brick", "brick wall", "wall"), ("grass-merged", "grass", "lawn"),
        ("couch", "couch", "sofa"), ("playingfield", "playing field", "lawn"), ("window-blind", "window blind",
        "window blind"), ("keyboard", "computer keyboard", "computer keyboard"), ("giraffe", "giraffe", "giraffe"),
        ("sky-other-merged", "sky", "sky"), ("floor-wood", "wooden floor", "floor"), ("person", "person", "person"),
    ],
)  # fmt: skip
def test_categories_speak_the_world_s_language(name: str, words: str, label: str) -> None:
    category = Category(1, name, name in ("couch", "keyboard", "giraffe", "person"))
    assert category.words == words and label_in(category, load_vocabulary("home")) == label
    assert Segment(1, category).description == words
