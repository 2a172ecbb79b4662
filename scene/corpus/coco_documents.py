"""What the importers of COCO instances and COCO panoptic share: JSON with images, licences and categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from scene.corpus.attribution import Credit
from scene.corpus.photographs import (
    BACKGROUND,
    AnnotatedPhoto,
    Photos,
    PhotoWriter,
    Progress,
    entries_of,
    read_document,
)
from scene.corpus.store import Corpus
from scene.panoptic import Category, plural_of
from scene.vocabulary import Vocabulary

Item = TypeVar("Item")
LICENCE = "annotations CC BY 4.0; photos under their own licences, see ATTRIBUTION.md"
KINDS = {
    "vehicle": "vehicle", "person": "person", "animal": "animal", "outdoor": "outdoor", "accessory": "clothing",
    "sports": "sport", "kitchen": "tableware", "food": "food", "furniture": "furniture", "electronic": "electronics",
    "appliance": "appliance", "indoor": "object",
}  # fmt: skip


@dataclass(frozen=True)
class DataSet(Generic[Item]):
    """How one of COCO's data sets is read; its masks are modal, its order of depth synthetic.

    Attributes:
        name: of the corpus.
        title: of the data set.
        origin: what the credits name.
        categories: (entries of a document, its path) -> categories.
        items: (document, its path) -> one item a photo.
        image_id: COCO's number of an item's photo.
        photo: makes a photo of an item; raises UserError where it is broken.
    """

    name: str
    title: str
    origin: str
    categories: Callable[[list[dict[str, Any]], str], Sequence[Category]]
    items: Callable[[Any, Path], list[Item]]
    image_id: Callable[[Item], int]
    photo: Callable[[Item, Mapping[int, Category], Photos], AnnotatedPhoto]


def import_documents(
    kind: DataSet[Item],
    paths: Sequence[Path],
    destination: Path,
    photos: Photos,
    *,
    skip_broken: bool,
    limit: int | None,
    progress: Progress | None,
) -> Corpus:
    """Imports the photos of some documents of one data set into a corpus folder.

    Args:
        kind: how they are read.
        paths: the documents.
        destination: corpus folder to write; an older corpus there is replaced.
        photos: where the pictures lie.
        skip_broken, limit, progress: as in `import_coco`.

    Raises:
        UserError: files missing or malformed; names file, image id and field.
    """
    items: list[Item] = []
    categories: dict[int, Category] = {}
    entries: dict[str, dict[str, Any]] = {}
    credits: list[Credit] = []
    for path in paths:
        document = read_document(path)
        listed = entries_of(document, "categories", path, {"id": int, "name": str})
        categories |= {category.id: category for category in kind.categories(listed, str(path))}
        entries |= vocabulary_entries(listed)
        items += kind.items(document, path)
        credits += photo_credits(document, path, kind.origin)
    writer = PhotoWriter(
        destination,
        name=kind.name,
        licence=LICENCE,
        vocabulary=Vocabulary(kind.name, {BACKGROUND: {"kind": "surface", "mass": True}, **entries}),
        skip_broken=skip_broken,
    )
    items = items[:limit]
    writer.add_all(items, lambda item: kind.photo(item, categories, photos), progress)
    used = {f"image {kind.image_id(item)}" for item in items}
    return writer.finish(
        [credit for credit in credits if credit.source in used], source=kind.title, masks="modal", order="synthetic"
    )


def vocabulary_entries(categories: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Categories of a COCO file as entries of a vocabulary: plain words, kinds, plurals."""
    entries: dict[str, dict[str, Any]] = {}
    for entry in categories:
        thing = bool(entry.get("isthing", 1))
        words = Category(entry["id"], entry["name"], thing).words
        kind = KINDS.get(str(entry.get("supercategory")), "object") if thing else "surface"
        facts: dict[str, Any] = {"kind": kind}
        if not thing or words == "broccoli":
            facts["mass"] = True
        elif words in ("scissors", "skis"):
            facts["plural_only"] = True
        else:
            facts["plural"] = plural_of(words)
        entries.setdefault(words, facts)
    return entries


def photo_credits(document: Mapping[str, Any], path: Path, origin: str) -> list[Credit]:
    """Photo, Flickr address and licence of each image of a COCO file."""
    listed = document.get("licenses")
    licences = {
        str(entry.get("id")): str(entry.get("name"))
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, dict)
    }
    return [
        Credit(
            f"image {entry['id']}",
            entry["file_name"],
            f"the photographer at {entry.get('flickr_url', 'flickr.com')}",
            licences.get(str(entry.get("license")), "licence not stated"),
            origin,
        )
        for entry in entries_of(document, "images", path, {"id": int, "file_name": str})
    ]
