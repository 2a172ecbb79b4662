"""The judge: a small convnet that says which label a mask looks like, from its silhouette alone.

It sees the part of a mask that lies on the canvas: its tight box, letterboxed to a square of coverage, and four numbers
(`FACTS`). No pixels, no place, no layout, no other object: what it says depends on the mask and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perception.config import SilhouetteNetConfig
from runtime.config import validate
from runtime.files import write_json
from runtime.weights import load_weights, save_weights
from scene.errors import UserError
from scene.geometry import Box, Size

MIN_AREA_PX = 144  # on the canvas; smaller masks are too coarse to be taken for anything
FACTS = ("log2(width / height)", "log2(longer side / canvas's longer side)", "cut left or right", "cut above or below")
BATCH = 256


@dataclass(frozen=True, eq=False)
class SilhouetteView:
    """What the judge sees of a mask.

    Attributes:
        picture: uint8 (side, side), share of each cell that is covered, 0 to 255; the longer side of the tight box
            fills the square, the shorter one is centred.
        facts: float32 (4,), see `FACTS`; "cut" means that the mask touches that edge of the canvas: 0 or 1.
    """

    picture: np.ndarray
    facts: np.ndarray


def silhouette_view(mask: np.ndarray, size: Size, side: int, origin: tuple[int, int] = (0, 0)) -> SilhouetteView | None:
    """The judge's view of a mask, or None when fewer than `MIN_AREA_PX` of its pixels lie on the canvas.

    Args:
        mask: bool (h, w), px.
        size: canvas.
        side: cells of the picture along one side.
        origin: canvas px (x, y) of the mask's top left corner.
    """
    x, y = origin
    x0, y0 = max(-x, 0), max(-y, 0)
    mask = mask[y0 : max(size.height - y, 0), x0 : max(size.width - x, 0)]
    box = Box.from_mask(mask)
    if box is None:
        return None
    tight = mask[box.y0 : box.y1, box.x0 : box.x1]
    if int(tight.sum()) < MIN_AREA_PX:
        return None
    height, width = tight.shape
    longer = max(height, width)
    coverage = _cell_weights(height, longer, side) @ tight.astype(np.float32) @ _cell_weights(width, longer, side).T
    left, top = x + x0 + box.x0, y + y0 + box.y0
    facts = (
        np.log2(width / height),
        np.log2(longer / max(size)),
        left <= 0 or left + width >= size.width,
        top <= 0 or top + height >= size.height,
    )
    return SilhouetteView((coverage * 255).round().astype(np.uint8), np.array(facts, dtype=np.float32))


def _cell_weights(extent: int, longer: int, side: int) -> np.ndarray:
    """Share of each of `side` cells that each of `extent` centred pixels covers, float32 (side, extent)."""
    edges = np.arange(side + 1) * (longer / side) - (longer - extent) / 2
    pixels = np.arange(extent)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (overlap.clip(0) * (side / longer)).astype(np.float32)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class SilhouetteNet(nn.Module):
    """Stride-2 convolutions with residual blocks, then two linear layers that see every place of the last map.

    Args:
        config: sizes.
        labels: how many labels it tells apart.
    """

    def __init__(self, config: SilhouetteNetConfig, labels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for number, (width, blocks) in enumerate(zip(config.channels, config.blocks, strict=True)):
            kernel = 5 if number == 0 else 3
            layers += [nn.Conv2d(before, width, kernel, 2, kernel // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [_Residual(width) for _ in range(blocks)]
            before = width
        self.features = nn.Sequential(*layers)
        cells = (config.side // 2 ** len(config.channels)) ** 2
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(before * cells + len(FACTS), config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, labels),
        )

    def forward(self, pictures: Tensor, facts: Tensor) -> Tensor:
        """Logits (B, L) from coverage (B, side, side) in [0, 1] and facts (B, 4)."""
        return self.head(torch.cat([self.features(pictures[:, None] * 2 - 1).flatten(1), facts], dim=1))


class SilhouetteJudge:
    """Says which label a mask looks like; get one with `SilhouetteJudge.from_pretrained`.

    Attributes:
        labels: what it can say, L of them.
    """

    def __init__(self, network: SilhouetteNet, config: SilhouetteNetConfig, labels: Sequence[str]) -> None:
        self.network = network.eval().requires_grad_(False)
        self.config, self.labels = config, tuple(labels)

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> SilhouetteJudge:
        """The judge in a folder made by `perception.train`, such as `pretrained/judge`.

        Raises:
            UserError: there is none, or its files do not fit together.
        """
        folder = Path(folder)
        try:
            facts: dict[str, Any] = json.loads((folder / "judge.json").read_text(encoding="utf-8"))
            labels, sizes = tuple(facts["labels"]), facts["network"]
        except FileNotFoundError:
            raise UserError(
                f"no silhouette judge in {folder}; name a folder with judge.json, see perception.train"
            ) from None
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"cannot read {folder / 'judge.json'}; train the judge again or reinstall it") from None
        config = validate(SilhouetteNetConfig, sizes, str(folder / "judge.json"))
        network = SilhouetteNet(config, len(labels))
        load_weights(network, folder / "judge.safetensors")
        return cls(network, config, labels)

    def save(self, folder: Path, about: dict[str, Any]) -> None:
        """Writes `judge.safetensors` (fp16) and `judge.json` (labels, sizes, and the facts in `about`)."""
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self.network, folder / "judge.safetensors")
        write_json(folder / "judge.json", {**about, "network": self.config.model_dump(), "labels": list(self.labels)})

    def judge(self, mask: np.ndarray, size: Size) -> np.ndarray:
        """Probability of each of `labels`, float32 (L,), for one mask; see `judge_many`."""
        return self.judge_many([mask], size)[0]

    def judge_many(self, masks: Sequence[np.ndarray], size: Size) -> np.ndarray:
        """Probability of each of `labels` for each mask.

        Args:
            masks: bool (H, W) each, on the canvas.
            size: the canvas.

        Returns:
            float32 (N, L); rows sum to 1, or are 0 where fewer than `MIN_AREA_PX` of the mask lie on the canvas.
        """
        return self.judge_views([silhouette_view(mask, size, self.config.side) for mask in masks])

    @torch.no_grad()
    def judge_views(self, views: Sequence[SilhouetteView | None]) -> np.ndarray:
        """`judge_many` for masks that are views already; rows of None are 0."""
        result = np.zeros((len(views), len(self.labels)), dtype=np.float32)
        seen = [number for number, view in enumerate(views) if view is not None]
        for start in range(0, len(seen), BATCH):
            part = seen[start : start + BATCH]
            chosen = [view for number in part if (view := views[number]) is not None]
            pictures = torch.from_numpy(np.stack([view.picture for view in chosen])).float() / 255
            facts = torch.from_numpy(np.stack([view.facts for view in chosen]))
            result[part] = self.network(pictures, facts).softmax(dim=1).numpy()
        return result

    def verdicts(self, masks: Sequence[np.ndarray], size: Size) -> list[str | None]:
        """The likeliest label of each mask; None where the mask is too small to be taken for anything."""
        return [self.labels[int(row.argmax())] if row.any() else None for row in self.judge_many(masks, size)]
