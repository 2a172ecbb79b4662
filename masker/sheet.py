"""Sample sheets: what a training has learned so far, as one PNG of validation objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from masker.codec import MaskCodec, MaskVAE
from masker.examples import ExampleSource, MaskExample
from masker.guides import FORMS
from masker.model import Conditions, Kept, MaskModel, SilhouetteModel
from masker.sampling import sample_masks
from masker.sources import MixedSource
from masker.stage_config import MaskerConfig
from runtime.seeding import numpy_rng, torch_generator
from scene.layout import label_colour
from scene.seeds import derive_seed

TILE_PX = 128
CODEC_MASKS = 48
SHEET_LABELS = 10
CAPTION_PX = 110
SHEET_CODES = 3


def _grey(values: np.ndarray) -> np.ndarray:
    return np.repeat((values.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def _tile(values: np.ndarray) -> np.ndarray:
    """uint8 (R, R, 3) brought to `TILE_PX`, with a thin grey border."""
    values = values[:: max(len(values) // TILE_PX, 1), :: max(len(values) // TILE_PX, 1)]
    zoom = max(TILE_PX // len(values), 1)
    large = values.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return np.pad(large, ((1, 1), (1, 1), (0, 0)), constant_values=128)


def _save(rows: list[np.ndarray], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=0)).save(path)


def codec_sheet(codec: MaskVAE, source: MixedSource, path: Path) -> float:
    """Pairs of validation mask and reconstruction, eight pairs a row.

    Returns:
        Mean IoU of the shown masks.
    """
    masks = np.stack([source.mask_only(sample) for sample in range(CODEC_MASKS)])
    with torch.no_grad():
        mean, _ = codec.posterior(torch.from_numpy(masks)[:, None])
        soft = codec.decode_raw(mean).sigmoid()[:, 0].numpy()
    tiles = [np.concatenate([_tile(_grey(m)), _tile(_grey(s))], axis=1) for m, s in zip(masks, soft, strict=True)]
    _save([np.concatenate(tiles[i : i + 8], axis=1) for i in range(0, CODEC_MASKS, 8)], path)
    union = ((masks > 0.5) | (soft > 0.5)).sum((1, 2))
    return float((((masks > 0.5) & (soft > 0.5)).sum((1, 2)) / np.maximum(union, 1)).mean())


def denoiser_sheet(
    model: MaskModel,
    codec: MaskCodec,
    task_conditions: Callable[[Sequence[MaskExample]], Conditions],
    source: ExampleSource,
    config: MaskerConfig,
    path: Path,
) -> dict[str, float]:
    """Validation objects, one a row: label, then layout, guide, prediction and truth for each form of guidance.

    Mask-free samples see the whole canvas, guided ones a window round the object.

    Args:
        model: The mask model, in evaluation mode.
        codec: The mask codec.
        task_conditions: Turns examples into the network's conditions.
        source: Validation examples.
        config: Sampling and diffusion settings.
        path: PNG to write.

    Returns:
        Mean IoU in the view per form.
    """
    examples = [example for number in sheet_objects(source) for example in forms_of_object(source, number)]
    shape = (len(examples), codec.latent_channels, codec.latent_size, codec.latent_size)
    generator = torch_generator(derive_seed(source.seed, "sheet"))
    noise = torch.randn(shape, generator=generator)
    codes = torch.randn(len(examples), 1, model.code_width, generator=generator)
    sampling = config.sampling
    scale = [sampling.free_temperature if example.form == "none" else sampling.temperature for example in examples]
    noise = noise * torch.tensor(scale).view(-1, 1, 1, 1)
    seen = sample_masks(
        model,
        model.draw_codes(task_conditions(examples), codes),
        noise,
        sampling.weights,
        config.diffusion,
        sampling,
        [True] * len(examples),
    )
    soft = np.stack([mask.numpy() for mask in seen])
    rows = []
    for start in range(0, len(examples), len(FORMS)):
        group = examples[start : start + len(FORMS)]
        tiles = [_caption(group[0].label, TILE_PX + 2)]
        for example, mask in zip(group, soft[start : start + len(FORMS)], strict=True):
            tiles += [_tile(_layout(example, source)), _tile(_grey(example.guide))]
            tiles += [_tile(_grey(mask)), _tile(_grey(example.target))]
        rows.append(np.concatenate(tiles, axis=1))
    _save(rows, path)
    return {
        form: float(np.mean([_iou(soft[i], examples[i].target) for i in range(j, len(examples), len(FORMS))]))
        for j, form in enumerate(FORMS)
    }


def silhouette_sheet(
    model: SilhouetteModel,
    task_conditions: Callable[[Sequence[MaskExample]], Conditions],
    source: ExampleSource,
    path: Path,
) -> None:
    """Validation objects, one a row: label, then guide, drawn silhouettes and truth for each form of guidance."""
    rows = []
    width, generator = model.whole.code_width, torch_generator(derive_seed(source.seed, "sheet codes"))
    for number in sheet_objects(source):
        examples = [example for example in forms_of_object(source, number) if example.form != "none"]
        everything = torch.ones(len(examples), dtype=torch.bool)
        conditions, drawn = task_conditions(examples), []
        for _ in range(SHEET_CODES if width else 1):
            noise = torch.randn(len(examples), 1, width, generator=generator)
            with torch.no_grad():
                logits, _ = model(model.whole.draw_codes(conditions, noise), Kept(everything, everything, everything))
            drawn.append(logits.sigmoid()[:, 0].numpy())
        tiles = [_caption(examples[0].label, TILE_PX + 2)]
        for example, *silhouettes in zip(examples, *drawn, strict=True):
            tiles += [_tile(_grey(part)) for part in (example.guide, *silhouettes, example.target)]
        rows.append(np.concatenate(tiles, axis=1))
    _save(rows, path)


def sheet_objects(source: ExampleSource) -> list[tuple[int, int]]:
    """(record, layer) of the first visible object of each of `SHEET_LABELS` labels, spread over the vocabulary."""
    found: dict[str, tuple[int, int]] = {}
    for number, record in enumerate(source.records):
        for k, layer in enumerate(record.layers):
            if layer.label not in found and source.canvas_box(layer) is not None:
                found[layer.label] = (number, k)
    labels = [label for label in source.labels[1:] if label in found]
    picked = [labels[round(i)] for i in np.linspace(0, len(labels) - 1, min(SHEET_LABELS, len(labels)))]
    return [found[label] for label in picked]


def forms_of_object(source: ExampleSource, number: tuple[int, int]) -> list[MaskExample]:
    """One object under the four forms, as the sampler would see it."""
    record, k = source.records[number[0]], number[1]
    return [
        source.build(record, k, form, numpy_rng(derive_seed(source.seed, "sheet", number[0], k, form)))
        for form in FORMS
    ]


def _iou(soft: np.ndarray, truth: np.ndarray) -> float:
    first, second = soft > 0.5, truth > 0.5
    union = int((first | second).sum())
    return float((first & second).sum() / union) if union else 1.0


def _layout(example: MaskExample, source: ExampleSource) -> np.ndarray:
    colours = [(255, 255, 255), *(label_colour(label) for label in source.labels[1:])]
    return np.asarray(colours, dtype=np.uint8)[example.index]


def _caption(text: str, height: int) -> np.ndarray:
    picture = Image.new("RGB", (CAPTION_PX, height), "white")
    ImageDraw.Draw(picture).text((4, height // 2 - 8), text, fill="black")
    return np.asarray(picture)
