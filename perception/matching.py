"""The text-image score `lite0_minilm_towers`: how well a crop of a picture fits a description.

Two small trained towers on frozen features: EfficientNet-Lite0's of the crop (`perception.efficientnet`), and
all-MiniLM-L6-v2's of the text (`perception.text`). It is not CLIP and its numbers compare with no one else's: it knows
one world, from its real crops and their descriptions. No model is trained against it.

Source: the contrastive set-up of Radford et al., arXiv 2103.00020. Letters: N crops, T texts, W = width of the space.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perception.config import MatchTowersConfig
from perception.crops import pooled, pooled_head
from perception.text import WIDTH, TextEncoder
from runtime.config import validate
from runtime.files import write_json
from runtime.weights import load_weights, save_weights
from scene.errors import UserError
from scene.seeds import derive_seed

SCORE = "lite0_minilm_towers"
MAX_TOKENS = 24
START_SCALE = 14.0  # of cosines before the softmax


class MatchTowers(nn.Module):
    """Pooled features of crops (N, 672) and pooled text features (T, 384) -> unit vectors of one space.

    Attributes:
        log_scale: log of the factor of cosines in the training's softmax.
    """

    def __init__(self, config: MatchTowersConfig) -> None:
        super().__init__()
        self.picture = pooled_head(config.hidden, config.width, config.dropout)
        self.text = nn.Linear(WIDTH, config.width)
        self.log_scale = nn.Parameter(torch.tensor(START_SCALE).log())

    def forward(self, features: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """(N, W) and (T, W), rows of unit length."""
        return F.normalize(self.picture(features), dim=1), F.normalize(self.text(texts), dim=1)


class TextImageScore:
    """Scores crops against texts; get one with `TextImageScore.from_pretrained`.

    Args:
        towers: trained.
        config: their sizes.
        world: name of the corpus whose crops they learned.
        encoder: of texts; None loads the shared one on first use.
    """

    def __init__(
        self, towers: MatchTowers, config: MatchTowersConfig, world: str, encoder: TextEncoder | None = None
    ) -> None:
        self.towers, self.config, self.world = towers.eval().requires_grad_(False), config, world
        self._encoder = encoder

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> TextImageScore:
        """The score in a folder such as `pretrained/judge/match`.

        Raises:
            UserError: there is none, or its files do not fit together.
        """
        folder = Path(folder)
        try:
            facts: dict[str, Any] = json.loads((folder / "match.json").read_text(encoding="utf-8"))
            sizes, world = facts["towers"], str(facts["world"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"no text-image score in {folder}; name a folder with match.json, see perception.match_train"
            ) from None
        config = validate(MatchTowersConfig, sizes, str(folder / "match.json"))
        towers = MatchTowers(config)
        load_weights(towers, folder / "match.safetensors")
        return cls(towers, config, world)

    def save(self, folder: Path, about: dict[str, Any]) -> None:
        """Writes weights (fp16) and `match.json` (sizes, world, and the facts in `about`)."""
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self.towers, folder / "match.safetensors")
        write_json(folder / "match.json", {**about, "world": self.world, "towers": self.config.model_dump()})

    def scores(self, maps: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Cosine of every crop with every text, float32 (N, T).

        Args:
            maps: float32 (N, 112, h, w), see `perception.efficientnet.feature_maps`.
            texts: not empty.
        """
        self._encoder = self._encoder or TextEncoder.load()
        pictures, words = self.towers(torch.from_numpy(pooled(maps)), text_features(self._encoder, texts))
        return np.asarray((pictures @ words.T).numpy())


def text_features(encoder: TextEncoder, texts: Sequence[str]) -> Tensor:
    """Pooled features of texts in lower case, (T, 384)."""
    return torch.stack([encoder.encode(text.lower(), MAX_TOKENS).pooled for text in texts])


def retrieval(scores: np.ndarray, own: np.ndarray) -> dict[str, float]:
    """How well crops find their own texts.

    Args:
        scores: (N, T), T at least 2.
        own: int (N,), the column of each crop's text.

    Returns:
        `top1`, `top5`: share of crops whose text scores highest, or among the five highest, of all T. `margin`: mean
        score with the own text less the mean with the others; about 0 for crops that have nothing to do with it.
    """
    rows = np.arange(len(scores))
    mine = scores[rows, own]
    ranks = (scores > mine[:, None]).sum(axis=1)
    others = (scores.sum(axis=1) - mine) / (scores.shape[1] - 1)
    return {
        "top1": float((ranks == 0).mean()),
        "top5": float((ranks < 5).mean()),
        "margin": float((mine - others).mean()),
    }


def shuffled(own: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same texts dealt to other crops, none its own where that can be: the floor. Int (N,)."""
    order = np.argsort(own, kind="stable")
    step = int(np.bincount(own).max())  # equal texts lie side by side, so a turn by their number parts them
    turned = np.roll(own[order], step + derive_seed(seed, "shuffled texts") % max(len(own) - 2 * step + 1, 1))
    dealt = np.empty_like(own)
    dealt[order] = turned
    return dealt
