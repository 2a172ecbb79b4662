"""Layout pictures of corpus scenes, painted step by step without a full-canvas mask for every layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from scene.layout import label_colour

if TYPE_CHECKING:
    from scene.corpus.records import LayerRecord
    from scene.corpus.store import Corpus


def layout_steps(corpus: Corpus, layers: Sequence[LayerRecord]) -> Iterator[np.ndarray]:
    """The layout picture after 0, 1, ... layers; equal to `layout_picture(f_layer(first k masks))`.

    Args:
        corpus: holds the assets.
        layers: back to front.

    Yields:
        uint8 (H, W, 3), len(layers) + 1 times; each a picture of its own.
    """
    canvas = np.full((*corpus.size.shape, 3), 255, dtype=np.uint8)
    yield canvas.copy()
    for layer in layers:
        canvas[corpus.mask(layer)] = label_colour(layer.label)
        yield canvas.copy()


def shown_share(picture: np.ndarray, mask: np.ndarray, label: str) -> float:
    """How much of a mask, bool (H, W), not empty, has its label's colour in a layout picture, uint8 (H, W, 3)."""
    return float((picture[mask] == label_colour(label)).all(axis=1).mean())


def label_cells(corpus: Corpus, layers: Sequence[LayerRecord], side: int) -> np.ndarray:
    """How much of each cell of a side x side grid each label covers in the layout picture of `layers`.

    Returns:
        float32 (side * side, L + 1), row by row; columns follow `corpus.labels`, the last is empty canvas; rows sum
        to 1.
    """
    labels = {label: index for index, label in enumerate(corpus.labels)}
    canvas = np.full(corpus.size.shape, len(labels), dtype=np.int64)
    for layer in layers:
        canvas[corpus.mask(layer)] = labels[layer.label]
    rows = np.arange(corpus.size.height) * side // corpus.size.height
    columns = np.arange(corpus.size.width) * side // corpus.size.width
    cell = rows[:, None] * side + columns[None, :]
    classes = len(labels) + 1
    counts = np.bincount((cell * classes + canvas).ravel(), minlength=side * side * classes)
    shares = counts.reshape(side * side, classes).astype(np.float32)
    return shares / shares.sum(1, keepdims=True)
