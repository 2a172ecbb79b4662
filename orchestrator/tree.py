"""The history tree as text, JSON and a picture; and the difference between two of its scenes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from orchestrator.history import ROOT, History
from orchestrator.pictures import CAPTION_PX, FAINT, GROUND, HIGHLIGHT, INK, caption
from orchestrator.products import SHOWN
from orchestrator.run_folder import RunFolder
from scene.geometry import Box
from scene.layers import Layer, LayeredScene

THUMB_WIDTH_PX = 150
CELL_GAP_PX = 26
LINE = (150, 150, 150)


def tree_json(history: History) -> dict[str, Any]:
    """Head, branches, and every step with its parent, children, outcome, words and whether it is on the head's path."""
    on_path = {step.index for step in history.path()}
    steps = [
        {
            "id": step.index,
            "parent": step.parent,
            "children": [child.index for child in history.children(step.index)],
            "outcome": step.outcome,
            "words": step.words,
            "by": step.by,
            "on_path": step.index in on_path,
            "branches": _names(history, step.index),
        }
        for _, step in sorted(history.steps.items())
    ]
    return {
        "head": history.head,
        "branch": history.branch,
        "branches": dict(history.branches),
        "redo": list(history.trail[::-1]),
        "steps": steps,
    }


def _names(history: History, index: int) -> list[str]:
    return sorted(name for name, step in history.branches.items() if step == index)


def tree_lines(history: History) -> list[str]:
    """The tree as text, a line a step; forks are indented, the head is marked."""
    lines: list[str] = []

    def label(index: int) -> str:
        step = history.steps.get(index)
        words = f"{step.outcome:<9} {step.words}" if step else "empty canvas"
        names = "".join(f" <{name}>" for name in _names(history, index))
        return f"{index:>4}  {words}{names}{'   *** head ***' if index == history.head else ''}"

    stack: list[tuple[int, str]] = [(ROOT, "")]
    while stack:
        index, prefix = stack.pop()
        lines.append(f"{prefix}{label(index)}")
        children = history.children(index)
        indents = [prefix if number == 0 else f"{prefix}  | " for number in range(len(children))]
        stack.extend((child.index, indent) for child, indent in zip(children, indents, strict=True))
    return lines


def _placed_columns(history: History) -> Iterator[tuple[int, int, int]]:
    """(step, row, column): rows are depth; the oldest child stays in its parent's column, others open new ones."""
    next_column = 0
    stack = [(ROOT, 0, -1)]
    while stack:
        index, row, column = stack.pop()
        if column < 0:
            column, next_column = next_column, next_column + 1
        yield index, row, column
        children = history.children(index)
        stack.extend(
            (child.index, row + 1, column if number == 0 else -1)
            for number, child in reversed(list(enumerate(children)))
        )


def tree_picture(folder: RunFolder) -> np.ndarray:
    """Thumbnails of all steps, time to the right, branches below each other; the head is framed.

    Returns:
        uint8 (h, w, 3).
    """
    history = folder.history
    places = {index: (depth, lane) for index, depth, lane in _placed_columns(history)}
    thumb_height = round(THUMB_WIDTH_PX * folder.size.height / folder.size.width)
    cell_x, cell_y = THUMB_WIDTH_PX + CELL_GAP_PX, thumb_height + 2 * CAPTION_PX + CELL_GAP_PX
    depths, lanes = (1 + max(place[axis] for place in places.values()) for axis in (0, 1))
    sheet = Image.new("RGB", (depths * cell_x + CELL_GAP_PX, lanes * cell_y + CELL_GAP_PX), GROUND)
    draw = ImageDraw.Draw(sheet)
    corner = {i: (CELL_GAP_PX + depth * cell_x, CELL_GAP_PX + lane * cell_y) for i, (depth, lane) in places.items()}
    for index, step in history.steps.items():
        (x0, y0), (x1, y1) = corner[step.parent], corner[index]
        middle = thumb_height // 2
        elbow = x1 - CELL_GAP_PX // 2
        draw.line([(x0 + THUMB_WIDTH_PX, y0 + middle), (elbow, y0 + middle), (elbow, y1 + middle), (x1, y1 + middle)],
                  fill=LINE, width=3)  # fmt: skip
    on_path = {ROOT, *(step.index for step in history.path())}
    for index, (x, y) in corner.items():
        sheet.paste(_thumb(folder, index).resize((THUMB_WIDTH_PX, thumb_height), Image.Resampling.LANCZOS), (x, y))
        is_head = index == history.head
        outline = HIGHLIGHT if is_head else INK if index in on_path else LINE
        draw.rectangle((x - 2, y - 2, x + THUMB_WIDTH_PX + 1, y + thumb_height + 1), outline=outline, width=3)
        there = history.steps.get(index)
        start = "photo" if folder.photo else "empty"
        first = f"{index}  {there.words if there and there.outcome == 'placed' else there.outcome if there else start}"
        caption(draw, x, y + thumb_height + 4, first, THUMB_WIDTH_PX, 13, HIGHLIGHT if is_head else INK)
        names = ", ".join(_names(history, index))
        second = names or (there.reason if there and there.outcome != "placed" else "")
        caption(
            draw, x, y + thumb_height + 4 + CAPTION_PX - 4, second, THUMB_WIDTH_PX, 12, HIGHLIGHT if names else FAINT
        )
    return np.asarray(sheet)


