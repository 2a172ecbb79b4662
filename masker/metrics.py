"""What is measured on one mask, and how masks become the numbers of a group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from masker.cases import Case
from masker.ranking import iou
from masker.support import SupportStatistics
from scene.geometry import Size
from scene.layout import SemanticLayout


class Judge(Protocol):
    """Names what a silhouette shows; see `perception.silhouettes.SilhouetteJudge`."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels it knows."""
        ...

    def judge(self, mask: np.ndarray, size: Size) -> np.ndarray:
        """Probabilities over `labels` of a bool (H, W) on a canvas; all 0 where it shows nothing."""
        ...


@dataclass(frozen=True)
class MaskScores:
    """One mask of one object.

    Attributes:
        recognised: The judge's first choice is the object's label; None where it does not know the label.
        right: It rests on what such things rest on.
        impossible: It overlaps a movable thing as nothing in training does.
        ratio: Root of its area over that of the real mask.
    """

    recognised: bool | None
    right: bool
    impossible: bool
    ratio: float


class Examiner:
    """Scores masks.

    Args:
        statistics: Of the training scenes.
        judge: None = recognition is not measured.
    """

    def __init__(self, statistics: SupportStatistics, judge: Judge | None) -> None:
        self.statistics, self._judge = statistics, judge
        self._judged = {label: number for number, label in enumerate(judge.labels)} if judge else {}

    def score(self, case: Case, mask: np.ndarray, layout: SemanticLayout, *, recognise: bool) -> MaskScores:
        """Scores a mask (not empty) proposed for the object of a case; the judge is asked if `recognise`."""
        recognised = None
        if recognise and self._judge is not None and case.label in self._judged:
            height, width = mask.shape
            found = self._judge.judge(mask, Size(width, height))
            recognised = bool(found.any()) and int(np.argmax(found)) == self._judged[case.label]
        return MaskScores(
            recognised,
            self.statistics.is_right(case.label, mask, layout),
            self.statistics.impossible_overlap(case.label, mask, layout) > 0,
            float(np.sqrt(mask.sum() / case.truth.sum())),
        )


@dataclass(frozen=True)
class FreeScores:
    """Mask-free draws of one object, best ranked first, beside its real mask.

    Attributes:
        wanted: Draws asked for; those that came out empty are missing in `draws`.
        overlap: Mean pairwise IoU of the draws; None with fewer than two.
    """

    wanted: int
    draws: Sequence[MaskScores]
    real: MaskScores
    overlap: float | None


@dataclass
class GroupScores:
    """Everything measured on one group, in the order of its cases."""

    labels: list[str] = field(default_factory=list)
    iou: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    ranked: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    free: list[FreeScores] = field(default_factory=list)
    real: list[MaskScores] = field(default_factory=list)
    moved: list[MaskScores] = field(default_factory=list)
    empty: list[bool] = field(default_factory=list)
    seconds: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))

    def summary(self) -> dict[str, Any]:
        """JSON-ready numbers of the group; see `masker.evaluate.evaluate`."""
        return {
            "n": len(self.labels),
            "labels": len(set(self.labels)),
            "iou": {method: _means(forms) for method, forms in self.iou.items()},
            "iou_label_mean": {
                method: {form: _label_mean(values, self.labels) for form, values in forms.items()}
                for method, forms in self.iou.items()
            },
            "iou_median": {form: float(np.median(values)) for form, values in self.iou["model"].items()},
            "ranked": {
                form: {"n": len(pairs), "mean_of_draws": _mean(m for m, _ in pairs), "best": _mean(b for _, b in pairs)}
                for form, pairs in self.ranked.items()
            },
            "mask_free": self._mask_free(),
            "calibration": {
                "n": len(self.real),
                "support_right_real": _mean(scores.right for scores in self.real),
                "support_right_moved": _mean(scores.right for scores in self.moved),
                "impossible_overlap_real": _mean(scores.impossible for scores in self.real),
                "impossible_overlap_moved": _mean(scores.impossible for scores in self.moved),
            },
            "empty": _mean(self.empty),
            "seconds_per_mask": {
                form: sum(spent for spent, _ in calls) / sum(count for _, count in calls)
                for form, calls in self.seconds.items()
            },
        }

    def _mask_free(self) -> dict[str, Any]:
        wanted = sum(scores.wanted for scores in self.free)
        drawn = sum(len(scores.draws) for scores in self.free)
        judged = [scores for scores in self.free if scores.real.recognised is not None]
        return {
            "n": len(self.free),
            "draws": wanted,
            "empty": 1 - drawn / wanted if wanted else None,
            "diversity_pairwise_iou": _mean(scores.overlap for scores in self.free if scores.overlap is not None),
            "recognised": _recognition(judged) if judged else None,
            "support_right": _shares(self.free, "right"),
            "impossible_overlap": _shares(self.free, "impossible"),
            "size_ratio": {
                "all": _spread(draw.ratio for scores in self.free for draw in scores.draws),
                "best_ranked": _spread(scores.draws[0].ratio for scores in self.free if scores.draws),
            },
        }


