"""Guides as people give them on the command line: numbers and drawings become `Guidance`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from scene.errors import UserError
from scene.geometry import Box, Size
from scene.guidance import Guidance, parse_blob

MAX_SCRIBBLE_BYTES = 16 << 20
DRAWN_ALPHA = 128
DRAWN_CONTRAST = 48  # of 255, in any channel: fainter is dirt


def parse_guide(
    size: Size,
    box: str | None = None,
    blob: str | None = None,
    scribble: Path | None = None,
    tightness: float | None = None,
    *,
    canvas: Size | None = None,
) -> Guidance | None:
    """The one guide that was given, or None.

    Args:
        size: what the numbers are pixels of, and the scribble has: the canvas, or a photo at its own size.
        box: "x0,y0,x1,y1".
        blob: "cx,cy,rx,ry".
        scribble: PNG of the canvas's size.
        tightness: 0 to 1; None = 1.
        canvas: the canvas, where that is not `size`; the guide is scaled to it.

    Raises:
        UserError: more than one guide, a tightness without one, or a guide that cannot be used.
    """
    given = [name for name, value in (("--box", box), ("--blob", blob), ("--scribble", scribble)) if value is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} were given; choose one guide")
    if not given and tightness is not None:
        raise UserError("--tightness needs a guide; add --box, --blob or --scribble")
    tight = 1.0 if tightness is None else tightness
    canvas = canvas or size
    fx, fy = canvas.width / size.width, canvas.height / size.height
    if box is not None:
        x0, y0, x1, y1 = Box.parse(box, size)
        scaled = Box(int(x0 * fx), int(y0 * fy), int(np.ceil(x1 * fx)), int(np.ceil(y1 * fy)))
        return Guidance.from_box(scaled, canvas, tight)
    if blob is not None:
        cx, cy, rx, ry = parse_blob(blob, size)
        return Guidance.from_blob(cx * fx, cy * fy, rx * fx, ry * fy, canvas, tight)
    if scribble is not None:
        return Guidance.from_scribble(_scaled(read_scribble(scribble, size), canvas), tight)
    return None


def _scaled(drawn: np.ndarray, canvas: Size) -> np.ndarray:
    """A drawing, bool (H, W), on the canvas: a pixel is drawn where a third of it is, and thin strokes stay whole."""
    if drawn.shape == canvas.shape:
        return drawn
    grey = Image.fromarray(drawn.astype(np.uint8) * 255)
    coverage = np.asarray(grey.resize(canvas, Image.Resampling.BOX))
    return np.asarray(coverage >= min(85, int(coverage.max())))


def read_scribble(path: Path, size: Size) -> np.ndarray:
    """What was drawn in a PNG.

    With an alpha channel that varies, drawn is what is at least half opaque. Else the ground is the most common colour
    of the picture's border, and drawn is what differs from it clearly; so black on white serves, colours on white,
    and white on black (a mask of ours).

    Returns:
        bool (H, W).

    Raises:
        UserError: not a readable PNG of the canvas's size, too large a file, or nothing drawn.
    """
    try:
        length = path.stat().st_size
        if length > MAX_SCRIBBLE_BYTES:
            raise UserError(f"scribble {path} has {length:,} bytes; at most {MAX_SCRIBBLE_BYTES:,} are read")
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.size != tuple(size):  # before any pixel is decoded
                raise UserError(
                    f"scribble {path} is {picture.size[0]}x{picture.size[1]}; "
                    f"the canvas is {size.width}x{size.height}, draw at that size"
                )
            rgba = _rgba(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"scribble {path} is no readable PNG ({str(error)[:80]}); give a PNG drawing") from None
    drawn = _drawn(rgba)
    if not drawn.any():
        raise UserError(f"scribble {path} is empty; draw dark or coloured strokes on a white or transparent ground")
    return drawn


def _rgba(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):  # 16-bit grey, which PIL would clip at 255
        picture = Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return np.asarray(picture.convert("RGBA"))


def _drawn(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3]
    if alpha.min() < alpha.max():
        return np.asarray(alpha >= DRAWN_ALPHA)
    rgb = rgba[..., :3]
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    colours, counts = np.unique(border, axis=0, return_counts=True)
    contrast = np.abs(rgb.astype(np.int16) - colours[counts.argmax()]).max(axis=2)
    return np.asarray(contrast >= DRAWN_CONTRAST)
