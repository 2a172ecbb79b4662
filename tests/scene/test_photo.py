"""Reading photographs: upright, to the bit, or refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scene import photo as photo_module
from scene.errors import UserError
from scene.photo import read_photo

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def encoded(picture: Image.Image, format: str = "PNG", **more: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **more)
    return buffer.getvalue()


def sixteen_bit_png(colour_type: int, channels: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 70, 70, 16, colour_type, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(2 * channels * 70)) * 70)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_pixels_come_as_they_are() -> None:
    photo = read_photo(encoded(Image.fromarray(NOISE)))
    assert np.array_equal(photo.rgb, NOISE) and photo.alpha is None and photo.seen is photo.rgb


@pytest.mark.parametrize(("orientation", "turned"), [(1, NOISE), (3, np.rot90(NOISE, 2)), (6, np.rot90(NOISE, -1)),
                                                     (8, np.rot90(NOISE)), (2, NOISE[:, ::-1])])  # fmt: skip
def test_exif_orientation_turns_it_upright(orientation: int, turned: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_photo(encoded(Image.fromarray(NOISE), exif=exif))
    assert np.array_equal(photo.rgb, turned)


def test_transparency_is_kept_beside_the_colours() -> None:
    alpha = np.random.default_rng(1).integers(0, 256, (40, 60), dtype=np.uint8)
    photo = read_photo(encoded(Image.fromarray(np.dstack([NOISE, alpha]))))
    assert np.array_equal(photo.rgb, NOISE) and photo.alpha is not None and np.array_equal(photo.alpha, alpha)
    white = Image.new("RGBA", (60, 40), "white")
    white.alpha_composite(Image.fromarray(np.dstack([NOISE, alpha])))
    assert np.abs(photo.seen.astype(int) - np.asarray(white)[..., :3]).max() <= 1
    assert read_photo(encoded(Image.fromarray(np.dstack([NOISE, np.full_like(alpha, 255)])))).alpha is None


def test_grey_and_palettes_become_rgb_and_profiles_are_kept() -> None:
    grey = read_photo(encoded(Image.fromarray(NOISE[..., 0]), icc_profile=b"profile"))
    assert np.array_equal(grey.rgb[..., 1], NOISE[..., 0]) and grey.icc_profile == b"profile"
    palette = Image.fromarray(NOISE).quantize(16)
    assert np.array_equal(read_photo(encoded(palette)).rgb, np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encoded(Image.new("CMYK", (70, 70)), "JPEG"), "is CMYK.*convert it to RGB"),
        (sixteen_bit_png(2, 3), "more than 8 bits"),
        (sixteen_bit_png(0, 1), "more than 8 bits"),
        (encoded(Image.fromarray(np.zeros((70, 70), np.uint16)), "TIFF"), "more than 8 bits"),
        (encoded(Image.new("RGB", (70, 70)), save_all=True, append_images=[Image.new("RGB", (70, 70), "red")]),
         "2 frames"),
        (encoded(Image.new("RGB", (700, 10))), "factor of 64"),
        (encoded(Image.fromarray(NOISE), "JPEG")[:-400], "no readable picture"),
        (b"GIF89a not one of ours", "no readable picture"),
    ],
)  # fmt: skip
def test_what_cannot_be_given_back_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_photo(data, "holiday")


def test_size_is_checked_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bomb = encoded(Image.new("1", (6000, 5000)))
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"6000x5000 \(30.0 megapixels\); at most 25"):
        read_photo(bomb)
    monkeypatch.setattr(photo_module, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="at most 10 are read"):
        read_photo(bomb)
    with pytest.raises(UserError, match=r"cannot read .*none.jpg"):
        read_photo(tmp_path / "none.jpg")
