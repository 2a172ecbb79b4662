"""How one asset is stored: its mask as packed bits, and its picture in one of four encodings.

Training the mask model reads only the bits (about 0.1 ms for a whole canvas); pictures are decoded when asked for.

| encoding | picture | for |
|---|---|---|
| raw | RGBA, row by row | small worlds whose assets many scenes share |
| webp | lossy WebP of the colours, alpha without loss | rendered objects and surfaces |
| lossless | lossless WebP | flat drawings |
| shadow | lossy WebP of one channel: how much black lies there | effects; they have no mask |
"""

from __future__ import annotations

import io
import zlib
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

MASK_ALPHA = 128  # a pixel belongs to the object from this alpha on
WEBP_QUALITY = 92
SHADOW_QUALITY, FAINTEST_SHADOW = 90, 4  # what lossy coding leaves where there was no shadow is below that
Encoding = Literal["raw", "webp", "lossless", "shadow"]


class EncodedAsset(NamedTuple):
    """An asset ready to be appended to a corpus; fields as in `AssetInfo`, with the bytes themselves."""

    label: str
    description: str
    source: str
    encoding: str
    height: int
    width: int
    mask: bytes
    picture: bytes


def encode_asset(
    picture: np.ndarray, *, label: str, description: str, source: str, encoding: Encoding = "raw"
) -> EncodedAsset:
    """Encodes a picture and its mask (alpha from `MASK_ALPHA` on).

    Args:
        picture: uint8 (h, w, 4); for "shadow" uint8 (h, w), 0 = nothing, 255 = black.
        label, description, source: see `AssetInfo`; a shadow carries those of its object.
        encoding: see the table above.
    """
    mask = b"" if encoding == "shadow" else pack_mask(picture[..., 3] >= MASK_ALPHA)
    height, width = picture.shape[:2]
    return EncodedAsset(
        label, description, source, encoding, height, width, mask, _encode_picture(picture, encoding)
    )  # fmt: skip


def pack_mask(mask: np.ndarray) -> bytes:
    """Bits of a bool (h, w), row by row without padding; deflated where that at least halves them."""
    bits = np.packbits(mask).tobytes()
    deflated = zlib.compress(bits, 6)
    return deflated if 2 * len(deflated) <= len(bits) else bits


def unpack_mask(data: np.ndarray, height: int, width: int) -> np.ndarray:
    """Inverse of `pack_mask`: uint8 bytes to bool (h, w). Deflated bits are known by their length."""
    if len(data) != (height * width + 7) // 8:
        data = np.frombuffer(zlib.decompress(data.tobytes()), dtype=np.uint8)
    return np.unpackbits(data, count=height * width).reshape(height, width).view(np.bool_)


def _encode_picture(picture: np.ndarray, encoding: Encoding) -> bytes:
    if encoding == "raw":
        return np.ascontiguousarray(picture).tobytes()
    out = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    if encoding == "shadow":
        image.save(out, "WEBP", quality=SHADOW_QUALITY, method=2)
    elif encoding == "lossless":
        image.save(out, "WEBP", lossless=True, method=2)
    else:
        image.save(out, "WEBP", quality=WEBP_QUALITY, alpha_quality=100, method=2)
    return out.getvalue()


def decode_picture(data: np.ndarray, encoding: str, height: int, width: int) -> np.ndarray:
    """The picture of an asset, uint8 (h, w, 4); a shadow is black with its strength as alpha.

    Args:
        data: uint8, the picture's bytes.
    """
    if encoding == "raw":
        return data.reshape(height, width, 4)
    image = Image.open(io.BytesIO(data.tobytes()))
    if encoding == "shadow":
        rgba = np.zeros((height, width, 4), dtype=np.uint8)
        strength = np.asarray(image.convert("L"))
        rgba[..., 3] = np.where(strength < FAINTEST_SHADOW, 0, strength)
        return rgba
    return np.asarray(image.convert("RGBA"))
