"""Draws a scene plan as layers, back to front: each object whole, its shadow on what lies behind it, its depth order.

The picture is composed the way it will be generated: a layer brings its own pixels and a soft dark effect that it
casts on all layers before it; light that earlier layers take from it is in its own pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np

from scene.corpus.home.backdrop import Backdrop, Scenery, draw
from scene.corpus.home.catalog import Catalog, CatalogModel
from scene.corpus.home.meshes import MeshCache
from scene.corpus.home.plan import ScenePlan
from scene.corpus.home.shading import GAMMA, Light, shade, world_points
from scene.corpus.home.shadows import Receivers, enlarge, reach_past, smooth
from scene.corpus.home.tracing import Coverage, Instance, trace
from scene.corpus.home.view import View
from scene.geometry import DEFAULT_SIZE, Box, Size
from scene.seeds import derive_seed

# An object deeper than this behind a surface is in conflict with it. Windows and doors sit in their wall.
SUNK_M, SUNK_IN_WALL_M = 0.03, 0.25
MIN_EFFECT = 2.5 / 255  # weaker darkening is dropped
EFFECT_MARGIN_M = 1.0  # around object and key shadow, where an effect is looked for


@dataclass(frozen=True, eq=False)
class Crop:
    """Part of a canvas.

    Attributes:
        rgba: uint8 (h, w, 4).
        x, y: canvas pixel of its top-left corner.
    """

    rgba: np.ndarray
    x: int
    y: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas."""
        return slice(self.y, self.y + self.rgba.shape[0]), slice(self.x, self.x + self.rgba.shape[1])


