"""The square window round an object: crop, resize to the model's pixels, and stitch the answer back.

Every object is rendered in its own window, so a small ball gets as many model pixels as a large tree. A window is
square, in whole canvas pixels, and may reach off the canvas; what lies off the canvas is the nearest edge pixel.
Pixels outside the mask never change, to the bit: the answer is cut out with the exact mask, and its edge is feathered
inwards only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from scene.geometry import Box, Size


class Window(NamedTuple):
    """Square `side` x `side` canvas pixels with its top-left corner at (x0, y0), which may lie off the canvas."""

    x0: int
    y0: int
    side: int

    @property
    def box(self) -> Box:
        """The same square as a half-open box."""
        return Box(self.x0, self.y0, self.x0 + self.side, self.y0 + self.side)


def window_around(box: Box, size: Size, *, context: float, min_side_px: int) -> Window:
    """The window in which an object with this box is drawn.

    Args:
        box: box of the mask, on the canvas.
        size: canvas.
        context: side of the window over the longer side of the box; 1 is as tight as can be.
        min_side_px: a smaller window is enlarged to this many canvas pixels.

    Returns:
        A window that contains `box` and is moved onto the canvas as far as it fits. Its side is at most the longer
        side of the canvas.

    Raises:
        ValueError: an empty box, or context below 1.
    """
    if box.area == 0 or context < 1:
        raise ValueError(f"window needs a box with an area and context >= 1, got {box} and {context}")
    longest = max(box.width, box.height)
    side = min(max(round(longest * context), longest, min_side_px), max(size))
    x0 = round(box.center[0] - side / 2)
    y0 = round(box.center[1] - side / 2)
    return Window(_slide(x0, side, size.width, box.x0, box.x1), _slide(y0, side, size.height, box.y0, box.y1), side)


def _slide(start: int, side: int, length: int, low: int, high: int) -> int:
    """Moves one axis of a window onto 0..length (centred where it is longer) while it keeps covering low..high."""
    start = min(max(start, 0), length - side) if side <= length else (length - side) // 2
    return min(max(start, high - side), low)


def crop(array: np.ndarray, window: Window) -> np.ndarray:
    """The window's pixels at canvas scale; off-canvas pixels repeat the nearest edge pixel.

    Args:
        array: (H, W) or (H, W, C), any dtype.

    Returns:
        A new (side, side) or (side, side, C).
    """
    if window.box.clip(Size(array.shape[1], array.shape[0])) == window.box:
        return array[window.y0 : window.y0 + window.side, window.x0 : window.x0 + window.side].copy()
    rows = np.clip(np.arange(window.y0, window.y0 + window.side), 0, array.shape[0] - 1)
    columns = np.clip(np.arange(window.x0, window.x0 + window.side), 0, array.shape[1] - 1)
    return array[rows[:, None], columns[None, :]]


def crop_mask(mask: np.ndarray, window: Window) -> np.ndarray:
    """The window's part of a bool mask (H, W) at canvas scale; off the canvas it is False."""
    inside = np.zeros((window.side, window.side), dtype=bool)
    part = window.box.clip(Size(mask.shape[1], mask.shape[0]))
    inside[part.y0 - window.y0 : part.y1 - window.y0, part.x0 - window.x0 : part.x1 - window.x0] = mask[
        part.y0 : part.y1, part.x0 : part.x1
    ]
    return inside


def resize_image(image: np.ndarray, width_px: int, height_px: int | None = None) -> np.ndarray:
    """Lanczos resize of uint8 (H, W, C) (anti-aliased when shrinking); the same size returns the same pixels."""
    height_px = width_px if height_px is None else height_px
    if image.shape[:2] == (height_px, width_px):
        return image.copy()
    return np.asarray(Image.fromarray(image).resize((width_px, height_px), Image.Resampling.LANCZOS))


