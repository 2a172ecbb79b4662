"""Writing to a run's disk: atomic, checksummed, and clear about what stands in the way."""

from __future__ import annotations

import errno
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.files import write_bytes
from scene.errors import UserError

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "the disk is read-only; make it writable",
    errno.EACCES: "it is not writable; change its permissions",
    errno.EPERM: "it is not writable; change its permissions",
    errno.EIO: "the disk fails; copy the run elsewhere",
}


@contextmanager
def told_clearly(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses into one line that says what to do; nothing written before is lost."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, f"{error.strerror or error}; see to it")
        raise UserError(
            f"cannot write in {path}: {remedy}, then repeat the command; every finished step is kept"
        ) from None


def png_bytes(pixels: np.ndarray) -> bytes:
    """PNG of uint8 (H, W), (H, W, 3) or (H, W, 4), or bool (H, W) as 0/255; same pixels, same bytes."""
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: Path, pixels: np.ndarray) -> str:
    """Writes a PNG (`png_bytes`) atomically; returns its sha256."""
    data = png_bytes(pixels)
    write_bytes(path, data)
    return digest(data)


def digest(data: bytes) -> str:
    """sha256, hex."""
    return hashlib.sha256(data).hexdigest()
