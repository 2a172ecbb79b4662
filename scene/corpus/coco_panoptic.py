"""Importer of COCO panoptic (Kirillov et al., 2019): a PNG of segment ids a photo, and one JSON. Masks are modal.

Layers are the segments in the order of `PanopticMap.back_to_front`; unlabelled pixels are the background.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scene.corpus.coco_documents import DataSet, import_documents
from scene.corpus.photographs import (
    AnnotatedPhoto,
    Part,
    Photos,
    Progress,
    entries_of,
)
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.panoptic import Category, categories_of, checked_map, read_ids, segments_of


@dataclass(frozen=True, eq=False)
class _Item:
    """An annotation, its photo's name, where its PNG lies, and where it stands."""

    annotation: Mapping[str, Any]
    photo: str
    pngs: Path
    where: str


def import_coco_panoptic(
    source: Path,
    destination: Path,
    *,
    images: Path | None = None,
    skip_broken: bool = False,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Imports COCO panoptic into a corpus folder.

    Args:
        source: a `panoptic*.json` with the folder of its PNGs beside it (same name without .json), or a folder that
            holds some (in `annotations/` or itself).
        destination: corpus folder to write; an older corpus there is replaced.
        images: where the photos lie; None = looked for in `images/`, `input_images/`, `train2017/` and the like.
        skip_broken: leave broken photos out and list them in `build.json`.
        limit: at most so many photos.
        progress: wraps the iterator (iterator, total) to draw a bar.

    Raises:
        UserError: files missing or malformed; names file, image id and field.
    """
    folder = source if source.is_dir() else source.parent
    return import_documents(
        DATA_SET,
        _files(source),
        destination,
        Photos(folder, images),
        skip_broken=skip_broken,
        limit=limit,
        progress=progress,
    )


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    found = [*sorted(source.glob("panoptic*.json")), *sorted(source.glob("annotations/panoptic*.json"))]
    paths = [path for path in found if path.with_suffix("").is_dir()]
    if not paths:
        raise UserError(
            f"no panoptic*.json with a folder of PNGs beside it in {source}; point SRC at the COCO panoptic folder"
        )
    return paths


def _items(document: Any, path: Path) -> list[_Item]:
    names = {
        entry["id"]: entry["file_name"] for entry in entries_of(document, "images", path, {"id": int, "file_name": str})
    }
    items = []
    for number, annotation in enumerate(
        entries_of(document, "annotations", path, {"image_id": int, "file_name": str, "segments_info": list})
    ):
        if annotation["image_id"] not in names:
            raise UserError(
                f"{path}: annotations[{number}]: image_id {annotation['image_id']} is not among the {len(names)} images"
            )
        items.append(_Item(annotation, names[annotation["image_id"]], path.with_suffix(""), str(path)))
    return items


def _photo(item: _Item, categories: Mapping[int, Category], photos: Photos) -> AnnotatedPhoto:
    annotation = item.annotation
    where = f"{item.where}: image {annotation['image_id']}"
    png = item.pngs / Path(annotation["file_name"]).name
    ids = read_ids(png, str(png))
    found = checked_map(ids, segments_of(annotation, categories, item.where), where)
    number = annotation["image_id"]
    parts = tuple(
        Part(s.category.words, s.description, found.mask(s.id), f"panoptic-{number}/{s.id}")
        for s in found.back_to_front()
    )
    return AnnotatedPhoto(f"{number:012d}", number, photos.find(item.photo, where), parts)


DATA_SET = DataSet(
    "coco-panoptic",
    "COCO panoptic",
    "COCO 2018 panoptic",
    categories=categories_of,
    items=_items,
    image_id=lambda item: item.annotation["image_id"],
    photo=_photo,
)
