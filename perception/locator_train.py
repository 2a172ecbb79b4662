"""Training of the picture reader on real renders of a corpus of drawings.

python -m perception.locator_train configs/judge/locator_park.yaml runs/data/park runs/judge/locator_park [--resume]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional as F

from perception.locator import DEPTHS, Locator, LocatorConfig, PictureReader, save_reader, squeezed
from runtime.config import load_config
from runtime.seeding import numpy_rng, seeded
from runtime.training import fit
from scene.corpus.records import LayerRecord, SceneRecord
from scene.corpus.store import Corpus
from scene.seeds import derive_seed

OPEN = -1  # too little of it shows
SHEET_SCENES = 12
VALIDATION_SCENES = 200
SUBSET_SHARE = 0.5


class Truth(NamedTuple):
    """A category on a canvas: centre of what is on it, 0 to 1, its depth, and whether enough shows (else `OPEN`)."""

    x: float
    y: float
    depth: int
    there: int


class LocatorTask:
    """`runtime.training.TrainingTask` of the picture reader.

    Args:
        config: settings.
        corpus: drawings.
    """

    def __init__(self, config: LocatorConfig, corpus: Corpus) -> None:
        labels = config.labels or tuple(each for each in corpus.labels if corpus.vocabulary.kind(each) != "surface")
        self.config, self.corpus = config.model_copy(update={"labels": labels}), corpus
        self.numbers = {label: at for at, label in enumerate(labels)}
        self.depths = asset_depths(corpus)
        self.records = corpus.records("train")
        self.model: nn.Module = seeded(lambda: Locator(self.config), config.fit.seed)

    def layers(self, number: int) -> Sequence[LayerRecord]:
        """Layers of global sample `number`: a scene of the epoch's shuffled order, often with objects left out."""
        epoch, index = divmod(number, len(self.records))
        order = numpy_rng(derive_seed(self.config.fit.seed, "order", epoch)).permutation(len(self.records))
        rng = numpy_rng(derive_seed(self.config.fit.seed, "sample", number))
        layers = self.records[int(order[index])].layers
        if rng.random() >= SUBSET_SHARE:
            return layers
        kept = rng.random(len(layers)) < rng.uniform(0.2, 0.9)
        return [layer for layer, keep in zip(layers, kept, strict=True) if keep or layer.label not in self.numbers]

    def truth(self, layers: Sequence[LayerRecord]) -> dict[str, Truth]:
        """What a canvas shows; of several of a label the one that shows most."""
        shown = np.full(self.corpus.size.shape, -1, dtype=np.int64)
        masks = [self.corpus.mask(layer) for layer in layers]
        for at, mask in enumerate(masks):
            shown[mask] = at
        found: dict[str, tuple[int, Truth]] = {}
        for at, layer in enumerate(layers):
            box, whole = self.corpus.box(layer), int(self.corpus.shape(layer).sum())
            if layer.label not in self.numbers or box is None:
                continue
            seen = int((shown == at).sum())
            there = 1 if seen >= self.config.visible_frac * whole else OPEN
            (x, y), size = box.center, self.corpus.size
            truth = Truth(x / size.width, y / size.height, self.depths[layer.asset], there)
            if layer.label not in found or seen > found[layer.label][0]:
                found[layer.label] = (seen, truth)
        return {label: truth for label, (_, truth) in found.items()}

    def batch(self, samples: Sequence[int]) -> dict[str, Tensor]:
        """pictures (B, 3, S, S), there int64 (B, L) in {0, 1, OPEN}, cells and depths int64 (B, L)."""
        drawn = [self.layers(number) for number in samples]
        side, labels = self.config.side_px, self.config.labels
        grid = side // 4
        there, cells, depths = (np.zeros((len(samples), len(labels)), dtype=np.int64) for _ in range(3))
        for row, layers in enumerate(drawn):
            for label, truth in self.truth(layers).items():
                column = self.numbers[label]
                across, down = (min(int(value * grid), grid - 1) for value in (truth.x, truth.y))
                there[row, column], depths[row, column] = truth.there, truth.depth
                cells[row, column] = down * grid + across
        pictures = torch.stack([squeezed(self.corpus.painted(layers), side) for layers in drawn])
        found = {"there": there, "cells": cells, "depths": depths}
        return {"pictures": pictures} | {name: torch.from_numpy(values) for name, values in found.items()}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Presence by the highest logit of a map, the place among its cells, and the depth there; in nats."""
        where, depth = model(batch["pictures"])
        flat = where.flatten(2)
        known, there = batch["there"] != OPEN, batch["there"] == 1
        top = torch.logsumexp(flat, dim=2)
        presence = F.binary_cross_entropy_with_logits(top[known], there[known].float())
        rows, columns = torch.nonzero(there, as_tuple=True)
        cells = batch["cells"][rows, columns]
        place = F.cross_entropy(flat[rows, columns], cells)
        near = F.cross_entropy(depth.flatten(2)[rows, :, cells], batch["depths"][rows, columns])
        right = ((top > 0) == there)[known].float().mean()
        facts = {"presence": presence.item(), "place": place.item(), "depth": near.item(), "right": right.item()}
        return 20 * presence + place + near, facts

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Held-out pictures with what is read off them; precision, recall and more in `validation.jsonl`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        reader, records = PictureReader(model), self.corpus.records("val")  # type: ignore[arg-type]
        tiles = []
        for record in records[:SHEET_SCENES]:
            picture = self.corpus.painted(record.layers)
            image = Image.fromarray(picture)
            pen = ImageDraw.Draw(image)
            for label, found in reader.read([picture])[0].items():
                pen.text((found.x * image.width - 12, found.y * image.height), f"{label} {found.depth:.1f}", fill="red")
            tiles.append(np.asarray(image.resize((320, 256))))
        rows = [np.concatenate(tiles[start : start + 4], axis=1) for start in range(0, len(tiles), 4)]
        Image.fromarray(np.concatenate(rows)).save(path)
        scores = reader_scores(self, reader, records[:VALIDATION_SCENES])
        with (path.parent / "validation.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"sheet": path.stem, **scores}) + "\n")

    def export(self, model: nn.Module, out: Path) -> None:
        """Write the weight folder."""
        save_reader(model, out)  # type: ignore[arg-type]


def asset_depths(corpus: Corpus) -> list[int]:
    """The depth of every asset, 0 to 2: its rank among the sizes in which its drawing occurs, the largest nearest."""
    heights: dict[tuple[str, str], set[int]] = defaultdict(set)
    for info in corpus.assets:
        heights[info.label, info.source].add(info.height)
    return [
        min(DEPTHS - 1, sorted(heights[info.label, info.source], reverse=True).index(info.height))
        for info in corpus.assets
    ]


def reader_scores(task: LocatorTask, reader: PictureReader, records: Sequence[SceneRecord]) -> dict[str, Any]:
    """The reader against true labels of real renders: precision and recall of categories of which enough shows
    (those of which too little does count neither way), mean error across, and share of depths right."""
    right = said = due = 0
    errors: list[float] = []
    depths: list[bool] = []
    for record in records:
        truth, found = task.truth(record.layers), reader.read([task.corpus.painted(record.layers)])[0]
        sure = {label for label, each in truth.items() if each.there == 1}
        right += len(sure & found.keys())
        said += len([label for label in found if label not in truth or truth[label].there == 1])
        due += len(sure)
        errors += [abs(found[label].x - truth[label].x) for label in sure & found.keys()]
        depths += [round(found[label].depth) == truth[label].depth for label in sure & found.keys()]
    precision, recall = right / max(1, said), right / max(1, due)
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / max(1e-9, precision + recall), 4),
        "error_across": round(float(np.mean(errors or [0])), 4),
        "depth_right": round(float(np.mean(depths or [False])), 4),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    task = LocatorTask(load_config(LocatorConfig, arguments.config, arguments.set), Corpus.only([arguments.data]))
    fit(task, task.config.fit, arguments.out, resume=arguments.resume)


if __name__ == "__main__":
    main()
