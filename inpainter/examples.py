"""Training examples out of corpus records: a canvas window, a mask, the window with the object, and its words.

Every random choice of example number n comes from (seed, n) alone, so any part of a run can be repeated.
Letters: R = window side in model pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from inpainter.config import ExampleConfig, InpainterTraining, VaeTraining, WindowConfig
from inpainter.planes import scene_planes
from inpainter.window import Window, crop, resize_image, window_around
from scene.corpus.records import LayerRecord, SceneRecord
from scene.corpus.store import MASK_ALPHA, Corpus
from scene.geometry import Box, Size
from scene.layers import composite
from scene.seeds import derive_seed

FLAT_STD = 24.0  # pictures whose colour channels all spread less than this (of 255) hold no object


@dataclass(frozen=True)
class Example:
    """One window.

    Attributes:
        image: uint8 (R, R, 3), the canvas before the object.
        mask: bool (R, R), True = draw here; deliberately off the object's edge in some training examples.
        target: uint8 (R, R, 3), `image` with the object inside the mask.
        text: what to draw; empty for the unconditional share.
        label: category.
        window: where it was cut.
        planes: uint8 (R, R, 4), see `inpainter.planes`; None where the source makes none.
    """

    image: np.ndarray
    mask: np.ndarray
    target: np.ndarray
    text: str
    label: str
    window: Window
    planes: np.ndarray | None = None


def example_rng(seed: int, purpose: str, number: int) -> np.random.Generator:
    """The generator of one example; nothing else influences it."""
    return np.random.default_rng(derive_seed(seed, purpose, number))


def paint_window(corpus: Corpus, layers: Sequence[LayerRecord], window: Window) -> np.ndarray:
    """Layers over white inside a window, uint8 (side, side, 3); off-canvas pixels repeat the edge."""
    part = window.box.clip(corpus.size)
    canvas = np.full((part.height, part.width, 3), 255, dtype=np.uint8)
    for layer in layers:
        overlap = _overlap(corpus, layer, part)
        if overlap is not None:
            rows, columns, rgba = overlap
            canvas[rows, columns] = composite(canvas[rows, columns], rgba)
    return crop(canvas, Window(window.x0 - part.x0, window.y0 - part.y0, window.side))


def _overlap(corpus: Corpus, layer: LayerRecord, part: Box) -> tuple[slice, slice, np.ndarray] | None:
    """Rows and columns of `part` that the layer touches, and its RGBA there; alpha below the mask's is 0."""
    picture, x, y = corpus.asset(layer)
    common = part.intersection(Box(x, y, x + picture.shape[1], y + picture.shape[0]))
    if common.width <= 0 or common.height <= 0:
        return None
    rgba = np.array(picture[common.y0 - y : common.y1 - y, common.x0 - x : common.x1 - x])
    rgba[rgba[..., 3] < MASK_ALPHA] = 0
    rows = slice(common.y0 - part.y0, common.y1 - part.y0)
    return rows, slice(common.x0 - part.x0, common.x1 - part.x0), rgba


def layer_window(corpus: Corpus, layer: LayerRecord, window: Window) -> np.ndarray:
    """One layer's RGBA inside a window, uint8 (side, side, 4); 0 off the canvas."""
    part = window.box.clip(corpus.size)
    rgba = np.zeros((window.side, window.side, 4), dtype=np.uint8)
    overlap = _overlap(corpus, layer, part)
    if overlap is not None:
        rows, columns, pixels = overlap
        inner = rgba[part.y0 - window.y0 : part.y1 - window.y0, part.x0 - window.x0 : part.x1 - window.x0]
        inner[rows, columns] = pixels
    return rgba


