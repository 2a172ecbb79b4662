"""`smartscene evaluate inpainter`: draws objects of held-out scenes into their real masks, against the real render.

Pixels are compared in `colour_gradient_pyramid_l1`, which this file defines in full; sets of crops in features of
EfficientNet-Lite0 (`perception.efficientnet`: not the Inception of the usual FID); objects are named by a classifier,
and matched with words by a text-image score (`perception.matching`: not CLIP), both of which learned on real crops.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from inpainter.compare import compare_modes, drift
from inpainter.controlnet_inpaint import ControlNetInpainter
from inpainter.judging import Judges, object_crop
from inpainter.measures import edge_jump, normalised_change
from perception.crops import CropJudge
from perception.efficientnet import FEATURES
from perception.matching import SCORE, TextImageScore
from runtime.assets import asset_dir
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
        record, k: the scene, and which of its layers the object is.
    """

    image: np.ndarray
    mask: np.ndarray
    truth: np.ndarray
    label: str
    description: str
    context: str
    kind: str
    seed: StepSeed
    record: SceneRecord
    k: int


def cases(corpus: Corpus, records: Sequence[SceneRecord], limit: int | None, seed: int) -> Iterator[Case]:
    """One random layer of every scene, in a random but fixed order of scenes; masks of under 30 pixels are skipped."""
    made = 0
    for index in _order(records, seed):
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
            record,
            k,
        )


def _order(records: Sequence[SceneRecord], seed: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(seed, "inpainter-cases")).permutation(len(records))


def _shuffled(records: Sequence[SceneRecord], seed: int) -> list[SceneRecord]:
    return [records[int(index)] for index in _order(records, seed)]


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
    error = (output.astype(np.float64) - case.truth) / 255
    box = Box.from_mask(case.mask)
    assert box is not None
    in_box = np.zeros_like(case.mask)
    in_box[box.y0 : box.y1, box.x0 : box.x1] = True
    ring = case.mask & ~ndimage.binary_erosion(case.mask)
    inside = float((error[case.mask] ** 2).mean())
    return {
        "l2_outside": normalised_change(case.image, output, ~case.mask),
        "l2_in_box_outside_mask": normalised_change(case.image, output, in_box & ~case.mask),
        "inside_feature_distance": pyramid_distance(output, case.truth, case.mask),
        "inside_l2": inside**0.5,
        "inside_psnr_db": 10 * float(np.log10(1 / max(inside, 1e-9))),
        "seam": edge_jump(output, case.mask),
        "seam_real": edge_jump(case.truth, case.mask),
        "edge_error": float(np.abs(error[ring]).mean()),
    }


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


def through(inpainter: ControlNetInpainter, coarsened: Callable[[np.ndarray], np.ndarray] | None = None) -> Render:
    """Drawing with the inpainter, in the exact mask or in a coarser one made of it."""

    def render(
        image: np.ndarray, mask: np.ndarray, label: str, description: str, context: str, seed: StepSeed
    ) -> np.ndarray:
        mask = mask if coarsened is None else coarsened(mask)
        return inpainter.render(image, mask, label, description, context, seed=seed)

    return render


def filled_box(mask: np.ndarray) -> np.ndarray:
    """`box`: the mask's whole box, as box-guided inpainting has it."""
    return np.outer(mask.any(axis=1), mask.any(axis=0))


def blurred(mask: np.ndarray) -> np.ndarray:
    """`blurred`: the mask with its outline lost, a Gaussian of 8 % of the box's longer side cut at a tenth."""
    box = Box.from_mask(mask)
    assert box is not None
    soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.08 * max(box.width, box.height))
    return np.asarray(soft > 0.1) | mask


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


