"""Training of the text-image score on crops of real pictures and their descriptions; features are worked out once.

python -m perception.match_train configs/judge/match.yaml runs/data/home runs/judge/match
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.config import MatchConfig
from perception.crop_train import both_ways, real_crops, some_scenes, write_credits
from perception.efficientnet import EfficientNetTrunk
from perception.matching import MatchTowers, TextImageScore, text_features
from perception.text import TextEncoder
from runtime.config import load_config, save_config
from runtime.seeding import numpy_rng
from runtime.training import fit
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.seeds import derive_seed

MOST_LOG_SCALE = 4.6  # a factor of 100, as CLIP's


class MatchTask:
    """What the training loop needs; see `runtime.training.TrainingTask`.

    Args:
        config: root config.
        corpus: learned from split `train`.
        trunk: the crops' features.
        encoder: the texts'.

    Raises:
        UserError: the corpus has fewer than two descriptions.
    """

    def __init__(self, config: MatchConfig, corpus: Corpus, trunk: EfficientNetTrunk, encoder: TextEncoder) -> None:
        self.config, self.corpus = config, corpus
        chosen = some_scenes(corpus, config.scenes, config.fit.seed)
        crops = list(
            real_crops(corpus, chosen, corpus.labels, config.visible_frac, context=config.context, most=config.most)
        )
        texts = sorted({crop.description for crop in crops})
        if len(texts) < 2:
            raise UserError(f"{corpus.path} shows {len(texts)} descriptions in training; two are needed to tell apart")
        row = {text: number for number, text in enumerate(texts)}
        self._own = torch.tensor([row[crop.description] for crop in crops])
        self._texts = text_features(encoder, texts)
        self._features = both_ways(trunk, crops)
        torch.manual_seed(derive_seed(config.fit.seed, "match towers"))
        self.model: nn.Module = MatchTowers(config.towers)

    def batch(self, samples: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, int]:
        """Pooled features (B, 672), distinct texts (T, 384), each crop's row of them (B,), and the dropout's seed."""
        features, own = [], []
        for sample in samples:
            rng = numpy_rng(derive_seed(self.config.fit.seed, "match sample", sample))
            row = int(rng.integers(len(self._own)))
            features.append(self._features[int(rng.integers(2))][row])
            own.append(self._own[row])
        seed = derive_seed(self.config.fit.seed, "match dropout", samples[0])
        distinct, column = torch.stack(own).unique(return_inverse=True)
        return torch.stack(features), self._texts[distinct], column, seed

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, int]) -> tuple[Tensor, dict[str, float]]:
        """Cross entropy both ways: each crop among the batch's distinct texts, each text among its crops."""
        features, words, column, seed = batch
        torch.manual_seed(seed)  # so that a resumed run repeats it
        pictures, texts = model(features, words)
        networks: Any = model
        scale = networks.log_scale.clamp(max=MOST_LOG_SCALE).exp()
        logits = scale * pictures @ texts.T
        theirs = F.one_hot(column, len(words)).T.float()
        loss = (
            F.cross_entropy(logits, column) + F.cross_entropy(logits.T, theirs / theirs.sum(1, keepdim=True))
        ) / 2  # fmt: skip
        return loss, {"top1": (logits.argmax(1) == column).float().mean().item()}

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Draws nothing: `perception.match_evaluate` says more."""

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the score's folder, with the credits of its corpus."""
        towers = MatchTowers(self.config.towers)
        towers.load_state_dict(model.state_dict())
        about = {"licence": self.corpus.licence, "crops": len(self._own), "texts": len(self._texts)}
        TextImageScore(towers, self.config.towers, self.corpus.name).save(out, about)
        write_credits(self.corpus, out)


def train(
    config: Path, *, data: Sequence[Path], out: Path, overrides: Sequence[str] = (), resume: bool = False
) -> None:
    """Trains the text-image score; its folder ends in `out/export`.

    Args:
        config: YAML of a `MatchConfig`.
        data: corpus folder; just one.
        out: run folder.
        overrides: `a.b=c` settings.
        resume: go on from the newest snapshot in `out`.

    Raises:
        UserError: config, corpus, features or snapshot cannot be used.
    """
    settings = load_config(MatchConfig, config, overrides)
    torch.set_num_threads(settings.fit.threads)
    task = MatchTask(settings, Corpus.only(data), EfficientNetTrunk.load(), TextEncoder.load())
    out.mkdir(parents=True, exist_ok=True)
    save_config(settings, out / "config.yaml")
    fit(task, settings.fit, out, resume=resume)


if __name__ == "__main__":
    train(Path(sys.argv[1]), data=[Path(sys.argv[2])], out=Path(sys.argv[3]))
