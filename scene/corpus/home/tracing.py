"""Ray casting of one placed model: which of its points each pixel shows, whole, as if nothing stood before it.

Four rays a pixel. Where they agree (one material, one direction, one depth) one of them is shaded for all, elsewhere
each is: outlines and creases are smooth at little more than the price of one ray.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from scene.corpus.home.meshes import Mesh
from scene.corpus.home.plan import Placed
from scene.corpus.home.view import NEAR_M, SAMPLES, View, dot, unit
from scene.geometry import Box

MAX_PASSES = 24  # holes and panes that a ray goes through: a tree's crown
STEP_M = 2e-4  # behind a hole or pane, where the ray goes on
PANE_ALPHA = 0.55  # of glass with nothing of the object behind it: it belongs to the mask, and lets see through
SAME_COS, SAME_DEPTH = 0.96, 0.02


@dataclass(frozen=True, eq=False)
class Instance:
    """A mesh placed in the world."""

    mesh: Mesh
    placed: Placed

    @cached_property
    def rotation(self) -> np.ndarray:
        """Model to world directions, float64 (3, 3)."""
        angle = np.deg2rad(self.placed.yaw_deg)
        cos, sin = np.cos(angle), np.sin(angle)
        return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])

    @cached_property
    def position(self) -> np.ndarray:
        """World position of the model's origin, float64 (3,)."""
        return np.array(self.placed.position, float)

    @cached_property
    def size_m(self) -> tuple[float, float, float]:
        """Width, depth and height as placed."""
        width, depth, height = (side * self.placed.scale for side in self.mesh.size_m)
        return width, depth, height

    @cached_property
    def corners(self) -> np.ndarray:
        """World corners of the box around it, float64 (8, 3)."""
        width, depth, height = self.mesh.size_m
        grid = np.array(
            [(x, y, z) for x in (-width / 2, width / 2) for y in (-depth / 2, depth / 2) for z in (0, height)]
        )
        return self.to_world(grid)

    @cached_property
    def colours(self) -> np.ndarray:
        """Colours of the materials (M, 3), recoloured if the plan says so."""
        if self.placed.tint is None or self.mesh.main_material is None:
            return self.mesh.colours
        colours = self.mesh.colours.copy()
        colours[self.mesh.main_material] = np.array(self.placed.tint) / 255
        return colours

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Model points (..., 3) in the world."""
        return points * self.placed.scale @ self.rotation.T + self.position

    def to_model(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) in the model frame."""
        return (points - self.position) @ (self.rotation / self.placed.scale)

    def directions_to_model(self, directions: np.ndarray) -> np.ndarray:
        """World directions in the model frame, scaled so that distances along them stay those of the world."""
        return directions @ (self.rotation / self.placed.scale)


@dataclass(frozen=True, eq=False)
class Fragments:
    """Points of a mesh seen by rays, all arrays of one length.

    Attributes:
        pixel: int64, row * width + column in the box traced.
        face: int32, triangle.
        bary: float32 (F, 3), weights of its corners.
        normal: float32 (F, 3), of the triangle, model frame, not unit length.
        depth: float32, metres.
        weight: float32, share of the pixel.
    """

    pixel: np.ndarray
    face: np.ndarray
    bary: np.ndarray
    normal: np.ndarray
    depth: np.ndarray
    weight: np.ndarray

    def pick(self, which: np.ndarray) -> Fragments:
        """Some of them, by index or mask."""
        return Fragments(
            self.pixel[which],
            self.face[which],
            self.bary[which],
            self.normal[which],
            self.depth[which],
            self.weight[which],
        )


@dataclass(frozen=True, eq=False)
class Coverage:
    """What a view shows of one object.

    Attributes:
        box: canvas box that holds all of it that is on the canvas; x0 and y0 are even.
        fragments: to be shaded; their `pixel` counts within `box`.
        alpha: float32 (h, w), 0 to 1.
        front: int64 (h, w), the nearest fragment of each pixel, -1 = none.
    """

    box: Box
    fragments: Fragments
    alpha: np.ndarray
    front: np.ndarray

    @cached_property
    def mask(self) -> np.ndarray:
        """Bool (h, w): at least half of the pixel."""
        return self.alpha >= 128 / 255

    @cached_property
    def depth(self) -> np.ndarray:
        """Float32 (h, w), metres; infinite where nothing is."""
        return np.where(self.front < 0, np.float32(np.inf), self.fragments.depth[self.front])


def trace(instance: Instance, view: View) -> Coverage | None:
    """Casts four rays through every pixel that the object may cover.

    Returns:
        None when nothing of it is on the canvas, or the camera is inside it.
    """
    box = _canvas_box(instance, view)
    if box is None:
        return None
    width, height = box.x1 - box.x0, box.y1 - box.y0
    x = box.x0 + np.arange(width)[None, :, None] + SAMPLES[:, 0]
    y = box.y0 + np.arange(height)[:, None, None] + SAMPLES[:, 1]
    across, upwards = (slope.astype(np.float32) for slope in view.slopes(x, y))
    forward, right, up = instance.directions_to_model(np.stack([view.forward, view.right, view.up])).astype(np.float32)
    rays = (forward + across[..., None] * right + upwards[..., None] * up).reshape(-1, 3)
    passes, gathered = _cast(instance, instance.to_model(view.position).astype(np.float32), rays)
    if not gathered.any():
        return None
    alpha = gathered.reshape(height, width, len(SAMPLES)).mean(-1)
    return _crop(_merge(instance.mesh, passes), alpha, box)


