"""Stage 0: the vision tower learns to read layout pictures before it meets the language model.

LLaVA starts from a CLIP tower that already sees; ours starts from nothing, and a language model is a slow teacher of
sight. So the tower is first trained on a dense task: every patch token predicts how much of its cell each category
covers. With `align`, the projector learns at the same time to map every patch token to the words for what its cell
shows: the mean of the language model's own embeddings of the labels there, weighted by their shares; so the language
model meets pictures in a language that it knows. (A detection task with one query per category, 9000 samples, learnt
little more than the prior: docs/experiments/planner.md.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from planner.examples import PlanSource
from planner.language_model import load_config, load_state, load_tokenizer, prepare
from planner.llava import VisionConfig, build_projector, pixel_values
from planner.pictures import label_cells, layer_cells, layout_steps, place_cells
from runtime.config import Config
from runtime.training import FitConfig
from runtime.weights import save_weights
from scene.corpus.store import Corpus
from scene.seeds import derive_seed

PLACE_WAVES = 3


class VisionTrainConfig(Config):
    """Root config of the vision stage of `smartscene train planner` (configs/planner/vision.yaml)."""

    stage: Literal["vision"] = "vision"
    vision: VisionConfig = VisionConfig()
    align: bool = False
    """Train the projector, too: patch tokens become the label embeddings of what they show."""
    align_weight: float = 1.0
    """Weight of that loss (share of the embeddings' variance left unexplained) beside the nats per cell."""
    places: bool = False
    """With `align`: patch tokens also say where the thing that shows most in their cell begins and ends, see
    `PlaceCode`. A token that says what is there and not where leaves a language model no way to tell where it is."""
    fit: FitConfig = FitConfig(batch_size=32, total_samples=30_000, learning_rate=1e-3, ema_decay=None)
    seed: int = 0
    """Data order and initial weights."""


def build_tower(vision: VisionConfig, seed: int) -> nn.Module:
    """A freshly initialised `CLIPVisionModel`."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=vision.hidden,
        intermediate_size=4 * vision.hidden,
        num_hidden_layers=vision.layers,
        num_attention_heads=vision.heads,
        image_size=vision.image_size_px,
        patch_size=vision.patch_size_px,
        projection_dim=vision.hidden,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPVisionModel(config)


class CellReader(nn.Module):
    """Tower with one linear reading per patch; the reading is thrown away after stage 0.

    Args:
        tower: a `CLIPVisionModel`.
        vision: its shape.
        classes: number of categories, empty canvas included.
        seed: initialises the reading.
        projector: LLaVA's, trained along; None = the tower alone.
    """

    def __init__(
        self, tower: nn.Module, vision: VisionConfig, classes: int, seed: int = 0, projector: nn.Module | None = None
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.tower, self.projector = tower, projector
            self.norm = nn.LayerNorm(vision.hidden)
            self.head = nn.Linear(vision.hidden, classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, patches, classes) and, with a projector, LM embeddings (B, patches, D) of pixels (B, 3, S, S)."""
        # The same layer as LLaVA's `vision_feature_layer=-1`: before the tower's final norm, class token dropped.
        patches = self.tower(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]
        return self.head(self.norm(patches)), self.projector(patches) if self.projector is not None else None


def label_embeddings(classes: Sequence[str]) -> Tensor:
    """The language model's embedding of each label, mean over its tokens: float32 (classes, D)."""
    tokenizer, weights = load_tokenizer(prepare()), load_state(prepare())["model.embed_tokens.weight"]
    ids = [tokenizer.encode(f" {label}", add_special_tokens=False).ids for label in classes]
    return torch.stack([weights[each].float().mean(0) for each in ids])


class PlaceCode(nn.Module):
    """Boxes as directions in the language model's space: waves of the four coordinates through a fixed random matrix.

    Args:
        width: D.
        length: of a code, about that of a label's embedding.
        seed: of the matrix.
    """

    def __init__(self, width: int, length: float, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        count = 8 * PLACE_WAVES
        self.matrix: Tensor
        self.register_buffer(
            "matrix", torch.randn(count, width, generator=generator) * length / (count / 2 * width) ** 0.5
        )

    def forward(self, places: Tensor) -> Tensor:
        """Codes (..., D) of boxes (..., 4) in shares of the canvas; 0 where a box is negative."""
        waves = torch.pi * places[..., None] * torch.arange(1, PLACE_WAVES + 1)
        code: Tensor = torch.cat([waves.sin(), waves.cos()], dim=-1).flatten(-2) @ self.matrix
        return code * (places[..., :1] >= 0)


class VisionTask:
    """`runtime.training.TrainingTask` of stage 0."""

    def __init__(self, config: VisionTrainConfig, corpus: Corpus, split: str = "train") -> None:
        self.config, self.corpus = config, corpus
        self.source = PlanSource(corpus, split)
        self.classes = (*corpus.labels, "empty")
        self.surfaces = {label for label in corpus.labels if corpus.vocabulary.kind(label) == "surface"}
        seed = derive_seed(config.seed, "tower") % 2**32
        tower, projector = build_tower(config.vision, seed), None
        self.embeddings: Tensor | None = None
        if config.align:
            self.embeddings = label_embeddings(self.classes)
            length = float(self.embeddings.norm(dim=1).mean())
            self.place_code = PlaceCode(self.embeddings.shape[1], length, derive_seed(config.seed, "places") % 2**32)
            projector = build_projector(load_config(prepare()), config.vision, seed)
        self.model: nn.Module = CellReader(tower, config.vision, len(self.classes), config.seed, projector)

    def example(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Layout picture uint8 (H, W, 3), cell shares (patches, classes) and places (patches, 4) of global sample
        `number`."""
        record, plan, rng = self.source.sampled(number, self.config.seed)
        steps = rng.randint(0, len(plan.objects))
        layers = [record.layers[position] for position in plan.layers[:steps]]
        *_, picture = layout_steps(self.corpus, layers)
        side = self.config.vision.image_size_px // self.config.vision.patch_size_px
        shown = layer_cells(self.corpus, layers, side)
        shares = label_cells(self.corpus, layers, shown)
        return picture, shares, place_cells(self.corpus, layers, shown, self.surfaces)

    def batch(self, samples: Sequence[int]) -> dict[str, Tensor]:
        """pixels (B, 3, S, S), shares (B, patches, classes) and places (B, patches, 4)."""
        examples = [self.example(number) for number in samples]
        return {
            "pixels": torch.stack([pixel_values(picture, self.config.vision) for picture, _, _ in examples]),
            "shares": torch.from_numpy(np.stack([shares for _, shares, _ in examples])),
            "places": torch.from_numpy(np.stack([places for _, _, places in examples])),
        }

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Kullback-Leibler divergence of predicted from true shares, in nats per cell."""
        shares = batch["shares"]
        logits, words = model(batch["pixels"])
        logs = logits.log_softmax(-1)
        divergence = nn.functional.kl_div(logs, shares, reduction="none").sum(-1).mean()
        predicted = logs.detach().exp()
        overlap = torch.minimum(predicted, shares).sum(-1).mean()
        small = (shares > 0.02) & (shares < 0.9)
        found = ((predicted > 0.01) & small).sum() / small.sum().clamp(min=1)
        facts = {"overlap": float(overlap), "objects_found": float(found)}
        if self.embeddings is not None:
            wanted = shares @ self.embeddings
            if self.config.places:
                wanted = wanted + self.place_code(batch["places"])
            unexplained = (words - wanted).square().mean() / wanted.var()
            return divergence + self.config.align_weight * unexplained, facts | {
                "unexplained": float(unexplained.detach())
            }
        return divergence, facts

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Four pictures; in each cell what the tower sees there beside sky and grass."""
        tiles = []
        side = self.config.vision.image_size_px // self.config.vision.patch_size_px
        for number in range(4):
            picture, _, _ = self.example(number)
            shares = model(pixel_values(picture, self.config.vision)[None])[0][0].softmax(-1).numpy()
            image = Image.fromarray(picture)
            draw = ImageDraw.Draw(image)
            for cell, row in enumerate(shares):
                seen = [f"{self.classes[i]} {row[i]:.2f}" for i in np.argsort(-row)[:4] if row[i] > 0.04]
                x, y = cell % side * image.width // side, cell // side * image.height // side
                draw.multiline_text((x + 3, y + 3), "\n".join(seen), fill=(0, 0, 0))
            tiles.append(np.asarray(image))
        Image.fromarray(np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)])).save(path)

    def export(self, model: nn.Module, out: Path) -> None:
        """Write `tower.safetensors` and, where it was trained, `projector.safetensors`."""
        out.mkdir(parents=True, exist_ok=True)
        save_weights(model.tower, out / "tower.safetensors")  # type: ignore[arg-type]
        if model.projector is not None:
            save_weights(model.projector, out / "projector.safetensors")  # type: ignore[arg-type]
