"""Stage `placement` of the mask model's training: the placement prior alone, on whole canvases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from masker.examples import PlacedExample
from masker.placement import PlacementInputs, PlacementPrior, mean_tokens
from masker.sources import MixedSource
from masker.stage_config import PlacementStageConfig
from masker.support import SupportStatistics
from masker.texts import TextBook
from masker.weights import STATISTICS_FILE, export_placement
from perception.boxes import stack_boxes
from runtime.seeding import seeded, torch_generator
from scene.corpus.shards import AnyCorpus
from scene.layout import label_colour
from scene.seeds import derive_seed

SHEET_EXAMPLES = 24
SHEET_DRAWS = 8
SHEET_PX = 192
VALIDATION_EXAMPLES = 256


@dataclass(frozen=True)
class PlacementBatch:
    """B canvas views and true boxes (B, 4), 0 to 1 across the view."""

    inputs: PlacementInputs
    boxes: Tensor


class PlacementTask:
    """What `runtime.training.fit` needs to train the placement prior.

    Args:
        config: Root config.
        corpora: Training data.
        texts: Overrides the shared text encoder (tests).
    """

    def __init__(
        self, config: PlacementStageConfig, corpora: Sequence[AnyCorpus], texts: TextBook | None = None
    ) -> None:
        self.config = config
        resolution, seed = config.placement.resolution, config.fit.seed
        self.source = MixedSource(corpora, "train", config.examples, resolution, seed)
        self.held_out = MixedSource(corpora, "val", config.examples, resolution, seed)
        self.texts = texts if texts is not None else TextBook.load(config.text)
        self.labels = self.texts.label_table(self.source.labels)
        self.prior = seeded(lambda: PlacementPrior(config.placement, config.text.width), seed)
        self.model: nn.Module = self.prior

    def batch(self, samples: Sequence[int]) -> PlacementBatch:
        """See `runtime.training.TrainingTask`."""
        return self._batch([self.source.placed(sample) for sample in samples])

    def _batch(self, examples: Sequence[PlacedExample]) -> PlacementBatch:
        texts = self.texts.batch([example.object for example in examples], [example.context for example in examples])
        inputs = PlacementInputs(
            index=torch.from_numpy(np.stack([example.index for example in examples])).long(),
            labels=self.labels,
            geometry=torch.from_numpy(np.stack([example.geometry for example in examples])),
            object=mean_tokens(texts["object_tokens"], texts["object_mask"]),
            context=mean_tokens(texts["context_tokens"], texts["context_mask"]),
        )
        return PlacementBatch(inputs, stack_boxes([example.box for example in examples]))

    def loss(self, model: nn.Module, batch: PlacementBatch) -> tuple[Tensor, dict[str, float]]:
        """See `runtime.training.TrainingTask`."""
        terms = {name: term.mean() for name, term in self.prior.loss(batch.inputs, batch.boxes).items()}
        return torch.stack(list(terms.values())).sum(), {name: term.item() for name, term in terms.items()}

    def validation(self) -> dict[str, float]:
        """Mean cross entropies over validation examples."""
        totals: dict[str, list[Tensor]] = {}
        for start in range(0, VALIDATION_EXAMPLES, 32):
            batch = self._batch([self.held_out.placed(sample) for sample in range(start, start + 32)])
            for name, term in self.prior.loss(batch.inputs, batch.boxes).items():
                totals.setdefault(name, []).append(term)
        return {name: torch.cat(terms).mean().item() for name, terms in totals.items()}

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Validation canvases with drawn boxes (white) and the true one (black); losses in `validation.jsonl`."""
        tiles = [self._tile(self.held_out.placed(sample), sample) for sample in range(SHEET_EXAMPLES)]
        rows = [np.concatenate(tiles[start : start + 6], axis=1) for start in range(0, len(tiles), 6)]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(rows, axis=0)).save(path)
        line = ", ".join(f'"{name}": {value:.4f}' for name, value in self.validation().items())
        with (path.parent / "validation.jsonl").open("a", encoding="utf-8") as file:
            file.write(f'{{"sheet": "{path.stem}", {line}}}\n')

    def _tile(self, example: PlacedExample, number: int) -> np.ndarray:
        colours = [(255, 255, 255), *(label_colour(label) for label in self.source.labels[1:])]
        picture = Image.fromarray(np.asarray(colours, dtype=np.uint8)[example.index])
        picture = picture.resize((SHEET_PX, SHEET_PX), Image.Resampling.NEAREST)
        pen = ImageDraw.Draw(picture)
        places = self.prior.places(self._batch([example]).inputs)
        generator = torch_generator(derive_seed(self.config.fit.seed, "placement sheet", number))
        drawn = [places.sample(generator, top_p=0.9).tolist() for _ in range(SHEET_DRAWS)]
        for box, colour in [*((box, "white") for box in drawn), (example.box, "black")]:
            pen.rectangle([round(edge * SHEET_PX) for edge in box], outline=colour)
        pen.text((2, 0), example.label, fill="black")
        return np.asarray(picture)

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the placement folder; the support statistics, which take minutes, only the first time."""
        export_placement(cast(PlacementPrior, model), self.config, out)
        if not (out / STATISTICS_FILE).exists():
            SupportStatistics.from_corpora(self.source.corpora, progress=True).save(out / STATISTICS_FILE)
