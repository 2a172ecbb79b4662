"""Contact sheets of `insert` into seven photos, mask-free and in a box: docs/images/photo-*.png (docs/photos.md).

    .venv/bin/python -m benchmarks.photo_sheets ../shared/data docs/images [--preset home]

Two photos have COCO panoptic maps, but licences that would keep them out of this repository: their sheets show the map
alone. Of the other five a map is made of their COCO instances (things only).
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orchestrator import Composer
from orchestrator.photograph import StartingPhoto
from orchestrator.pictures import HIGHLIGHT, contact_sheet, painted_mask
from orchestrator.run import Run
from scene.corpus.coco import instance_mask, occlusion_order
from scene.geometry import Box
from scene.guidance import Guidance
from scene.layout import layout_picture
from scene.panoptic import rgb_of_ids

COLUMNS, WIDTH_PX, COLOURS = 4, 270, 160


@dataclass(frozen=True)
class Case:
    """A photo, what is put into it, and where a person would like it.

    `given`: it comes with a panoptic map, and under CC BY-NC, so that none of its pixels are shown.
    """

    name: str
    words: str
    box: Box
    given: bool


CASES = (
    Case("000000142238", "a dog", Box(505, 285, 595, 375), True),
    Case("000000439180", "a bicycle", Box(480, 245, 600, 340), True),
    Case("000000403353", "a dog", Box(40, 270, 160, 370), False),
    Case("000000423617", "a bicycle", Box(75, 330, 165, 400), False),
    Case("000000214753", "a dog", Box(120, 260, 220, 350), False),
    Case("000000408805", "a cat", Box(205, 345, 285, 420), False),
    Case("000000255165", "a coffee cup", Box(335, 395, 390, 455), False),
)


def opened(data: Path, case: Case) -> StartingPhoto:
    """The photo with the map that is given, or made of its instances."""
    if case.given:
        folder = data / "coco_panoptic_sample" / "sample_data"
        files = folder / "panoptic_examples" / f"{case.name}.png", folder / "panoptic_examples.json"
        return StartingPhoto.read(folder / "input_images" / f"{case.name}.jpg", files)
    folder = data / "coco_sample"
    document = json.loads((folder / "annotations" / "instances.json").read_text())
    return StartingPhoto.read(folder / "images" / f"{case.name}.jpg", map_of_instances(document, int(case.name)))


def map_of_instances(document: Any, image_id: int) -> tuple[bytes, bytes]:
    """A panoptic map, PNG and JSON, of COCO instances painted over each other in their synthetic order."""
    image = next(entry for entry in document["images"] if entry["id"] == image_id)
    shape = (image["height"], image["width"])
    annotations = [entry for entry in document["annotations"] if entry["image_id"] == image_id]
    masks = [instance_mask(entry, shape, str(image_id)) for entry in annotations]
    ids = np.zeros(shape, dtype=np.int32)
    for k in occlusion_order(masks):
        ids[masks[k]] = k + 1
    listed = [
        {"id": k + 1, "category_id": entry["category_id"], "iscrowd": entry["iscrowd"]}
        for k, entry in enumerate(annotations)
        if (ids == k + 1).any()
    ]
    buffer = io.BytesIO()
    Image.fromarray(rgb_of_ids(ids)).save(buffer, "PNG")
    entry = {"image_id": image_id, "segments_info": listed, "categories": document["categories"]}
    return buffer.getvalue(), json.dumps(entry).encode()


def seen(run: Run, case: Case) -> np.ndarray:
    """What a sheet shows of a run, uint8 (H, W, 3): the picture, or the layout where that is not ours to show."""
    return layout_picture(run.scene.layout) if case.given else run.scene.image


def row(run: Run, case: Case, guidance: Guidance | None) -> tuple[list[tuple[str, np.ndarray]], np.ndarray, float]:
    """Four candidates on the photo or its map, what it shows with the best one, and the seconds it took."""
    before, started = seen(run, case), time.monotonic()
    insertion = run.consider(case.words, guidance=guidance)
    run.insert(insertion)
    seconds = time.monotonic() - started
    nothing = np.zeros(run.scene.size.shape, dtype=bool)
    cells = [
        (f"{number}: score {c.score:.2f}", painted_mask(before, c.mask, nothing, HIGHLIGHT, 0.65, 3))
        for number, c in enumerate(insertion.candidates, start=1)
    ]
    return cells, seen(run, case), seconds


def sheet(composer: Composer, start: StartingPhoto, case: Case, out: Path) -> tuple[np.ndarray, list[float]]:
    """Photo, layout and both results above the candidates of each; and the seconds of each insertion."""
    run = composer.start(start.caption(), seed=7, out=out, photo=start)
    photo, layout = seen(run, case), layout_picture(run.scene.layout)
    free, free_result, free_s = row(run, case, None)
    run.go(run.folder.history.undone())
    boxed, boxed_result, boxed_s = row(run, case, Guidance.from_box(case.box, run.scene.size))
    run.close()
    shown = [
        *([] if case.given else [("photo", photo)]), ("layout", layout), (f"{case.words}, no guide", free_result),
        (f"{case.words}, in a box", boxed_result),
    ]  # fmt: skip
    for title, cells in (("no guide", free), ("box", boxed)):
        cells = [(f"{title} {caption}", pixels) for caption, pixels in cells]
        shown += [("", np.full_like(photo, 255))] * (-len(shown) % COLUMNS)
        shown += [*cells, *[("(stayed empty)", np.full_like(photo, 245))] * (COLUMNS - len(cells))]
    return contact_sheet(shown, COLUMNS, WIDTH_PX), [free_s, boxed_s]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="home")
    given = parser.parse_args()
    composer = Composer.from_preset(given.preset, overrides=["threads=1"])
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            pixels, seconds = sheet(composer, opened(given.data, case), case, Path(folder) / "run")
        target = given.out / f"photo-{case.name.lstrip('0')}.png"
        Image.fromarray(pixels).quantize(COLOURS).save(target, optimize=True)
        print(f"{target}: {case.words}, {seconds[0]:.1f} s without a guide, {seconds[1]:.1f} s in a box")


if __name__ == "__main__":
    main()