def _thumb(folder: RunFolder, index: int) -> Image.Image:
    """The newest picture on the way to a step; what placed nothing is shown pale."""
    shown = [step for step in folder.history.path(index) if step.outcome in SHOWN]
    if not shown:
        return Image.fromarray(folder.start.image)
    pixels = folder.shown(shown[-1])
    if shown[-1].index != index and folder.history.steps[index].outcome in ("rejected", "skipped"):
        pixels = 255 - (255 - pixels) // 3
    return Image.fromarray(pixels)


def difference(folder: RunFolder, before: int, after: int) -> dict[str, Any]:
    """What differs between the scenes at two steps.

    Returns:
        `common` (the last step that both share), `added`, `removed` (layers), `changed` (layers with what changed:
        "words", "place", "pixels"), `reordered` (the common layers stand in another order), `pixels` (how many differ)
        and their `box` [x0, y0, x1, y1] or null.
    """
    paths = [[ROOT, *(step.index for step in folder.history.path(index))] for index in (before, after)]
    common = max(set(paths[0]) & set(paths[1]))
    old, new = folder.scene(before), folder.scene(after)
    old_layers, new_layers = ({layer.id: layer for layer in scene.layers} for scene in (old, new))
    both = [id for id in old_layers if id in new_layers]
    changed = [
        {**_about(new_layers[id]), "what": what} for id in both if (what := _what(old_layers[id], new_layers[id]))
    ]
    differs = (old.image != new.image).any(axis=2)
    box = Box.from_mask(differs)
    return {
        "before": before,
        "after": after,
        "common": common,
        "added": [_about(layer) for id, layer in new_layers.items() if id not in old_layers],
        "removed": [_about(layer) for id, layer in old_layers.items() if id not in new_layers],
        "changed": changed,
        "reordered": both != [id for id in new_layers if id in old_layers],
        "pixels": int(differs.sum()),
        "box": list(box) if box else None,
    }


def _about(layer: Layer) -> dict[str, Any]:
    box = layer.box
    return {"id": layer.id, "description": layer.description, "box": list(box) if box else None}


def _what(old: Layer, new: Layer) -> list[str]:
    found = ["words"] if (old.label, old.description) != (new.label, new.description) else []
    found += ["place"] if not np.array_equal(old.mask, new.mask) else []
    same = (old.rgba is None and new.rgba is None) or (
        old.rgba is not None and new.rgba is not None and np.array_equal(old.rgba, new.rgba)
    )
    return found if same else [*found, "pixels"]


def difference_picture(old: LayeredScene, new: LayeredScene) -> np.ndarray:
    """Both pictures and the later one with everything that stayed made pale, side by side; uint8 (H, 3 W, 3)."""
    same = (old.image == new.image).all(axis=2, keepdims=True)
    pale = np.where(same, 255 - (255 - new.image) // 4, new.image).astype(np.uint8)
    return np.concatenate([old.image, new.image, pale], axis=1)
