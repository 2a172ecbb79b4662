"""`smartscene evaluate masker`: IoU with the true masks under each form of guidance, beside three baselines."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from masker.baselines import Silhouettes, fill_box
from masker.config import ExamplesConfig
from masker.examples import MIN_AREA_PX
from masker.guides import FORMS, GuideForm, dilate_cells
from masker.smartmask import SmartMask, guide_box
from masker.windows import sample_coverage, to_canvas, window_round
from runtime.seeding import numpy_rng
from scene.corpus.records import SceneRecord
from scene.corpus.store import Corpus
from scene.errors import ModelError
from scene.geometry import Box, Size
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.seeds import StepSeed, derive_seed

SCRIBBLE_CELLS = 256  # resolution at which true masks become scribbles
DIVERSITY_DRAWS = 4
DIVERSITY_EVERY = 8  # every 8th object is drawn several times mask-free


@dataclass(frozen=True)
class Case:
    """One object of one scene: layers below `k` are there, layer `k` is to be predicted."""

    record: SceneRecord
    k: int
    truth: np.ndarray
    box: Box


def evaluate(
    pretrained: Path,
    *,
    data: Sequence[Path],
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures a masker folder on held-out scenes.

    Args:
        pretrained: Exported masker folder.
        data: Corpus folder.
        split: val for tuning, test for the record.
        limit: Number of objects (movable ones only), drawn once by `seed`; None = all.
        seed: Of the draw, the guides and the model.
        progress: Draw a bar on stderr.

    Returns:
        `iou` per form of guidance, `iou_median`, `empty` (share without any mask), `diversity_pairwise_iou`,
        `seconds_per_mask`, and `baselines` with `iou` each. Mask-free IoU compares with the one place where
        the human put it, so it says how predictable places are, not how good they look.

    Raises:
        UserError: weights or corpus cannot be read.
    """
    started = time.monotonic()
    corpus = Corpus.only(data)
    model = SmartMask.from_pretrained(pretrained)
    cases = choose_cases(corpus, split, limit, seed)
    silhouettes = Silhouettes(corpus)
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    spent_s, masks, empty, pairs = 0.0, 0, 0, []
    for number, case in enumerate(tqdm(cases, unit="object", disable=not progress)):
        scene = corpus.scene(case.record, case.k)
        label = case.record.layers[case.k].label
        for form in FORMS:
            guidance = true_guide(case, form, corpus.size, seed)
            begun = time.monotonic()
            count = DIVERSITY_DRAWS if form == "none" and number % DIVERSITY_EVERY == 0 else 1
            found = _predict(model, scene, case, guidance, count, StepSeed(seed, number))
            spent_s += time.monotonic() - begun
            masks += count
            empty += not found
            scores["model"][form].append(iou(found[0], case.truth) if found else 0.0)
            pairs += [iou(first, second) for first, second in combinations(found, 2)]
            if guidance is not None:
                box = case.box if form == "box" else guide_box(guidance)
                for name, mask in _baseline_masks(silhouettes, label, box, corpus.size).items():
                    scores[name][form].append(iou(mask, case.truth))
                if form != "box":
                    scores["fill_guide"][form].append(iou(guidance.map > 0.5, case.truth))
    baselines = {
        name: {"iou": _means(scores[name])}
        for name in ("fill_box", "mean_silhouette", "nearest_silhouette", "fill_guide")
    }
    result: dict[str, Any] = {
        "corpus": corpus.name,
        "split": split,
        "n": len(cases),
        "iou": _means(scores["model"]),
        "iou_median": {form: float(np.median(values)) for form, values in scores["model"].items()},
        "iou_by_kind": _by_kind(scores["model"], cases, corpus),
        "empty": empty / max(len(cases) * len(FORMS), 1),
        "seconds_per_mask": spent_s / max(masks, 1),
        "seconds": time.monotonic() - started,
        "command": f"smartscene evaluate masker --data {corpus.path} --split {split}"
        + (f" --limit {limit}" if limit is not None else ""),
        "baselines": baselines,
    }
    if pairs:
        result["diversity_pairwise_iou"] = float(np.mean(pairs))
    return result


