"""What the masker is measured on: held-out objects, spread over labels, with guides drawn from their true masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from masker.config import ExamplesConfig
from masker.examples import MIN_AREA_PX
from masker.guides import GuideForm, dilate_cells
from masker.windows import sample_coverage, to_canvas, window_round
from runtime.seeding import numpy_rng
from scene.corpus.records import SceneRecord
from scene.corpus.store import Corpus
from scene.geometry import Box, Size
from scene.guidance import Guidance
from scene.layers import Layer, LayeredScene
from scene.seeds import StepSeed, derive_seed

SCRIBBLE_CELLS = 256  # resolution at which true masks become scribbles
LABEL_POWER = 0.5  # a label n times as frequent is drawn n ** LABEL_POWER times as often


@dataclass(frozen=True)
class Case:
    """One object of one scene: layers below `k` are there, layer `k` is to be predicted."""

    record: SceneRecord
    k: int
    truth: np.ndarray
    box: Box

    @property
    def label(self) -> str:
        return self.record.layers[self.k].label

    @property
    def description(self) -> str:
        return self.record.layers[self.k].description

    @property
    def prompt(self) -> str:
        return self.record.prompts[0] if self.record.prompts else ""

    def seed(self, seed: int, purpose: str) -> int:
        """Depends on nothing but the object."""
        return derive_seed(seed, purpose, self.record.id, self.k)

    def step(self, seed: int) -> StepSeed:
        """Seed of the model's draws."""
        return StepSeed(seed, self.seed(seed, "evaluated object") % 2**31)

    def scene(self, corpus: Corpus) -> LayeredScene:
        """The layers below, without their pictures: the mask model looks at the layout alone."""
        layers = tuple(
            Layer(number + 1, layer.label, layer.description, corpus.mask(layer))
            for number, layer in enumerate(self.record.layers[: self.k])
        )
        return LayeredScene(corpus.size, self.prompt, layers)


@dataclass(frozen=True)
class Group:
    """Cases that are reported together.

    Attributes:
        name: "home, held-out models".
        corpus: Where they come from.
        cases: In the order drawn; those for a smaller limit come first.
    """

    name: str
    corpus: Corpus
    cases: Sequence[Case]


def choose_groups(corpora: Sequence[Corpus], split: str, limit: int | None, seed: int) -> list[Group]:
    """Cases of every corpus: objects whose model (drawing) occurs in split train, and those whose model does not.

    Args:
        corpora: Where scenes come from.
        split: Which scenes.
        limit: Cases per group; None = all.
        seed: Of the draw.

    Returns:
        One or two groups a corpus; none is empty.
    """
    groups = []
    for corpus in corpora:
        trained = {corpus.assets[layer.asset].source for record in corpus.records("train") for layer in record.layers}
        parts = {
            "models seen": choose_cases(corpus, split, limit, seed, sources=trained),
            "held-out models": choose_cases(corpus, split, limit, seed, without=trained),
        }
        named = {name: cases for name, cases in parts.items() if cases}
        groups += [
            Group(corpus.name if len(named) == 1 else f"{corpus.name}, {name}", corpus, cases)
            for name, cases in named.items()
        ]
    return groups


def choose_cases(
    corpus: Corpus,
    split: str,
    limit: int | None,
    seed: int,
    *,
    sources: set[str] | None = None,
    without: frozenset[str] | set[str] = frozenset(),
) -> list[Case]:
    """Movable objects that show on the canvas, in an order drawn by `seed` that favours rare labels.

    An object's weight in the draw is (how often its label occurs) ** (`LABEL_POWER` - 1), without replacement.

    Args:
        corpus: Where scenes come from.
        split: Which scenes.
        limit: At most so many; None = all.
        seed: Of the draw. With a smaller limit the same cases come first.
        sources: Only objects with these sources; None = all.
        without: None with these.
    """
    places = [
        (record, k)
        for record in corpus.records(split)
        for k, layer in enumerate(record.layers)
        if corpus.vocabulary.kind(layer.label) != "surface"
        and (sources is None or corpus.assets[layer.asset].source in sources)
        and corpus.assets[layer.asset].source not in without
    ]
    frequency = Counter(record.layers[k].label for record, k in places)
    weights = np.array([frequency[record.layers[k].label] ** (LABEL_POWER - 1) for record, k in places])
    # Efraimidis and Spirakis 2006: sorted by u ** (1 / w), the first n are a weighted sample without replacement.
    draws = numpy_rng(derive_seed(seed, "evaluate masker", corpus.name, split)).random(len(places))
    cases: list[Case] = []
    for position in np.argsort(-np.log(draws) / weights, kind="stable"):
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


def moved_at_random(case: Case, seed: int, number: int) -> np.ndarray:
    """The true mask at a random place of the canvas that holds all of it, bool (H, W)."""
    height, width = case.truth.shape
    rng = numpy_rng(derive_seed(case.seed(seed, "moved"), number))
    x = int(rng.integers(0, width - case.box.width + 1))
    y = int(rng.integers(0, height - case.box.height + 1))
    moved = np.zeros_like(case.truth)
    tight = case.truth[case.box.y0 : case.box.y1, case.box.x0 : case.box.x1]
    moved[y : y + case.box.height, x : x + case.box.width] = tight
    return moved
