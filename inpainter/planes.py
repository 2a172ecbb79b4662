"""What a ControlNet in training may see besides the canvas and the mask: the scene's layout, and what lies in front.

The whole scene's layers count, those in front of the object, too, as they are known when a layout is made first. So
this is the most that a layout can tell. Drawing never has it: the contract of an inpainter is picture, mask and words.

Source: ours; the layout's colours are those of `scene.layout`. R = window side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inpainter.models import CONTROL_CHANNELS
from inpainter.window import Window
from scene.corpus.records import LayerRecord
from scene.corpus.store import Corpus
from scene.layout import label_colour

PLANES = {seen: channels - CONTROL_CHANNELS["mask"] for seen, channels in CONTROL_CHANNELS.items()}
"""Of `scene_planes` the first so many are seen, by `DenoiserConfig.control_inputs`."""
HERE = 128  # the object's own depth order


def scene_planes(corpus: Corpus, layers: Sequence[LayerRecord], k: int, mask: np.ndarray, window: Window) -> np.ndarray:
    """Layout colours and depth order of a scene in one object's window.

    Args:
        corpus: where the layers are from.
        layers: back to front.
        k: which of them is drawn.
        mask: bool (R, R), the mask that it is drawn in.
        window: where on the canvas.

    Returns:
        uint8 (R, R, 4): the colour of the topmost layer's label (white where none is), as in the layout's picture, and
        its depth order: `HERE` the object, above it what lies in front, below it what lies behind, 0 nothing.
    """
    side = mask.shape[0]
    planes = np.zeros((side, side, 4), np.uint8)
    planes[..., :3] = 255
    for number, layer in enumerate(layers):
        covered = mask if number == k else _shape_in(corpus, layer, window, side)
        rank = HERE + round((HERE - 2) * (number - k) / len(layers))
        planes[covered] = (*label_colour(layer.label), rank)
    return planes


def _shape_in(corpus: Corpus, layer: LayerRecord, window: Window, side: int) -> np.ndarray:
    """A layer's mask in a window, at the nearest canvas pixels, bool (side, side)."""
    shape = corpus.shape(layer)
    steps = np.floor((np.arange(side) + 0.5) * window.side / side).astype(int)
    rows, columns = steps + window.y0, steps + window.x0
    size = corpus.size
    inside = ((rows >= 0) & (rows < size.height))[:, None] & ((columns >= 0) & (columns < size.width))[None, :]
    rows, columns = rows - layer.y, columns - layer.x
    inside &= ((rows >= 0) & (rows < shape.shape[0]))[:, None] & ((columns >= 0) & (columns < shape.shape[1]))[None, :]
    found = shape[np.clip(rows, 0, shape.shape[0] - 1)][:, np.clip(columns, 0, shape.shape[1] - 1)]
    return np.asarray(found & inside)
