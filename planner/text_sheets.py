"""Sheets of text that trainings of the prompt reader leave behind: what was read, as a picture, and the figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw


def text_sheet(path: Path, lines: Sequence[str], empty: str, figures: Mapping[str, float], width: int) -> None:
    """Write lines of text as a picture, and append the figures to `validation.jsonl` beside it.

    Args:
        path: of the PNG.
        lines: what the picture shows; letters that its font lacks become "?".
        empty: shown in place of no lines.
        figures: name -> value.
        width: of the picture in pixels.
    """
    image = Image.new("RGB", (width, 14 * max(1, len(lines)) + 12), (255, 255, 255))
    text = "\n".join(lines).encode("latin-1", "replace").decode("latin-1")
    ImageDraw.Draw(image).multiline_text((6, 6), text or empty, fill=(0, 0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    with (path.parent / "validation.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"sheet": path.stem, **figures}) + "\n")
