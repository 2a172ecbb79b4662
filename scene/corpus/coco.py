"""Importer of COCO instances and captions (Lin et al., 2014). Masks are modal; the order of depth is synthetic.

The order, back to front: an object of which at least half lies inside a larger one's mask is in front of it (a tie on
a person, food on a plate); else the one whose mask reaches lower in the picture is nearer, at the same height the
smaller one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from scene.corpus.coco_documents import DataSet, import_documents
from scene.corpus.outlines import from_counts, polygon_mask
from scene.corpus.photographs import (
    AnnotatedPhoto,
    Part,
    Photos,
    Progress,
    check_fields,
    entries_of,
    read_document,
)
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.panoptic import Category, categories_of, plural_of

INSIDE_FRAC = 0.5
_IMAGE_FIELDS: dict[str, type] = {"id": int, "file_name": str, "width": int, "height": int}


@dataclass(frozen=True, eq=False)
class _Item:
    """A photo with what belongs to it."""

    image: Mapping[str, Any]
    annotations: Sequence[tuple[Mapping[str, Any], str]]
    captions: Sequence[str]
    where: str


def import_coco(
    source: Path,
    destination: Path,
    *,
    images: Path | None = None,
    skip_broken: bool = False,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Imports COCO instances, with captions where they lie beside them, into a corpus folder.

    Args:
        source: an `instances*.json`, or a folder that holds some (in `annotations/` or itself).
        destination: corpus folder to write; an older corpus there is replaced.
        images: where the pictures lie; None = looked for in `images/`, `train2017/` and the like.
        skip_broken: leave broken photos out and list them in `build.json`.
        limit: at most so many photos.
        progress: wraps the iterator (iterator, total) to draw a bar.

    Raises:
        UserError: files missing or malformed; names file, image id and field.
    """
    paths = _instance_files(source)
    folder = source if source.is_dir() else source.parent.parent
    return import_documents(
        DATA_SET, paths, destination, Photos(folder, images), skip_broken=skip_broken, limit=limit, progress=progress
    )


def _instance_files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    paths = sorted(source.glob("annotations/instances*.json")) + sorted(source.glob("instances*.json"))
    if not paths:
        raise UserError(f"no instances*.json in {source} or {source / 'annotations'}; point SRC at the COCO folder")
    return paths


def _items(document: Any, path: Path) -> list[_Item]:
    listed = entries_of(document, "images", path, _IMAGE_FIELDS)
    known = {image["id"] for image in listed}
    annotations: dict[int, list[tuple[Mapping[str, Any], str]]] = {}
    fields = {"id": int, "image_id": int, "category_id": int}
    for number, annotation in enumerate(entries_of(document, "annotations", path, fields)):
        where = f"{path}: annotations[{number}] (image {annotation['image_id']})"
        if annotation["image_id"] not in known:
            raise UserError(f"{where}: image_id is not among the {len(known)} images")
        annotations.setdefault(annotation["image_id"], []).append((annotation, where))
    captions = _captions(path.with_name(path.name.replace("instances", "captions")))
    return [
        _Item(image, annotations.get(image["id"], ()), captions.get(image["id"], ()), f"{path} (image {image['id']})")
        for image in listed
    ]


def _captions(path: Path) -> dict[int, list[str]]:
    if not path.is_file() or not path.name.startswith("captions"):
        return {}
    found: dict[int, list[str]] = {}
    for entry in entries_of(read_document(path), "annotations", path, {"image_id": int, "caption": str}):
        found.setdefault(entry["image_id"], []).append(entry["caption"])
    return found


def _photo(item: _Item, categories: Mapping[int, Category], photos: Photos) -> AnnotatedPhoto:
    image = item.image
    shape = (image["height"], image["width"])
    parts = []
    for annotation, where in item.annotations:
        category = categories.get(annotation["category_id"])
        if category is None:
            raise UserError(f"{where}: category_id {annotation['category_id']} is not among the categories")
        crowd = bool(annotation.get("iscrowd", 0))
        mask = instance_mask(annotation, shape, where)
        words = f"a group of {plural_of(category.words)}" if crowd else category.words
        parts.append(Part(category.words, words, mask, f"coco-{image['id']}/{annotation['id']}"))
    order = occlusion_order([part.mask for part in parts])
    path = photos.find(image["file_name"], item.where)
    return AnnotatedPhoto(
        f"{image['id']:012d}", image["id"], path, tuple(parts[k] for k in order), tuple(item.captions)
    )


def instance_mask(annotation: Mapping[str, Any], shape: tuple[int, int], where: str) -> np.ndarray:
    """The mask of an annotation: polygons, or run lengths of either kind; bool (H, W).

    Raises:
        UserError: names the annotation and field.
    """
    segmentation = annotation.get("segmentation")
    try:
        if isinstance(segmentation, dict):
            check_fields(segmentation, f"{where}: segmentation", {"size": list})
            if tuple(segmentation["size"]) != shape:
                raise ValueError(f"size is {segmentation['size']}, the picture's is {list(shape)} (height, width)")
            mask = from_counts(segmentation.get("counts", ()), shape)
        elif isinstance(segmentation, list) and segmentation:
            mask = polygon_mask(segmentation, shape)
        else:
            raise ValueError(f"is {str(segmentation)[:20]!r}; need polygons or run lengths")
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: segmentation: {error}") from None
    if not mask.any():
        raise UserError(f"{where}: segmentation covers no pixel")
    return mask


def occlusion_order(masks: Sequence[np.ndarray]) -> list[int]:
    """Positions of modal masks, bool (H, W) each, back to front, by the rule at the head of this file."""
    areas = [int(mask.sum()) for mask in masks]
    bases = [int(np.flatnonzero(mask.any(axis=1)).max(initial=-1)) for mask in masks]
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(masks)))
    for small in range(len(masks)):
        for large in range(len(masks)):
            if (areas[large], large) <= (areas[small], small):  # so no circle can arise
                continue
            if (masks[small] & masks[large]).sum() >= INSIDE_FRAC * areas[small] > 0:
                graph.add_edge(large, small)
    return list(nx.lexicographical_topological_sort(graph, key=lambda k: (bases[k], -areas[k], k)))


DATA_SET = DataSet(
    "coco",
    "COCO instances and captions",
    "COCO 2017",
    categories=categories_of,
    items=_items,
    image_id=lambda item: item.image["id"],
    photo=_photo,
)