@dataclass(frozen=True, eq=False)
class RenderedLayer:
    """One surface or object.

    Attributes:
        kind: "surface" or "object".
        index: into the plan's `surfaces` or `objects`.
        label, description: from the plan.
        picture: the whole of it, as if nothing stood before it; its mask is alpha >= 128.
        effect: black with alpha, to be painted over all earlier layers just before `picture`; None = casts nothing.
        visible: bool (h, w), `picture`'s window: the mask minus the masks of all later layers.
        size_m: width, depth, height; None for surfaces.
        depth_m: mean distance along the camera's axis; infinite for the sky.
        conflict_frac: share of the mask where one layer order cannot be right: it hides something nearer, or is hidden
            by something farther, or lies behind the surface that it stands on.
    """

    kind: str
    index: int
    label: str
    description: str
    picture: Crop
    effect: Crop | None
    visible: np.ndarray
    size_m: tuple[float, float, float] | None
    depth_m: float
    conflict_frac: float

    @property
    def mask(self) -> np.ndarray:
        """Amodal mask, bool (h, w), `picture`'s window."""
        return np.asarray(self.picture.rgba[..., 3] >= 128)

    @property
    def box(self) -> Box:
        """Tight canvas box of the mask."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        x, y = self.picture.x, self.picture.y
        return Box(x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)

    @property
    def visible_frac(self) -> float:
        """Share of the amodal mask that is seen."""
        return float(self.visible.sum() / self.mask.sum())


@dataclass(frozen=True, eq=False)
class RenderedScene:
    """A drawn plan.

    Attributes:
        size: canvas.
        layers: back to front.
        image: uint8 (H, W, 3), all layers over a white canvas.
        order_conflict: share of the canvas where the layers show another object than the nearest.
        uncovered_frac: share of the canvas that no surface covers.
        unseen: indices of the plan's objects that are not on the canvas at all; they have no layer.
    """

    size: Size
    layers: tuple[RenderedLayer, ...]
    image: np.ndarray
    order_conflict: float
    uncovered_frac: float
    unseen: tuple[int, ...]


def render(
    plan: ScenePlan, catalog: Catalog | Mapping[str, CatalogModel], meshes: MeshCache, size: Size = DEFAULT_SIZE
) -> RenderedScene:
    """Draws a plan.

    Raises:
        MeshError: a model cannot be used.
        UserError: a model or material is unknown, or the camera impossible.
    """
    view = View.of(plan.camera, size)
    light = Light.of(plan.light, outdoors=any(not surface.quads for surface in plan.surfaces))
    canvas = _Canvas(view, light, Scenery.of(plan.surfaces, view, light))
    for index in range(len(plan.surfaces)):
        canvas.add_surface(plan, index)
    instances = [Instance(meshes.get(catalog[placed.model]), placed) for placed in plan.objects]
    traced = {index: coverage for index, item in enumerate(instances) if (coverage := trace(item, view)) is not None}
    traced = {index: coverage for index, coverage in traced.items() if coverage.mask.any()}
    order = depth_order(traced)
    for index in order:
        canvas.add_object(plan, index, instances[index], traced[index])
    return canvas.finish(plan, order, traced, unseen=tuple(i for i in range(len(instances)) if i not in traced))


def depth_order(traced: Mapping[int, Coverage]) -> list[int]:
    """Objects back to front: where two masks overlap, the one that is nearer on most of the overlap comes later.

    Rings of three or more are broken where fewest pixels speak; objects that nothing orders go by mean depth.
    """
    graph = nx.DiGraph()
    keys = sorted(traced, key=lambda index: (-_mean_depth(traced[index]), index))
    graph.add_nodes_from(keys)
    for place, a in enumerate(keys):
        for b in keys[place + 1 :]:
            lead = _lead_px(traced[a], traced[b])
            if lead:
                graph.add_edge(*((a, b) if lead > 0 else (b, a)), weight=abs(lead))
    while not nx.is_directed_acyclic_graph(graph):
        ring = nx.find_cycle(graph)
        graph.remove_edge(*min((edge[:2] for edge in ring), key=lambda edge: graph.edges[edge]["weight"]))
    rank = {key: place for place, key in enumerate(keys)}
    return list(nx.lexicographical_topological_sort(graph, key=rank.__getitem__))


def _mean_depth(coverage: Coverage) -> float:
    return float(coverage.depth[coverage.mask].mean())


def _lead_px(a: Coverage, b: Coverage) -> int:
    """On how many more pixels of their overlap b is nearer than a."""
    x0, y0 = max(a.box.x0, b.box.x0), max(a.box.y0, b.box.y0)
    x1, y1 = min(a.box.x1, b.box.x1), min(a.box.y1, b.box.y1)
    if x0 >= x1 or y0 >= y1:
        return 0
    parts = [(slice(y0 - c.box.y0, y1 - c.box.y0), slice(x0 - c.box.x0, x1 - c.box.x0)) for c in (a, b)]
    both = a.mask[parts[0]] & b.mask[parts[1]]
    nearer = np.sign(a.depth[parts[0]][both] - b.depth[parts[1]][both])
    return int(nearer.sum())


class _Canvas:
    """The picture so far, with what is known of its points."""

    def __init__(self, view: View, light: Light, scenery: Scenery) -> None:
        self.view, self.light, self.scenery = view, light, scenery
        shape = view.size.shape
        self.image = np.full((*shape, 3), 255.0, np.float32)
        self.covered = np.zeros(shape, bool)
        self.depth = np.full(shape, np.inf, np.float32)  # of the surfaces only
        self.position, self.normal = np.zeros((*shape, 3), np.float32), np.zeros((*shape, 3), np.float32)
        self.known = np.zeros(shape, bool)
        self.reach = np.ones((*self.known[::2, ::2].shape, 2), np.float32)
        self.casters: list[Instance] = []
        self.layers: list[RenderedLayer] = []

    def add_surface(self, plan: ScenePlan, index: int) -> None:
        surface = plan.surfaces[index]
        seed = derive_seed("surface", plan.id, index) % (1 << 31)
        drawn = draw(surface, self.scenery, self.covered, seed)
        mask = drawn.alpha >= 128 / 255
        if not mask.any():
            return
        self.covered |= drawn.alpha >= 1
        self.position[mask], self.normal[mask] = drawn.position[mask], drawn.normal[mask]
        self.depth[mask] = drawn.depth[mask]
        self.known[mask] = np.isfinite(drawn.depth[mask])
        depth_m = float(drawn.depth[mask].mean()) if surface.quads else float("inf")
        picture = _surface_crop(drawn)
        self._paint(picture)
        visible = np.zeros(picture.rgba.shape[:2], bool)
        self.layers.append(
            RenderedLayer(
                "surface", index, surface.label, surface.description, picture, None, visible, None, depth_m, 0.0
            )
        )

    def add_object(self, plan: ScenePlan, index: int, instance: Instance, coverage: Coverage) -> None:
        placed, box = plan.objects[index], coverage.box
        points = world_points(instance, self.view, coverage)
        window = slice(box.y0, box.y1), slice(box.x0, box.x1)
        effect = self._effect(instance, coverage)
        seen = coverage.front >= 0
        position = np.where(seen[..., None], points.position[coverage.front], 0)
        normal = np.where(seen[..., None], points.normal[coverage.front], 0)
        grid = Receivers(
            position[::2, ::2], normal[::2, ::2], np.ones((*seen[::2, ::2].shape, 2), np.float32), seen[::2, ::2]
        )
        reach = np.ones_like(grid.reach)
        for caster in (instance, *self.casters):
            reach *= reach_past(caster, grid, self.light)
        reach = smooth(reach, grid)
        picture = shade(instance, self.view, coverage, points, self.light, enlarge(reach, grid, position, normal))
        crop = Crop(picture, box.x0, box.y0)
        if effect is not None:
            self._paint(effect)
        self._paint(crop)
        mask = coverage.mask
        self.position[window][mask], self.normal[window][mask] = position[mask], normal[mask]
        self.known[window][mask] = True
        half = slice(box.y0 // 2, (box.y1 + 1) // 2), slice(box.x0 // 2, (box.x1 + 1) // 2)
        half_mask = mask[::2, ::2]
        self.reach[half][half_mask] = reach[half_mask]
        self.casters.append(instance)
        self.layers.append(
            RenderedLayer(
                "object",
                index,
                placed.label,
                placed.description,
                crop,
                effect,
                np.zeros_like(mask),
                instance.size_m,
                _mean_depth(coverage),
                0.0,
            )
        )

    def _effect(self, instance: Instance, coverage: Coverage) -> Crop | None:
        """Darkening of what is painted so far, and the light that it leaves noted for later layers."""
        rows, columns = _effect_window(instance, self.view, self.light)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        half = slice(rows.start // 2, (rows.stop + 1) // 2), slice(columns.start // 2, (columns.stop + 1) // 2)
        grid = Receivers(self.position[::2, ::2], self.normal[::2, ::2], self.reach, self.known[::2, ::2]).crop(*half)
        passed = smooth(reach_past(instance, grid, self.light), grid)
        left = self._strength(grid.normal, grid.reach * passed) / np.maximum(
            self._strength(grid.normal, grid.reach), 1e-6
        )
        self.reach[half] = grid.reach * passed
        alpha = 1 - np.clip(left, 0, 1) ** (1 / GAMMA)
        alpha[~grid.known] = 0
        touched = alpha > MIN_EFFECT
        if not touched.any():
            return None
        y, x = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
        part = slice(max(0, y[0] - 1), y[-1] + 2), slice(max(0, x[0] - 1), x[-1] + 2)
        top, left_px = (half[0].start + part[0].start) * 2, (half[1].start + part[1].start) * 2
        bottom = min(top + 2 * alpha[part].shape[0], self.view.size.height)
        right = min(left_px + 2 * alpha[part].shape[1], self.view.size.width)
        window = slice(top, bottom), slice(left_px, right)
        full = enlarge(alpha[part][..., None], grid.crop(*part), self.position[window], self.normal[window])[..., 0]
        full = np.where(self.known[window], full, 0)
        rgba = np.zeros((*full.shape, 4), np.uint8)
        rgba[..., 3] = np.rint(255 * np.where(full > MIN_EFFECT, full, 0))
        self._clear_behind(rgba, window, coverage)
        return Crop(rgba, left_px, top) if rgba.any() else None

    def _strength(self, normal: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Brightness (h, w) of a white surface, without the camera's own light."""
        key = self.light.key.mean() * self.light.incidence(normal) * reach[..., 0]
        return np.asarray(key + self.light.ambient(normal).mean(-1) * reach[..., 1] + self.light.camera.mean())

    @staticmethod
    def _clear_behind(rgba: np.ndarray, window: tuple[slice, slice], coverage: Coverage) -> None:
        """No effect where the object hides it anyway."""
        y0, x0 = max(window[0].start, coverage.box.y0), max(window[1].start, coverage.box.x0)
        y1, x1 = min(window[0].stop, coverage.box.y1), min(window[1].stop, coverage.box.x1)
        if y0 < y1 and x0 < x1:
            box = coverage.box
            solid = coverage.alpha[y0 - box.y0 : y1 - box.y0, x0 - box.x0 : x1 - box.x0] > 0.999
            here = slice(y0 - window[0].start, y1 - window[0].start), slice(x0 - window[1].start, x1 - window[1].start)
            rgba[here][solid] = 0

    def _paint(self, crop: Crop) -> None:
        alpha = crop.rgba[..., 3:].astype(np.float32) / 255
        part = self.image[crop.window]
        part *= 1 - alpha
        part += alpha * crop.rgba[..., :3]

    def finish(
        self, plan: ScenePlan, order: Sequence[int], traced: Mapping[int, Coverage], unseen: tuple[int, ...]
    ) -> RenderedScene:
        """Visible parts, and where the layer order is wrong."""
        shape = self.view.size.shape
        nearest, winner, top = np.full(shape, np.inf, np.float32), np.full(shape, -1), np.full(shape, -1)
        for index in order:
            coverage = traced[index]
            window = slice(coverage.box.y0, coverage.box.y1), slice(coverage.box.x0, coverage.box.x1)
            sunk_m = SUNK_IN_WALL_M if plan.objects[index].support == "wall" else SUNK_M
            nearer = coverage.mask & (coverage.depth < np.minimum(nearest, self.depth + sunk_m)[window])
            nearest[window][nearer] = coverage.depth[nearer]
            winner[window][nearer] = index
            top[window][coverage.mask] = index
        wrong = winner != top
        taken = np.zeros(shape, bool)
        layers = []
        for layer in reversed(self.layers):
            mask, window = layer.mask, layer.picture.window
            visible = mask & ~taken[window]
            taken[window] |= mask
            conflict = 0.0
            if layer.kind == "object":
                mixed = mask & wrong[window] & ((winner[window] == layer.index) | (top[window] == layer.index))
                conflict = float(mixed.sum() / mask.sum())
            layers.append(replace(layer, visible=visible, conflict_frac=conflict))
        return RenderedScene(
            size=self.view.size,
            layers=tuple(reversed(layers)),
            image=np.rint(self.image).astype(np.uint8),
            order_conflict=float(wrong.mean()),
            uncovered_frac=float(1 - self.covered.mean()),
            unseen=unseen,
        )


