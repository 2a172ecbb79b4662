"""Objects at a photo's own size: drawn in windows of it, and put into it; the rest of the photo is never touched.

A run's canvas has at most 1024 pixels a side. An object on a larger photo is drawn in a window of the photo round it,
in as many pixels as the window has, up to 1024; the canvas shows that drawing scaled down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from scene.geometry import Box, Size
from scene.layers import Layer, LayeredScene, composite
from scene.photo import Photo

CONTEXT = 1.6  # side of a window over the longer side of its object; inpainters look 1.4 times as far as it reaches
WINDOW_SIDE_PX = 1024
WORTHWHILE = 1.25  # fewer pixels than so many times the canvas's are not worth a window
SEAM_PX = 1  # canvas pixels by which what changed on the canvas is grown, so that none of it is missed


@dataclass(frozen=True, eq=False)
class DetailView:
    """A window of a photo, ready for an inpainter.

    Attributes:
        box: where it lies on the photo.
        image: uint8 (h, w, 3), what the window shows beneath the object, at most 1024 pixels a side.
        mask: bool (h, w), where the object goes.
        photo: the photo's size.
    """

    box: Box
    image: np.ndarray
    mask: np.ndarray
    photo: Size

    def on_canvas(self, picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The object on the canvas, uint8 (H, W, 4).

        Args:
            picture: uint8 (h, w, 3), what the window shows with the object.
            mask: bool (H, W), the object on the canvas.
        """
        height, width = mask.shape
        box = Box.from_mask(mask)
        assert box is not None
        scale_x, scale_y = picture.shape[1] / self.box.width, picture.shape[0] / self.box.height
        fx, fy = self.photo.width / width, self.photo.height / height
        source = (
            max((box.x0 * fx - self.box.x0) * scale_x, 0.0),
            max((box.y0 * fy - self.box.y0) * scale_y, 0.0),
            min((box.x1 * fx - self.box.x0) * scale_x, float(picture.shape[1])),
            min((box.y1 * fy - self.box.y0) * scale_y, float(picture.shape[0])),
        )
        small = Image.fromarray(picture).resize((box.width, box.height), Image.Resampling.LANCZOS, box=source)
        rgba = np.zeros((height, width, 4), dtype=np.uint8)
        here = (slice(box.y0, box.y1), slice(box.x0, box.x1))
        rgba[here] = np.dstack([np.asarray(small), np.full((box.height, box.width), 255, np.uint8)])
        rgba[~mask] = 0
        return rgba


def detail_box(mask: np.ndarray, photo: Size) -> Box | None:
    """The part of a photo round an object; None where the canvas is as good.

    Args:
        mask: bool (H, W), the object on the canvas.
        photo: the photo's size.
    """
    size = Size(mask.shape[1], mask.shape[0])
    box = Box.from_mask(mask)
    if box is None or size == photo:
        return None
    fx, fy = photo.width / size.width, photo.height / size.height
    side = CONTEXT * max(box.width * fx, box.height * fy)
    cx, cy = box.center[0] * fx, box.center[1] * fy
    x0, y0 = round(cx - side / 2), round(cy - side / 2)
    found = Box(x0, y0, x0 + round(side), y0 + round(side)).clip(photo)
    gain = min(1.0, WINDOW_SIDE_PX / max(found.width, found.height)) * fx
    return found if gain >= WORTHWHILE else None


def detail_view(photo: np.ndarray, ground: np.ndarray, beneath: np.ndarray, mask: np.ndarray) -> DetailView:
    """The window in which an object is drawn.

    Args:
        photo: uint8 (H', W', 3), at its own size.
        ground: uint8 (H, W, 3), the photo on the canvas.
        beneath: uint8 (H, W, 3), the canvas with what lies beneath the object; where it is not the ground, other
            objects stand: there it is enlarged.
        mask: bool (H, W), the object; `detail_box` gives it a window.
    """
    size, full = Size(mask.shape[1], mask.shape[0]), Size(photo.shape[1], photo.shape[0])
    box = detail_box(mask, full)
    if box is None:
        raise ValueError("the canvas is as good as a window here")
    scale = min(1.0, WINDOW_SIDE_PX / max(box.width, box.height))
    wanted = (max(1, round(box.width * scale)), max(1, round(box.height * scale)))
    shown = np.asarray(
        Image.fromarray(photo[box.y0 : box.y1, box.x0 : box.x1]).resize(wanted, Image.Resampling.LANCZOS)
    )
    changed = ndimage.binary_dilation((beneath != ground).any(axis=2), iterations=SEAM_PX)
    if changed.any():
        other = _enlarged(beneath, size, full, box, wanted)
        where = _enlarged(changed.astype(np.uint8) * 255, size, full, box, wanted) >= 128
        shown = np.where(where[..., None], other, shown)
    inside = _enlarged(mask.astype(np.uint8) * 255, size, full, box, wanted) >= 128
    return DetailView(box, np.ascontiguousarray(shown), inside, full)


