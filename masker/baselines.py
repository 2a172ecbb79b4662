"""Three baselines that a mask model has to beat: they know the guide's box and the training silhouettes."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from scene.corpus.records import LayerRecord
from scene.corpus.store import Corpus
from scene.geometry import Box, Size

GRID = 128  # cells along one side of the unit box in which silhouettes are averaged


class Silhouettes:
    """Training silhouettes by label.

    Args:
        corpus: Its training split is used.
    """

    def __init__(self, corpus: Corpus) -> None:
        counts: Counter[int] = Counter()
        first: dict[int, LayerRecord] = {}
        for record in corpus.records("train"):
            for layer in record.layers:
                counts[layer.asset] += 1
                first.setdefault(layer.asset, layer)
        # label -> (tight silhouette, width / height, times seen in training)
        self._shapes: dict[str, list[tuple[np.ndarray, float, int]]] = defaultdict(list)
        for asset, layer in sorted(first.items()):
            solid = corpus.shape(layer)
            box = Box.from_mask(solid)
            if box is not None:
                tight = solid[box.y0 : box.y1, box.x0 : box.x1]
                entry = (tight, box.width / box.height, counts[asset])
                self._shapes[layer.label].append(entry)

    def mean(self, label: str, box: Box, size: Size) -> np.ndarray:
        """`mean_silhouette`: average training silhouette of the label in the box, thresholded at one half."""
        shapes = self._shapes.get(label)
        if not shapes:
            return fill_box(box, size)
        total = sum(count for _, _, count in shapes)
        average = sum(stretch(shape, (GRID, GRID)) * (count / total) for shape, _, count in shapes)
        return place(np.asarray(average) > 0.5, box, size)

    def nearest(self, label: str, box: Box, size: Size) -> np.ndarray:
        """`nearest_silhouette`: the training silhouette of the label whose proportions are nearest to the box's.

        Ties, such as a drawing and its mirror image, go to the one seen more often in training.
        """
        shapes = self._shapes.get(label)
        if not shapes:
            return fill_box(box, size)
        wanted = np.log(box.width / box.height)
        best = min(shapes, key=lambda entry: (round(abs(np.log(entry[1]) - wanted), 3), -entry[2]))
        return place(best[0], box, size)


def fill_box(box: Box, size: Size) -> np.ndarray:
    """`fill_box`: every pixel of the box, bool (H, W)."""
    return place(np.ones((1, 1), dtype=bool), box, size)


def stretch(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour resampling of a bool (h, w) to `shape`."""
    rows = ((np.arange(shape[0]) + 0.5) * mask.shape[0] / shape[0]).astype(np.intp)
    columns = ((np.arange(shape[1]) + 0.5) * mask.shape[1] / shape[1]).astype(np.intp)
    return mask[np.ix_(rows, columns)]


def place(silhouette: np.ndarray, box: Box, size: Size) -> np.ndarray:
    """A silhouette stretched into a box on an empty canvas, bool (H, W)."""
    canvas = np.zeros(size.shape, dtype=bool)
    inside = box.clip(size)
    shape = stretch(silhouette, (box.height, box.width))
    canvas[inside.y0 : inside.y1, inside.x0 : inside.x1] = shape[
        inside.y0 - box.y0 : inside.y1 - box.y0, inside.x0 - box.x0 : inside.x1 - box.x0
    ]
    return canvas