def _surface_crop(drawn: Backdrop) -> Crop:
    rows, columns = np.flatnonzero(drawn.alpha.any(1)), np.flatnonzero(drawn.alpha.any(0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    rgba = np.dstack([drawn.rgb[part], np.rint(255 * drawn.alpha[part]).astype(np.uint8)])
    return Crop(rgba, int(columns[0]), int(rows[0]))


def _effect_window(instance: Instance, view: View, light: Light) -> tuple[slice, slice]:
    """Even canvas window that holds the object, its shadow on the ground, and a margin."""
    corners = instance.corners
    low, high = corners.min(0), corners.max(0)
    margin = min(EFFECT_MARGIN_M, 0.6 * max(instance.size_m))
    shifts = margin * np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])
    points = [corners + shift for shift in shifts]
    reach = corners[:, 2:] / max(light.direction[2], 0.2)
    points.append(corners - light.direction * np.minimum(reach, 2 * (high - low).max() + 1))
    canvas = view.project(np.concatenate(points))
    canvas = canvas[canvas[:, 2] > 0.05]
    width, height = view.size
    if not len(canvas):
        return slice(0, 0), slice(0, 0)
    x0, y0 = (int(max(0, side)) & ~1 for side in canvas[:, :2].min(0))
    x1, y1 = (
        int(min(limit, max(0, side))) + 1 for side, limit in zip(canvas[:, :2].max(0), (width, height), strict=True)
    )
    return slice(y0, min(y1, height)), slice(x0, min(x1, width))
