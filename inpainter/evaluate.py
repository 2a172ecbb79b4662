"""`smartscene evaluate inpainter`: draws objects of held-out scenes into their real masks, against the real render.

No network judges here: the feature space is `colour_gradient_pyramid_l1`, which this file defines in full.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from scene.corpus.records import SceneRecord
from scene.corpus.store import MASK_ALPHA, Corpus
from scene.geometry import Box
from scene.layers import composite
from scene.seeds import StepSeed, derive_seed

FEATURE_SPACE = "colour_gradient_pyramid_l1"
PYRAMID_LEVELS = 4

Render = Callable[[np.ndarray, np.ndarray, str, str, str, StepSeed], np.ndarray]


@dataclass(frozen=True, eq=False)
class Case:
    """One object to draw.

    Attributes:
        image: uint8 (H, W, 3), the layers behind it.
        mask: bool (H, W), its real amodal mask.
        truth: uint8 (H, W, 3), `image` with the real object.
        label, description, context: words.
        kind: the label's kind in the vocabulary.
        seed: for the drawing.
    """

    image: np.ndarray
    mask: np.ndarray
    truth: np.ndarray
    label: str
    description: str
    context: str
    kind: str
    seed: StepSeed


def cases(corpus: Corpus, records: Sequence[SceneRecord], limit: int | None, seed: int) -> Iterator[Case]:
    """One random layer of every scene, in a random but fixed order of scenes; masks of under 30 pixels are skipped."""
    order = np.random.default_rng(derive_seed(seed, "inpainter-cases")).permutation(len(records))
    made = 0
    for index in order:
        if limit is not None and made >= limit:
            return
        record = records[int(index)]
        k = derive_seed(seed, "inpainter-case-layer", record.id) % len(record.layers)
        layer = record.layers[k]
        rgba = corpus.rgba(layer)
        mask = rgba[..., 3] > 0
        if mask.sum() < 30:
            continue
        image = corpus.scene(record, k).image
        made += 1
        yield Case(
            image,
            mask,
            composite(image, rgba),
            layer.label,
            layer.description,
            record.prompts[0] if record.prompts else "",
            corpus.vocabulary.kind(layer.label),
            StepSeed(seed, int(index)),
        )


def pyramid_distance(output: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """`colour_gradient_pyramid_l1`: mean over levels of L1 of colour differences plus L1 of their gradients.

    Colours are in [0, 1]. Level 0 is the difference of the two pictures inside the mask, on the canvas; each further
    level halves it by averaging, and a pixel weighs as much of it as the mask covers. Flat colour of the right hue
    scores well on the first half and badly on the second, so outlines and faces count.

    Args:
        output, truth: uint8 (H, W, 3).
        mask: bool (H, W), not empty.

    Returns:
        0 for equal pictures; there is no upper bound of 1.
    """
    box = Box.from_mask(mask)
    assert box is not None
    here = (slice(box.y0, box.y1), slice(box.x0, box.x1))
    weight = mask[here].astype(np.float32)
    difference = (output[here].astype(np.float32) - truth[here]) / 255 * weight[..., None]
    total, levels = 0.0, 0
    while levels < PYRAMID_LEVELS and min(weight.shape) >= 2:
        share = float(weight.sum()) * 3
        total += float(np.abs(difference).sum()) / share
        total += float(np.abs(np.diff(difference, axis=0)).sum() + np.abs(np.diff(difference, axis=1)).sum()) / share
        difference, weight = _halve(difference), _halve(weight)
        levels += 1
        if weight.sum() <= 0:
            break
    return total / max(levels, 1)


def _halve(array: np.ndarray) -> np.ndarray:
    """Averages 2 x 2 blocks; an odd last row or column is left out."""
    rows, columns = array.shape[0] // 2 * 2, array.shape[1] // 2 * 2
    trimmed = array[:rows, :columns]
    return (trimmed[::2, ::2] + trimmed[1::2, ::2] + trimmed[::2, 1::2] + trimmed[1::2, 1::2]) / 4


def measure(case: Case, output: np.ndarray) -> dict[str, float]:
    """All numbers of one drawing, named as in the report."""
    difference = (output.astype(np.float64) - case.image) / 255
    error = (output.astype(np.float64) - case.truth) / 255
    box = Box.from_mask(case.mask)
    assert box is not None
    in_box = np.zeros_like(case.mask)
    in_box[box.y0 : box.y1, box.x0 : box.x1] = True
    ring = case.mask & ~ndimage.binary_erosion(case.mask)
    inside = float((error[case.mask] ** 2).mean())
    return {
        "l2_outside": _rms(difference[~case.mask]),
        "l2_in_box_outside_mask": _rms(difference[in_box & ~case.mask]),
        "inside_feature_distance": pyramid_distance(output, case.truth, case.mask),
        "inside_l2": inside**0.5,
        "inside_psnr_db": 10 * float(np.log10(1 / max(inside, 1e-9))),
        "seam": float(np.abs(error[ring]).mean()),
    }


def _rms(values: np.ndarray) -> float:
    return float((values**2).mean() ** 0.5) if values.size else 0.0


def mean_colours(corpus: Corpus, records: Sequence[SceneRecord]) -> dict[str, np.ndarray]:
    """Mean training colour of every label, uint8 (3,), over all opaque pixels of all its occurrences."""
    count: dict[int, int] = defaultdict(int)
    example = {}
    for record in records:
        for layer in record.layers:
            count[layer.asset] += 1
            example[layer.asset] = layer
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(4))
    for asset, times in count.items():
        picture, _, _ = corpus.asset(example[asset])
        opaque = picture[picture[..., 3] >= MASK_ALPHA][:, :3].astype(np.float64)
        sums[example[asset].label] += times * np.append(opaque.sum(axis=0), len(opaque))
    return {label: np.round(s[:3] / max(s[3], 1)).astype(np.uint8) for label, s in sums.items()}


def flat_colour(colours: dict[str, np.ndarray]) -> Render:
    """Baseline `flat_colour`: the label's mean training colour fills the mask."""

    def render(
        image: np.ndarray, mask: np.ndarray, label: str, description: str, context: str, seed: StepSeed
    ) -> np.ndarray:
        return np.where(mask[..., None], colours.get(label, np.uint8(128)), image)

    return render


