"""Pictures for people: the step strip and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from orchestrator.history import StepRecord
from scene.geometry import Size

FRAME_WIDTH_PX = 240
CAPTION_PX = 22
GAP_PX = 6


def _caption(draw: ImageDraw.ImageDraw, x: int, y: int, text: str, width: int) -> None:
    font = ImageFont.load_default(13)
    while text and draw.textlength(text, font=font) > width:
        text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
    draw.text((x, y), text, fill=(40, 40, 40), font=font)


def strip_picture(frames: Sequence[tuple[StepRecord, np.ndarray, np.ndarray]], size: Size) -> np.ndarray:
    """All steps side by side: caption, picture, layout.

    Args:
        frames: (step, image uint8 (H, W, 3), layout uint8 (H, W, 3)) in order.
        size: canvas size.

    Returns:
        uint8 (h, w, 3); a single blank frame when there are no steps.
    """
    height = round(FRAME_WIDTH_PX * size.height / size.width)
    columns = max(1, len(frames))
    sheet = Image.new(
        "RGB", (columns * (FRAME_WIDTH_PX + GAP_PX) + GAP_PX, 2 * (height + GAP_PX) + CAPTION_PX + GAP_PX), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for column, (step, image, layout) in enumerate(frames):
        x = GAP_PX + column * (FRAME_WIDTH_PX + GAP_PX)
        words = step.proposal.description if step.proposal else ""
        _caption(draw, x, 3, f"{step.index}. {words}", FRAME_WIDTH_PX)
        for row, pixels in enumerate((image, layout)):
            small = Image.fromarray(pixels).resize((FRAME_WIDTH_PX, height), Image.Resampling.LANCZOS)
            sheet.paste(small, (x, CAPTION_PX + GAP_PX + row * (height + GAP_PX)))
    return np.asarray(sheet)


def contact_sheet(pictures: Sequence[tuple[str, np.ndarray]], columns: int, width: int = FRAME_WIDTH_PX) -> np.ndarray:
    """Captioned pictures in a grid; each uint8 (h, w, 3), scaled to `width` pixels. Returns uint8 (H, W, 3)."""
    scaled = []
    for caption, pixels in pictures:
        height = max(1, round(width * pixels.shape[0] / pixels.shape[1]))
        scaled.append((caption, Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)))
    cell = max((picture.height for _, picture in scaled), default=width) + CAPTION_PX + GAP_PX
    rows = -(-len(scaled) // columns) or 1
    sheet = Image.new("RGB", (columns * (width + GAP_PX) + GAP_PX, rows * cell + GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (caption, picture) in enumerate(scaled):
        x, y = GAP_PX + number % columns * (width + GAP_PX), GAP_PX + number // columns * cell
        _caption(draw, x, y, caption, width)
        sheet.paste(picture, (x, y + CAPTION_PX))
    return np.asarray(sheet)
