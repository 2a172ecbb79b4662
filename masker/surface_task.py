"""Stage `surface` of the mask model's training: the outlines of walls, floors and skies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from masker.examples import SurfaceExample
from masker.placement import mean_tokens
from masker.sources import MixedSource
from masker.stage_config import SurfaceStageConfig
from masker.surfaces import (
    SurfaceInputs,
    SurfacePrior,
    box_hint,
    column_places,
    draw_outline,
    read_outline,
    runs,
    sampled_rows,
)
from masker.texts import TextBook
from masker.weights import export_surfaces
from perception.codes import NOISE
from perception.diffusion import spread_timesteps
from runtime.seeding import numpy_rng, sample_noise, seeded
from scene.corpus.shards import AnyCorpus
from scene.geometry import Box, Size
from scene.layout import label_colour
from scene.seeds import derive_seed

RESOLUTION = 64  # of examples' views, which nothing here looks at
SHEET_EXAMPLES = 24
SHEET_PX = 160
COMPONENT_EXAMPLES = 4000


@dataclass(frozen=True)
class SurfaceBatch:
    """B surfaces: what is known, true outlines (B, 2 N), noise (B, code), timesteps, int64 (B,)."""

    inputs: SurfaceInputs
    outlines: Tensor
    noise: Tensor
    timesteps: Tensor


@dataclass(frozen=True)
class _Prepared:
    """One surface, in the precision that it is kept in."""

    columns: np.ndarray  # int16 (ROWS, N)
    runs: np.ndarray
    outline: np.ndarray
    box: Box | None
    texts: tuple[str, str]


class SurfaceTask:
    """What `runtime.training.fit` needs to train the surface prior. Sample n is surface n % `pool`.

    Args:
        config: Root config.
        corpora: Training data.
        texts: Overrides the shared text encoder (tests).
    """

    def __init__(self, config: SurfaceStageConfig, corpora: Sequence[AnyCorpus], texts: TextBook | None = None) -> None:
        self.config, seed = config, config.fit.seed
        self.size: Size = corpora[0].size
        self.source = MixedSource(corpora, "train", config.examples, RESOLUTION, seed)
        self.held_out = MixedSource(corpora, "val", config.examples, RESOLUTION, seed)
        self.texts = texts if texts is not None else TextBook.load(config.text)
        self.labels = self.texts.label_table(self.source.labels)
        self.places = column_places(config.surface.columns, self.size.width)
        self._pool: dict[int, _Prepared] = {}
        self._means: dict[tuple[str, str], Tensor] = {}
        self.prior = seeded(lambda: SurfacePrior(config.surface, config.text.width), seed)
        examples = [self._known(number) for number in range(min(COMPONENT_EXAMPLES, config.pool))]
        self.prior.code.learn_components(torch.from_numpy(np.stack([example.outline for example in examples])))
        self.model: nn.Module = self.prior

    def batch(self, samples: Sequence[int]) -> SurfaceBatch:
        """See `runtime.training.TrainingTask`."""
        config, seed = self.config, self.config.fit.seed
        rows = [self._known(sample % config.pool) for sample in samples]
        hints = [self._hint(row.box, sample) for row, sample in zip(rows, samples, strict=True)]
        offset = derive_seed(seed, "surface timesteps") % 10**6 / 10**6
        return SurfaceBatch(
            self._inputs(rows, hints),
            torch.from_numpy(np.stack([row.outline for row in rows])),
            sample_noise(seed, "surface", samples, (config.surface.code,)),
            spread_timesteps(samples, NOISE.train_timesteps, power=1.0, offset=offset),
        )

    def loss(self, model: nn.Module, batch: SurfaceBatch) -> tuple[Tensor, dict[str, float]]:
        """See `runtime.training.TrainingTask`."""
        return self.prior.loss(batch.inputs, batch.outlines, batch.noise, batch.timesteps).mean(), {}

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Validation surfaces: the layout before, the truth, and one drawn without and one with a box."""
        tiles = [self._tile(self.held_out.surface(number, self.places), number) for number in range(SHEET_EXAMPLES)]
        rows = [np.concatenate(tiles[start : start + 3], axis=1) for start in range(0, len(tiles), 3)]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(rows, axis=0)).save(path)

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the surface folder."""
        export_surfaces(cast(SurfacePrior, model), self.config, out)

    def _known(self, number: int) -> _Prepared:
        if number not in self._pool:
            self._pool[number] = self._prepare(self.source.surface(number, self.places))
        return self._pool[number]

    def _prepare(self, example: SurfaceExample) -> _Prepared:
        columns = np.ascontiguousarray(sampled_rows(example.columns))
        texts = (example.object, example.context)
        return _Prepared(columns, runs(example.columns), read_outline(example.mask), self._box(example.mask), texts)

    def _box(self, mask: np.ndarray) -> Box | None:
        box = Box.from_mask(mask)
        if box is None:
            return None
        right = self.size.width if box.x1 == len(self.places) else int(self.places[box.x1])
        return Box(int(self.places[box.x0]), box.y0, right, box.y1)

    def _hint(self, box: Box | None, sample: int) -> np.ndarray:
        """The box that sample is told of, its edges moved a little; mostly none for the share that is told none."""
        rng = numpy_rng(derive_seed(self.config.fit.seed, "surface box", sample))
        if rng.random() >= self.config.box_share:
            return box_hint(None, self.size)
        hint = box_hint(box, self.size)
        hint[1:] += (rng.standard_normal(4) * self.config.box_jitter).astype(np.float32)
        hint[1:] = np.clip(hint[1:], 0, 1) * hint[0]
        return hint

    def _inputs(self, rows: Sequence[_Prepared], hints: Sequence[np.ndarray]) -> SurfaceInputs:
        return SurfaceInputs(
            columns=torch.from_numpy(np.stack([row.columns for row in rows])).long(),
            runs=torch.from_numpy(np.stack([row.runs for row in rows])),
            labels=self.labels,
            object=torch.stack([self._mean(row.texts[0], "object") for row in rows]),
            context=torch.stack([self._mean(row.texts[1], "context") for row in rows]),
            box=torch.from_numpy(np.stack(hints)),
        )

    def _mean(self, text: str, role: str) -> Tensor:
        """Mean of a text's tokens, (D,)."""
        key = (text, role)
        if key not in self._means:
            texts = self.texts.batch([text], [text])
            self._means[key] = mean_tokens(texts[f"{role}_tokens"], texts[f"{role}_mask"])[0]
        return self._means[key]

    def _tile(self, example: SurfaceExample, number: int) -> np.ndarray:
        row = self._prepare(example)
        hints = [box_hint(None, self.size), box_hint(row.box, self.size)]
        noise = sample_noise(self.config.fit.seed, "surface sheet", [number], (self.config.surface.code,))
        drawn = self.prior.draw(self._inputs([row, row], hints), noise.expand(2, -1)).numpy()
        colours = np.asarray([(255, 255, 255), *(label_colour(label) for label in self.source.labels[1:])], np.uint8)
        masks = [draw_outline(outline, self.size) for outline in (row.outline, *drawn)]
        pictures = [colours[example.columns], *(np.repeat(mask[..., None], 3, 2) * np.uint8(255) for mask in masks)]
        height = SHEET_PX * self.size.height // self.size.width
        small = [Image.fromarray(picture).resize((SHEET_PX, height)) for picture in pictures]
        tile = Image.fromarray(np.concatenate([np.asarray(picture) for picture in small], axis=1))
        ImageDraw.Draw(tile).text((2, 0), example.label, fill="red")
        return np.asarray(tile)
