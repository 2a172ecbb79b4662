"""Corpora of annotated photographs: what the importers of COCO's data sets share.

Every photo lies in the middle of one square canvas, at its own scale where it fits. Layers are the annotated regions,
back to front; what no region covers is a rearmost layer "background". Colours of hidden parts were never seen: they
are filled from the nearest visible pixel of the same layer. See docs/data.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from scene.corpus.attribution import ATTRIBUTION_FILE, Credit, attribution
from scene.corpus.claims import false_claims
from scene.corpus.language import global_prompts
from scene.corpus.records import LayerFacts, LayerRecord
from scene.corpus.store import Corpus, CorpusWriter
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.photo import read_photo
from scene.vocabulary import Vocabulary

CANVAS = Size(640, 640)  # every COCO photo fits at its own scale
BACKGROUND = "background"
OWN_PROMPTS = 3  # generated ones, the first of each scene; people's captions follow
IMAGE_FOLDERS = ("images", "input_images", "train2017", "val2017", "train2014", "val2014", "")
MAX_NAME_CHARACTERS = 80
Progress = Callable[[Iterator[Any], int], Iterator[Any]]


@dataclass(frozen=True, eq=False)
class Part:
    """A region of a photo.

    Attributes:
        label: category.
        description: `T_obj`.
        mask: bool (H, W) at the photo's size; amodal where the data set says so, else what is visible.
        source: where the annotation comes from, unique in the corpus.
    """

    label: str
    description: str
    mask: np.ndarray
    source: str


@dataclass(frozen=True, eq=False)
class AnnotatedPhoto:
    """A photo and its regions.

    Attributes:
        id: unique in the corpus.
        image_id: COCO's number of the photo; decides the split.
        path: the picture file.
        parts: back to front.
        captions: what people said about it.
    """

    id: str
    image_id: int
    path: Path
    parts: tuple[Part, ...]
    captions: tuple[str, ...] = ()


def split_of(image_id: int) -> str:
    """The same for a photo in whichever data set it occurs: of ten ids one is val (8), one test (9)."""
    return {8: "val", 9: "test"}.get(image_id % 10, "train")


def read_document(path: Path) -> Any:
    """JSON of any size.

    Raises:
        UserError: not readable, or not JSON.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); name an existing file") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({str(error)[:80]}); download it again") from None


def entries_of(document: Any, name: str, path: Path, fields: Mapping[str, type]) -> list[dict[str, Any]]:
    """A list of objects with the fields that are needed, checked.

    Raises:
        UserError: names file, entry (image id where it has one) and field.
    """
    entries = document.get(name) if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise UserError(f"{path} has no list {name!r}; give the data set's own JSON")
    for number, entry in enumerate(entries):
        check_fields(entry, f"{path}: {name}[{number}]", fields)
    return entries


def check_fields(entry: Any, where: str, fields: Mapping[str, type]) -> None:
    """Raises UserError, naming image id and field, unless `entry` is an object with these fields of these types."""
    if not isinstance(entry, dict):
        raise UserError(f"{where} is {type(entry).__name__}; need an object")
    for field, kind in fields.items():
        value = entry.get(field)
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool):
            image = entry["image_id"] if "image_id" in entry and field != "image_id" else "?"
            got = "missing" if field not in entry else f"{str(value)[:40]!r}"
            raise UserError(f"{where} (image {image}): {field} is {got}; need {kind.__name__}")


def clean_name(text: str) -> str:
    """A free-text name: lower case, single spaces, no punctuation at its ends; typos stay."""
    words = " ".join(re.sub(r"[^\w' -]+", " ", text.lower()).split())
    return words.strip("'_- ")[:MAX_NAME_CHARACTERS].strip()


class Photos:
    """Finds picture files by name.

    Args:
        folder: the data set's folder.
        images: where the pictures lie; None = looked for in and below `folder`.
    """

    def __init__(self, folder: Path, images: Path | None) -> None:
        self.folders = [images] if images else [folder / name for name in IMAGE_FOLDERS]

    def find(self, name: str, where: str) -> Path:
        """The file of that name.

        Raises:
            UserError: it is nowhere.
        """
        for folder in self.folders:
            path = folder / Path(name).name
            if path.is_file():
                return path
        listed = ", ".join(str(folder) for folder in self.folders[:3])
        raise UserError(f"{where}: file_name {name!r} is not in {listed}; say where with --images DIR")


