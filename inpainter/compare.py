"""The ways to draw a whole scene, compared with the same weights, and whether the background drifts."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
from tqdm import tqdm

from inpainter.controlnet_inpaint import ControlNetInpainter
from inpainter.judging import Judges, object_crop
from inpainter.measures import normalised_change
from inpainter.scenes import render_layers
from scene.corpus.records import SceneRecord
from scene.corpus.store import Corpus
from scene.layers import Layer, LayeredScene
from scene.seeds import StepSeed, derive_seed

MODES = ("per_object", "layout_first", "all_at_once")
VISIBLE_FRAC = 0.5  # objects that show less of themselves in the finished scene are not looked at
INSERTIONS, DRIFT_SCENES = 20, 2


def compare_modes(
    inpainter: ControlNetInpainter,
    corpus: Corpus,
    records: Sequence[SceneRecord],
    seed: int,
    *,
    judging: Callable[[Sequence[np.ndarray], Sequence[str]], Judges],
    progress: bool = True,
) -> dict[str, Any]:
    """Draws scenes from their real masks in three ways.

    `per_object`: one object after the other into the picture. `layout_first`: all layers back to front, in groups.
    `all_at_once`: the surfaces as before, then all objects in one pass: the union of their masks and the whole prompt.

    Args:
        inpainter: the model.
        corpus, records: the scenes to draw.
        seed: of the drawings.
        judging: crops of the objects as they really look, and their labels -> the judges of their drawings.
        progress: show a bar on stderr.

    Returns:
        Per mode the judges' report and `seconds_per_scene`; `same_pixels`: share of scenes in which the first two
        modes agree to the bit; `scenes` and `objects`: how many.
    """
    crops: dict[str, list[np.ndarray]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    real, labels, same = [], [], 0
    for number, record in enumerate(tqdm(records, disable=not progress, unit="scene")):
        scene = sketch(corpus, record)
        pictures = {}
        for mode in MODES:
            begun = time.monotonic()
            pictures[mode] = _draw(inpainter, corpus, scene, mode, derive_seed(seed, "modes", number))
            seconds[mode] += time.monotonic() - begun
        same += np.array_equal(pictures["per_object"], pictures["layout_first"])
        truth = corpus.painted(record.layers)
        for layer, visible in zip(scene.layers, scene.visible_masks(), strict=True):
            if _is_surface(corpus, layer.label) or visible.sum() < VISIBLE_FRAC * layer.mask.sum():
                continue
            labels.append(layer.label)
            real.append(object_crop(truth, layer.mask))
            for mode in MODES:
                crops[mode].append(object_crop(pictures[mode], layer.mask))
    report: dict[str, Any] = {"scenes": len(records), "objects": len(labels)}
    if not labels:
        return report
    judges = judging(real, labels)
    report["same_pixels"] = same / len(records)
    for mode in MODES:
        report[mode] = {**judges.report(crops[mode]), "seconds_per_scene": round(seconds[mode] / len(records), 3)}
    return report


def sketch(corpus: Corpus, record: SceneRecord) -> LayeredScene:
    """A record's layers with their real masks and without pixels."""
    masks = [corpus.mask(layer) for layer in record.layers]
    layers = tuple(
        Layer(number + 1, layer.label, layer.description, mask)
        for number, (layer, mask) in enumerate(zip(record.layers, masks, strict=True))
        if mask.any()
    )
    return LayeredScene(corpus.size, record.prompts[0] if record.prompts else "", layers)


def _draw(inpainter: ControlNetInpainter, corpus: Corpus, scene: LayeredScene, mode: str, seed: int) -> np.ndarray:
    if mode == "layout_first":
        return render_layers(inpainter, scene, lambda layer: StepSeed(seed, layer.id)).image
    image = np.full((*scene.size.shape, 3), 255, np.uint8)
    union = np.zeros(scene.size.shape, bool)
    for layer in scene.layers:
        if mode == "all_at_once" and not _is_surface(corpus, layer.label):
            union |= layer.mask
        else:
            image = inpainter.render(
                image, layer.mask, layer.label, layer.description, scene.prompt, seed=StepSeed(seed, layer.id)
            )
    if union.any():
        image = inpainter.render(image, union, scene.prompt, scene.prompt, scene.prompt, seed=StepSeed(seed, 0))
    return image


def _is_surface(corpus: Corpus, label: str) -> bool:
    return corpus.vocabulary.kind(label) == "surface"


def drift(inpainter: ControlNetInpainter, corpus: Corpus, records: Sequence[SceneRecord], seed: int) -> float:
    """Normalised change of the pixels that no mask ever covered, after 20 insertions into a real scene.

    Args:
        inpainter: the model.
        corpus, records: scenes, and objects whose masks are inserted into the first two.
        seed: of the drawings.

    Returns:
        The largest over the scenes; 0 when nothing drifts.
    """
    objects = (
        layer for record in records[DRIFT_SCENES:] for layer in record.layers
        if not _is_surface(corpus, layer.label) and corpus.box(layer) is not None
    )  # fmt: skip
    worst = 0.0
    for number, record in enumerate(records[:DRIFT_SCENES]):
        start = corpus.painted(record.layers)
        image, touched = start, np.zeros(corpus.size.shape, bool)
        for step, layer in enumerate(islice(objects, INSERTIONS)):
            mask = corpus.mask(layer)
            image = inpainter.render(
                image, mask, layer.label, layer.description, "", seed=StepSeed(derive_seed(seed, "drift", number), step)
            )
            touched |= mask
        worst = max(worst, normalised_change(start, image, ~touched))
    return worst
