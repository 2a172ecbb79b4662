"""The crop judge: says which label the object in a square crop of a picture has, from its pixels.

Frozen EfficientNet-Lite0 features (`perception.efficientnet`) and a small trained head. It measures drawings; no model
is trained against it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from perception.config import CropHeadConfig
from perception.efficientnet import CHANNELS, SIDE_PX, EfficientNetTrunk, feature_maps
from runtime.config import validate
from runtime.files import write_json
from runtime.weights import load_weights, save_weights
from scene.errors import UserError
from scene.geometry import Box

CONTEXT = 1.15  # side of the crop over the longer side of the box
MIN_SIDE_PX = 24


def square_crop(image: np.ndarray, box: Box, context: float = CONTEXT) -> np.ndarray:
    """The square round an object at the features' resolution; off-canvas pixels repeat the edge.

    Args:
        image: uint8 (H, W, 3).
        box: of the object, on the canvas.
        context: side over the longer side of the box.

    Returns:
        uint8 (128, 128, 3).
    """
    side = max(round(max(box.width, box.height) * context), MIN_SIDE_PX)
    x0, y0 = round(box.center[0] - side / 2), round(box.center[1] - side / 2)
    rows = np.clip(np.arange(y0, y0 + side), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(x0, x0 + side), 0, image.shape[1] - 1)
    crop = Image.fromarray(image[rows[:, None], columns[None, :]])
    return np.asarray(crop.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS))


def pooled(maps: np.ndarray) -> np.ndarray:
    """What the head sees of a feature map: mean, maximum, and the means of four quarters.

    Args:
        maps: float32 (N, 112, h, w), h and w even.

    Returns:
        float32 (N, 672).
    """
    count, channels, height, width = maps.shape
    quarters = maps.reshape(count, channels, 2, height // 2, 2, width // 2).mean(axis=(3, 5))
    return np.concatenate([maps.mean(axis=(2, 3)), maps.max(axis=(2, 3)), quarters.reshape(count, -1)], axis=1)


def pooled_head(hidden: int, out: int, dropout: float) -> nn.Sequential:
    """Pooled features (B, 672) -> (B, out), through one hidden layer."""
    return nn.Sequential(
        nn.LayerNorm(6 * CHANNELS),
        nn.Dropout(dropout),
        nn.Linear(6 * CHANNELS, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, out),
    )


class CropHead(nn.Module):
    """Pooled features (B, 672) -> logits (B, L)."""

    def __init__(self, config: CropHeadConfig, labels: int) -> None:
        super().__init__()
        self.body = pooled_head(config.hidden, labels, config.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return self.body(features)


class CropJudge:
    """Says what a crop shows; get one with `CropJudge.from_pretrained`.

    Attributes:
        labels: what it can say, L of them.
        world: name of the corpus whose crops it learned.
    """

    def __init__(
        self, trunk: EfficientNetTrunk, head: CropHead, config: CropHeadConfig, labels: Sequence[str], world: str
    ) -> None:
        self.trunk, self.head, self.config = trunk, head.eval().requires_grad_(False), config
        self.labels, self.world = tuple(labels), world

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> CropJudge:
        """The judge in a folder such as `pretrained/judge/crops`.

        Raises:
            UserError: there is none, or its files do not fit together.
        """
        folder = Path(folder)
        try:
            facts: dict[str, Any] = json.loads((folder / "crops.json").read_text(encoding="utf-8"))
            labels, sizes, world = tuple(facts["labels"]), facts["head"], str(facts["world"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"no crop judge in {folder}; name a folder with crops.json, see perception.crop_train"
            ) from None
        config = validate(CropHeadConfig, sizes, str(folder / "crops.json"))
        head = CropHead(config, len(labels))
        load_weights(head, folder / "crops.safetensors")
        return cls(EfficientNetTrunk.load(folder / "efficientnet.safetensors"), head, config, labels, world)

    def save(self, folder: Path, about: dict[str, Any]) -> None:
        """Writes weights (fp16) and `crops.json` (labels, sizes, world, and the facts in `about`)."""
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self.trunk, folder / "efficientnet.safetensors")
        save_weights(self.head, folder / "crops.safetensors")
        facts = {**about, "world": self.world, "head": self.config.model_dump(), "labels": list(self.labels)}
        write_json(folder / "crops.json", facts)

    def judge_crops(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Probability of each of `labels` for each crop (uint8 (128, 128, 3), see `square_crop`), float32 (N, L)."""
        return self.judge_maps(feature_maps(self.trunk, crops))

    @torch.no_grad()
    def judge_maps(self, maps: np.ndarray) -> np.ndarray:
        """`judge_crops` for feature maps (N, 112, h, w) that are at hand already."""
        return np.asarray(self.head(torch.from_numpy(pooled(maps))).softmax(dim=1).numpy())

    def verdicts(self, crops: Sequence[np.ndarray]) -> list[str]:
        """The likeliest label of each crop."""
        return [self.labels[int(row.argmax())] for row in self.judge_crops(crops)]
