"""Stage `memory` of the mask model: training objects are remembered, nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from masker.layout_encoder import GuideFrame
from masker.memory import ShapeMemory, place_of
from masker.readout import lift_thin_parts
from masker.recall import SHOWN_CELLS
from masker.shape_code import in_frame
from masker.sources import MixedSource
from masker.stage_config import MemoryStageConfig
from masker.tasks import stack
from masker.texts import TextBook
from masker.weights import export_memory, load_masker
from scene.corpus.shards import AnyCorpus
from scene.errors import UserError

BATCH = 32
FILLED = 0.5  # share of a cell from which it belongs to a silhouette, but for thin parts (`masker.readout`)


def remember(
    settings: MemoryStageConfig, corpora: Sequence[AnyCorpus], out: Path, texts: TextBook | None = None
) -> ShapeMemory:
    """Reads the silhouettes of `settings.objects` training objects in their boxes and writes them to `out/export`.

    Args:
        settings: Root config.
        corpora: Where objects come from; only split train is looked at.
        out: Run folder.
        texts: Overrides the shared text encoder (tests).

    Raises:
        UserError: canvases of the corpora differ in shape.
    """
    aspects = {corpus.size.width / corpus.size.height for corpus in corpora}
    if len(aspects) > 1:
        raise UserError("shapes are remembered from canvases of one shape; give corpora of the same proportions")
    settings = settings.model_copy(update={"memory": settings.memory.model_copy(update={"aspect": aspects.pop()})})
    config, codec, model, _ = load_masker(Path(settings.masker))
    texts = texts if texts is not None else TextBook.load(config.text)
    examples = settings.examples.model_copy(
        update={"form_shares": {"box": 1.0}, "box_jitter": 0.0, "canvas_share": 0.0, "surface_share": 0.0}
    )
    cells = max(model.fine, SHOWN_CELLS)
    source = MixedSource(corpora, "train", examples, codec.resolution, settings.seed, fine=cells)
    numbers: dict[str, int] = {}
    labels: list[str] = []
    shapes: list[np.ndarray] = []
    places: list[torch.Tensor] = []
    rows: list[int] = []
    for start in tqdm(range(0, settings.objects, BATCH), unit_scale=BATCH, unit="object"):
        seen = [source.example(number) for number in range(start, min(start + BATCH, settings.objects))]
        guide, masks = (
            stack(values)[:, None] for values in ([one.guide for one in seen], [one.target for one in seen])
        )
        geometry = stack([example.geometry for example in seen])
        frame = GuideFrame.of(guide)
        covered = F.avg_pool2d(in_frame(masks, frame.center, frame.half, 2 * settings.memory.side), 2)[:, 0].numpy()
        shapes += [lift_thin_parts(one, FILLED) > FILLED for one in covered]
        places.append(place_of(frame, geometry))
        for example in seen:
            if example.object not in numbers:
                numbers[example.object] = len(numbers)
                labels.append(example.label)
            rows.append(numbers[example.object])
    embeddings = torch.stack([texts.pooled(text) for text in numbers])
    memory = ShapeMemory.of(settings.memory, shapes, torch.cat(places), torch.tensor(rows), labels, embeddings)
    export_memory(memory, settings, out / "export")
    return memory
