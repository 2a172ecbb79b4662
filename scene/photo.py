"""Reading photographs: what a file is gets checked before a pixel is decoded, and nothing is converted silently.

Turned upright by its EXIF orientation, 8 bits a channel, RGB; transparency is kept beside the colours. Whatever could
not be given back to the bit (CMYK, 16 bits a channel, several frames) is refused with a word on what to do.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from scene.errors import UserError
from scene.geometry import Size

MAX_PIXELS = 25_000_000  # what cameras sell as 24 megapixels has up to 24.4 million
MAX_BYTES = 128 << 20
MAX_ASPECT = 64
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
_PLAIN_MODES = ("RGB", "RGBA", "L", "LA", "P", "1")


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph, upright.

    Attributes:
        name: what it is called in messages.
        rgb: uint8 (H, W, 3), as the file has it; under full transparency too.
        alpha: uint8 (H, W), or None where every pixel is opaque.
        icc_profile: the file's colour profile, b"" without one. Colours are left in it.
    """

    name: str
    rgb: np.ndarray
    alpha: np.ndarray | None = None
    icc_profile: bytes = b""

    @property
    def size(self) -> Size:
        return Size(self.rgb.shape[1], self.rgb.shape[0])

    @property
    def seen(self) -> np.ndarray:
        """What models and people see, uint8 (H, W, 3): over white where it is transparent."""
        if self.alpha is None:
            return self.rgb
        alpha = self.alpha[..., None].astype(np.uint16)
        return ((alpha * self.rgb + (255 - alpha) * np.uint16(255) + 127) // 255).astype(np.uint8)


def read_photo(source: Path | bytes, name: str | None = None) -> Photo:
    """Reads a photograph.

    Args:
        source: a file, or its bytes.
        name: for messages; by default the path, or "the photo".

    Raises:
        UserError: not readable, too large, or of a kind that could not be given back to the bit.
    """
    name = name or (str(source) if isinstance(source, Path) else "the photo")
    data = read_bytes(source, name, MAX_BYTES)
    with decoding(name), Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        _check(picture, name)
        profile = picture.info.get("icc_profile") or b""
        rgb, alpha = _channels(ImageOps.exif_transpose(picture))
    return Photo(name, rgb, alpha, profile)


def read_bytes(source: Path | bytes, name: str, limit: int) -> bytes:
    """The bytes of a file, or `source` itself.

    Raises:
        UserError: not a readable file, or larger than `limit` bytes; it is not read then.
    """
    try:
        length = len(source) if isinstance(source, bytes) else source.stat().st_size
        if length > limit:
            raise UserError(f"{name} has {length:,} bytes; at most {limit:,} are read")
        return source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {name} ({error.strerror}); name an existing file") from None


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turns what Pillow says about a broken picture into one line."""
    try:
        yield
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else str(error)[:80]
        raise UserError(f"{name} is no readable picture ({reason}); give JPEG, PNG, WebP, TIFF or BMP, whole") from None


def _check(picture: ImageFile.ImageFile, name: str) -> None:
    """All that the header tells; no pixel is decoded here."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{name} is {width}x{height} ({width * height / 1e6:.1f} megapixels); at most {MAX_PIXELS / 1e6:.0f} are "
            "handled, scale it down"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(f"{name} is {width}x{height}; sides may differ by a factor of {MAX_ASPECT}, crop it")
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        raise UserError(f"{name} is {picture.mode}, which is made for print or storage; convert it to RGB first")
    if picture.mode not in _PLAIN_MODES or _bits(picture) > 8:
        raise UserError(f"{name} has more than 8 bits a channel; save it with 8 bits first")
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        raise UserError(f"{name} has {getattr(picture, 'n_frames', 1)} frames; save one of them as a picture")


def _bits(picture: ImageFile.ImageFile) -> int:
    """Bits a channel as the file stores them; Pillow opens 16-bit RGB as if it had 8."""
    if picture.format == "PNG":
        return 16 if any("16" in str(tile[3]) for tile in picture.tile) else 8
    if picture.format == "TIFF":
        return int(max(picture.tag_v2.get(258, (8,))))  # type: ignore[attr-defined]
    return 8


def _channels(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    if picture.mode in ("RGBA", "LA") or "transparency" in picture.info:
        rgba = np.asarray(picture.convert("RGBA"))
        alpha = np.ascontiguousarray(rgba[..., 3])
        return np.ascontiguousarray(rgba[..., :3]), None if (alpha == 255).all() else alpha
    return np.asarray(picture.convert("RGB")), None
