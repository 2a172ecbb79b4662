"""Training of the crop judge's head on crops of real pictures; the features are worked out once.

python -m perception.crop_train configs/judge/crops.yaml runs/data/home runs/judge/crops
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from perception.config import CropJudgeConfig
from perception.crops import CONTEXT, CropHead, CropJudge, pooled, square_crop
from perception.efficientnet import EfficientNetTrunk, feature_maps
from runtime.config import load_config, save_config
from runtime.files import write_bytes
from runtime.seeding import numpy_rng
from runtime.training import fit
from scene.corpus.records import LayerRecord, SceneRecord
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.seeds import derive_seed

SHEET_CROPS, SHEET_COLUMNS, CAPTION_PX = 48, 12, 20


class RealCrop(NamedTuple):
    """A crop of a finished scene: uint8 (128, 128, 3), its object's label, asset source and description."""

    pixels: np.ndarray
    label: str
    source: str
    description: str


def candidates(corpus: Corpus, record: SceneRecord, visible_frac: float) -> list[LayerRecord]:
    """Layers of a scene that can be judged: movable, on the canvas, and mostly in sight."""
    return [
        layer
        for layer in record.layers
        if corpus.vocabulary.kind(layer.label) != "surface"
        and (layer.facts is None or layer.facts.visible_frac >= visible_frac)
        and corpus.box(layer) is not None
    ]


def real_crops(
    corpus: Corpus,
    records: Sequence[SceneRecord],
    labels: Collection[str],
    visible_frac: float,
    context: tuple[float, float] = (CONTEXT, CONTEXT),
    most: int | None = None,
) -> Iterator[RealCrop]:
    """Crops of finished scenes without shadows, as drawings have none.

    Args:
        corpus: where the scenes are from.
        records: scenes, in the order in which they are looked at.
        labels: only these.
        visible_frac: see `candidates`.
        context: range of the crop's side over its box's; drawn by the record's id.
        most: so many crops of a label at most; None = all.
    """
    taken: Counter[str] = Counter()
    for record in tqdm(records, unit="scene", disable=len(records) < 200):
        wanted = [
            layer
            for layer in candidates(corpus, record, visible_frac)
            if layer.label in labels and (most is None or taken[layer.label] < most)
        ]
        if not wanted:
            continue
        image = corpus.painted(record.layers)
        rng = numpy_rng(derive_seed("real crop", record.id))
        for layer in wanted:
            box = corpus.box(layer)
            assert box is not None
            taken[layer.label] += 1
            pixels = square_crop(image, box, rng.uniform(*context))
            yield RealCrop(pixels, layer.label, corpus.assets[layer.asset].source, layer.description)


def both_ways(trunk: EfficientNetTrunk, crops: Sequence[RealCrop]) -> tuple[Tensor, Tensor]:
    """Pooled features of crops as they are and mirrored, (N, 672) each."""
    plain, mirrored = (
        torch.from_numpy(pooled(feature_maps(trunk, [np.ascontiguousarray(c.pixels[:, ::step]) for c in crops])))
        for step in (1, -1)
    )
    return plain, mirrored


def some_scenes(corpus: Corpus, scenes: int | None, seed: int) -> list[SceneRecord]:
    """Training scenes in a random order, so many; None = all."""
    records = corpus.records("train")
    order = numpy_rng(derive_seed(seed, "crop scenes")).permutation(len(records))[:scenes]
    return [records[int(number)] for number in order]


def write_credits(corpus: Corpus, out: Path) -> None:
    """Copies the corpus's list of works beside what was trained on them, if it has one."""
    credits = corpus.path / "ATTRIBUTION.md"
    if credits.exists():
        write_bytes(out / "ATTRIBUTION.md", credits.read_bytes())