class PhotoWriter:
    """Writes annotated photos as a corpus.

    Args:
        path: corpus folder.
        name, licence: facts of the corpus.
        vocabulary: its labels, `BACKGROUND` among them.
        skip_broken: leave photos out that raise UserError, and list them in `build.json`, instead of stopping.
    """

    def __init__(
        self, path: Path, *, name: str, licence: str, vocabulary: Vocabulary, skip_broken: bool = False
    ) -> None:
        self.vocabulary, self.skip_broken = vocabulary, skip_broken
        self.writer = CorpusWriter(path, name=name, licence=licence, size=CANVAS, vocabulary=vocabulary)
        self.skipped: list[str] = []
        self.scenes = 0

    def add_all(
        self, items: Sequence[Any], read: Callable[[Any], AnnotatedPhoto], progress: Progress | None = None
    ) -> None:
        """Reads and stores one photo after the other.

        Args:
            items: what `read` is given.
            read: makes a photo of an item; raises UserError where it is broken.
            progress: wraps the iterator (iterator, total) to draw a bar.

        Raises:
            UserError: a broken photo, unless broken ones are skipped.
        """
        for item in progress(iter(items), len(items)) if progress else items:
            try:
                self.add(read(item))
            except UserError as error:
                if not self.skip_broken:
                    raise UserError(f"{error}; --skip-broken leaves such photos out") from None
                self.skipped.append(str(error))

    def add(self, photo: AnnotatedPhoto) -> None:
        """Stores a photo."""
        rgb = read_photo(photo.path).seen
        size = Size(rgb.shape[1], rgb.shape[0])
        for part in photo.parts:
            if part.mask.shape != size.shape:
                height, width = part.mask.shape
                raise UserError(
                    f"{photo.path} (image {photo.image_id}) is {size.width}x{size.height}, "
                    f"its annotation {width}x{height}"
                )
        rgb, parts = _scaled(rgb, photo.parts)
        parts = [_rest(rgb, parts), *parts]
        parts = [part for part in parts if part.mask.any()]
        left, top = (CANVAS.width - rgb.shape[1]) // 2, (CANVAS.height - rgb.shape[0]) // 2
        layers, masks = [], []
        for position, part in enumerate(parts):
            nearer = np.zeros(part.mask.shape, dtype=bool)
            for other in parts[position + 1 :]:
                nearer |= other.mask
            layers.append(self._layer(rgb, part, nearer, left, top))
            masks.append(part.mask)
        prompts = self._prompts(photo, layers, masks, left, top)
        self.writer.add_scene(photo.id, photo.image_id, split_of(photo.image_id), layers, prompts)
        self.scenes += 1

    def _layer(self, rgb: np.ndarray, part: Part, nearer: np.ndarray, left: int, top: int) -> LayerRecord:
        box = Box.from_mask(part.mask)
        assert box is not None
        here = (slice(box.y0, box.y1), slice(box.x0, box.x1))
        mask, hidden = part.mask[here], nearer[here] & part.mask[here]
        picture = np.dstack([filled(rgb[here], mask & ~hidden, hidden), mask.astype(np.uint8) * 255])
        asset = self.writer.add_asset(
            picture, label=part.label, description=part.description, source=part.source, encoding="webp"
        )
        facts = LayerFacts(round(1 - float(hidden.sum() / mask.sum()), 4))
        return LayerRecord(part.label, part.description, asset, left + box.x0, top + box.y0, facts=facts)

    def _prompts(
        self, photo: AnnotatedPhoto, layers: Sequence[LayerRecord], masks: Sequence[np.ndarray], left: int, top: int
    ) -> tuple[str, ...]:
        """`OWN_PROMPTS` generated ones that the regions bear out, then the captions."""
        named = [(layer, mask) for layer, mask in zip(layers, masks, strict=True) if layer.label != BACKGROUND]
        boxes = [box for _, mask in named if (box := Box.from_mask(mask)) is not None]
        own: list[str] = []
        if named:
            own = list(
                global_prompts(photo.id, [layer for layer, _ in named], boxes, (), self.vocabulary, place="a photo")
            )
        labels = [layer.label for layer in layers]
        own = [prompt for prompt in own if not false_claims(prompt, self.vocabulary, labels, masks)] or ["a photo"]
        own = (own * OWN_PROMPTS)[:OWN_PROMPTS]
        return (*own, *(" ".join(caption.split()) for caption in photo.captions if caption.strip()))

    def finish(self, credits: Iterable[Credit] = (), **facts: Any) -> Corpus:
        """Closes the corpus.

        Raises:
            UserError: no photo was stored.
        """
        path = self.writer.path
        listed = list(credits)
        if listed:
            (path / ATTRIBUTION_FILE).write_text(attribution(self.writer.name, listed), encoding="utf-8")
        (path / "build.json").write_text(json.dumps({"skipped": self.skipped}, indent=1), encoding="utf-8")
        if not self.scenes:
            first = f"; the first: {self.skipped[0]}" if self.skipped else ""
            raise UserError(f"no photo could be imported into {path} ({len(self.skipped)} are broken{first})")
        return self.writer.finish(own_prompts=OWN_PROMPTS, **facts)


def _scaled(rgb: np.ndarray, parts: Sequence[Part]) -> tuple[np.ndarray, list[Part]]:
    """Photo and masks as they fit the canvas; never enlarged."""
    height, width = rgb.shape[:2]
    scale = min(1.0, CANVAS.width / width, CANVAS.height / height)
    if scale == 1:
        return rgb, list(parts)
    size = Size(max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))

    def shrunk(mask: np.ndarray) -> np.ndarray:
        grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
        return np.asarray(np.asarray(grey) >= 128)

    return small, [Part(part.label, part.description, shrunk(part.mask), part.source) for part in parts]


def _rest(rgb: np.ndarray, parts: Sequence[Part]) -> Part:
    """The background: the whole photo where any of it is not annotated, else nothing."""
    covered = np.zeros(rgb.shape[:2], dtype=bool)
    for part in parts:
        covered |= part.mask
    source = f"{parts[0].source.split('/')[0] if parts else 'photo'}/{BACKGROUND}"
    return Part(BACKGROUND, BACKGROUND, np.full(covered.shape, not covered.all()), source)


def filled(rgb: np.ndarray, known: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Colours with those of hidden pixels taken from the nearest known one; as they are where nothing is known.

    Args:
        rgb: uint8 (h, w, 3).
        known, hidden: bool (h, w).
    """
    if not hidden.any() or not known.any():
        return rgb
    rows, columns = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    result = rgb.copy()
    result[hidden] = rgb[rows[hidden], columns[hidden]]
    return result
