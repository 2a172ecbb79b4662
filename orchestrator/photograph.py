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

from orchestrator.disk import digest, png_bytes
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.layers import Layer, LayeredScene, composite
from scene.panoptic import PanopticMap, Segment, label_in, pixel_counts, read_panoptic
from scene.photo import Photo, read_photo
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

    def full(self, scene: LayeredScene) -> bytes:
        """PNG of the scene at the photo's own size, with its colour profile and transparency.

        Args:
            scene: the run's scene, on its canvas.

        Raises:
            UserError: a file is missing or was changed.
        """
        data = self._bytes("photo")
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            profile, mode = picture.info.get("icc_profile") or b"", picture.mode
            pixels = np.array(picture)
        rgb = np.ascontiguousarray(pixels[..., :3])
        photo = Photo("", rgb, np.ascontiguousarray(pixels[..., 3]) if mode == "RGBA" else None, profile)
        if all(layer.id in self.ids for layer in scene.layers):
            return data
        segments = self._read("segments", "L", self.size) if self.entries else None
        rgb, alpha = put_into(photo, scene, segments, self.ids)
        return picture_bytes(rgb if alpha is None else np.dstack([rgb, alpha]), profile)

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


def put_into(
    photo: Photo, scene: LayeredScene, segments: np.ndarray | None, parts: frozenset[int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """The new objects of a scene, in their order of depth, put into the photo at its own size.

    Args:
        photo: at full size.
        scene: on the canvas, parts of the photo among its layers.
        segments: uint8 (H, W) at full size, the layer id of each pixel; None without parts.
        parts: ids of the layers that are parts of the photo.

    Returns:
        Colours uint8 (H, W, 3) and alpha uint8 (H, W) or None; both are the photo's wherever no new object is seen.
    """
    rgb, alpha = photo.rgb.copy(), None if photo.alpha is None else photo.alpha.copy()
    for position, layer in enumerate(scene.layers):
        if layer.id in parts or layer.rgba is None or layer.box is None:
            continue
        box, rgba = enlarged(layer, photo.size)
        here = (slice(box.y0, box.y1), slice(box.x0, box.x1))
        nearer = [other.id for other in scene.layers[position + 1 :] if other.id in parts]
        if segments is not None and nearer:
            rgba[..., 3][np.isin(segments[here], nearer)] = 0
        drawn = rgba[..., 3] > 0
        ground = rgb[here] if alpha is None else Photo("", rgb[here], alpha[here]).seen
        rgb[here] = np.where(drawn[..., None], composite(ground, rgba), rgb[here])
        if alpha is not None:
            alpha[here] = np.where(drawn, 255, alpha[here])
    return rgb, alpha


def enlarged(layer: Layer, size: Size) -> tuple[Box, np.ndarray]:
    """A layer at another size of the canvas: its box there, and its pixels in it, uint8 (h, w, 4).

    Outlines are those of the mask, smoothly interpolated; the same size gives the same pixels.
    """
    assert layer.rgba is not None and layer.box is not None
    height, width = layer.mask.shape
    box = layer.box
    if Size(width, height) == size:
        return box, layer.rgba[box.y0 : box.y1, box.x0 : box.x1].copy()
    fx, fy = size.width / width, size.height / height
    near = Box(box.x0 - 2, box.y0 - 2, box.x1 + 2, box.y1 + 2).clip(Size(width, height))
    target = Box(int(near.x0 * fx), int(near.y0 * fy), int(np.ceil(near.x1 * fx)), int(np.ceil(near.y1 * fy)))
    target = target.clip(size)
    source = (target.x0 / fx, target.y0 / fy, min(target.x1 / fx, width), min(target.y1 / fy, height))
    wanted = (target.width, target.height)
    pixels = Image.fromarray(layer.rgba).convert("RGBa")
    rgba = np.array(pixels.resize(wanted, Image.Resampling.BICUBIC, box=source).convert("RGBA"))
    outline = Image.fromarray(layer.mask.astype(np.uint8) * 255)
    inside = np.asarray(outline.resize(wanted, Image.Resampling.BICUBIC, box=source)) >= 128
    rgba[~inside] = 0
    return target, rgba
