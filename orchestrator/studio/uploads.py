"""Pictures that come from outside: counted and looked at before any pixel is decoded, then kept as plain PNG."""

from __future__ import annotations

import io
import secrets
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from orchestrator.disk import save_png
from orchestrator.studio.security import MAX_UPLOAD_BYTES
from runtime.files import write_bytes
from scene.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 24_000_000
MAX_SIDE_PX = 8192
MAX_KEPT = 64


@dataclass(frozen=True)
class Upload:
    """A picture that was sent: as PNG, and as it came."""

    id: str
    path: Path
    original: Path
    width: int
    height: int


def decoded(data: bytes) -> np.ndarray:
    """A picture's pixels, upright, uint8 (H, W, 4).

    Raises:
        UserError: too many bytes or pixels, not PNG, JPEG or WebP, or broken. Size and format are read from the
            header, before anything is decoded.
    """
    if len(data) > MAX_UPLOAD_BYTES:
        raise UserError(
            f"the picture has {len(data):,} bytes; at most {MAX_UPLOAD_BYTES:,} are read, send a smaller one"
        )
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE_PX:
                raise UserError(
                    f"the picture is {width}x{height}; at most {MAX_PIXELS:,} pixels, {MAX_SIDE_PX:,} a side are read"
                )
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGBA"))
    except UserError:
        raise
    except Exception:  # what a decoder makes of a broken file is its own affair
        raise UserError("this is no readable picture; send a PNG, JPEG or WebP file") from None


class Uploads:
    """Keeps what was sent in a folder of its own until the studio ends."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="smartscene-studio-")
        self._kept: OrderedDict[str, Upload] = OrderedDict()

    def add(self, data: bytes) -> Upload:
        """Checks and keeps a picture; see `decoded`."""
        pixels = decoded(data)
        id = secrets.token_hex(8)
        path = Path(self._folder.name) / f"{id}.png"
        original = path.with_suffix(".original")
        save_png(path, pixels)
        write_bytes(original, data)
        upload = self._kept[id] = Upload(id, path, original, pixels.shape[1], pixels.shape[0])
        while len(self._kept) > MAX_KEPT:
            _, gone = self._kept.popitem(last=False)
            gone.path.unlink(missing_ok=True)
            gone.original.unlink(missing_ok=True)
        return upload

    def beside(self, upload: Upload, text: str) -> Path:
        """Keeps a JSON text beside a picture; its file."""
        path = upload.path.with_suffix(".json")
        write_bytes(path, text.encode())
        return path

    def get(self, id: str) -> Upload:
        """A picture that was sent.

        Raises:
            UserError: unknown, or too long ago.
        """
        if id not in self._kept:
            raise UserError("that picture is no longer there; send it again")
        return self._kept[id]

    def close(self) -> None:
        """Deletes everything."""
        self._folder.cleanup()
