"""Pictures for people: the step strip and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from scene.candidates import MaskCandidate
from scene.geometry import Size
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.layout import label_colour, layout_picture

FRAME_WIDTH_PX = 240
CAPTION_PX = 22
GAP_PX = 6

CANDIDATE_WIDTH_PX = 300
CANDIDATE_COLUMNS = 4
MARGIN_PX = 14
TITLE_PX = 42
SCORE_PX = 26
PART_PX = 18
NOT_PARTS = ("candidate", "attempt", "passes")  # facts beside the score, not what it is made of
INK, FAINT, GROUND = (40, 40, 40), (120, 120, 120), (246, 246, 244)
HIGHLIGHT, GUIDE_COLOUR, BAR = (235, 40, 120), (255, 140, 0), (90, 130, 190)


def caption(
    draw: ImageDraw.ImageDraw, x: int, y: int, text: str, width: int, size: int = 13, fill: tuple[int, int, int] = INK
) -> None:
    """Writes one line, cut to `width` pixels."""
    font = ImageFont.load_default(size)
    while text and draw.textlength(text, font=font) > width:
        text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
    draw.text((x, y), text, fill=fill, font=font)


def strip_picture(frames: Sequence[tuple[str, np.ndarray, np.ndarray]], size: Size) -> np.ndarray:
    """All steps side by side: caption, picture, layout.

    Args:
        frames: (caption, image uint8 (H, W, 3), layout uint8 (H, W, 3)) in order.
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
    for column, (words, image, layout) in enumerate(frames):
        x = GAP_PX + column * (FRAME_WIDTH_PX + GAP_PX)
        caption(draw, x, 3, words, FRAME_WIDTH_PX)
        for row, pixels in enumerate((image, layout)):
            small = Image.fromarray(pixels).resize((FRAME_WIDTH_PX, height), Image.Resampling.LANCZOS)
            sheet.paste(small, (x, CAPTION_PX + GAP_PX + row * (height + GAP_PX)))
    return np.asarray(sheet)


