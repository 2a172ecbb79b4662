"""Importer of COCO-Amodal (COCOA; Zhu et al., "Semantic Amodal Segmentation", CVPR 2017).

A region's `segmentation` is ONE flat polygon, its amodal shape; `order` 1 is nearest; `visible_mask` and
`invisible_mask` are compressed run lengths, there only where something hides it. Names are free text. Full files hold
`images` and `annotations`; a demo file is one annotation beside the picture of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scene.corpus.attribution import Credit
from scene.corpus.outlines import from_counts, polygon_mask
from scene.corpus.photographs import (
    BACKGROUND,
    AnnotatedPhoto,
    Part,
    Photos,
    PhotoWriter,
    Progress,
    check_fields,
    clean_name,
    entries_of,
    read_document,
)
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.geometry import Size
from scene.photo import decoding
from scene.vocabulary import Vocabulary

TOLERANCE_FRAC = 0.01  # of a region: more disagreement between its polygon and its masks is an error
LICENCE = "photos under their own Flickr licences; non-commercial ones occur (see COCO's images)"


@dataclass(frozen=True, eq=False)
class _Item:
    """An annotation, where it stands, and the name of its picture."""

    annotation: Mapping[str, Any]
    where: str
    picture: str


def import_cocoa(
    source: Path,
    destination: Path,
    *,
    images: Path | None = None,
    skip_broken: bool = False,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Imports COCOA into a corpus folder.

    Args:
        source: a JSON file, or a folder with JSON files.
        destination: corpus folder to write; an older corpus there is replaced.
        images: where the pictures lie; None = beside the JSON files.
        skip_broken: leave broken annotations out and list them in `build.json`.
        limit: at most so many annotations.
        progress: wraps the iterator (iterator, total) to draw a bar.

    Raises:
        UserError: files missing or malformed; names file, image id and field.
    """
    items = _items(source)[:limit]
    photos = Photos(source if source.is_dir() else source.parent, images)
    vocabulary = Vocabulary("cocoa", _entries(items))
    writer = PhotoWriter(
        destination, name="cocoa", licence=LICENCE, vocabulary=vocabulary, skip_broken=skip_broken
    )  # fmt: skip
    writer.add_all(items, lambda item: _photo(item, photos), progress)
    credits = [
        Credit(f"cocoa/{item.annotation.get('id')}", item.picture, "photographer unknown here", "see COCO", "COCO")
        for item in items
    ]
    return writer.finish(credits, source="COCO-Amodal (COCOA)", masks="amodal")


def _items(source: Path) -> list[_Item]:
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    items: list[_Item] = []
    for path in paths:
        document = read_document(path)
        if isinstance(document, dict) and "regions" in document:
            items.append(_Item(document, str(path), f"{path.stem}.jpg"))
            continue
        names = {
            entry["id"]: entry["file_name"]
            for entry in entries_of(document, "images", path, {"id": int, "file_name": str})
        }
        for number, annotation in enumerate(entries_of(document, "annotations", path, {"image_id": int})):
            where = f"{path}: annotations[{number}]"
            if annotation["image_id"] not in names:
                raise UserError(f"{where}: image_id {annotation['image_id']} is not among the {len(names)} images")
            items.append(_Item(annotation, where, names[annotation["image_id"]]))
    if not items:
        raise UserError(f"no COCOA JSON in {source}; point SRC at a file, or a folder of them")
    return items


def _entries(items: list[_Item]) -> dict[str, dict[str, Any]]:
    """The vocabulary: every name that occurs, a surface where it is marked as stuff more often than not."""
    votes: dict[str, list[bool]] = {}
    for item in items:
        regions = item.annotation.get("regions")
        for region in regions if isinstance(regions, list) else ():
            if isinstance(region, dict) and isinstance(region.get("name"), str):
                votes.setdefault(clean_name(region["name"]), []).append(bool(region.get("isStuff")))
    votes.pop("", None)
    entries = {
        name: {"kind": "surface", "mass": True} if 2 * sum(stuff) > len(stuff) else {"kind": "object"}
        for name, stuff in sorted(votes.items())
    }
    return {BACKGROUND: {"kind": "surface", "mass": True}, **entries}


def _photo(item: _Item, photos: Photos) -> AnnotatedPhoto:
    annotation, where = item.annotation, item.where
    check_fields(annotation, where, {"image_id": int, "id": int, "regions": list})
    where = f"{where} (image {annotation['image_id']})"
    path = photos.find(item.picture, where)
    with decoding(str(path)), Image.open(path) as picture:
        size = Size(*picture.size)
    regions, orders = [], set()
    for number, region in enumerate(annotation["regions"]):
        place = f"{where}: regions[{number}]"
        check_fields(region, place, {"segmentation": list, "name": str, "order": int})
        if region["order"] in orders:
            raise UserError(f"{place}: order {region['order']} occurs twice")
        orders.add(region["order"])
        regions.append((region, place))
    regions.sort(key=lambda entry: entry[0]["order"])  # nearest first
    nearer = np.zeros(size.shape, dtype=bool)
    parts = []
    for number, (region, place) in enumerate(regions):
        mask = _checked_mask(region, nearer, size, place)
        nearer |= mask
        name = clean_name(region["name"])
        if not name:
            raise UserError(f"{place}: name {region['name']!r} has no letters")
        parts.append(Part(name, name, mask, f"cocoa-{annotation['id']}/{number}"))
    scene = f"{annotation['image_id']:012d}-{annotation['id']}"
    return AnnotatedPhoto(scene, annotation["image_id"], path, tuple(parts[::-1]))


def _checked_mask(region: Mapping[str, Any], nearer: np.ndarray, size: Size, where: str) -> np.ndarray:
    """The amodal mask, once it agrees with the visible and invisible masks and with what lies in front.

    polygon = visible ∪ invisible; visible = amodal minus everything nearer.
    """
    try:
        amodal = polygon_mask([region["segmentation"]], size.shape)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: segmentation: {error}") from None
    if not amodal.any():
        raise UserError(f"{where}: segmentation covers no pixel")
    allowed = TOLERANCE_FRAC * int(amodal.sum())
    if "visible_mask" not in region and "invisible_mask" not in region:
        return amodal
    masks = {}
    for field in ("visible_mask", "invisible_mask"):
        rle = region.get(field)
        got = rle.get("size") if isinstance(rle, dict) else rle
        if not isinstance(rle, dict) or got != list(size.shape):
            raise UserError(f"{where}: {field} is of size {got}; the picture's is {list(size.shape)} (height, width)")
        try:
            masks[field] = from_counts(rle["counts"], size.shape)
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"{where}: {field}: {error}") from None
    visible, invisible = masks["visible_mask"], masks["invisible_mask"]
    wrong = int((amodal ^ (visible | invisible)).sum())
    if wrong > allowed:
        raise UserError(f"{where}: visible_mask and invisible_mask together differ from segmentation in {wrong} pixels")
    wrong = int((visible ^ (amodal & ~nearer)).sum())
    if wrong > allowed:
        raise UserError(
            f"{where}: visible_mask differs from segmentation less nearer regions (by order) in {wrong} pixels"
        )
    return amodal