def choose_cases(corpus: Corpus, split: str, limit: int | None, seed: int) -> list[Case]:
    """Movable objects that show on the canvas, in an order drawn by `seed`."""
    places = [
        (record, k)
        for record in corpus.records(split)
        for k, layer in enumerate(record.layers)
        if corpus.vocabulary.kind(layer.label) != "surface"
    ]
    order = numpy_rng(derive_seed(seed, "evaluate masker", split)).permutation(len(places))
    cases: list[Case] = []
    for position in order:
        if limit is not None and len(cases) >= limit:
            break
        record, k = places[int(position)]
        truth = corpus.mask(record.layers[k])
        box = Box.from_mask(truth)
        if box is not None and int(truth.sum()) >= MIN_AREA_PX:
            cases.append(Case(record, k, truth, box))
    return cases


def true_guide(case: Case, form: GuideForm, size: Size, seed: int) -> Guidance | None:
    """A guide made from the true mask: the exact box, or blob and scribble drawn as in training."""
    if form == "none":
        return None
    if form == "box":
        return Guidance.from_box(case.box, size)
    config = ExamplesConfig()
    rng = numpy_rng(derive_seed(seed, "evaluation guide", case.record.id, case.k, form))
    if form == "blob":
        ys, xs = np.nonzero(case.truth)
        jitter = rng.uniform(-config.blob_jitter, config.blob_jitter, 2)
        ratio = rng.uniform(*config.blob_sigma)
        center_x = float(xs.mean()) + 0.5 + jitter[0] * case.box.width
        center_y = float(ys.mean()) + 0.5 + jitter[1] * case.box.height
        return Guidance.from_blob(center_x, center_y, ratio * case.box.width, ratio * case.box.height, size)
    window = window_round(case.box, 2.0, size)
    radius = rng.uniform(*config.scribble_radius)
    cells = sample_coverage(case.truth, window, SCRIBBLE_CELLS, supersample=1)
    drawn = dilate_cells(cells, radius, config.scribble_noise, rng)
    return Guidance.from_scribble(to_canvas(drawn, window, size) > 0.5)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two bool masks; 1 where both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0


def _predict(
    model: SmartMask, scene: LayeredScene, case: Case, guidance: Guidance | None, count: int, seed: StepSeed
) -> list[np.ndarray]:
    layer = case.record.layers[case.k]
    try:
        found = model.predict(
            scene, layer.label, layer.description, scene.prompt, guidance=guidance, count=count, seed=seed
        )
    except ModelError:
        return []
    # With several draws, the first one (not the best ranked) enters the mean, so that every object counts alike.
    return [c.mask for c in sorted(found, key=lambda c: c.details["candidate"])]


def _baseline_masks(silhouettes: Silhouettes, label: str, box: Box, size: Size) -> dict[str, np.ndarray]:
    return {
        "fill_box": fill_box(box, size),
        "mean_silhouette": silhouettes.mean(label, box, size),
        "nearest_silhouette": silhouettes.nearest(label, box, size),
    }


def _means(values: dict[str, list[float]]) -> dict[str, float]:
    return {form: float(np.mean(numbers)) for form, numbers in values.items() if numbers}


def _by_kind(scores: dict[str, list[float]], cases: Sequence[Case], corpus: Corpus) -> dict[str, dict[str, float]]:
    kinds = [corpus.vocabulary.kind(case.record.layers[case.k].label) for case in cases]
    return {
        kind: {
            form: float(np.mean([value for value, other in zip(values, kinds, strict=True) if other == kind]))
            for form, values in scores.items()
        }
        for kind in sorted(set(kinds))
    }