def _canvas_box(instance: Instance, view: View) -> Box | None:
    """Pixels that the box around the object projects to, one more on each side, cut to the canvas; starts even."""
    x, y, depth = view.project(instance.corners).T
    if depth.max() < NEAR_M:
        return None
    width, height = view.size
    if depth.min() < NEAR_M:  # it reaches behind the camera
        return Box(0, 0, width, height)
    x0, y0 = max(0, int(np.floor(x.min())) - 1) & ~1, max(0, int(np.floor(y.min())) - 1) & ~1
    x1, y1 = min(width, int(np.ceil(x.max())) + 1), min(height, int(np.ceil(y.max())) + 1)
    return Box(x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _cast(instance: Instance, origin: np.ndarray, rays: np.ndarray) -> tuple[list[Fragments], np.ndarray]:
    """Follows rays (R, 3), model frame, through holes and panes.

    Returns:
        hits pass by pass, where `pixel` names the ray and `weight` its share; the first pass holds all rays in order,
        those that miss with weight 0. And what each ray gathered, float32 (R,).
    """
    mesh = instance.mesh
    live = np.arange(len(rays))
    clear = np.ones(len(rays), np.float32)  # what is left to see
    travelled = np.zeros(len(rays), np.float32)
    pane = np.zeros(len(rays), bool)
    start, ahead = np.tile(origin, (len(rays), 1)), rays
    passes: list[Fragments] = []
    while len(live) and len(passes) < MAX_PASSES:
        found = mesh.tracer.run(start, ahead, output=1)
        face, u, v, distance = (found[key] for key in ("primID", "u", "v", "tfar"))
        hit = face >= 0
        travelled[live] += np.where(hit, distance, 0)
        bary = np.stack([1 - u - v, u, v], -1)
        opacity = np.where(hit, mesh.opacity_at(face, bary), np.float32(0))
        weight = clear[live] * opacity
        clear[live] -= weight
        pane[live] |= (opacity > 0) & (opacity < 1)
        passes.append(Fragments(live, face, bary, found["Ng"], travelled[live], weight))
        on = np.flatnonzero(hit & (opacity < 1))
        live, ahead = live[on], ahead[on]
        start = start[on] + ahead * (distance[on] + STEP_M)[:, None]
        travelled[live] += STEP_M
    gathered = 1 - clear
    gain = np.where(pane & (gathered < PANE_ALPHA), PANE_ALPHA / np.maximum(gathered, 1e-6), 1).astype(np.float32)
    return [replace(hits, weight=hits.weight * gain[hits.pixel]) for hits in passes], gathered * gain


def _merge(mesh: Mesh, passes: list[Fragments]) -> Fragments:
    """Fragments of pixels instead of rays: one where the pixel's rays agree, all of them elsewhere."""
    first, share = passes[0], len(SAMPLES)
    face = first.face.reshape(-1, share)
    whole = (first.weight.reshape(-1, share) == 1).all(1)
    one_face = whole & (face == face[:, :1]).all(1)
    rows = np.flatnonzero(whole & ~one_face)
    normal = first.normal.reshape(-1, share, 3)[rows]
    normal = unit(normal)
    depth = first.depth.reshape(-1, share)[rows]
    material = mesh.material[face[rows]]
    agree = (material == material[:, :1]).all(1) & (np.abs(dot(normal, normal[:, :1])) > SAME_COS).all(1)
    agree &= np.abs(depth / depth[:, :1] - 1).max(1) < SAME_DEPTH
    one_face[rows[agree]] = True
    alike = np.flatnonzero(one_face)
    merged = replace(first.pick(alike * share), pixel=alike)
    apart = [replace(hits, pixel=hits.pixel // share, weight=hits.weight / share) for hits in passes]
    apart = [hits.pick(~one_face[hits.pixel] & (hits.weight > 0)) for hits in apart]
    return _join([merged, *apart])


def _join(parts: list[Fragments]) -> Fragments:
    return Fragments(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Fragments)))


def _crop(fragments: Fragments, alpha: np.ndarray, box: Box) -> Coverage:
    """Cuts the traced box (h, w) down to what the object covers, its start kept even."""
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    top, left = rows[0] & ~1, columns[0] & ~1
    height, width = rows[-1] - top + 1, columns[-1] - left + 1
    row, column = np.divmod(fragments.pixel, alpha.shape[1])
    pixel = (row - top) * width + column - left
    order = np.argsort(-fragments.depth, kind="stable")
    front = np.full(height * width, -1)
    front[pixel[order]] = order  # the nearest is written last
    return Coverage(
        box=Box(int(box.x0 + left), int(box.y0 + top), int(box.x0 + left + width), int(box.y0 + top + height)),
        fragments=replace(fragments, pixel=pixel),
        alpha=alpha[top : top + height, left : left + width],
        front=front.reshape(height, width),
    )
