"""Crops of drawings against crops of real objects, and against words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inpainter.measures import local_distance
from perception.crops import CropJudge, square_crop
from perception.efficientnet import feature_maps, mean_and_std
from perception.matching import TextImageScore, retrieval, shuffled
from scene.geometry import Box


def object_crop(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The square crop round an object that judges and distances look at."""
    box = Box.from_mask(mask)
    assert box is not None
    return square_crop(picture, box)


class Judges:
    """Crops -> distances to real crops, the share that a classifier of real crops recognises, and fit with words.

    Args:
        judge: the crop judge; its trunk gives the features.
        judged: labels that it may judge here; empty where it learned another world.
        real: crops of the cases' objects as they really look.
        other: crops of other real objects, about as many.
        labels: of the cases.
        score: fit of crops and texts; None where none knows this world.
        texts: descriptions of the cases; empty: not scored.
    """

    def __init__(
        self,
        judge: CropJudge,
        judged: Sequence[str],
        real: Sequence[np.ndarray],
        other: Sequence[np.ndarray],
        labels: Sequence[str],
        score: TextImageScore | None = None,
        texts: Sequence[str] = (),
    ) -> None:
        self.judge, self.labels = judge, np.array(labels)
        self._score = score
        self._told = np.array([bool(text) for text in texts], dtype=bool)
        self._texts, self._own = np.unique([text for text in texts if text], return_inverse=True)
        self._judged = np.isin(self.labels, list(judged))
        self._real, self._other = (feature_maps(judge.trunk, crops) for crops in (real, other))

    def report(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
        """`local_*`, `recognised*` and `text_*` of drawings of all cases, in order; absent: not measured."""
        maps, judged = feature_maps(self.judge.trunk, crops), self._judged
        report = local_distance(*(mean_and_std(part) for part in (maps, self._real, self._other)))
        if judged.any():
            for name, part in (("recognised", maps), ("recognised_real", self._real)):
                verdicts = np.array(self.judge.labels)[self.judge.judge_maps(part[judged]).argmax(axis=1)]
                report[name] = round(float((verdicts == self.labels[judged]).mean()), 4)
            report["recognised_n"] = int(judged.sum())
        return {**report, **self._fit(maps)}

    def _fit(self, maps: np.ndarray) -> dict[str, Any]:
        """How well drawings, real crops, and real crops with shuffled texts find their descriptions."""
        if self._score is None or len(self._texts) < 2:
            return {}
        texts, own, told = self._texts.tolist(), self._own, self._told
        real = self._score.scores(self._real[told], texts)
        report: dict[str, Any] = {"text_n": len(own), "text_choices": len(texts)}
        for suffix, scores, columns in (
            ("", self._score.scores(maps[told], texts), own),
            ("_real", real, own),
            ("_shuffled", real, shuffled(own)),
        ):
            for name, value in retrieval(scores, columns).items():
                report[f"text_{name}{suffix}"] = round(value, 4)
        return report
