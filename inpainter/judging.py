"""Crops of drawings against crops of real objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inpainter.measures import local_distance
from perception.crops import CropJudge, square_crop
from perception.efficientnet import feature_maps, mean_and_std
from scene.geometry import Box


def object_crop(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The square crop round an object that judges and distances look at."""
    box = Box.from_mask(mask)
    assert box is not None
    return square_crop(picture, box)


class Judges:
    """Crops -> distances to real crops, and the share that a classifier of real crops recognises.

    Args:
        judge: the crop judge; its trunk gives the features.
        judged: labels that it may judge here; empty where it learned another world.
        real: crops of the cases' objects as they really look.
        other: crops of other real objects, about as many.
        labels: of the cases.
    """

    def __init__(
        self,
        judge: CropJudge,
        judged: Sequence[str],
        real: Sequence[np.ndarray],
        other: Sequence[np.ndarray],
        labels: Sequence[str],
    ) -> None:
        self.judge, self.labels = judge, np.array(labels)
        self._judged = np.isin(self.labels, list(judged))
        self._real, self._other = (feature_maps(judge.trunk, crops) for crops in (real, other))

    def report(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
        """`local_*`, `recognised`, `recognised_real` and `recognised_n` of drawings of all cases, in order."""
        maps, judged = feature_maps(self.judge.trunk, crops), self._judged
        report = local_distance(*(mean_and_std(part) for part in (maps, self._real, self._other)))
        if judged.any():
            for name, part in (("recognised", maps), ("recognised_real", self._real)):
                verdicts = np.array(self.judge.labels)[self.judge.judge_maps(part[judged]).argmax(axis=1)]
                report[name] = round(float((verdicts == self.labels[judged]).mean()), 4)
            report["recognised_n"] = int(judged.sum())
        return report
