"""Stage `tracer` of the mask model's training: scribbles, and the objects that they were drawn round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from masker.examples import MaskExample
from masker.guides import dilate_cells
from masker.likeliest import soft_iou
from masker.sources import MixedSource
from masker.stage_config import TracerStageConfig
from masker.texts import TextBook
from masker.tracer import LOGIT_LIMIT, ScribbleTracer, TracerInputs, seen_in, tracer_window
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
VALIDATION_EXAMPLES = 256
OVERLAP_WEIGHT = 0.5


@dataclass(frozen=True)
class TracerBatch:
    """B scribbles as the tracer sees them, the masks to find (B, 1, S, S), and T_obj's embeddings (B, D)."""

    inputs: TracerInputs
    masks: Tensor
    text: Tensor


class TracerTask:
    """What `runtime.training.fit` needs to train the tracer.

    Args:
        config: Root config.
        corpora: Training data.
        texts: Overrides the shared text encoder (tests).
    """

    def __init__(self, config: TracerStageConfig, corpora: Sequence[AnyCorpus], texts: TextBook | None = None) -> None:
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
        self.texts = texts if texts is not None else TextBook.load(config.text)
        self.tracer = seeded(lambda: ScribbleTracer(config.tracer, config.text.width), seed)
        self.model: nn.Module = self.tracer

    def batch(self, samples: Sequence[int]) -> TracerBatch:
        """See `runtime.training.TrainingTask`."""
        return self._batch([self.source.example(sample) for sample in samples], samples)

    def _batch(self, examples: Sequence[MaskExample], samples: Sequence[int]) -> TracerBatch:
        rows = [self._row(example, sample) for example, sample in zip(examples, samples, strict=True)]
        text = torch.stack([self.texts.pooled(example.object) for example in examples])
        return TracerBatch(TracerInputs.stack([row for row, _ in rows]), torch.cat([mask for _, mask in rows]), text)

    def _row(self, example: MaskExample, sample: int) -> tuple[TracerInputs, Tensor]:
        """A scribble drawn round an object that is stretched a little, in the view that it frames."""
        config, rng = self.config, numpy_rng(derive_seed(self.config.fit.seed, "tracer example", sample))
        across, down = np.exp(rng.uniform(-config.stretch, config.stretch, 2))
        inside = example.geometry[0].repeat(FINE // RESOLUTION, 0).repeat(FINE // RESOLUTION, 1)
        target, canvas = (_stretched(values, across, down) for values in (example.target, inside))
        if not (target * canvas > 0.5).any():
            target, canvas = example.target, inside
        radius = rng.uniform(*config.examples.scribble_radius)
        guide = dilate_cells(target * canvas, radius, config.examples.scribble_noise, rng) * canvas
        # A small thing's scribble has few pixels, and stairs for corners: it is seen as the canvas has it.
        side = round(min(example.window.side, MOST_PX))
        size, whole = Size(side, side), Window(0.0, 0.0, float(side))
        pixels = [to_canvas(values, whole, size) > 0.5 for values in (guide, canvas, target * canvas)]
        box = Box.from_mask(pixels[0])
        factor = config.tracer.window * (1 + float(rng.uniform(-1, 1)) * JITTER)
        window = tracer_window(box, factor, size) if box is not None else whole
        seen, held, mask = (seen_in(values, window, config.tracer.cells) for values in pixels)
        return TracerInputs.of(seen, held, config.tracer.fold), torch.from_numpy(mask)[None, None]

    def loss(self, model: nn.Module, batch: TracerBatch) -> tuple[Tensor, dict[str, float]]:
        """See `runtime.training.TrainingTask`."""
        entropy, overlap = self._terms(model, batch)
        loss = (entropy + OVERLAP_WEIGHT * (1 - overlap)).mean()
        return loss, {"entropy": entropy.mean().item(), "soft_iou": overlap.mean().item()}

    def _terms(self, model: nn.Module, batch: TracerBatch) -> tuple[Tensor, Tensor]:
        """Cross entropy a cell of the scribble, and soft IoU, (B,) each."""
        logits = model(batch.inputs, batch.text).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, batch.masks, reduction="none")
        drawn = batch.inputs.scribble.mean((1, 2, 3)).clamp_min(1e-2)
        overlaps = [soft_iou(soft, mask) for soft, mask in zip(logits[:, 0].sigmoid(), batch.masks[:, 0], strict=True)]
        return entropy.mean((1, 2, 3)) / drawn, torch.stack(overlaps)

    @torch.no_grad()
    def validation(self) -> dict[str, float]:
        """Mean IoU of validation scribbles as traced, and as eroded by the mean radius."""
        traced: list[Tensor] = []
        eroded: list[Tensor] = []
        for start in range(0, VALIDATION_EXAMPLES, 32):
            samples = range(start, start + 32)
            batch = self._batch([self.held_out.example(sample) for sample in samples], samples)
            truth = batch.masks > 0.5
            for found, logits in (
                (traced, self.tracer(batch.inputs, batch.text)),
                (eroded, batch.inputs.distance - batch.inputs.radius.view(-1, 1, 1, 1)),
            ):
                shared, either = (logits > 0) & truth, (logits > 0) | truth
                found.append(shared.sum((1, 2, 3)) / either.sum((1, 2, 3)).clamp_min(1))
        return {"traced": torch.cat(traced).mean().item(), "eroded": torch.cat(eroded).mean().item()}

    @torch.no_grad()
    def sheet(self, model: nn.Module, path: Path) -> None:
        """Validation objects: the scribble, the mask that was read off it, the true one; `validation.jsonl`."""
        samples = range(SHEET_EXAMPLES)
        examples = [self.held_out.example(sample) for sample in samples]
        batch = self._batch(examples, samples)
        soft = model(batch.inputs, batch.text).sigmoid()
        tiles = []
        for example, *maps in zip(examples, batch.inputs.scribble, soft, batch.masks, strict=True):
            row = np.concatenate([one[0].numpy() for one in maps], axis=1)
            tile = Image.fromarray((row * 255).astype(np.uint8)).resize((3 * SHEET_PX, SHEET_PX))
            ImageDraw.Draw(tile).text((2, 0), example.label, fill=128)
            tiles.append(np.asarray(tile))
        rows = [
            np.concatenate(tiles[start : start + SHEET_COLUMNS], axis=1)
            for start in range(0, len(tiles), SHEET_COLUMNS)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(rows, axis=0)).save(path)
        line = ", ".join(f'"{name}": {value:.4f}' for name, value in self.validation().items())
        with (path.parent / "validation.jsonl").open("a", encoding="utf-8") as file:
            file.write(f'{{"sheet": "{path.stem}", {line}}}\n')

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the tracer folder."""
        export_tracer(cast(ScribbleTracer, model), self.config, out)


def _stretched(values: np.ndarray, across: float, down: float) -> np.ndarray:
    """A square map, stretched about its middle, float32; what lies beyond it is its edge."""
    side = len(values)
    steps = np.arange(side) + 0.5 - side / 2
    columns, rows = ((steps / factor + side / 2).clip(0, side - 1).astype(np.intp) for factor in (across, down))
    return np.ascontiguousarray(values[np.ix_(rows, columns)], dtype=np.float32)
