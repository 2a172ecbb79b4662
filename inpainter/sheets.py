"""Sample sheets: grids of pictures with a title line, for people's eyes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from runtime.files import write_atomic

GAP_PX, TITLE_PX = 2, 16


def grid(pictures: np.ndarray, *, columns: int) -> np.ndarray:
    """uint8 (N, H, W, 3), row by row -> one picture with thin white gaps."""
    count, height, width = pictures.shape[:3]
    rows = -(-count // columns)
    sheet = np.full((rows * (height + GAP_PX), columns * (width + GAP_PX), 3), 255, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        y, x = (number // columns) * (height + GAP_PX), (number % columns) * (width + GAP_PX)
        sheet[y : y + height, x : x + width] = picture
    return sheet


def save_sheet(sheet: np.ndarray, path: Path, title: str) -> None:
    """Writes a PNG with a line of text above."""
    image = Image.new("RGB", (sheet.shape[1], sheet.shape[0] + TITLE_PX), "white")
    image.paste(Image.fromarray(sheet), (0, TITLE_PX))
    ImageDraw.Draw(image).text((4, 2), title, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda temporary: image.save(temporary, format="PNG"))