def headline(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of all groups together that other programs rely on, each a mean weighted by its objects.

    Args:
        groups: `GroupScores.summary` by name.

    Returns:
        `n`, `iou` by form, `baselines` (`iou` by name), `support_right`, `diversity_pairwise_iou`, `seconds_per_mask`;
        `label_recognised` and `label_recognised_real` where a judge knows labels.
    """
    parts = list(groups.values())
    free = [(part["mask_free"], part["mask_free"]["n"]) for part in parts]
    judged = [(found["recognised"], found["recognised"]["n"]) for found, _ in free if found["recognised"]]
    values = {
        "label_recognised": _weighted((found["all"], n) for found, n in judged),
        "label_recognised_real": _weighted((found["real"], n) for found, n in judged),
        "support_right": _weighted((found["support_right"]["all"], n) for found, n in free),
        "diversity_pairwise_iou": _weighted((found["diversity_pairwise_iou"], n) for found, n in free),
        "seconds_per_mask": _weighted((part["seconds_per_mask"].get("guided"), part["n"]) for part in parts),
    }
    ious: dict[str, dict[str, float | None]] = {}
    for method in {method for part in parts for method in part["iou"]}:
        found = [(part["iou"].get(method, {}), part["n"]) for part in parts]
        forms = sorted({form for means, _ in found for form in means})
        ious[method] = {form: _weighted([(means.get(form), n) for means, n in found]) for form in forms}
    return {
        "n": sum(part["n"] for part in parts),
        "iou": ious.pop("model"),
        **{name: value for name, value in values.items() if value is not None},
        "baselines": {method: {"iou": ious[method]} for method in sorted(ious)},
    }


def _weighted(values: Iterable[tuple[float | None, int]]) -> float | None:
    """Mean of those that are known, each counted so many times."""
    known = [(value, count) for value, count in values if value is not None]
    total = sum(count for _, count in known)
    return sum(value * count for value, count in known) / total if total else None


def mean_pairwise_iou(masks: Sequence[np.ndarray]) -> float | None:
    """How alike masks are: 1 = all the same; None for fewer than two."""
    pairs = [iou(first, second) for first, second in combinations(masks, 2)]
    return float(np.mean(pairs)) if pairs else None


def _recognition(judged: Sequence[FreeScores]) -> dict[str, Any]:
    shares = _shares(judged, "recognised")
    real = shares["real"] or 0.0
    ratios = {f"{key}_over_real": (shares[key] or 0.0) / real if real else None for key in ("all", "best_ranked")}
    return {"n": len(judged), **shares, **ratios}


def _shares(objects: Sequence[FreeScores], name: str) -> dict[str, float | None]:
    """Share of draws, of best-ranked draws and of real masks for which `name` holds.

    A draw that came out empty is neither right nor recognised, and overlaps nothing.
    """
    holds = [[bool(getattr(draw, name)) for draw in scores.draws] for scores in objects]
    wanted = sum(scores.wanted for scores in objects)
    return {
        "all": sum(sum(draws) for draws in holds) / wanted if wanted else None,
        "best_ranked": _mean(draws[0] if draws else False for draws in holds),
        "real": _mean(bool(getattr(scores.real, name)) for scores in objects),
    }


def _spread(values: Iterable[float]) -> dict[str, float] | None:
    found = list(values)
    if not found:
        return None
    low, middle, high = np.quantile(found, [0.1, 0.5, 0.9])
    return {"p10": float(low), "median": float(middle), "p90": float(high)}


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None


def _means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {form: float(np.mean(numbers)) for form, numbers in values.items()}


def _label_mean(values: Sequence[float], labels: Sequence[str]) -> float:
    """Mean over labels of the mean of each label."""
    by_label: dict[str, list[float]] = defaultdict(list)
    for value, label in zip(values, labels, strict=True):
        by_label[label].append(value)
    return float(np.mean([np.mean(numbers) for numbers in by_label.values()]))
