"""Stage `memory` of the inpainter: pictures of training objects are remembered, nothing is trained."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from inpainter.appearance import Appearance, box_of, load_appearance, save_appearance, shape_in_box, stretched
from inpainter.config import InpainterTraining
from inpainter.examples import ExampleSource
from inpainter.memory import AppearanceMemory
from inpainter.text import TextTokens
from runtime.config import save_config
from scene.corpus.store import Corpus
from scene.errors import UserError

LOOKED_AT = 4  # times `objects`, at most


def remember(config: InpainterTraining, corpus: Corpus, out: Path, embed: Any = None) -> Appearance:
    """Looks at training objects and writes the appearance folder with what it remembers to `out/export/appearance`.

    Args:
        config: root configuration; `memory_training` says how much.
        corpus: opened corpus; only split `train` is looked at.
        out: run folder.
        embed: text -> (T, C); None takes the shared encoder.

    Raises:
        UserError: no `memory_training`, no appearance folder, or no object with words.
    """
    training = config.memory_training
    if training is None:
        raise UserError("stage memory needs memory_training.appearance: a folder that stage appearance exported")
    looks = load_appearance(Path(training.appearance))
    embed = embed or TextTokens(config.sampler.max_tokens)
    source = ExampleSource(corpus, corpus.records("train"), config.examples, config.window, config.fit.seed)
    kept: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    pictures, shapes, proportions, rows = [], [], [], []
    with tqdm(total=training.objects, unit="object") as progress:
        for number in range(LOOKED_AT * training.objects):
            example = source.example(number)
            if not example.text or kept[example.text] == training.per_text or not example.mask.any():
                continue
            kept[example.text] += 1
            box = box_of(example.mask)
            pictures.append((stretched(example.target, example.mask, training.side) * 255 + 0.5).astype(np.uint8))
            shapes.append(shape_in_box(example.mask, looks.config.mask_cells))
            proportions.append(np.log(box.width / box.height))
            rows.append(numbers.setdefault(example.text, len(numbers)))
            progress.update()
            if len(rows) == training.objects:
                break
    if not rows:
        raise UserError(f"corpus {corpus.name!r} has no object with words to remember")
    embeddings = torch.stack([embed(text).sum(0) for text in numbers])
    looks.memory = AppearanceMemory.of(
        config.memory, pictures, np.stack(shapes), np.asarray(proportions), rows, embeddings
    )
    folder = out / "export" / "appearance"
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, out / "config.yaml")
    save_appearance(looks, folder)
    return looks
