"""A photograph as the starting scene: its segments are the first layers, and what comes is put into it at full size.

The run works on a canvas, the photo scaled to at most 1024 pixels; `full.png` is the scene at the photo's own size.
There every pixel that no new object covers is the photo's, to the bit. See docs/photos.md.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orchestrator.disk import digest, png_bytes, told_clearly
from orchestrator.full_size import DetailView, detail_box, detail_view, put_into
from runtime.files import write_bytes
from scene.errors import UserError
from scene.geometry import Size
from scene.layers import Layer, LayeredScene
from scene.panoptic import PanopticMap, Segment, label_in, pixel_counts, read_panoptic
from scene.photo import Photo, decoding, read_photo
from scene.vocabulary import Vocabulary

FOLDER = "photo"
LONG_SIDE_PX, SHORT_SIDE_PX, LONGEST_SIDE_PX = 1024, 256, 4096
SMALLEST_SIDE_PX = 64
MAX_SEGMENTS = 64
FAST = 1  # zlib level of pictures of many megapixels


@dataclass(frozen=True, eq=False)
class StartingPhoto:
    """A photograph and what is known of its parts.

    Attributes:
        photo: upright pixels.
        panoptic: segments, at the photo's size; None: nothing is known, and the first layout is empty.
    """

    photo: Photo
    panoptic: PanopticMap | None = None

    @classmethod
    def read(
        cls, image: Path | bytes, panoptic: tuple[Path | bytes, Path | bytes] | None = None, *, name: str | None = None
    ) -> StartingPhoto:
        """Reads a photo and a COCO panoptic map of it.

        Args:
            image: file or bytes of a JPEG, PNG, WebP, TIFF or BMP.
            panoptic: PNG and JSON, files or bytes; of the photo's proportions.
            name: what to call the photo in messages; of a map that is given as bytes, tells which annotation is its.

        Raises:
            UserError: either cannot be used.
        """
        photo = read_photo(image, name)
        if min(photo.size) < SMALLEST_SIDE_PX:
            raise UserError(
                f"{photo.name} is {photo.size.width}x{photo.size.height}; both sides must be {SMALLEST_SIDE_PX} "
                "pixels or more"
            )
        if panoptic is None:
            return cls(photo)
        of_png = panoptic[0].name if isinstance(panoptic[0], Path) else f"{Path(name or '').stem}.png"
        return cls(photo, read_panoptic(*panoptic, name=of_png).resized(photo.size))

    @property
    def canvas(self) -> Size:
        """The size that the run works at."""
        return canvas_size(self.photo.size)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The segments that become layers, back to front: at most 64, the largest."""
        if self.panoptic is None:
            return ()
        shown = self.panoptic.resized(self.canvas)  # what is too small for the canvas is left out
        pixels = pixel_counts(shown.ids)
        largest = sorted(shown.segments, key=lambda segment: -pixels[segment.id])[:MAX_SEGMENTS]
        kept = {segment.id for segment in largest}
        return tuple(segment for segment in self.panoptic.back_to_front() if segment.id in kept)

    def caption(self) -> str:
        """What the photo shows, in words, for runs that are given no prompt."""
        names = dict.fromkeys(segment.description for segment in reversed(self.segments))
        return f"a photo with {', '.join(names)}"[:500] if names else "a photo"

    def scene(self, vocabulary: Vocabulary, prompt: str) -> LayeredScene:
        """The layers that a run starts with, without pixels, on its canvas; labels in the words of a world."""
        if self.panoptic is None:
            return LayeredScene(self.canvas, prompt)
        shown = np.asarray(Image.fromarray(self._numbers).resize(self.canvas, Image.Resampling.NEAREST))
        named = enumerate(self.segments, start=1)
        return LayeredScene(
            self.canvas,
            prompt,
            tuple(Layer(id, label_in(s.category, vocabulary), s.description, shown == id) for id, s in named),
        )

    @cached_property
    def _numbers(self) -> np.ndarray:
        """Layer ids uint8 (H, W), 1 = the rearmost segment; 0 = no layer."""
        assert self.panoptic is not None
        ids = self.panoptic.ids
        table = np.zeros(int(ids.max(initial=0)) + 1, dtype=np.uint8)
        for number, segment in enumerate(self.segments, start=1):
            table[segment.id] = number
        return np.asarray(table[ids])

    def packed(self, vocabulary: Vocabulary) -> tuple[dict[str, Any], dict[str, bytes]]:
        """What a run keeps of it: an entry for `run.json`, and files by name.

        Args:
            vocabulary: the words of the run's world, which name the layers where they can.
        """
        photo, canvas = self.photo, self.canvas
        seen = Image.fromarray(photo.seen)
        scaled = np.asarray(seen if seen.size == canvas else seen.resize(canvas, Image.Resampling.LANCZOS))
        pixels = photo.rgb if photo.alpha is None else np.dstack([photo.rgb, photo.alpha])
        files = {"photo": picture_bytes(pixels, photo.icc_profile), "canvas": png_bytes(scaled)}
        if self.panoptic is not None:
            files["segments"] = picture_bytes(self._numbers)
        layers = self.scene(vocabulary, "").layers
        files |= {f"mask-{layer.id:02d}": png_bytes(layer.mask) for layer in layers}
        entries = [{"id": layer.id, "label": layer.label, "description": layer.description} for layer in layers]
        facts = {
            "name": photo.name,
            "size": list(photo.size),
            "segments": entries,
            "files": {name: digest(data) for name, data in files.items()},
        }
        return facts, {f"{FOLDER}/{name}.png": data for name, data in files.items()}