class ExampleSource:
    """Draws examples by number from the records of a split.

    Args:
        corpus, records: what is shown.
        config, window: how.
        seed: of all that is random.
        planes: also make `Example.planes`; the rest of an example does not depend on it.
    """

    def __init__(
        self,
        corpus: Corpus,
        records: Sequence[SceneRecord],
        config: ExampleConfig,
        window: WindowConfig,
        seed: int,
        *,
        planes: bool = False,
    ) -> None:
        self.corpus, self.records, self.config, self.window, self.seed = corpus, records, config, window, seed
        self.planes = planes

    def example(self, number: int) -> Example:
        """Training example `number`, augmented as the configuration says."""
        rng = example_rng(self.seed, "inpainter-example", number)
        config = self.config
        while True:
            record = self.records[int(rng.integers(len(self.records)))]
            k = self._pick_layer(rng, record)
            box = self.corpus.box(record.layers[k])
            if box is not None and min(box.width, box.height) >= 6:
                break
        tile = self._is_tile(rng, box)
        window = self._tile(rng, box) if tile else self._jittered_window(rng, box)
        behind = () if config.bare else record.layers[:k]
        if rng.random() < config.subset:
            share = rng.random()
            behind = tuple(layer for layer in behind if rng.random() < share)
        image = resize_image(paint_window(self.corpus, behind, window), self.window.resolution_px)
        rgba = _resize_rgba(layer_window(self.corpus, record.layers[k], window), self.window.resolution_px)
        on_canvas = _on_canvas(window, self.corpus.size, self.window.resolution_px)
        if rng.random() < config.warp and not tile and not self._is_surface(record.layers[k]):
            rgba = bend(rgba, rng, config.warp_px * self.window.resolution_px / 128, config.stretch)
        mask = rgba[..., 3] >= 128
        if rng.random() < config.rough:
            mask = roughen(mask, rng, config.rough_px * self.window.resolution_px / 128)
        mask &= on_canvas
        target = np.where(mask[..., None], composite(image, rgba), image)
        if tile:
            drawn = half_plane(rng, mask.shape[0])
            drawn &= bool((mask & ~drawn).any())
            image = np.where(drawn[..., None], target, image)
            mask = mask & ~drawn
        known = (*behind, *record.layers[k:])
        planes = scene_planes(self.corpus, known, len(behind), mask, window) if self.planes else None
        if rng.random() < config.mirror:
            image, mask, target = (np.ascontiguousarray(a[:, ::-1]) for a in (image, mask, target))
            planes = None if planes is None else np.ascontiguousarray(planes[:, ::-1])
        return Example(image, mask, target, self._text(rng, record.layers[k]), record.layers[k].label, window, planes)

    def plain(self, record: SceneRecord, k: int) -> Example | None:
        """Layer `k` of a record as it stands, in the window used at run time; None when it is off the canvas."""
        layer = record.layers[k]
        box = self.corpus.box(layer)
        if box is None:
            return None
        window = window_around(box, self.corpus.size, context=self.window.context, min_side_px=self.window.min_side_px)
        side = self.window.resolution_px
        image = resize_image(paint_window(self.corpus, record.layers[:k], window), side)
        rgba = _resize_rgba(layer_window(self.corpus, layer, window), side)
        mask = rgba[..., 3] >= 128
        target = np.where(mask[..., None], composite(image, rgba), image)
        planes = scene_planes(self.corpus, record.layers, k, mask, window) if self.planes else None
        return Example(image, mask, target, layer.description, layer.label, window, planes)

    def picture(self, number: int, training: VaeTraining) -> np.ndarray:
        """Crop `number` for the VAE, uint8 (crop, crop, 3), at the scales at which windows are drawn.

        Most crops without any detail are drawn again: flat colour is learned within minutes.
        """
        rng = example_rng(self.seed, "inpainter-picture", number)
        picture = self._any_picture(rng, training)
        while picture.std(axis=(0, 1)).max() < FLAT_STD and rng.random() >= training.flat_share:
            picture = self._any_picture(rng, training)
        return picture

    def _any_picture(self, rng: np.random.Generator, training: VaeTraining) -> np.ndarray:
        while True:
            record = self.records[int(rng.integers(len(self.records)))]
            box = self.corpus.box(record.layers[self._pick_layer(rng, record)])
            if box is not None:
                break
        side = self._jittered_window(rng, box).side * training.crop_px / self.window.resolution_px
        size = self.corpus.size
        area = box if rng.random() < training.object_share else Box(0, 0, size.width, size.height)
        x, y = rng.uniform(area.x0, area.x1), rng.uniform(area.y0, area.y1)
        window = Window(round(x - side / 2), round(y - side / 2), max(round(side), 8))
        layers = record.layers
        if rng.random() < self.config.subset:
            share = rng.random()
            layers = tuple(layer for layer in layers if rng.random() < share)
        picture = resize_image(paint_window(self.corpus, layers, window), training.crop_px)
        return np.ascontiguousarray(picture[:, ::-1]) if rng.random() < self.config.mirror else picture

    def _is_surface(self, layer: LayerRecord) -> bool:
        return self.corpus.vocabulary.kind(layer.label) == "surface"

    def _pick_layer(self, rng: np.random.Generator, record: SceneRecord) -> int:
        surface = rng.random() < self.config.surface_share
        choices = [k for k, layer in enumerate(record.layers) if self._is_surface(layer) == surface]
        return int(rng.choice(choices or list(range(len(record.layers)))))

    def _is_tile(self, rng: np.random.Generator, box: Box) -> bool:
        large = max(box.width, box.height) > self.config.tile_px[1]
        return self.config.tile_share > 0 and large and rng.random() < self.config.tile_share

    def _tile(self, rng: np.random.Generator, box: Box) -> Window:
        """A square of tile size round a random pixel of a box, moved onto the canvas."""
        side = int(rng.integers(self.config.tile_px[0], self.config.tile_px[1] + 1))
        corner = [
            int(np.clip(rng.integers(low, high) - side // 2, 0, max(length - side, 0)))
            for low, high, length in zip(box[:2], box[2:], self.corpus.size, strict=True)
        ]
        return Window(corner[0], corner[1], side)

    def _jittered_window(self, rng: np.random.Generator, box: Box) -> Window:
        window = window_around(
            box,
            self.corpus.size,
            context=rng.uniform(*self.config.context),
            min_side_px=self.window.min_side_px,
        )
        reach = self.config.shift_frac * window.side
        shifted = [
            int(np.clip(start + round(rng.uniform(-reach, reach)), max(high - window.side, start - reach), low))
            if window.side > high - low
            else start
            for start, low, high in ((window.x0, box.x0, box.x1), (window.y0, box.y0, box.y1))
        ]
        return Window(shifted[0], shifted[1], window.side)

    def _text(self, rng: np.random.Generator, layer: LayerRecord) -> str:
        draw = rng.random()
        if draw < self.config.drop_text:
            return ""
        return layer.label if draw < self.config.drop_text + self.config.label_text else layer.description


def validation_examples(
    corpus: Corpus, config: InpainterTraining, count: int, *, planes: bool = False
) -> list[Example]:
    """Validation objects as they stand, for sample sheets: two surfaces first, then objects of every depth."""
    source = ExampleSource(corpus, corpus.records("val"), config.examples, config.window, 0, planes=planes)
    examples: list[Example] = []
    number = 0
    while len(examples) < count:
        record = source.records[number * 13 % len(source.records)]
        example = source.plain(record, number if number < 2 else 2 + number % max(1, len(record.layers) - 2))
        number += 1
        if example is not None and example.mask.sum() > 50:
            examples.append(example)
    return examples


def _resize_rgba(rgba: np.ndarray, side_px: int) -> np.ndarray:
    """Resizes RGBA; Pillow multiplies by alpha first, so transparent pixels lend no colour to the edge."""
    if rgba.shape[0] == side_px:
        return rgba
    return np.asarray(Image.fromarray(rgba).resize((side_px, side_px), Image.Resampling.LANCZOS))


def _on_canvas(window: Window, size: Size, side_px: int) -> np.ndarray:
    """Which model pixels of a window lie on the canvas, bool (R, R)."""
    centres = (np.arange(side_px) + 0.5) * window.side / side_px
    columns, rows = centres + window.x0, centres + window.y0
    return ((rows >= 0) & (rows < size.height))[:, None] & ((columns >= 0) & (columns < size.width))[None, :]


def half_plane(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """What the neighbours of a tile have drawn already: in half of the cases nothing, else one side of a random line.

    Returns:
        Bool (side, side).
    """
    if rng.random() < 0.5:
        return np.zeros((side_px, side_px), dtype=bool)
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.5)
    rows, columns = np.mgrid[0:side_px, 0:side_px] / side_px - 0.5
    return np.asarray(columns * np.cos(angle) + rows * np.sin(angle) > offset)


def smooth_noise(rng: np.random.Generator, side_px: int, cells: int) -> np.ndarray:
    """Smooth noise (side, side) in about [-1, 1], with `cells` bumps along a side."""
    coarse = rng.uniform(-1, 1, (cells + 3, cells + 3)).astype(np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize((side_px, side_px), Image.Resampling.BICUBIC))
    return fine


def bend(rgba: np.ndarray, rng: np.random.Generator, reach_px: float, stretch: float) -> np.ndarray:
    """Bends an object and its mask together, so that other proportions of the same thing are known.

    Args:
        rgba: uint8 (R, R, 4).
        reach_px: largest bend in pixels.
        stretch: one axis is scaled by up to 1 +- this, about the window's centre.
    """
    side = rgba.shape[0]
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
    middle = (side - 1) / 2
    cells = int(rng.integers(1, 5))
    rows = middle + (rows - middle) * (1 + rng.uniform(-stretch, stretch)) + reach_px * smooth_noise(rng, side, cells)
    columns = (
        middle + (columns - middle) * (1 + rng.uniform(-stretch, stretch)) + reach_px * smooth_noise(rng, side, cells)
    )
    alpha = rgba[..., 3].astype(np.float32)
    moved_alpha = ndimage.map_coordinates(alpha, [rows, columns], order=1, mode="constant")
    result = np.empty_like(rgba)
    for channel in range(3):
        premultiplied = rgba[..., channel] * alpha
        moved = ndimage.map_coordinates(premultiplied, [rows, columns], order=1, mode="constant")
        result[..., channel] = np.clip(moved / np.maximum(moved_alpha, 1e-3) + 0.5, 0, 255).astype(np.uint8)
    result[..., 3] = (moved_alpha + 0.5).astype(np.uint8)
    return result


def roughen(mask: np.ndarray, rng: np.random.Generator, reach_px: float) -> np.ndarray:
    """Moves the mask's edge in and out by up to `reach_px`; a mask that would vanish is returned as it was."""
    if mask.all() or not mask.any():
        return mask
    distance = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    bias = rng.uniform(-0.5, 0.5)
    amount = rng.uniform(0, reach_px)
    moved = distance + amount * (bias + smooth_noise(rng, mask.shape[0], int(rng.integers(3, 16)))) > 0
    return moved if moved.any() else mask
