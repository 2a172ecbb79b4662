"""Training of the silhouette judge: `perception.train.train`, through the one training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional as F

from perception.augment import augment
from perception.config import JudgeConfig
from perception.silhouettes import SilhouetteJudge, SilhouetteNet
from perception.views import ViewTable, leave_out, read_views
from runtime.config import load_config, save_config
from runtime.files import write_bytes
from runtime.seeding import numpy_rng
from runtime.training import fit
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.seeds import derive_seed

SHEET_MASKS, SHEET_COLUMNS, CAPTION_PX = 60, 12, 24


@dataclass(frozen=True, eq=False)
class JudgeBatch:
    """Coverage (B, S, S) in [0, 1], facts (B, 4), label numbers (B,), and the seed of the network's dropout."""

    pictures: Tensor
    facts: Tensor
    labels: Tensor
    dropout_seed: int


class JudgeTask:
    """What the training loop needs from the judge.

    Args:
        config: root config.
        corpora: training data; only split `train` is learned from, `val` is drawn on the sheets.
        table: overrides the masks of split `train` (benchmarks that try several settings).
    """

    def __init__(self, config: JudgeConfig, corpora: Sequence[Corpus], table: ViewTable | None = None) -> None:
        self.config, self.corpora = config, corpora
        side = config.network.side
        if table is None:
            table = read_views(corpora, "train", side, artists=config.artists, labels=config.labels)
        if config.leave_out is not None:
            table = table[~leave_out(table, config.leave_out).any]
        self.table = table
        self.labels = tuple(sorted(set(table.labels))) if config.labels is None else config.labels
        missing = sorted(set(self.labels) - set(table.labels))
        if missing or not self.labels:
            raise UserError(
                f"no training mask of {missing[0] if missing else 'anything'!r}; correct --data or `labels`"
            )
        row = {label: number for number, label in enumerate(self.labels)}
        self._targets = np.array([row[label] for label in table.labels])
        self._bounds = np.cumsum(sampling_weights(table))
        self.held_out = read_views(corpora, "val", side, labels=self.labels, limit=SHEET_MASKS // len(corpora))
        torch.manual_seed(derive_seed(config.fit.seed, "judge weights"))
        self.model: nn.Module = SilhouetteNet(config.network, len(self.labels))
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster on a CPU

    def batch(self, samples: Sequence[int]) -> JudgeBatch:
        """See `runtime.training.TrainingTask`."""
        rngs = [numpy_rng(derive_seed(self.config.fit.seed, "judge sample", sample)) for sample in samples]
        rows = np.searchsorted(self._bounds, [rng.random() * self._bounds[-1] for rng in rngs], side="right")
        rows = rows.clip(max=len(self.table) - 1)
        pictures, facts = augment(self.table.pictures[rows], self.table.facts[rows], rngs, self.config.augment)
        seed = derive_seed(self.config.fit.seed, "judge dropout", samples[0])
        return JudgeBatch(pictures, facts, torch.from_numpy(self._targets[rows]), seed)

    def loss(self, model: nn.Module, batch: JudgeBatch) -> tuple[Tensor, dict[str, float]]:
        """See `runtime.training.TrainingTask`."""
        torch.manual_seed(batch.dropout_seed)  # so that a resumed run repeats it
        logits = model(batch.pictures, batch.facts)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.config.label_smoothing)
        return loss, {"top1": (logits.argmax(1) == batch.labels).float().mean().item()}

    def judge(self, model: nn.Module) -> SilhouetteJudge:
        """A judge with the weights of `model` as they are now."""
        network = SilhouetteNet(self.config.network, len(self.labels))
        network.load_state_dict(cast(SilhouetteNet, model).state_dict())
        return SilhouetteJudge(network, self.config.network, self.labels)

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Validation masks, each with its label above and the verdict below."""
        judge_sheet(self.judge(model), self.held_out, path)

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the judge's folder, with the credits of its corpora."""
        about = {"worlds": {corpus.name: corpus.licence for corpus in self.corpora}, "masks": len(self.table)}
        self.judge(model).save(out, about)
        for corpus in self.corpora:
            credits = corpus.path / "ATTRIBUTION.md"
            if credits.exists():
                write_bytes(out / f"ATTRIBUTION-{corpus.name}.md", credits.read_bytes())


def sampling_weights(table: ViewTable) -> np.ndarray:
    """Share of draws of each mask, float64 (N,): a label weighs the root of its count, its models weigh alike."""
    _, label, count = np.unique(table.labels, return_inverse=True, return_counts=True)
    keys = np.char.add(np.char.add(table.labels, "\x1f"), table.models)
    _, first, model, views = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    models = np.bincount(label[first], minlength=len(count))
    return np.sqrt(count[label]) / (models[label] * views[model])


def judge_sheet(judge: SilhouetteJudge, table: ViewTable, path: Path) -> None:
    """A PNG of masks in rows of twelve: the label above, the verdict below, red where they differ."""
    cell = judge.config.side
    tiles = []
    for view, row, label in zip(table.views(), judge.judge_views(table.views()), table.labels, strict=True):
        tile = Image.new("RGB", (2 * cell, cell + 2 * CAPTION_PX), "white")
        tile.paste(Image.fromarray(255 - view.picture), (cell // 2, CAPTION_PX))
        draw, verdict = ImageDraw.Draw(tile), judge.labels[int(row.argmax())]
        draw.text((4, 6), label, fill="black")
        colour = "darkgreen" if verdict == label else "red"
        draw.text((4, CAPTION_PX + cell + 6), f"{verdict} {row.max():.2f}", fill=colour)
        tiles.append(np.asarray(tile))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % SHEET_COLUMNS) if tiles else []
    rows = [np.concatenate(tiles[at : at + SHEET_COLUMNS], axis=1) for at in range(0, len(tiles), SHEET_COLUMNS)]
    if rows:
        Image.fromarray(np.concatenate(rows)).save(path)


def train(
    config: Path, *, data: Sequence[Path], out: Path, overrides: Sequence[str] = (), resume: bool = False
) -> None:
    """Trains the judge; its folder ends in `out/export`.

    Args:
        config: YAML of a `JudgeConfig`.
        data: corpus folders.
        out: run folder: snapshots, sheets, log, export.
        overrides: `a.b=c` settings.
        resume: go on from the newest snapshot in `out`.

    Raises:
        UserError: config, corpus or snapshot cannot be used.
    """
    settings = load_config(JudgeConfig, config, overrides)
    task = JudgeTask(settings, [Corpus.open(path) for path in data])
    out.mkdir(parents=True, exist_ok=True)
    save_config(settings, out / "config.yaml")
    fit(task, settings.fit, out, resume=resume)