def canvas_size(photo: Size) -> Size:
    """The canvas for a photo: never larger than it, at most 1024 pixels long.

    Of long and narrow ones the short side keeps up to 256 pixels, as long as the long side stays within 4096.
    """
    scale = min(1.0, LONG_SIDE_PX / max(photo))
    if min(photo) * scale < SHORT_SIDE_PX:
        scale = min(1.0, SHORT_SIDE_PX / min(photo), LONGEST_SIDE_PX / max(photo))
    return Size(max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))


def picture_bytes(pixels: np.ndarray, icc_profile: bytes = b"") -> bytes:
    """PNG of a picture that may have many megapixels: quickly packed, with its colour profile."""
    buffer = io.BytesIO()
    more: dict[str, Any] = {"icc_profile": icc_profile} if icc_profile else {}
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", compress_level=FAST, **more)
    return buffer.getvalue()


class KeptPhoto:
    """The photo that a run folder keeps.

    Args:
        run: the run folder.
        facts: the entry of `run.json` that `StartingPhoto.packed` made.

    Raises:
        UserError: the entry is broken.
    """

    def __init__(self, run: Path, facts: Mapping[str, Any]) -> None:
        self.run = run
        try:
            self.size = Size(*facts["size"])
            self.entries = [(int(e["id"]), str(e["label"]), str(e["description"])) for e in facts["segments"]]
            self._files = dict(facts["files"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{run / 'run.json'} holds a broken photo ({error}); restore it or start anew") from None

    @property
    def ids(self) -> frozenset[int]:
        """Ids of the layers that are parts of the photo."""
        return frozenset(id for id, _, _ in self.entries)

    def scene(self, canvas: Size, prompt: str) -> LayeredScene:
        """The starting scene on the run's canvas.

        Raises:
            UserError: a file is missing or was changed.
        """
        ground = self._read("canvas", "RGB", canvas)
        layers = []
        for id, label, description in self.entries:
            mask = self._read(f"mask-{id:02d}", "L", canvas) > 0
            rgba = np.dstack([ground * mask[..., None], mask.astype(np.uint8) * 255])
            provenance = {"step": 0, "mask": f"{FOLDER}/mask-{id:02d}.png"}
            layers.append(Layer(id, label, description, mask, rgba, provenance))
        return LayeredScene(canvas, prompt, tuple(layers), ground)

    def view(self, beneath: np.ndarray, mask: np.ndarray) -> DetailView | None:
        """The window of the photo in which an object is drawn with more pixels than the canvas has for it.

        Args:
            beneath: uint8 (H, W, 3), the picture beneath it on the canvas.
            mask: bool (H, W), not empty.

        Returns:
            The window, or None where the canvas is as good: small photos, and objects that fill the picture.

        Raises:
            UserError: a file is missing or was changed.
        """
        size = Size(mask.shape[1], mask.shape[0])
        if detail_box(mask, self.size) is None:
            return None
        return detail_view(self._photo()[0].seen, self._read("canvas", "RGB", size), beneath, mask)

    def keep(self, key: str, picture: np.ndarray) -> None:
        """Stores what a window shows once the object is drawn, uint8 (h, w, 3), by the rendering's content address.

        Raises:
            UserError: the disk refuses.
        """
        with told_clearly(self.run):
            write_bytes(self._detail(key), png_bytes(picture))

    def _detail(self, key: str) -> Path:
        return self.run / FOLDER / f"detail-{key[:24]}.png"

    def _details(self, keys: Mapping[int, str]) -> dict[int, np.ndarray]:
        """Kept windows by layer id."""
        found = {}
        for id, key in keys.items():
            if key and self._detail(key).is_file():
                name = str(self._detail(key))
                with decoding(name), Image.open(self._detail(key), formats=["PNG"]) as picture:
                    found[id] = np.asarray(picture.convert("RGB"))
        return found

    def full(self, scene: LayeredScene, keys: Mapping[int, str] | None = None) -> bytes:
        """PNG of the scene at the photo's own size, with its colour profile and transparency.

        Args:
            scene: the run's scene, on its canvas.
            keys: layer id -> content address of its pixels (`RunFolder.keys`): those drawn in a window of the photo
                are taken from there, any others are enlarged.

        Raises:
            UserError: a file is missing or was changed.
        """
        photo, data = self._photo()
        if all(layer.id in self.ids for layer in scene.layers):
            return data
        segments = self._read("segments", "L", self.size) if self.entries else None
        rgb, alpha = put_into(photo, scene, segments, self.ids, self._details(keys or {}))
        return picture_bytes(rgb if alpha is None else np.dstack([rgb, alpha]), photo.icc_profile)

    def _photo(self) -> tuple[Photo, bytes]:
        """The photo at its own size, and its file."""
        data = self._bytes("photo")
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            profile, has_alpha = picture.info.get("icc_profile") or b"", picture.mode == "RGBA"
            pixels = np.asarray(picture)
        alpha = np.ascontiguousarray(pixels[..., 3]) if has_alpha else None
        return Photo("", np.ascontiguousarray(pixels[..., :3]), alpha, profile), data

    def _bytes(self, name: str) -> bytes:
        path = self.run / FOLDER / f"{name}.png"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path} ({error.strerror}); restore it or start a new run") from None
        if digest(data) != self._files.get(name):
            raise UserError(f"{path} is not what was written (its sha256 differs); restore it or start a new run")
        return data

    def _read(self, name: str, mode: str, size: Size) -> np.ndarray:
        with Image.open(io.BytesIO(self._bytes(name)), formats=["PNG"]) as picture:
            if picture.size != tuple(size):
                raise UserError(f"{self.run / FOLDER / name}.png is {picture.size}, not {tuple(size)}; restore it")
            return np.asarray(picture.convert(mode))
