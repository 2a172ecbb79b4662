"""Which labels have a telling silhouette: chosen on what a run left out of split `train`, never on val or test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception.views import LeftOut, ViewTable


@dataclass(frozen=True)
class ChoiceRule:
    """What a label needs in order to be judged.

    Attributes:
        train: masks that training saw.
        left_out: masks that it did not see.
        recall: share of those taken for the label, smoothed as (hits + 1) / (n + 2). Where whole models of the label
            were left out, both their recall and that of left-out scenes must reach it (either alone if the other has
            fewer than `left_out` masks).
        drop_frac: share of the labels dropped between two looks.
    """

    train: int = 10
    left_out: int = 4
    recall: float = 0.4
    drop_frac: float = 0.02


@dataclass(frozen=True)
class LabelScore:
    """How a label fares among others.

    Attributes:
        recall: the smaller of its recalls on left-out models and on left-out scenes, smoothed.
        overlap: its hits over all masks that are it or are taken for it, smoothed: low when it takes others' masks.
    """

    recall: float
    overlap: float

    @property
    def merit(self) -> float:
        """Low for labels that are not recognised and for those that are seen where they are not."""
        return self.recall * self.overlap


def choose_labels(
    probabilities: np.ndarray, labels: Sequence[str], table: ViewTable, left: LeftOut, rule: ChoiceRule
) -> tuple[str, ...]:
    """Backward elimination: while a label lacks recall, those with the least merit go and the rest is judged again.

    Args:
        probabilities: float32 (N, L) of the run's judge for every row that it left out; other rows are not read.
        labels: the L labels.
        table: all N training masks.
        left: which of them were left out, and why.
        rule: what a label needs.

    Returns:
        Labels that pass, sorted.
    """
    trained, unseen = table.labels[~left.any], table.labels[left.any]
    kept = [x for x in labels if (trained == x).sum() >= rule.train and (unseen == x).sum() >= rule.left_out]
    while kept:
        scores = label_scores(probabilities, labels, table, left, kept, rule)
        if all(score.recall >= rule.recall for score in scores.values()):
            break
        ranked = sorted(kept, key=lambda label: (scores[label].merit, label))
        gone = set(ranked[: max(1, int(rule.drop_frac * len(kept)))])
        kept = [label for label in kept if label not in gone]
    return tuple(sorted(kept))


def label_scores(
    probabilities: np.ndarray,
    labels: Sequence[str],
    table: ViewTable,
    left: LeftOut,
    kept: Sequence[str],
    rule: ChoiceRule,
) -> dict[str, LabelScore]:
    """The scores of some labels among themselves; arguments as in `choose_labels`."""
    number = {label: column for column, label in enumerate(labels)}
    verdicts = np.array(kept)[probabilities[:, [number[label] for label in kept]].argmax(axis=1)]
    counted = left.any & np.isin(table.labels, kept)
    scores = {}
    for label in kept:
        mine, taken = counted & (table.labels == label), counted & (verdicts == label)
        large = [part for part in (mine & left.models, mine & left.scenes) if part.sum() >= rule.left_out] or [mine]
        recall = min(((part & taken).sum() + 1) / (part.sum() + 2) for part in large)
        scores[label] = LabelScore(float(recall), float(((mine & taken).sum() + 1) / ((mine | taken).sum() + 2)))
    return scores