def resize_mask(mask: np.ndarray, side_px: int) -> np.ndarray:
    """Resizes a square bool mask; a pixel is True where at least half of its area is covered.

    A mask that is not empty never becomes empty: then every touched pixel counts.
    """
    if mask.shape == (side_px, side_px):
        return mask.copy()
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    filter_ = Image.Resampling.BOX if side_px < mask.shape[0] else Image.Resampling.BILINEAR
    coverage = np.asarray(grey.resize((side_px, side_px), filter_))
    resized = coverage >= 128
    return resized if resized.any() or not mask.any() else coverage > 0


def dilate(mask: np.ndarray, radius_px: int) -> np.ndarray:
    """Grows a bool mask by a square of (2 * radius + 1) pixels; radius 0 returns a copy."""
    if radius_px <= 0:
        return mask.copy()
    return ndimage.maximum_filter(mask, size=2 * radius_px + 1, mode="constant", cval=0)


def place(rendered: np.ndarray, window: Window, size: Size) -> np.ndarray:
    """A rendered window on a black canvas.

    Args:
        rendered: uint8 (R, R, 3), the model's window at any resolution R.
        window: where it lies.
        size: canvas.

    Returns:
        uint8 (H, W, 3).
    """
    part = window.box.clip(size)
    full = resize_image(rendered, window.side)
    canvas = np.zeros((*size.shape, 3), dtype=np.uint8)
    canvas[part.y0 : part.y1, part.x0 : part.x1] = full[
        part.y0 - window.y0 : part.y1 - window.y0, part.x0 - window.x0 : part.x1 - window.x0
    ]
    return canvas


def feathered(mask: np.ndarray, feather_px: float) -> np.ndarray:
    """Alpha that rises from the mask's edge inwards and is 0 outside; the canvas edge is no edge of the mask.

    Args:
        mask: bool (H, W).
        feather_px: pixels from the outermost masked pixel's far side to full alpha; 0 = alpha 255 on all of the mask.

    Returns:
        uint8 (H, W).
    """
    if feather_px <= 0 or mask.all():
        return mask.astype(np.uint8) * 255
    distance = ndimage.distance_transform_edt(mask)
    return np.asarray(np.clip(distance / (feather_px + 1), 0, 1) * 255 + 0.5).astype(np.uint8)


def defringed(picture: np.ndarray, mask: np.ndarray, band_px: float) -> np.ndarray:
    """A picture whose object has its own colours up to the mask's edge.

    A model that draws in coarser pixels than the canvas's blurs what lies round the object into its edge. Within
    `band_px` of it, the nearest pixel from farther inside is repeated; parts thinner than two bands stay as they are.

    Args:
        picture: uint8 (H, W, 3).
        mask: bool (H, W).
        band_px: 0 = nothing is done. The canvas edge is no edge of the mask.

    Returns:
        uint8 (H, W, 3); as `picture` outside the band.
    """
    if band_px <= 0 or mask.all() or not mask.any():
        return picture
    depth = ndimage.distance_transform_edt(mask)
    inner = depth > band_px
    if not inner.any():
        return picture
    apart, (rows, columns) = ndimage.distance_transform_edt(~inner, return_indices=True)
    band = mask & ~inner & (apart <= 2 * band_px)
    clean = picture.copy()
    clean[band] = picture[rows[band], columns[band]]
    return clean


def cut_out(picture: np.ndarray, mask: np.ndarray, feather_px: float = 0.0, fringe_px: float = 0.0) -> np.ndarray:
    """The object as a layer.

    Args:
        picture: uint8 (H, W, 3), the object and whatever lies round it.
        mask: bool (H, W), True = the object.
        feather_px: see `feathered`.
        fringe_px: see `defringed`.

    Returns:
        uint8 (H, W, 4); all zero outside the mask, so that compositing it changes nothing there.
    """
    clean = defringed(picture, mask, fringe_px)
    return np.concatenate([clean * mask[..., None], feathered(mask, feather_px)[..., None]], axis=2)
