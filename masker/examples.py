"""Training examples of the mask model: from (scene, k) to layout, guide, texts and the mask to predict.

Example n is a function of (seed, n) alone. Nothing is rendered at canvas size: sprites are sampled
straight into the view, which takes about a millisecond.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from masker.config import ExamplesConfig
from masker.guides import FORMS, DrawnGuide, GuideForm, draw_guide, signed_distance
from masker.windows import (
    Window,
    canvas_window,
    geometry_channels,
    inside_view,
    sample_cells,
    sample_coverage,
    window_round,
)
from runtime.seeding import numpy_rng
from scene.corpus.records import LayerRecord, SceneRecord
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.geometry import Box
from scene.seeds import derive_seed

WHOLLY_VISIBLE = 0.97  # share of a layer that shows in the finished scene
SAMPLES_A_SIDE = 256  # points at which a mask is sampled along one side of a view, at least and if 4 a cell do
MIN_AREA_PX = 24  # smaller remains of objects at the canvas edge teach nothing

_MIRROR_WORDS = re.compile(r"\b(left|right)(most|hand|side|wards?)?\b", re.IGNORECASE)


def mirror_words(text: str) -> str:
    """Swaps "left" and "right" ("rightmost", "left-hand" too), for a picture mirrored left to right."""

    def swap(match: re.Match[str]) -> str:
        word = match.group(1)
        other = "right" if word.lower() == "left" else "left"
        return (other.capitalize() if word[0].isupper() else other) + (match.group(2) or "")

    return _MIRROR_WORDS.sub(swap, text)


@dataclass(frozen=True, eq=False)
class MaskExample:
    """One training example, R cells a side; the mask and its guide on F cells, F a multiple of R.

    Attributes:
        index: int16 (R, R), rows of the source's label table; 0 = nothing lies there.
        guide: float32 (F, F), G_obj in [0, 1].
        distance: float32 (D, D), see `masker.guides.signed_distance`; D is F, or F / 2 where that is still above R.
        geometry: float32 (4, R, R).
        target: float32 (F, F), coverage of the amodal mask in [0, 1] (of the visible part in modal training). Beyond
            the canvas the object goes on as drawn; the canvas crops it later.
        object: T_obj. context: T_context.
        form: Which form of guide it is. label: Category. window: The view.
    """

    index: np.ndarray
    guide: np.ndarray
    distance: np.ndarray
    geometry: np.ndarray
    target: np.ndarray
    object: str
    context: str
    form: GuideForm
    label: str
    window: Window


@dataclass(frozen=True, eq=False)
class PlacedExample:
    """Where an object went: the whole canvas as it was before, and the object's box.

    Attributes:
        index, geometry, object, context: As in `MaskExample`, of the canvas window.
        box: x0, y0, x1, y1 of the object's visible part, 0 to 1 across the view.
        label: Category.
    """

    index: np.ndarray
    geometry: np.ndarray
    object: str
    context: str
    box: tuple[float, float, float, float]
    label: str


@dataclass(frozen=True, eq=False)
class SurfaceExample:
    """One surface as it was placed, seen in N columns of the canvas.

    Attributes:
        columns: int16 (H, N), rows of the source's label table; 0 = nothing lies there.
        mask: bool (H, N), the surface.
        object, context: T_obj and T_context.
        label: Category.
    """

    columns: np.ndarray
    mask: np.ndarray
    object: str
    context: str
    label: str


def guide_distance(guide: np.ndarray, inside: np.ndarray, resolution: int, form: str) -> np.ndarray:
    """`signed_distance` of a scribble (F, F) on a view of R cells: half as fine as the guide where that is above R.

    0 for other forms: the outline of a box or a blob says nothing about the object's.
    """
    step = 2 if len(guide) > 2 * resolution else 1
    side = len(guide) // step
    if form != "scribble":
        return np.zeros((side, side), dtype=np.float32)
    guide, inside = (values.reshape(side, step, side, step).mean(axis=(1, 3)) for values in (guide, inside))
    return signed_distance(guide, inside)


class ExampleSource:
    """Draws examples from a corpus.

    Args:
        corpus: Where scenes come from.
        split: train, val or test.
        config: How examples are drawn.
        resolution: R, cells along one side of a view.
        seed: Training seed; example n depends on (seed, n) only.
        labels: Label table shared with other sources; by default the corpus's own. Row 0 is "nothing".
        fine: F, cells along one side of guide and target; by default R.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        config: ExamplesConfig,
        resolution: int,
        seed: int,
        labels: Sequence[str] | None = None,
        fine: int | None = None,
    ) -> None:
        self.corpus, self.config, self.resolution, self.seed = corpus, config, resolution, seed
        self.fine, self.split = fine or resolution, split
        self.records: Sequence[SceneRecord] = corpus.records(split)
        self.labels: tuple[str, ...] = tuple(labels) if labels is not None else ("", *corpus.labels)
        self._row = {label: row for row, label in enumerate(self.labels)}
        self._surfaces = {label for label in corpus.labels if corpus.vocabulary.kind(label) == "surface"}
        self._tight: dict[int, Box] = {}
        self._movable: list[tuple[int, int]] = []
        self._surface: list[tuple[int, int]] = []
        for number, record in enumerate(self.records):
            for k, layer in enumerate(record.layers):
                (self._surface if layer.label in self._surfaces else self._movable).append((number, k))

    def source_of(self, sample: int) -> ExampleSource:
        """The source that example `sample` comes from: this one. A `ShardSource` has one for each shard."""
        return self

    def shape(self, layer: LayerRecord) -> np.ndarray:
        """The asset's silhouette, bool (h, w)."""
        return self.corpus.shape(layer)

    def visible(self, record: SceneRecord, k: int) -> np.ndarray:
        """What the layers in front leave of layer k's silhouette, bool (h, w)."""
        layer = record.layers[k]
        shape = self.shape(layer).copy()
        height, width = shape.shape
        for nearer in record.layers[k + 1 :]:
            hider = self.shape(nearer)
            x, y = nearer.x - layer.x, nearer.y - layer.y
            left, top = max(x, 0), max(y, 0)
            right, bottom = min(x + hider.shape[1], width), min(y + hider.shape[0], height)
            if left < right and top < bottom:
                shape[top:bottom, left:right] &= ~hider[top - y : bottom - y, left - x : right - x]
        return shape

    def subject(self, record: SceneRecord, k: int) -> np.ndarray:
        """The silhouette to predict, bool (h, w): layer k's, whole or as far as it shows."""
        return self.shape(record.layers[k]) if self.config.amodal else self.visible(record, k)

    def canvas_box(self, layer: LayerRecord, shape: np.ndarray | None = None) -> Box | None:
        """Tight box of the layer's mask, or of a part of its silhouette, on the canvas.

        None when (nearly) nothing of it is there.
        """
        if shape is None:
            shape = self.shape(layer)
            if layer.asset not in self._tight:
                self._tight[layer.asset] = Box.from_mask(shape) or Box(0, 0, 0, 0)
            box = self._tight[layer.asset]
        else:
            box = Box.from_mask(shape) or Box(0, 0, 0, 0)
        width, height = self.corpus.size
        placed = Box(box.x0 + layer.x, box.y0 + layer.y, box.x1 + layer.x, box.y1 + layer.y)
        clipped = placed.clip(self.corpus.size)
        if clipped != placed:
            # What the canvas cuts off may have carried the extreme points of the other sides.
            visible = shape[max(-layer.y, 0) : max(height - layer.y, 0), max(-layer.x, 0) : max(width - layer.x, 0)]
            part = Box.from_mask(visible)
            if part is None or visible.sum() < MIN_AREA_PX:
                return None
            x, y = max(layer.x, 0), max(layer.y, 0)
            return Box(part.x0 + x, part.y0 + y, part.x1 + x, part.y1 + y)
        return placed if placed.area >= MIN_AREA_PX else None

    def target(self, layer: LayerRecord, shape: np.ndarray, window: Window) -> np.ndarray:
        """Coverage of a layer's silhouette, bool (h, w), in a view, float32 (F, F)."""
        clamp = self.corpus.size if layer.label in self._surfaces else None
        points = min(max(SAMPLES_A_SIDE // self.fine, 1), 4)
        return sample_coverage(shape, window, self.fine, supersample=points, origin=(layer.x, layer.y), clamp=clamp)

    def layout(self, layers: Sequence[LayerRecord], window: Window, inside: np.ndarray) -> np.ndarray:
        """S_k in a view: label rows of the topmost layer, int16 (R, R); 0 beyond the canvas."""
        index = np.zeros((self.resolution, self.resolution), dtype=np.int16)
        for layer in layers:
            solid = sample_cells(self.shape(layer), window, self.resolution, origin=(layer.x, layer.y))
            index[solid] = self._row[layer.label]
        index[inside < 0.5] = 0
        return index

    def example(self, sample: int) -> MaskExample:
        """Example number `sample`."""
        rng = numpy_rng(derive_seed(self.seed, "mask example", sample))
        return self.build(*self._draw(rng), rng)

    def mask_only(self, sample: int) -> np.ndarray:
        """The target of example `sample`, unmirrored, float32 (F, F): all that the codec learns from."""
        rng = numpy_rng(derive_seed(self.seed, "mask example", sample))
        record, k, form = self._draw(rng)
        layer, shape = record.layers[k], self.subject(record, k)
        _, window = self._view(layer, shape, form, rng)
        return self.target(layer, shape, window)

    def _draw(self, rng: np.random.Generator) -> tuple[SceneRecord, int, GuideForm]:
        surface = rng.random() < self.config.surface_share and bool(self._surface)
        pool = self._surface if surface else self._movable
        if not pool:
            raise UserError(f"{self.corpus.path} has no objects in split {self.split}; give a corpus with more scenes")
        weights = np.array([self.config.form_shares.get(form, 0.0) for form in FORMS])
        for _ in range(100):
            number, k = pool[int(rng.integers(len(pool)))]
            record = self.records[number]
            if self._shows(record, k):
                return record, k, FORMS[int(rng.choice(len(FORMS), p=weights / weights.sum()))]
        raise ValueError("no visible object in 100 draws; is the corpus empty?")

    def _shows(self, record: SceneRecord, k: int) -> bool:
        layer = record.layers[k]
        return self.canvas_box(layer, None if self.config.amodal else self.visible(record, k)) is not None

    def _view(
        self, layer: LayerRecord, shape: np.ndarray, form: GuideForm, rng: np.random.Generator
    ) -> tuple[DrawnGuide, Window]:
        """A guide and the view that it frames: as in use, nothing but the guide decides where the network looks."""
        box = self.canvas_box(layer, None if self.config.amodal else shape)
        if box is None:
            raise ValueError(f"{layer.label} at {layer.x}, {layer.y} does not show on the canvas")
        edges = (float(box.x0), float(box.y0), float(box.x1), float(box.y1))
        guide = draw_guide(form, edges, *_centroid(layer, shape, box), self.config, rng)
        whole = self.config.canvas_share if layer.label not in self._surfaces else 0.85
        if guide.extent is None or form == "none" or rng.random() < whole:
            return guide, canvas_window(self.corpus.size)
        jitter = 1 + float(rng.uniform(-1, 1)) * self.config.window_jitter
        extent = Box(*(round(edge) for edge in guide.extent)).clip(self.corpus.size)
        return guide, window_round(extent, self.config.window[form] * jitter, self.corpus.size)

    def build(
        self,
        record: SceneRecord,
        k: int,
        form: GuideForm,
        rng: np.random.Generator,
        window: Window | None = None,
    ) -> MaskExample:
        """The example that predicts layer `k` of a scene under one form of guidance, all draws from `rng`.

        Args:
            record: The scene.
            k: Which layer.
            form: Form of guidance.
            rng: Source of all draws.
            window: The view; by default the guide frames it.
        """
        config, layer, size = self.config, record.layers[k], self.corpus.size
        shape = self.subject(record, k)
        drawn, framed = self._view(layer, shape, form, rng)
        window = window or framed
        inside, fine = inside_view(window, size, self.resolution), inside_view(window, size, self.fine)
        target = self.target(layer, shape, window)
        guide = drawn.cells(target * fine, window, config, rng) * fine
        index = self.layout(self._earlier(record, k, rng), window, inside)
        distance = guide_distance(guide, fine, self.resolution, form)
        geometry = geometry_channels(window, size, self.resolution)
        label_only = rng.random() < config.label_only_share
        text = layer.label if label_only else layer.description
        context = self._context(record, rng)
        if config.mirror and rng.random() < 0.5:
            index, guide, distance, target = (values[:, ::-1] for values in (index, guide, distance, target))
            geometry = geometry[:, :, ::-1].copy()
            geometry[1] *= -1  # canvas x runs from -1 to 1
            text, context = mirror_words(text), mirror_words(context)
        return MaskExample(index, guide, distance, geometry, target, text, context, form, layer.label, window)

    def placed(self, sample: int) -> PlacedExample:
        """Placement example number `sample`."""
        config, size, window = self.config, self.corpus.size, canvas_window(self.corpus.size)
        rng = numpy_rng(derive_seed(self.seed, "placement example", sample))
        record, k, _ = self._draw(rng)
        layer = record.layers[k]
        edges = self.canvas_box(layer)
        assert edges is not None  # _draw saw to it
        index = self.layout(self._earlier(record, k, rng), window, inside_view(window, size, self.resolution))
        geometry = geometry_channels(window, size, self.resolution)
        text = layer.label if rng.random() < config.label_only_share else layer.description
        context = self._context(record, rng)
        left, right = ((x - window.x0) / window.side for x in (edges.x0, edges.x1))
        top, bottom = ((y - window.y0) / window.side for y in (edges.y0, edges.y1))
        if config.mirror and rng.random() < 0.5:
            index, left, right = index[:, ::-1], 1 - right, 1 - left
            text, context = mirror_words(text), mirror_words(context)
        return PlacedExample(index, geometry, text, context, (left, top, right, bottom), layer.label)

    def surface(self, sample: int, columns: np.ndarray) -> SurfaceExample:
        """Surface example number `sample`, seen in the given columns of the canvas, int64 (N,)."""
        config = self.config
        rng = numpy_rng(derive_seed(self.seed, "surface example", sample))
        number, k = self._surface[int(rng.integers(len(self._surface)))]
        record = self.records[number]
        layer = record.layers[k]
        seen = np.zeros((self.corpus.size[1], len(columns)), dtype=np.int16)
        for earlier in self._earlier(record, k, rng):
            seen[self._in_columns(earlier, columns)] = self._row[earlier.label]
        mask = self._in_columns(layer, columns)
        text = layer.label if rng.random() < config.label_only_share else layer.description
        context = self._context(record, rng)
        if config.mirror and rng.random() < 0.5:
            seen, mask = seen[:, ::-1], mask[:, ::-1]
            text, context = mirror_words(text), mirror_words(context)
        return SurfaceExample(seen, mask, text, context, layer.label)

    def _in_columns(self, layer: LayerRecord, columns: np.ndarray) -> np.ndarray:
        """A layer's silhouette in columns of the canvas, bool (H, N)."""
        shape = self.shape(layer)
        seen = np.zeros((self.corpus.size[1], len(columns)), dtype=bool)
        inside = (columns >= layer.x) & (columns < layer.x + shape.shape[1])
        top, bottom = max(layer.y, 0), min(layer.y + shape.shape[0], len(seen))
        if top < bottom:
            seen[top:bottom, inside] = shape[top - layer.y : bottom - layer.y, columns[inside] - layer.x]
        return seen

    def _context(self, record: SceneRecord, rng: np.random.Generator) -> str:
        """One of the few prompts that stand for this scene; which ones goes by the scene, so all styles occur."""
        if not record.prompts:
            return ""
        first = derive_seed("prompt style", record.id) % len(record.prompts)
        return record.prompts[(first + int(rng.integers(self.config.prompts_per_scene))) % len(record.prompts)]

    def _placed_before(self, record: SceneRecord, k: int, rng: np.random.Generator) -> list[int]:
        """Layers that `config.order` places before layer k, back to front; a surface has those behind it."""
        layers, order = record.layers, self.config.order
        if order == "recorded" or layers[k].label in self._surfaces:
            return list(range(k))
        turns = rng.permutation(len(layers)) if order == "random" else np.arange(len(layers))[::-1]
        return [i for i, layer in enumerate(layers) if layer.label in self._surfaces or turns[i] < turns[k]]

    def _earlier(self, record: SceneRecord, k: int, rng: np.random.Generator) -> list[LayerRecord]:
        """Layers placed before layer k: as `config.order` says, or a random subset, or in another order.

        Or all the others, where nothing hides layer k: an object is also added to a finished scene.
        """
        places = self._placed_before(record, k, rng)
        facts = record.layers[k].facts
        seen = facts is not None and facts.visible_frac >= WHOLLY_VISIBLE
        if rng.random() < self.config.complete_share and seen:
            places = [i for i in range(len(record.layers)) if i != k]
        earlier = [record.layers[i] for i in places]
        if rng.random() < self.config.subset_share:
            keep = rng.random(len(earlier)) < rng.uniform(0.2, 1.0)
            earlier = [layer for layer, kept in zip(earlier, keep, strict=True) if kept]
        if rng.random() < self.config.shuffle_share:
            surfaces = [layer for layer in earlier if layer.label in self._surfaces]
            movable = [layer for layer in earlier if layer.label not in self._surfaces]
            earlier = surfaces + [movable[i] for i in rng.permutation(len(movable))]
        return earlier


def _centroid(layer: LayerRecord, shape: np.ndarray, box: Box) -> tuple[tuple[float, float], float]:
    """Centre of mass and area of what a layer's silhouette, bool (h, w), has inside a box of the canvas, canvas px."""
    solid = shape[box.y0 - layer.y : box.y1 - layer.y, box.x0 - layer.x : box.x1 - layer.x]
    total = max(int(solid.sum()), 1)
    x = float((solid.sum(axis=0) * (np.arange(solid.shape[1]) + 0.5)).sum() / total)
    y = float((solid.sum(axis=1) * (np.arange(solid.shape[0]) + 0.5)).sum() / total)
    return (box.x0 + x, box.y0 + y), float(total)