@dataclass
class Method:
    """What is measured of one way to draw: numbers per object, crops of the drawings, seconds."""

    rows: list[dict[str, float]] = field(default_factory=list)
    crops: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, case: Case, output: np.ndarray) -> None:
        """Measures a drawing."""
        self.rows.append(measure(case, output))
        self.crops.append(object_crop(output, case.mask))


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
        limit: at most so many objects; None = one of every scene. A twentieth of it (at least two) whole scenes are
            drawn for `compared.modes`.
        seed: picks the objects and seeds the drawings.
        progress: show a bar on stderr.

    Returns:
        The report (docs/inpainter.md): means over objects; `by_kind` splits them, `baselines` and `compared` have the
        same keys.

    Raises:
        UserError: weights or corpus cannot be read.
    """
    started = time.monotonic()
    corpus = Corpus.only(data)
    inpainter = ControlNetInpainter.from_pretrained(pretrained)
    judge = CropJudge.from_pretrained(asset_dir("pretrained") / "judge" / "crops")
    judged = judge.labels if judge.world == corpus.name else ()
    score = TextImageScore.from_pretrained(asset_dir("pretrained") / "judge" / "match")
    matched = score if score.world == corpus.name else None
    records = corpus.records(split)
    renders: dict[str, Render] = {
        "ours": through(inpainter),
        "flat_colour": flat_colour(mean_colours(corpus, corpus.records("train"))),
        "mean_surround": mean_surround,
        "box_mask": through(inpainter, filled_box),
        "blurred_mask": through(inpainter, blurred),
    }
    methods = {name: Method() for name in renders}
    kinds, labels, texts, real = [], [], [], []
    total = len(records) if limit is None else min(limit, len(records))
    for case in tqdm(cases(corpus, records, limit, seed), total=total, disable=not progress, unit="object"):
        kinds.append(case.kind)
        labels.append(case.label)
        texts.append("" if case.kind == "surface" else case.description)
        real.append(object_crop(case.truth, case.mask))
        for name, render in renders.items():
            begun = time.monotonic()
            output = render(case.image, case.mask, case.label, case.description, case.context, case.seed)
            methods[name].seconds += time.monotonic() - begun
            methods[name].add(case, output)
    other = [object_crop(c.truth, c.mask) for c in cases(corpus, corpus.records("train"), len(real), seed + 1)]
    judges = Judges(judge, judged, real, other, labels, matched, texts)
    reports = {name: {**_means(m.rows), **judges.report(m.crops)} for name, m in methods.items()}
    modes = compare_modes(
        inpainter, corpus, _shuffled(records, seed)[: max(2, total // 20)], seed, progress=progress,
        judging=lambda found, names: Judges(judge, judged, found, other, names),
    )  # fmt: skip
    return {
        "corpus": corpus.name,
        "split": split,
        "n": len(kinds),
        "feature_space": FEATURE_SPACE,
        "local_features": FEATURES,
        **({} if matched is None else {"text_score": SCORE}),
        **reports["ours"],
        "drift_20": drift(inpainter, corpus, _shuffled(records, seed), seed),
        "by_kind": _by_kind(methods["ours"].rows, kinds),
        "baselines": {name: reports[name] for name in ("flat_colour", "mean_surround")},
        "compared": {
            "masks": {"fine": reports["ours"], "box": reports["box_mask"], "blurred": reports["blurred_mask"]},
            "modes": modes,
        },
        "seconds_per_object": round(methods["ours"].seconds / max(len(kinds), 1), 3),
        "seconds": round(time.monotonic() - started, 1),
        "command": f"smartscene evaluate inpainter --data {corpus.path} --split {split}"
        + (f" --limit {limit}" if limit is not None else "")
        + f" --seed {seed} --json",
    }


def _by_kind(rows: Sequence[dict[str, float]], kinds: Sequence[str]) -> dict[str, Any]:
    return {
        kind: {"n": kinds.count(kind), **_means([r for r, k in zip(rows, kinds, strict=True) if k == kind])}
        for kind in sorted(set(kinds))
    }


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    if not rows:
        return {}
    return {name: round(float(np.mean([row[name] for row in rows])), 5) for name in rows[0]}