class CropTask:
    """What the training loop needs; see `runtime.training.TrainingTask`.

    Args:
        config: root config.
        corpus: learned from split `train`; `val` is drawn on the sheet.
        trunk: the features.
    """

    def __init__(self, config: CropJudgeConfig, corpus: Corpus, trunk: EfficientNetTrunk) -> None:
        self.config, self.corpus, self.trunk = config, corpus, trunk
        chosen = some_scenes(corpus, config.scenes, config.fit.seed)
        counts = Counter(x.label for record in chosen for x in candidates(corpus, record, config.visible_frac))
        self.labels = tuple(sorted(label for label, count in counts.items() if count >= config.fewest))
        if not self.labels:
            raise UserError(f"no label of {corpus.path} has {config.fewest} training crops; lower `fewest`")
        crops = list(
            real_crops(corpus, chosen, self.labels, config.visible_frac, context=config.context, most=config.most)
        )
        row = {label: number for number, label in enumerate(self.labels)}
        self._targets = torch.tensor([row[crop.label] for crop in crops])
        self._features = both_ways(trunk, crops)
        torch.manual_seed(derive_seed(config.fit.seed, "crop head"))
        self.model: nn.Module = CropHead(config.head, len(self.labels))

    def batch(self, samples: Sequence[int]) -> tuple[Tensor, Tensor, int]:
        """Pooled features (B, 672), label numbers (B,), and the seed of the dropout."""
        features, targets = [], []
        for sample in samples:
            rng = numpy_rng(derive_seed(self.config.fit.seed, "crop sample", sample))
            row = int(rng.integers(len(self._targets)))
            features.append(self._features[int(rng.integers(2))][row])
            targets.append(self._targets[row])
        seed = derive_seed(self.config.fit.seed, "crop dropout", samples[0])
        return torch.stack(features), torch.stack(targets), seed

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor, int]) -> tuple[Tensor, dict[str, float]]:
        """Cross entropy."""
        features, targets, seed = batch
        torch.manual_seed(seed)  # so that a resumed run repeats it
        logits = model(features)
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        return loss, {"top1": (logits.argmax(1) == targets).float().mean().item()}

    def judge(self, model: nn.Module) -> CropJudge:
        """A judge with the weights of `model` as they are now."""
        head = CropHead(self.config.head, len(self.labels))
        head.load_state_dict(model.state_dict())
        return CropJudge(self.trunk, head, self.config.head, self.labels, self.corpus.name)

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Validation crops, each with its label above and the verdict below, red where they differ."""
        found = real_crops(self.corpus, self.corpus.records("val")[:20], self.labels, self.config.visible_frac)
        crops = list(found)[:SHEET_CROPS]
        if crops:
            crop_sheet(self.judge(model), crops).save(path)

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the judge's folder, with the credits of its corpus."""
        about = {"licence": self.corpus.licence, "crops": len(self._targets)}
        self.judge(model).save(out, about)
        write_credits(self.corpus, out)


def crop_sheet(judge: CropJudge, crops: Sequence[RealCrop]) -> Image.Image:
    """Crops in rows of twelve with labels and verdicts."""
    side = crops[0].pixels.shape[0]
    rows = -(-len(crops) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (SHEET_COLUMNS * side, rows * (side + 2 * CAPTION_PX)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (crop, verdict) in enumerate(zip(crops, judge.verdicts([c.pixels for c in crops]), strict=True)):
        x, y = number % SHEET_COLUMNS * side, number // SHEET_COLUMNS * (side + 2 * CAPTION_PX)
        sheet.paste(Image.fromarray(crop.pixels), (x, y + CAPTION_PX))
        draw.text((x + 2, y + 4), crop.label, fill="black")
        draw.text((x + 2, y + CAPTION_PX + side + 2), verdict, fill="darkgreen" if verdict == crop.label else "red")
    return sheet


def train(
    config: Path, *, data: Sequence[Path], out: Path, overrides: Sequence[str] = (), resume: bool = False
) -> None:
    """Trains the crop judge; its folder ends in `out/export`.

    Args:
        config: YAML of a `CropJudgeConfig`.
        data: corpus folder; just one.
        out: run folder.
        overrides: `a.b=c` settings.
        resume: go on from the newest snapshot in `out`.

    Raises:
        UserError: config, corpus, features or snapshot cannot be used.
    """
    settings = load_config(CropJudgeConfig, config, overrides)
    torch.set_num_threads(settings.fit.threads)
    task = CropTask(settings, Corpus.only(data), EfficientNetTrunk.load())
    out.mkdir(parents=True, exist_ok=True)
    save_config(settings, out / "config.yaml")
    fit(task, settings.fit, out, resume=resume)


if __name__ == "__main__":
    train(Path(sys.argv[1]), data=[Path(sys.argv[2])], out=Path(sys.argv[3]))
