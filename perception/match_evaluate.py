"""How well the text-image score tells real crops' descriptions apart, on scenes that it was not trained on.

python -m perception.match_evaluate pretrained/judge/match runs/data/home val
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perception.config import MatchConfig
from perception.crop_train import real_crops
from perception.efficientnet import EfficientNetTrunk, feature_maps
from perception.matching import SCORE, TextImageScore, retrieval, shuffled
from scene.corpus.store import Corpus
from scene.errors import UserError

VISIBLE_FRAC = MatchConfig.model_fields["visible_frac"].default


def evaluate(
    pretrained: Path,
    *,
    data: Sequence[Path],
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures a text-image score on the objects of a split's finished scenes that show most of themselves.

    Args:
        pretrained: folder with `match.json`.
        data: corpus folder; just one.
        split: val for tuning, test for the record.
        limit: so many scenes, in file order; None = all.
        seed: of the shuffled texts.
        progress: unused; kept so that all rooms are evaluated alike.

    Returns:
        `retrieval` among all distinct descriptions of the split's objects; the same for `unseen_texts` (descriptions
        that no training scene has), for `held_out_models` and, as the baseline, with shuffled texts.

    Raises:
        UserError: weights or corpus cannot be read, or there are fewer than two descriptions.
    """
    started = time.monotonic()
    score, corpus = TextImageScore.from_pretrained(pretrained), Corpus.only(data)
    crops = list(real_crops(corpus, corpus.records(split)[:limit], corpus.labels, VISIBLE_FRAC))
    texts, own = np.unique([crop.description for crop in crops], return_inverse=True)
    if len(texts) < 2:
        raise UserError(f"split {split!r} shows {len(texts)} descriptions; name other --data")
    scores = score.scores(feature_maps(EfficientNetTrunk.load(), [crop.pixels for crop in crops]), texts.tolist())
    known = {layer.description for record in corpus.records("train") for layer in record.layers}
    unseen = np.array([crop.description not in known for crop in crops])
    held_out = np.array([crop.source in corpus.held_out for crop in crops])
    return {
        "score": SCORE,
        "corpus": corpus.name,
        "split": split,
        "texts": len(texts),
        **_part(scores, own, np.ones(len(own), bool)),
        "unseen_texts": _part(scores, own, unseen),
        "held_out_models": _part(scores, own, held_out),
        "baselines": {"shuffled_texts": _part(scores, shuffled(own, seed), np.ones(len(own), bool))},
        "seconds": round(time.monotonic() - started, 1),
        "command": f"python -m perception.match_evaluate {pretrained} {corpus.path} {split}",
    }


def _part(scores: np.ndarray, own: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
    if not kept.any():
        return {"n": 0}
    found = retrieval(scores[kept], own[kept])
    return {"n": int(kept.sum()), **{name: round(value, 4) for name, value in found.items()}}


if __name__ == "__main__":
    print(json.dumps(evaluate(Path(sys.argv[1]), data=[Path(sys.argv[2])], split=sys.argv[3]), indent=1))
