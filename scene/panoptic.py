"""Panoptic maps in COCO's format: a PNG of segment ids R + 256 G + 256² B, and a JSON that says what each of them is.

Source: https://cocodataset.org/#format-data (panoptic segmentation); Kirillov et al., "Panoptic Segmentation", 2019.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scene.errors import UserError
from scene.geometry import Size
from scene.photo import MAX_PIXELS, decoding, read_bytes
from scene.vocabulary import Vocabulary, pluralise

VOID = 0
MAX_JSON_BYTES = 64 << 20
MAX_PNG_BYTES = 64 << 20
ASPECT_TOLERANCE = 0.01
# Words for categories whose own name is jargon, or means another thing in a world's vocabulary.
_WORDS = {"playingfield": "playing field", "keyboard": "computer keyboard", "mouse": "computer mouse"}
_PLURALS = {"person": "people", "sheep": "sheep", "knife": "knives", "mouse": "mice", "scissors": "scissors"}
_SUFFIXES = ("-merged", "-other", "-stuff")
_MATERIALS = {"floor-wood": "wooden floor", "wall-wood": "wooden wall"}
# What a world may call a surface that it has no word for.
_NEAR = {"gravel": "path", "dirt": "path", "platform": "pavement", "playing field": "lawn", "railroad": "path"}
# Categories of COCO panoptic, ADE20K and Cityscapes that are surfaces and materials; models list names only.
_STUFF = frozenset(
    """
    banner blanket bridge cardboard counter curtain door-stuff floor-wood flower fruit gravel house light net
    mirror-stuff pillow platform playingfield railroad river road roof sand sea shelf snow stairs tent towel wall-brick
    wall-stone wall-tile wall-wood water-other window-blind window-other tree-merged fence-merged ceiling-merged
    sky-other-merged
    cabinet-merged table-merged floor-other-merged pavement-merged mountain-merged grass-merged dirt-merged paper-merged
    food-other-merged building-other-merged rock-merged wall-other-merged rug-merged
    wall floor sky ground earth grass ceiling water mountain hill land field path sidewalk terrain vegetation building
    """.split()
)


@dataclass(frozen=True)
class Category:
    """A category of a data set or of a segmentation model.

    Attributes:
        id: its number there.
        name: its name there ("wall-brick", "dining table").
        thing: a countable object; False = stuff (a surface, a material).
    """

    id: int
    name: str
    thing: bool

    @property
    def words(self) -> str:
        """The name in plain English: "wall-other-merged" is "wall", "wall-brick" is "brick wall"."""
        name = self.name.strip().lower()
        if name in _WORDS or name in _MATERIALS:
            return _WORDS.get(name) or _MATERIALS[name]
        for suffix in _SUFFIXES:
            name = name.removesuffix(suffix)
        noun, _, kind = name.partition("-")
        return name.replace("-", " ") if noun == "window" or not kind else f"{kind} {noun}"


@dataclass(frozen=True)
class Segment:
    """One region of a panoptic map.

    Attributes:
        id: its value in the map; above 0.
        category: what it shows.
        crowd: several objects in one region.
        area: pixels that its JSON claims, or None.
    """

    id: int
    category: Category
    crowd: bool = False
    area: int | None = None

    @property
    def description(self) -> str:
        """`T_obj`: words for the region."""
        return f"a group of {plural_of(self.category.words)}" if self.crowd else self.category.words


@dataclass(frozen=True, eq=False)
class PanopticMap:
    """Which segment each pixel belongs to.

    Attributes:
        ids: int32 (H, W); 0 = unlabelled.
        segments: those that have pixels.
    """

    ids: np.ndarray
    segments: tuple[Segment, ...]

    @property
    def size(self) -> Size:
        return Size(self.ids.shape[1], self.ids.shape[0])

    def mask(self, id: int) -> np.ndarray:
        """Bool (H, W): the pixels of a segment."""
        return self.ids == id

    def back_to_front(self) -> tuple[Segment, ...]:
        """The segments in the order they are painted in: stuff, the largest first, then things, the lowest base last.

        What stands lower in a picture is as a rule nearer; at the same height the smaller one is taken for nearer.
        """
        facts = {}
        for segment in self.segments:
            mask = self.mask(segment.id)
            facts[segment.id] = int(mask.sum()), int(np.flatnonzero(mask.any(axis=1)).max(initial=0))

        def key(segment: Segment) -> tuple[int, ...]:
            area, base = facts[segment.id]
            return (1, base, -area, segment.id) if segment.category.thing else (0, -area, segment.id)

        return tuple(sorted(self.segments, key=key))

    def resized(self, size: Size) -> PanopticMap:
        """The same map on another grid of pixels, nearest neighbour; what has no pixel left is dropped.

        Raises:
            UserError: the proportions differ by more than 1 %.
        """
        if self.size == size:
            return self
        stretch = (size.width * self.size.height) / (size.height * self.size.width)
        if abs(stretch - 1) > ASPECT_TOLERANCE:
            raise UserError(
                f"the panoptic map is {self.size.width}x{self.size.height}, the picture {size.width}x{size.height} "
                "(upright); give a map of the same proportions"
            )
        ids = np.asarray(Image.fromarray(self.ids).resize(size, Image.Resampling.NEAREST))
        left = pixel_counts(ids)
        return PanopticMap(ids, tuple(segment for segment in self.segments if segment.id in left))


def plural_of(words: str) -> str:
    """Several of a category: "computer mice"."""
    before, space, last = words.rpartition(" ")
    return f"{before}{space}{_PLURALS.get(last) or pluralise(last)}"


def category_named(id: int, name: str) -> Category:
    """A category of which only the name is known, as segmentation models list them."""
    return Category(id, name, name.split(",")[0].strip().lower() not in _STUFF)


def label_in(category: Category, vocabulary: Vocabulary) -> str:
    """A category in the words of a world; its own plain words where the world has none (masks read texts, not numbers).

    Things need an exact word ("couch" is a sofa; "hot dog" is never a dog); of stuff the last word will do ("brick
    wall" is a wall).
    """
    words = category.words
    for candidate in (words, _NEAR.get(words, "")):
        exact = vocabulary.exact(candidate)
        if exact is not None:
            return exact
    if not category.thing:
        last = vocabulary.exact(words.split()[-1])
        if last is not None:
            return last
    return words


def ids_of_rgb(rgb: np.ndarray) -> np.ndarray:
    """Segment ids int32 (H, W) of uint8 (H, W, 3): R + 256 G + 256² B."""
    ids = rgb[..., 2].astype(np.int32)
    for channel in (1, 0):
        ids *= 256
        ids += rgb[..., channel]
    return ids


def pixel_counts(ids: np.ndarray) -> dict[int, int]:
    """How many pixels each id of a map has, those without any left out."""
    counts = np.bincount(ids.ravel())
    found = np.flatnonzero(counts)
    return dict(zip(found.tolist(), counts[found].tolist(), strict=True))


def rgb_of_ids(ids: np.ndarray) -> np.ndarray:
    """Inverse of `ids_of_rgb`."""
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def read_ids(source: Path | bytes, name: str) -> np.ndarray:
    """Segment ids int32 (H, W) of a PNG.

    Raises:
        UserError: not a readable RGB PNG, or too large.
    """
    data = read_bytes(source, name, MAX_PNG_BYTES)
    with decoding(name), Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise UserError(f"{name} is {picture.width}x{picture.height}; at most {MAX_PIXELS / 1e6:.0f} megapixels")
        if picture.mode not in ("RGB", "RGBA"):
            raise UserError(f"{name} is {picture.mode}; need an RGB PNG of segment ids R + 256 G + 65536 B")
        return ids_of_rgb(np.asarray(picture.convert("RGB")))


def read_panoptic(
    png: Path | bytes, description: Path | bytes, *, name: str = "", categories: Sequence[Category] = ()
) -> PanopticMap:
    """Reads a panoptic map: PNG and JSON.

    Args:
        png: segment ids.
        description: COCO's panoptic JSON (whole, or its one annotation), or what a segmentation tool wrote like it.
        name: file name of the PNG, which tells its annotation among several; by default that of the path.
        categories: used where the JSON brings none.

    Raises:
        UserError: files that cannot be used; names file, image and field.
    """
    name = name or (png.name if isinstance(png, Path) else "the PNG")
    where = str(description) if isinstance(description, Path) else "the panoptic JSON"
    data = read_bytes(description, where, MAX_JSON_BYTES)
    try:
        document = json.loads(data)
    except ValueError as error:
        raise UserError(f"{where} is not JSON ({str(error)[:80]}); give COCO's panoptic JSON") from None
    annotation, named = _annotation(document, name, where)
    known = {category.id: category for category in named or categories}
    segments = segments_of(annotation, known, where)
    return checked_map(read_ids(png, str(png) if isinstance(png, Path) else "the panoptic PNG"), segments, where)


def _annotation(document: Any, name: str, where: str) -> tuple[Mapping[str, Any], list[Category]]:
    if not isinstance(document, dict):
        raise UserError(f"{where} is not an object; give COCO's panoptic JSON with annotations and categories")
    named = categories_of(document.get("categories", []), where)
    if "segments_info" in document:
        return document, named
    annotations = document.get("annotations")
    if not isinstance(annotations, list) or not all(isinstance(entry, dict) for entry in annotations):
        raise UserError(f"{where} has neither annotations nor segments_info; give COCO's panoptic JSON")
    fitting = [entry for entry in annotations if entry.get("file_name") == name]
    if not fitting and len(annotations) == 1:
        fitting = annotations
    if len(fitting) != 1:
        listed = ", ".join(str(entry.get("file_name")) for entry in annotations[:5])
        raise UserError(f"{where} has {len(fitting)} annotations with file_name {name!r}; it has: {listed}")
    return fitting[0], named


def categories_of(entries: Any, where: str) -> list[Category]:
    """Reads COCO's list of categories.

    Raises:
        UserError: names the entry and field.
    """
    found = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        if isinstance(entry, dict) and not any(character.isalnum() for character in str(entry.get("name", "missing"))):
            raise UserError(f"{where}: categories[{number}]: name {str(entry['name'])[:40]!r} has no letters")
        try:
            found.append(Category(int(entry["id"]), str(entry["name"]), bool(entry.get("isthing", 1))))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{where}: categories[{number}] lacks id or name ({type(error).__name__}: {error})"
            ) from None
    return found


def segments_of(annotation: Mapping[str, Any], categories: Mapping[int, Category], where: str) -> tuple[Segment, ...]:
    """Reads `segments_info`.

    Raises:
        UserError: names file, image id, segment and field.
    """
    where = f"{where}: image {annotation.get('image_id', '?')}"
    entries = annotation.get("segments_info")
    if not isinstance(entries, list):
        raise UserError(f"{where}: segments_info is {type(entries).__name__}; need a list")
    found: dict[int, Segment] = {}
    for number, entry in enumerate(entries):
        place = f"{where}: segments_info[{number}]"
        for field in ("id", "category_id"):
            if not isinstance(entry, dict) or not isinstance(entry.get(field), int):
                raise UserError(f"{place}: {field} is missing or no whole number")
        id, category = entry["id"], categories.get(entry["category_id"])
        if not VOID < id < 1 << 24 or id in found:
            raise UserError(f"{place}: id {id} is {'used twice' if id in found else 'not 1 to 16777215'}")
        if category is None:
            raise UserError(
                f"{place}: category_id {entry['category_id']} is not among the {len(categories)} categories"
            )
        area = entry.get("area")
        if area is not None and not isinstance(area, int):
            raise UserError(f"{place}: area is {str(area)[:20]!r}; need a whole number of pixels")
        found[id] = Segment(id, category, bool(entry.get("iscrowd", 0)), area)
    return tuple(found.values())


def checked_map(ids: np.ndarray, segments: Sequence[Segment], where: str) -> PanopticMap:
    """The map, once picture and list are known to agree: the same ids, and the areas claimed.

    Raises:
        UserError: names the segment and what differs.
    """
    areas = pixel_counts(ids)
    listed = {segment.id for segment in segments}
    stray = sorted(set(areas) - listed - {VOID})
    if stray:
        raise UserError(f"{where}: the PNG has a segment id {stray[0]} ({areas[stray[0]]} pixels) that is not listed")
    for segment in segments:
        if segment.id not in areas:
            raise UserError(f"{where}: segment id {segment.id} has no pixel in the PNG")
        if segment.area is not None and segment.area != areas[segment.id]:
            raise UserError(
                f"{where}: segment {segment.id} claims area {segment.area}, the PNG has {areas[segment.id]} pixels"
            )
    return PanopticMap(ids, tuple(segments))