def mean_surround(
    image: np.ndarray, mask: np.ndarray, label: str, description: str, context: str, seed: StepSeed
) -> np.ndarray:
    """Baseline `mean_surround`: the mean colour round the mask (box grown by a fifth, mask left out) fills it."""
    box = Box.from_mask(mask)
    assert box is not None
    around = box.expand(0.2)
    rows, columns = slice(max(around.y0, 0), around.y1), slice(max(around.x0, 0), around.x1)
    outside = image[rows, columns][~mask[rows, columns]]
    colour = outside.mean(axis=0) if len(outside) else np.full(3, 255.0)
    return np.where(mask[..., None], np.round(colour).astype(np.uint8), image)


def evaluate(
    pretrained: Path,
    *,
    data: Sequence[Path],
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Draws one object of every scene of a split and measures it against the real render.

    Args:
        pretrained: the inpainter's weight folder.
        data: corpus folder; just one.
        split: train, val, test or all.
        limit: at most so many objects; None = one of every scene.
        seed: picks the objects and seeds the drawings.
        progress: show a bar on stderr.

    Returns:
        The report: means over objects; `by_kind` splits them, `baselines` has the same keys.
    """
    from tqdm import tqdm

    from inpainter.controlnet_inpaint import ControlNetInpainter

    started = time.monotonic()
    corpus = Corpus.only(data)
    inpainter = ControlNetInpainter.from_pretrained(pretrained)
    records = corpus.records(split)
    colours = mean_colours(corpus, corpus.records("train"))

    def ours(
        image: np.ndarray, mask: np.ndarray, label: str, description: str, context: str, seed: StepSeed
    ) -> np.ndarray:
        return inpainter.render(image, mask, label, description, context, seed=seed)

    methods: dict[str, Render] = {
        "ours": ours,
        "flat_colour": flat_colour(colours),
        "mean_surround": mean_surround,
    }
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    kinds: list[str] = []
    draw_s = 0.0
    total = len(records) if limit is None else min(limit, len(records))
    for case in tqdm(cases(corpus, records, limit, seed), total=total, disable=not progress, unit="object"):
        kinds.append(case.kind)
        for name, method in methods.items():
            begun = time.monotonic()
            output = method(case.image, case.mask, case.label, case.description, case.context, case.seed)
            if name == "ours":
                draw_s += time.monotonic() - begun
            rows[name].append(measure(case, output))
    report: dict[str, Any] = {
        "corpus": corpus.name,
        "split": split,
        "n": len(kinds),
        "feature_space": FEATURE_SPACE,
        **_means(rows["ours"]),
        "by_kind": {
            kind: {"n": kinds.count(kind), **_means([r for r, k in zip(rows["ours"], kinds, strict=True) if k == kind])}
            for kind in sorted(set(kinds))
        },
        "baselines": {name: _means(rows[name]) for name in methods if name != "ours"},
        "seconds_per_object": round(draw_s / max(len(kinds), 1), 3),
        "seconds": round(time.monotonic() - started, 1),
        "command": f"smartscene evaluate inpainter --data {corpus.path} --split {split}"
        + (f" --limit {limit}" if limit is not None else "")
        + f" --seed {seed} --json",
    }
    return report


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    if not rows:
        return {}
    return {name: round(float(np.mean([row[name] for row in rows])), 5) for name in rows[0]}
