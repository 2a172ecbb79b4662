"""The text-image score: what retrieval counts, training on a tiny drawn world, round trip, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from perception.config import MatchConfig, MatchTowersConfig
from perception.efficientnet import EfficientNetTrunk
from perception.match_evaluate import evaluate
from perception.match_train import MatchTask, train
from perception.matching import MatchTowers, TextImageScore, retrieval, shuffled
from perception.text import TextEncoder
from runtime.assets import asset_dir
from runtime.config import load_config
from scene.corpus.store import Corpus
from scene.errors import UserError
from tests.perception.test_crops import corpus as corpus

SETTINGS = """
towers: {hidden: 16, width: 8, dropout: 0.1}
fit: {batch_size: 8, total_samples: 400, learning_rate: 5.0e-3, warmup_samples: 50, ema_decay: 0.9, threads: 1}
"""


def test_retrieval_counts_ranks_and_margins() -> None:
    scores = np.array([[0.9, 0.1, 0.2], [0.3, 0.2, 0.1], [0.0, 0.0, 0.6]], np.float32)
    found = retrieval(scores, np.array([0, 1, 2]))
    assert found["top1"] == pytest.approx(2 / 3) and found["top5"] == 1
    assert found["margin"] == pytest.approx((0.75 + 0.0 + 0.6) / 3)


@pytest.mark.parametrize("own", [[0, 1, 2, 3], [0, 0, 1, 2, 2], [3, 1, 1, 0, 2, 3, 2]])
def test_shuffled_texts_are_the_same_ones_and_nobody_s_own(own: list[int]) -> None:
    dealt = shuffled(np.array(own))
    assert sorted(dealt) == sorted(own) and not (dealt == own).any()


def test_training_learns_and_the_folder_says_the_same(corpus: Corpus, tmp_path: Path) -> None:
    config = tmp_path / "match.yaml"
    config.write_text(SETTINGS)
    train(config, data=[corpus.path], out=tmp_path / "run")
    report = evaluate(tmp_path / "run/export", data=[corpus.path], split="val")
    assert report["texts"] == 2 and report["top1"] == 1 and report["margin"] > 0.3
    assert report["baselines"]["shuffled_texts"]["margin"] < 0
    assert report["unseen_texts"] == report["held_out_models"] == {"n": 0}
    assert TextImageScore.from_pretrained(tmp_path / "run/export").world == "fruit"


def test_batches_depend_on_the_sample_numbers_alone(corpus: Corpus, tmp_path: Path) -> None:
    config = tmp_path / "match.yaml"
    config.write_text(SETTINGS)
    task = MatchTask(load_config(MatchConfig, config), corpus, EfficientNetTrunk.load(), TextEncoder.load())
    features, words, column, seed = task.batch([3, 4])
    again = task.batch([3, 4])
    assert torch.equal(features, again[0]) and seed == again[3]
    alone = task.batch([4])
    assert torch.equal(alone[0][0], features[1]) and torch.equal(alone[1][0], words[column[1]])


def test_towers_give_unit_vectors_of_one_space() -> None:
    pictures, texts = MatchTowers(MatchTowersConfig(width=8)).eval()(torch.randn(3, 672), torch.randn(2, 384))
    assert pictures.shape == (3, 8) and texts.shape == (2, 8)
    assert torch.allclose(pictures.norm(dim=1), torch.ones(3)) and torch.allclose(texts.norm(dim=1), torch.ones(2))


def test_a_missing_score_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"match\.json"):
        TextImageScore.from_pretrained(tmp_path)


def test_the_shipped_config_parses_and_the_shipped_score_loads() -> None:
    assert load_config(MatchConfig, asset_dir("configs") / "judge" / "match.yaml").most >= 1
    score = TextImageScore.from_pretrained(asset_dir("pretrained") / "judge" / "match")
    found = score.scores(np.zeros((2, 112, 8, 8), np.float32), ["a red sofa", "a bicycle", "a cat"])
    assert score.world == "home" and found.shape == (2, 3) and np.abs(found).max() <= 1.001
