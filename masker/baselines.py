"""Baselines that a mask model has to beat: they know the guide, and the training silhouettes of the label."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from scene.corpus.records import LayerRecord
from scene.corpus.store import Corpus
from scene.geometry import Box, Size

GRID = 128  # cells along one side of the unit box in which silhouettes are averaged


@dataclass(frozen=True)
class _Shape:
    """A training silhouette that is read when it is wanted."""

    corpus: Corpus
    layer: LayerRecord
    box: Box  # tight, in the asset's frame
    times: int  # seen in training

    @property
    def tight(self) -> np.ndarray:
        return self.corpus.shape(self.layer)[self.box.y0 : self.box.y1, self.box.x0 : self.box.x1]

    @property
    def proportions(self) -> float:
        return self.box.width / self.box.height


class Silhouettes:
    """Training silhouettes by label, of several corpora together.

    Args:
        corpora: Their training splits are used.
        labels: The labels that will be asked for; None = all.
    """

    def __init__(self, corpora: Sequence[Corpus], labels: Collection[str] | None = None) -> None:
        self._shapes: dict[str, list[_Shape]] = defaultdict(list)
        for corpus in corpora:
            counts: Counter[int] = Counter()
            first: dict[int, LayerRecord] = {}
            for record in corpus.records("train"):
                for layer in record.layers:
                    if labels is None or layer.label in labels:
                        counts[layer.asset] += 1
                        first.setdefault(layer.asset, layer)
            for asset, layer in sorted(first.items()):
                box = Box.from_mask(corpus.shape(layer))
                if box is not None:
                    self._shapes[layer.label].append(_Shape(corpus, layer, box, counts[asset]))
        self._means: dict[str, np.ndarray] = {}

    def mean(self, label: str, box: Box, size: Size) -> np.ndarray:
        """`mean_silhouette`: average training silhouette of the label in the box, thresholded at one half.

        The box itself for a label that training never met.
        """
        shapes = self._shapes.get(label)
        if not shapes:
            return fill_box(box, size)
        if label not in self._means:
            total = sum(shape.times for shape in shapes)
            average = sum(stretch(shape.tight, (GRID, GRID)) * (shape.times / total) for shape in shapes)
            self._means[label] = np.asarray(average) > 0.5
        return place(self._means[label], box, size)

    def nearest(self, label: str, box: Box, size: Size) -> np.ndarray:
        """`nearest_silhouette`: the training silhouette of the label whose proportions are nearest to the box's.

        Ties, such as a drawing and its mirror image, go to the one seen more often in training. The box itself for a
        label that training never met.
        """
        shapes = self._shapes.get(label)
        if not shapes:
            return fill_box(box, size)
        wanted = np.log(box.width / box.height)
        best = min(shapes, key=lambda shape: (round(abs(np.log(shape.proportions) - wanted), 3), -shape.times))
        return place(best.tight, box, size)


def fill_box(box: Box, size: Size) -> np.ndarray:
    """`fill_box`: every pixel of the box, bool (H, W)."""
    return place(np.ones((1, 1), dtype=bool), box, size)


def eroded_scribble(scribble: np.ndarray, radius_frac: float) -> np.ndarray:
    """`eroded_scribble`: the area which, dilated by `radius_frac` * sqrt(its size), gives the scribble.

    Its size is unknown. The eroded size falls as the assumed one grows, so exactly one A gives an eroded size of A:
    it is found by bisection.

    Args:
        scribble: bool (H, W), not empty.
        radius_frac: Dilation over sqrt(area), the mean of training.

    Returns:
        bool (H, W); of the scribble's own deepest pixels at least.
    """
    depth = distance_transform_edt(scribble) if not scribble.all() else np.full(scribble.shape, np.inf)
    low, high = 0.0, float(scribble.sum())
    for _ in range(40):
        middle = (low + high) / 2
        # Half a pixel, as `guides.dilate_cells` has it: outlines run between pixel centres.
        if int((depth - 0.5 > radius_frac * np.sqrt(middle)).sum()) > middle:
            low = middle
        else:
            high = middle
    kept = depth - 0.5 > radius_frac * np.sqrt(low)
    return np.asarray(kept if kept.any() else depth == depth.max())


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
