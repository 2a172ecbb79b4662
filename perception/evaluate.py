"""How often the judge is right on real masks that it was not trained on: `perception.evaluate.evaluate`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perception.silhouettes import SilhouetteJudge, SilhouetteView
from perception.views import ViewTable, read_views
from scene.corpus.store import Corpus
from scene.errors import UserError

CONFUSIONS = 20


def evaluate(
    pretrained: Path,
    *,
    data: Sequence[Path],
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures a judge folder on the true amodal masks of a split whose label it judges.

    Args:
        pretrained: folder with `judge.json`.
        data: corpus folders.
        split: val for tuning, test for the record.
        limit: so many masks per corpus, drawn by `seed`; None = all.
        seed: of that draw.
        progress: unused, a judge is quick; kept so that all rooms are evaluated alike.

    Returns:
        `top1` and `top5` over all masks (`n`) and their mean over labels (`top1_mean_of_labels`), the same `by_corpus`
        and for `held_out_models` (asset sources that the corpus lists as held out of training), `recall` per label
        seen, the commonest `confusions`, and two baselines: always saying the commonest label, and the judge
        shown the mask's filled box in its place.

    Raises:
        UserError: weights or corpus cannot be read, or no mask has a label that is judged.
    """
    started = time.monotonic()
    judge = SilhouetteJudge.from_pretrained(pretrained)
    corpora = [Corpus.open(path) for path in data]
    table = read_views(corpora, split, judge.config.side, labels=judge.labels, limit=limit, seed=seed)
    if not len(table):
        raise UserError(f"no mask of split {split!r} has a label that {pretrained} judges; name other --data")
    views = table.views()
    ranks = label_ranks(judge.judge_views(views), table.labels, judge.labels)
    boxes = label_ranks(judge.judge_views([filled_box(view) for view in views]), table.labels, judge.labels)
    held = {corpus.name: corpus.held_out for corpus in corpora}
    unseen = np.array([source in held[name] for name, source in zip(table.corpora, table.sources, strict=True)])
    verdicts = {label: ranks[table.labels == label] for label in sorted(set(table.labels))}
    commonest = Counter(table.labels.tolist()).most_common(1)[0][1]
    return {
        "corpora": [corpus.name for corpus in corpora],
        "split": split,
        "labels": len(judge.labels),
        **rank_summary(ranks, table.labels),
        "by_corpus": _by_corpus(ranks, table),
        "held_out_models": {
            **rank_summary(ranks[unseen], table.labels[unseen]),
            "by_corpus": _by_corpus(ranks[unseen], table[unseen]),
        },
        "recall": {str(label): float((mine == 0).mean()) for label, mine in verdicts.items()},
        "confusions": _confusions(judge, views, table),
        "baselines": {
            "commonest_label": {"top1": commonest / len(table)},
            "filled_box": rank_summary(boxes, table.labels),
        },
        "seconds": time.monotonic() - started,
    }


def label_ranks(probabilities: np.ndarray, truth: Sequence[str] | np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """How many labels a judge finds likelier than the true one, int (N,); 0 = it is right.

    Args:
        probabilities: (N, L), of `labels`.
        truth: N labels.
        labels: what the judge can say.
    """
    number = {label: column for column, label in enumerate(labels)}
    own = probabilities[np.arange(len(truth)), [number[label] for label in truth]]
    return np.asarray((probabilities > own[:, None]).sum(axis=1))


def filled_box(view: SilhouetteView) -> SilhouetteView:
    """The same view with the mask's whole box filled."""
    rows, columns = view.picture.any(axis=1), view.picture.any(axis=0)
    return SilhouetteView((np.outer(rows, columns) * 255).astype(np.uint8), view.facts)


def rank_summary(ranks: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """`n`, `labels_seen`, `top1`, `top5` and `top1_mean_of_labels` of `label_ranks` (N,) and true labels (N,)."""
    labels = sorted(set(truth))
    if not labels:
        return {"n": 0, "labels_seen": 0}
    return {
        "n": len(truth),
        "labels_seen": len(labels),
        "top1": float((ranks == 0).mean()),
        "top5": float((ranks < 5).mean()),
        "top1_mean_of_labels": float(np.mean([(ranks[truth == label] == 0).mean() for label in labels])),
    }


def _by_corpus(ranks: np.ndarray, table: ViewTable) -> dict[str, dict[str, Any]]:
    return {
        str(name): rank_summary(ranks[table.corpora == name], table.labels[table.corpora == name])
        for name in sorted(set(table.corpora))
    }


def _confusions(judge: SilhouetteJudge, views: Sequence[SilhouetteView], table: ViewTable) -> list[dict[str, Any]]:
    verdicts = np.array(judge.labels)[judge.judge_views(views).argmax(axis=1)]
    pairs = Counter(
        (str(label), str(verdict)) for label, verdict in zip(table.labels, verdicts, strict=True) if label != verdict
    )
    return [
        {"label": label, "taken_for": verdict, "count": count}
        for (label, verdict), count in pairs.most_common(CONFUSIONS)
    ]
