"""Stage `tracer` of the mask model's training: scribbles, and how thickly they were drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from tqdm import tqdm

from masker.guides import dilate_cells
from masker.ranking import iou
from masker.sources import MixedSource
from masker.stage_config import TracerStageConfig
from masker.tracer import SMALLEST, ScribbleTracer, scribble_numbers, trace, tracer_view
from masker.weights import export_tracer
from masker.windows import Window, to_canvas
from runtime.seeding import numpy_rng, seeded
from scene.corpus.shards import AnyCorpus
from scene.geometry import Box, Size
from scene.seeds import derive_seed

RESOLUTION, FINE = 32, 160  # cells of examples' views: layouts are not looked at, scribbles are drawn on the fine ones
AROUND = 2.0  # side of these views over the object's longer side, as scribbles are drawn in evaluation
JITTER = 0.08  # of the tracer's view
MOST_PX = 256  # along a side of what a scribble is drawn on; more show nothing more in the tracer's cells
SHEET_EXAMPLES, SHEET_COLUMNS, SHEET_PX = 40, 5, 96


@dataclass(frozen=True)
class TracerBatch:
    """B scribbles: their numbers, (B, NUMBERS), and the logs of their radii over sqrt(area), (B,)."""

    numbers: Tensor
    radius: Tensor


@dataclass(frozen=True)
class _Drawn:
    """A scribble on a small canvas, bool (H, W), its object, its box, and its radius over sqrt(its area)."""

    scribble: np.ndarray
    mask: np.ndarray
    box: Box
    radius: float

    @property
    def size(self) -> Size:
        return Size(self.mask.shape[1], self.mask.shape[0])


class TracerTask:
    """What `runtime.training.fit` needs to train the tracer. Sample n is scribble n % `pool`.

    Args:
        config: Root config.
        corpora: Training data.
        progress: Draw a bar while scribbles are prepared.
    """

    def __init__(self, config: TracerStageConfig, corpora: Sequence[AnyCorpus], progress: bool = True) -> None:
        self.config, seed = config, config.fit.seed
        framed = config.examples.model_copy(
            update={
                "form_shares": {"box": 1.0},
                "window": {**config.examples.window, "box": AROUND},
                "box_jitter": 0.0,
                "canvas_share": 0.0,
                "surface_share": 0.0,
            }
        )
        self.source = MixedSource(corpora, "train", framed, RESOLUTION, seed, fine=FINE)
        self.held_out = MixedSource(corpora, "val", framed, RESOLUTION, seed, fine=FINE)
        self.tracer = seeded(lambda: ScribbleTracer(config.tracer), seed)
        self.model: nn.Module = self.tracer
        numbers, radii = [], []
        for sample in tqdm(range(config.pool), unit="scribble", disable=not progress):
            row = self._numbers(sample)
            if row is not None:
                numbers.append(row[0])
                radii.append(np.log(row[1]))
        self._pool = TracerBatch(torch.from_numpy(np.stack(numbers)), torch.tensor(radii, dtype=torch.float32))
        self.tracer.learn_scale(self._pool.numbers)

    def batch(self, samples: Sequence[int]) -> TracerBatch:
        """See `runtime.training.TrainingTask`."""
        rows = torch.tensor(samples) % len(self._pool.radius)
        return TracerBatch(self._pool.numbers[rows], self._pool.radius[rows])

    def loss(self, model: nn.Module, batch: TracerBatch) -> tuple[Tensor, dict[str, float]]:
        """See `runtime.training.TrainingTask`."""
        return (model(batch.numbers) - batch.radius).abs().mean(), {}

    def _numbers(self, sample: int) -> tuple[np.ndarray, float] | None:
        drawn = self._drawn(self.source, sample)
        if drawn is None:
            return None
        jitter = float(numpy_rng(derive_seed(self.config.fit.seed, "tracer view", sample)).uniform(-JITTER, JITTER))
        view = tracer_view(drawn.scribble, drawn.box, drawn.size, self.config.tracer, jitter)
        numbers = scribble_numbers(*view)
        return None if numbers is None else (numbers, drawn.radius)

    def _drawn(self, source: MixedSource, sample: int) -> _Drawn | None:
        """A scribble round an object that is stretched a little; None where nothing of it is on the canvas."""
        config, example = self.config, source.example(sample)
        rng = numpy_rng(derive_seed(config.fit.seed, "tracer example", sample))
        factors = np.exp(rng.uniform(-config.stretch, config.stretch, 2))
        inside = example.geometry[0].repeat(FINE // RESOLUTION, 0).repeat(FINE // RESOLUTION, 1)
        target, canvas = (_stretched(values, *factors) for values in (example.target, inside))
        radius = rng.uniform(*config.examples.scribble_radius)
        guide = dilate_cells(target * canvas, radius, config.examples.scribble_noise, rng) * canvas
        # A small thing's scribble has few pixels, and stairs for corners: it is seen as the canvas has it.
        side = round(min(example.window.side, MOST_PX))
        whole, size = Window(0.0, 0.0, float(side)), Size(side, side)
        held = np.flatnonzero(canvas.max(1) > 0.5), np.flatnonzero(canvas.max(0) > 0.5)
        if not all(len(edges) for edges in held):
            return None
        rows, columns = (
            slice(round(edges[0] / FINE * side), round((edges[-1] + 1) / FINE * side)) for edges in held
        )  # what lies beyond the canvas nobody draws on
        scribble, mask = ((to_canvas(values, whole, size) > 0.5)[rows, columns] for values in (guide, target * canvas))
        box = Box.from_mask(scribble)
        if box is None or not mask.any():
            return None
        share = float(mask.sum()) / float(scribble.sum())
        return _Drawn(scribble, mask, box, max(radius * float(np.sqrt(share)), SMALLEST))

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Validation objects: the scribble, the mask that was read off it, the true one; IoU in `validation.jsonl`."""
        tiles, found = [], []
        for sample in range(SHEET_EXAMPLES):
            drawn = self._drawn(self.held_out, sample)
            if drawn is None:
                continue
            window, soft = trace(cast(ScribbleTracer, model).eval(), drawn.scribble, drawn.box, drawn.size)
            traced = to_canvas(soft, window, drawn.size) > 0.5
            found.append(iou(traced, drawn.mask))
            row = np.concatenate([drawn.scribble, traced, drawn.mask], axis=1)
            tile = Image.fromarray(row.astype(np.uint8) * 255).resize((3 * SHEET_PX, SHEET_PX))
            ImageDraw.Draw(tile).text((2, 0), f"{found[-1]:.2f}", fill=128)
            tiles.append(np.asarray(tile))
        model.train()
        tiles = tiles[: len(tiles) // SHEET_COLUMNS * SHEET_COLUMNS]
        rows = [
            np.concatenate(tiles[start : start + SHEET_COLUMNS], 1) for start in range(0, len(tiles), SHEET_COLUMNS)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(rows, axis=0)).save(path)
        with (path.parent / "validation.jsonl").open("a", encoding="utf-8") as file:
            file.write(f'{{"sheet": "{path.stem}", "iou": {np.mean(found):.4f}}}\n')

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the tracer folder."""
        export_tracer(cast(ScribbleTracer, model), self.config, out)


def _stretched(values: np.ndarray, across: float, down: float) -> np.ndarray:
    """A square map, stretched about its middle, float32; what lies beyond it is its edge."""
    side = len(values)
    steps = np.arange(side) + 0.5 - side / 2
    columns, rows = ((steps / factor + side / 2).clip(0, side - 1).astype(np.intp) for factor in (across, down))
    return np.ascontiguousarray(values[np.ix_(rows, columns)], dtype=np.float32)
