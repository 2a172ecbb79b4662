"""How often the crop judge is right on real crops of scenes that it was not trained on.

python -m perception.crop_evaluate pretrained/judge/crops runs/data/home val
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perception.config import CropJudgeConfig
from perception.crop_train import RealCrop, real_crops
from perception.crops import CropJudge
from perception.evaluate import label_ranks, rank_summary
from scene.corpus.store import Corpus
from scene.errors import UserError

VISIBLE_FRAC = CropJudgeConfig.model_fields["visible_frac"].default


def evaluate(
    pretrained: Path,
    *,
    data: Sequence[Path],
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures a crop judge on the objects of a split's finished scenes that show most of themselves.

    Args:
        pretrained: folder with `crops.json`.
        data: corpus folder; just one.
        split: val for tuning, test for the record.
        limit: so many scenes, in file order; None = all.
        seed, progress: unused; kept so that all rooms are evaluated alike.

    Returns:
        `top1`, `top5`, `top1_mean_of_labels`, the same for `held_out_models` (asset sources that the corpus lists as
        held out of training), `recall` per label, and the baseline of always saying the commonest label.

    Raises:
        UserError: weights or corpus cannot be read, or no crop has a label that is judged.
    """
    started = time.monotonic()
    judge, corpus = CropJudge.from_pretrained(pretrained), Corpus.only(data)
    crops = list(real_crops(corpus, corpus.records(split)[:limit], judge.labels, VISIBLE_FRAC))
    if not crops:
        raise UserError(f"no crop of split {split!r} has a label that {pretrained} judges; name other --data")
    probabilities = judge.judge_crops([crop.pixels for crop in crops])
    labels = np.array([crop.label for crop in crops])
    ranks = label_ranks(probabilities, labels, judge.labels)
    unseen = np.array([crop.source in corpus.held_out for crop in crops])
    return {
        "corpus": corpus.name,
        "split": split,
        "labels": len(judge.labels),
        **_summary(ranks, labels),
        "held_out_models": _summary(ranks[unseen], labels[unseen]),
        "recall": {str(label): round(float((ranks[labels == label] == 0).mean()), 3) for label in sorted(set(labels))},
        "baselines": {"commonest_label": {"top1": _commonest(crops)}},
        "seconds": round(time.monotonic() - started, 1),
        "command": f"python -m perception.crop_evaluate {pretrained} {corpus.path} {split}",
    }


def _summary(ranks: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {name: round(value, 4) for name, value in rank_summary(ranks, labels).items()}


def _commonest(crops: Sequence[RealCrop]) -> float:
    return round(Counter(crop.label for crop in crops).most_common(1)[0][1] / len(crops), 4)


if __name__ == "__main__":
    print(json.dumps(evaluate(Path(sys.argv[1]), data=[Path(sys.argv[2])], split=sys.argv[3]), indent=1))
