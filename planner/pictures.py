"""Layout pictures of corpus scenes, painted step by step without a full-canvas mask for every layer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from scene.layout import label_colour

if TYPE_CHECKING:
    from scene.corpus.records import LayerRecord
    from scene.corpus.store import Corpus

SHOWN_FROM = 0.03  # share of a cell


def layout_steps(corpus: Corpus, layers: Sequence[LayerRecord], start: int = 0) -> Iterator[np.ndarray]:
    """The layout picture after `start`, `start + 1`, ... layers; equal to `layout_picture(f_layer(first k masks))`.

    Args:
        corpus: holds the assets.
        layers: back to front.
        start: so many are painted before the first picture.

    Yields:
        uint8 (H, W, 3), len(layers) + 1 - start times; each a picture of its own.
    """
    colours = np.asarray([(255, 255, 255), *(label_colour(layer.label) for layer in layers)], dtype=np.uint8)
    canvas = np.zeros(corpus.size.shape, dtype=np.min_scalar_type(len(layers)))
    for number in range(len(layers) + 1):
        if number > 0:
            layer = layers[number - 1]
            box = corpus.box(layer)
            if box is not None:
                region = (slice(box.y0, box.y1), slice(box.x0, box.x1))
                canvas[region][corpus.mask(layer)[region]] = number
        if number >= start:
            yield np.take(colours, canvas, axis=0)


def layer_cells(corpus: Corpus, layers: Sequence[LayerRecord], side: int) -> np.ndarray:
    """How much of each cell of a side x side grid each of K layers shows in their layout picture.

    Returns:
        float32 (side * side, K + 1), row by row; the last column is empty canvas; rows sum to 1.
    """
    canvas = np.full(corpus.size.shape, len(layers), dtype=np.int64)
    for position, layer in enumerate(layers):
        canvas[corpus.mask(layer)] = position
    rows = np.arange(corpus.size.height) * side // corpus.size.height
    columns = np.arange(corpus.size.width) * side // corpus.size.width
    cell = rows[:, None] * side + columns[None, :]
    classes = len(layers) + 1
    counts = np.bincount((cell * classes + canvas).ravel(), minlength=side * side * classes)
    shares = counts.reshape(side * side, classes).astype(np.float32)
    return shares / shares.sum(1, keepdims=True)


def label_cells(corpus: Corpus, layers: Sequence[LayerRecord], shown: np.ndarray) -> np.ndarray:
    """How much of each cell each label covers.

    Args:
        corpus, layers: As in `layer_cells`.
        shown: What that gave.

    Returns:
        float32 (side * side, L + 1); columns follow `corpus.labels`, the last is empty canvas; rows sum to 1.
    """
    labels = {label: index for index, label in enumerate(corpus.labels)}
    shares = np.zeros((len(shown), len(labels) + 1), dtype=np.float32)
    for position, layer in enumerate(layers):
        shares[:, labels[layer.label]] += shown[:, position]
    shares[:, -1] = shown[:, -1]
    return shares


def place_cells(
    corpus: Corpus, layers: Sequence[LayerRecord], shown: np.ndarray, surfaces: Collection[str]
) -> np.ndarray:
    """Where the thing that shows most in each cell begins and ends.

    Args:
        corpus, layers: As in `layer_cells`.
        shown: What that gave.
        surfaces: labels that are no things.

    Returns:
        float32 (side * side, 4): its box as shares of the canvas, x0 y0 x1 y1; -1 in cells that show no thing.
    """
    things = shown[:, :-1].copy()
    boxes = np.full((len(layers), 4), -1.0, dtype=np.float32)
    for position, layer in enumerate(layers):
        box = corpus.box(layer)
        if layer.label in surfaces or box is None:
            things[:, position] = 0
        else:
            boxes[position] = np.array(box) / (2 * (corpus.size.width, corpus.size.height))
    places = np.full((len(shown), 4), -1.0, dtype=np.float32)
    if len(layers):
        there = things.max(1) > SHOWN_FROM
        places[there] = boxes[things.argmax(1)[there]]
    return places
