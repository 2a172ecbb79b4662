"""Whatever one thing is wrong in a COCOA, COCO or panoptic file, it is read all the same or told in one line."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scene.corpus.coco import import_coco
from scene.corpus.coco_panoptic import import_coco_panoptic
from scene.corpus.cocoa import import_cocoa
from scene.corpus.outlines import to_rle
from scene.errors import UserError
from scene.panoptic import rgb_of_ids

pytest.importorskip("pycocotools", reason="the extra `data` is not installed")

SIDE, CHANGES = 64, 220
SQUARE, OTHER = [8, 8, 40, 8, 40, 40, 8, 40], [20, 20, 60, 20, 60, 60, 20, 60]
WRONG: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, 1.5, float("nan"), float("inf"), "", "-- ", "x" * 50, "9" * 4000, "../../etc/passwd", [],
    {}, [[]], [1, 2, 3], [[1e308] * 6], [[float("nan")] * 8], [["a"] * 6], {"size": [64, 64], "counts": [10**9]},
    {"size": [64, 64], "counts": [-5, 10]}, {"size": [64, 64], "counts": "\x00\x7f"}, {"size": 3, "counts": {}},
)  # fmt: skip


def cocoa_files(folder: Path) -> Path:
    """Two overlapping squares, the first nearer."""
    near, far = (np.zeros((SIDE, SIDE), bool) for _ in range(2))
    near[8:40, 8:40], far[20:60, 20:60] = True, True
    masks = {"visible_mask": to_rle(far & ~near), "invisible_mask": to_rle(far & near)}
    regions = [
        {"segmentation": SQUARE, "name": "ball ", "area": 1024, "isStuff": 0, "order": 1, "occlude_rate": 0},
        {"segmentation": OTHER, "name": "box", "area": 1600, "isStuff": 0, "order": 2, "occlude_rate": 0.25, **masks},
    ]
    annotation = {"author": "a", "url": "http://x/photo.jpg", "image_id": 7, "id": 1, "size": 2, "regions": regions}
    images = [{"id": 7, "file_name": "photo.jpg"}]
    path = folder / "cocoa.json"
    path.write_text(json.dumps({"images": images, "annotations": [annotation]}))
    return path


def coco_document() -> dict[str, Any]:
    return {
        "licenses": [{"id": 4, "name": "Attribution License"}],
        "images": [{"id": 7, "file_name": "photo.jpg", "width": SIDE, "height": SIDE, "license": 4}],
        "categories": [{"id": 1, "name": "dog", "supercategory": "animal", "isthing": 1}, {"id": 2, "name": "kite"}],
    }


def coco_files(folder: Path) -> Path:
    """A polygon and a crowd in run lengths."""
    crowd = {"size": [SIDE, SIDE], "counts": [100, 500, 200, 700, SIDE * SIDE - 1500]}
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 1, "segmentation": [SQUARE], "iscrowd": 0, "area": 1024},
        {"id": 2, "image_id": 7, "category_id": 2, "segmentation": crowd, "iscrowd": 1, "area": 1200},
    ]
    path = folder / "instances.json"
    path.write_text(json.dumps(coco_document() | {"annotations": annotations}))
    return path


def panoptic_files(folder: Path) -> Path:
    """A square on a ground."""
    ids = np.full((SIDE, SIDE), 300, np.int32)
    ids[8:40, 8:40] = 70000
    (folder / "panoptic").mkdir()
    Image.fromarray(rgb_of_ids(ids)).save(folder / "panoptic" / "photo.png")
    segments = [
        {"id": 300, "category_id": 2, "area": SIDE * SIDE - 1024, "iscrowd": 0, "bbox": [0, 0, SIDE, SIDE]},
        {"id": 70000, "category_id": 1, "area": 1024, "iscrowd": 0, "bbox": [8, 8, 32, 32]},
    ]
    annotation = {"image_id": 7, "file_name": "photo.png", "segments_info": segments}
    path = folder / "panoptic.json"
    path.write_text(json.dumps(coco_document() | {"annotations": [annotation]}))
    return path


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything inside a document."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def damaged(document: Any, rng: random.Random) -> tuple[Any, str]:
    """The document with one part taken out or replaced, and which."""
    changed = copy.deepcopy(document)
    path = rng.choice(list(places(document)))
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if rng.random() < 0.25:
        del parent[path[-1]]
        return changed, f"{path} gone"
    parent[path[-1]] = rng.choice(WRONG)
    return changed, f"{path} = {str(parent[path[-1]])[:40]}"


@pytest.mark.parametrize(
    ("write", "read"),
    [(cocoa_files, import_cocoa), (coco_files, import_coco), (panoptic_files, import_coco_panoptic)],
)
def test_one_wrong_thing_is_read_or_told(
    write: Callable[[Path], Path], read: Callable[..., Any], tmp_path: Path
) -> None:
    path = write(tmp_path)
    (tmp_path / "images").mkdir()
    colours = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "images" / "photo.jpg")
    corpus = read(path, tmp_path / "corpus", images=tmp_path / "images")
    assert len(corpus.records()) == 1 and len(corpus.records()[0].layers) >= 2
    document, rng, told = json.loads(path.read_text()), random.Random(3), list[tuple[str, str]]()
    for _ in range(CHANGES):
        changed, what = damaged(document, rng)
        path.write_text(json.dumps(changed))
        try:
            read(path, tmp_path / "corpus", images=tmp_path / "images")
        except UserError as error:
            told.append((what, str(error)))
        except Exception as error:
            pytest.fail(f"{what}: {error!r}")
    assert len(told) > CHANGES / 5
    for what, line in told:
        assert "\n" not in line and len(line) < 700 and str(tmp_path) in line, (what, line)