def _enlarged(pixels: np.ndarray, canvas: Size, full: Size, box: Box, wanted: tuple[int, int]) -> np.ndarray:
    """The part of a canvas picture that a box of the photo covers, at `wanted` (width, height) pixels, smoothly."""
    fx, fy = full.width / canvas.width, full.height / canvas.height
    source = (box.x0 / fx, box.y0 / fy, min(box.x1 / fx, canvas.width), min(box.y1 / fy, canvas.height))
    return np.asarray(Image.fromarray(pixels).resize(wanted, Image.Resampling.BICUBIC, box=source))


def put_into(
    photo: Photo,
    scene: LayeredScene,
    segments: np.ndarray | None,
    parts: frozenset[int],
    details: Mapping[int, np.ndarray],
) -> tuple[np.ndarray, np.ndarray | None]:
    """The new objects of a scene, in their order of depth, put into the photo at its own size.

    Args:
        photo: at full size.
        scene: on the canvas, parts of the photo among its layers.
        segments: uint8 (H, W) at full size, the layer id of each pixel; None without parts.
        parts: ids of the layers that are parts of the photo.
        details: layer id -> what its window shows with it, uint8 (h, w, 3).

    Returns:
        Colours uint8 (H, W, 3) and alpha uint8 (H, W) or None; both are the photo's wherever no new object is seen.
    """
    rgb, alpha = photo.rgb.copy(), None if photo.alpha is None else photo.alpha.copy()
    for position, layer in enumerate(scene.layers):
        if layer.id in parts or layer.rgba is None or layer.box is None:
            continue
        box, rgba = enlarged(layer, photo.size, details.get(layer.id))
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


def enlarged(layer: Layer, size: Size, detail: np.ndarray | None = None) -> tuple[Box, np.ndarray]:
    """A layer at another size of the canvas: its box there, and its pixels in it, uint8 (h, w, 4).

    Outlines are those of the mask, smoothly interpolated; the same size gives the same pixels.

    Args:
        layer: on the canvas, with pixels.
        size: of the photo.
        detail: uint8 (h, w, 3), what its window (`detail_box`) shows with it; None = its pixels are enlarged.
    """
    assert layer.rgba is not None and layer.box is not None
    canvas = Size(layer.mask.shape[1], layer.mask.shape[0])
    box = layer.box
    if canvas == size:
        return box, layer.rgba[box.y0 : box.y1, box.x0 : box.x1].copy()
    fx, fy = size.width / canvas.width, size.height / canvas.height
    near = Box(box.x0 - 2, box.y0 - 2, box.x1 + 2, box.y1 + 2).clip(canvas)
    target = Box(int(near.x0 * fx), int(near.y0 * fy), int(np.ceil(near.x1 * fx)), int(np.ceil(near.y1 * fy)))
    window = detail_box(layer.mask, size) if detail is not None else None
    target = target.intersection(window) if window is not None else target.clip(size)
    wanted = (target.width, target.height)
    outline = _enlarged(layer.mask.astype(np.uint8) * 255, canvas, size, target, wanted)
    if detail is None or window is None:
        pixels = Image.fromarray(layer.rgba).convert("RGBa")
        source = (target.x0 / fx, target.y0 / fy, min(target.x1 / fx, canvas.width), min(target.y1 / fy, canvas.height))
        rgba = np.array(pixels.resize(wanted, Image.Resampling.BICUBIC, box=source).convert("RGBA"))
    else:
        sx, sy = detail.shape[1] / window.width, detail.shape[0] / window.height
        part = ((target.x0 - window.x0) * sx, (target.y0 - window.y0) * sy,
                (target.x1 - window.x0) * sx, (target.y1 - window.y0) * sy)  # fmt: skip
        shown = Image.fromarray(detail).resize(wanted, Image.Resampling.BICUBIC, box=part)
        rgba = np.dstack([np.asarray(shown), outline])
    rgba[outline < 128] = 0
    return target, rgba