def contact_sheet(pictures: Sequence[tuple[str, np.ndarray]], columns: int, width: int = FRAME_WIDTH_PX) -> np.ndarray:
    """Captioned pictures in a grid; each uint8 (h, w, 3), scaled to `width` pixels. Returns uint8 (H, W, 3)."""
    scaled = []
    for words, pixels in pictures:
        height = max(1, round(width * pixels.shape[0] / pixels.shape[1]))
        scaled.append((words, Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)))
    cell = max((picture.height for _, picture in scaled), default=width) + CAPTION_PX + GAP_PX
    rows = -(-len(scaled) // columns) or 1
    sheet = Image.new("RGB", (columns * (width + GAP_PX) + GAP_PX, rows * cell + GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (words, picture) in enumerate(scaled):
        x, y = GAP_PX + number % columns * (width + GAP_PX), GAP_PX + number // columns * cell
        caption(draw, x, y, words, width)
        sheet.paste(picture, (x, y + CAPTION_PX))
    return np.asarray(sheet)


def candidate_sheet(
    scene: LayeredScene,
    candidates: Sequence[MaskCandidate],
    chosen: int,
    label: str,
    hidden: np.ndarray,
    guidance: Guidance | None,
    title: str,
) -> np.ndarray:
    """Each candidate over the layout and over the picture, with its number, score and what the score is made of.

    What layers in front hide of it is hatched, its outline is drawn whole; the guide is dashed.

    Args:
        scene: what the object goes into.
        candidates: best first; numbered from 1.
        chosen: index of the one that is taken.
        label: category, for its colour in the layout.
        hidden: bool (H, W), where the object cannot be seen.
        guidance: what guided the masks.
        title: heading.

    Returns:
        uint8 (h, w, 3), up to four candidates a row.
    """
    columns = max(1, min(CANDIDATE_COLUMNS, len(candidates)))
    height = round(CANDIDATE_WIDTH_PX * scene.size.height / scene.size.width)
    parts = max(len(_parts(candidate)) for candidate in candidates)
    cell = 2 * height + GAP_PX + SCORE_PX + PART_PX * parts + MARGIN_PX
    step = CANDIDATE_WIDTH_PX + MARGIN_PX
    rows = -(-len(candidates) // columns)
    sheet = Image.new("RGB", (columns * step + MARGIN_PX, TITLE_PX + rows * (cell + MARGIN_PX)), GROUND)
    draw = ImageDraw.Draw(sheet)
    caption(draw, MARGIN_PX, 9, title, columns * step - MARGIN_PX, 15)
    layout, line_px = layout_picture(scene.layout), max(1, round(1.5 * scene.size.width / CANDIDATE_WIDTH_PX))
    guide = _dashed_outline(guidance.map > 0.5, line_px) if guidance else np.zeros_like(hidden)
    for number, candidate in enumerate(candidates):
        x, y = MARGIN_PX + number % columns * step, TITLE_PX + number // columns * (cell + MARGIN_PX)
        if number == chosen:
            draw.rounded_rectangle((x - 6, y - 6, x + CANDIDATE_WIDTH_PX + 5, y + cell - 8), 6, "white", HIGHLIGHT, 2)
        for ground, colour, strength in ((layout, label_colour(label), 1.0), (scene.image, HIGHLIGHT, 0.65)):
            painted = painted_mask(ground, candidate.mask, hidden, colour, strength, line_px)
            painted[guide] = GUIDE_COLOUR
            small = Image.fromarray(painted).resize((CANDIDATE_WIDTH_PX, height), Image.Resampling.LANCZOS)
            sheet.paste(small, (x, y))
            y += height + GAP_PX
        _scores(draw, x, y, candidate, number, number == chosen)
    return np.asarray(sheet)


def _parts(candidate: MaskCandidate) -> dict[str, float]:
    return {name: value for name, value in candidate.details.items() if name not in NOT_PARTS}


def _scores(
    draw: ImageDraw.ImageDraw, x: int, y: int, candidate: MaskCandidate, number: int, is_chosen: bool
) -> None:  # fmt: skip
    caption(draw, x, y, f"{number + 1}", 30, 18, HIGHLIGHT if is_chosen else INK)
    words = f"score {candidate.score:.2f}{'   taken' if is_chosen else ''}"
    caption(draw, x + 30, y + 3, words, CANDIDATE_WIDTH_PX - 30, 14, HIGHLIGHT if is_chosen else INK)
    left, right = x + 120, x + CANDIDATE_WIDTH_PX - 44
    for row, (name, value) in enumerate(_parts(candidate).items()):
        top = y + SCORE_PX + PART_PX * row
        caption(draw, x, top, name.replace("_", " ").removesuffix(" frac"), 116, 12, FAINT)
        caption(draw, right + 8, top, f"{value:.2f}", 36, 12, FAINT)
        if 0 <= value <= 1:
            draw.rectangle((left, top + 4, right, top + 10), fill=(225, 225, 222))
            draw.rectangle((left, top + 4, left + round(value * (right - left)), top + 10), fill=BAR)


def painted_mask(
    ground: np.ndarray,
    mask: np.ndarray,
    hidden: np.ndarray,
    colour: tuple[int, int, int],
    strength: float,
    line_px: int,
) -> np.ndarray:
    """The mask over a picture: filled where seen, hatched where hidden, outlined in white and dark."""
    painted = ground.astype(np.float32)
    diagonal = np.add(*np.indices(mask.shape)) // (2 * line_px) % 3 == 0
    filled = mask & (~hidden | diagonal)
    painted[filled] = (1 - strength) * painted[filled] + strength * np.asarray(colour, dtype=np.float32)
    result = painted.round().astype(np.uint8)
    outer = ndimage.binary_dilation(mask, iterations=line_px)
    result[ndimage.binary_dilation(outer, iterations=line_px) & ~outer] = INK
    result[outer & ~mask] = 255
    return result


def _dashed_outline(mask: np.ndarray, line_px: int) -> np.ndarray:
    """Bool (H, W): the inner edge of a mask, in dashes."""
    edge = mask & ~ndimage.binary_erosion(mask, iterations=line_px, border_value=0)
    y, x = np.indices(mask.shape)
    return np.asarray(edge & ((x + y) // (5 * line_px) % 2 == 0))
