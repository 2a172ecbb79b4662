"""Floors, walls, roads, lawns and the sky: planes seen by the camera, without ray casting.

Each quadrilateral is cut out on the canvas by the planes through the camera and its edges, smooth to a fraction of a
pixel. A surface that nothing lies behind is opaque up to its rim, so that no canvas shows between floor and wall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scene.corpus.home.plan import Surface, Vector
from scene.corpus.home.shading import Light, displayed, linear
from scene.corpus.home.surfaces import Patch, colour, sky_colour
from scene.corpus.home.view import NEAR_M, View, dot

HAZE_M, MOST_HAZE = 220.0, 0.75  # how soon, and how much of, the ground's colour is lost to the air
FARTHEST_M = 1e4
CORNER_M, CORNER_GAIN = 0.35, 0.28  # how far and how strongly planes that meet take each other's light
Quad = tuple[Vector, Vector, Vector, Vector]


@dataclass(frozen=True, eq=False)
class Scenery:
    """What all surfaces of a scene share.

    Attributes:
        view: the camera.
        light: what shines.
        rays: float32 (H, W, 3), the view's `pixel_rays`.
        walls: quads of all surfaces; where they meet they take each other's light.
        haze: colour of the distance as displayed, float32 (3,), 0 to 1; None indoors.
    """

    view: View
    light: Light
    rays: np.ndarray
    walls: tuple[Quad, ...]
    haze: np.ndarray | None

    @classmethod
    def of(cls, surfaces: Sequence[Surface], view: View, light: Light) -> Scenery:
        """The scenery of a plan's surfaces; the air takes on the sky's colour at the horizon."""
        skies = [surface.material.colours[-1] for surface in surfaces if not surface.quads]
        haze = np.array(skies[0], np.float32) / 255 if skies else None
        walls = tuple(quad for surface in surfaces for quad in surface.quads)
        return cls(view, light, view.pixel_rays().astype(np.float32), walls, haze)


@dataclass(frozen=True, eq=False)
class Backdrop:
    """What a view shows of one surface, the whole canvas.

    Attributes:
        rgb: uint8 (H, W, 3).
        alpha: float32 (H, W), 0 to 1.
        depth: float32 (H, W), metres, infinite where the surface is not, and for the sky.
        position, normal: float32 (H, W, 3), world frame; 0 where the surface is not.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    depth: np.ndarray
    position: np.ndarray
    normal: np.ndarray


def draw(surface: Surface, scenery: Scenery, covered: np.ndarray, seed: int) -> Backdrop:
    """Draws one surface.

    Args:
        surface: what to draw; without quads it fills the canvas as a sky.
        scenery: what it shares with the others.
        covered: bool (H, W), pixels that earlier surfaces fill.
        seed: of the pattern.

    Raises:
        UserError: its material is unknown.
    """
    if not surface.quads:
        return _sky(surface, scenery, seed)
    height, width = covered.shape
    painted, weight = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    alpha, depth = np.zeros((height, width), np.float32), np.full((height, width), np.inf, np.float32)
    position, normal = np.zeros((height, width, 3), np.float32), np.zeros((height, width, 3), np.float32)
    for quad in surface.quads:
        corners = np.array(quad, float)
        facing = _facing(corners, scenery.view)
        share, reached = _coverage(corners, facing, scenery)
        rows, columns = np.nonzero((share > 0) & ((reached < depth) | (weight < 1)))
        if not len(rows):
            continue
        at, along, part = reached[rows, columns], scenery.rays[rows, columns], share[rows, columns]
        points = (scenery.view.position + along * at[:, None]).astype(np.float32)
        patch = _patch(corners, points, along, at, facing, scenery.view)
        tone = _lit(colour(surface.material, patch, seed), points, along, at, quad, facing, scenery)
        nearer = at < depth[rows, columns]
        kept = np.where(nearer, 1 - part, 1)  # nearer quads go over what is there, farther ones under it
        added = np.where(nearer, part, part * (1 - weight[rows, columns]))
        painted[rows, columns] *= kept[:, None]
        painted[rows, columns] += added[:, None] * tone
        weight[rows, columns] = weight[rows, columns] * kept + added
        alpha[rows, columns] = np.minimum(alpha[rows, columns] + part, 1)  # neighbours share a seam
        front = rows[nearer], columns[nearer]
        depth[front], position[front], normal[front] = at[nearer], points[nearer], facing
    alpha[(alpha > 0) & ~covered] = 1
    rgb = np.rint(painted / np.maximum(weight, 1e-6)[..., None]).astype(np.uint8)
    return Backdrop(rgb, alpha, depth, position, normal)


def _sky(surface: Surface, scenery: Scenery, seed: int) -> Backdrop:
    shape = scenery.rays.shape[:2]
    tone = sky_colour(surface.material, scenery.rays.reshape(-1, 3), seed)
    rgb = np.rint(255 * tone).astype(np.uint8).reshape(*shape, 3)
    nowhere = np.zeros((*shape, 3), np.float32)
    return Backdrop(rgb, np.ones(shape, np.float32), np.full(shape, np.inf, np.float32), nowhere, nowhere)


def _lit(
    albedo: np.ndarray,
    points: np.ndarray,
    along: np.ndarray,
    depth: np.ndarray,
    quad: Quad,
    facing: np.ndarray,
    scenery: Scenery,
) -> np.ndarray:
    """Displayed colour (N, 3), 0 to 255, of points of a quad."""
    light, facing = scenery.light, facing.astype(np.float32)
    openness = _corner_light(points, facing, [other for other in scenery.walls if other is not quad])
    incident = light.ambient(facing) * openness[:, None] + light.incidence(facing) * light.key.astype(np.float32)
    incident += light.camera.astype(np.float32) * np.abs(along @ facing / np.sqrt(dot(along, along)))[:, None]
    tone = displayed(linear(albedo) * incident)
    if scenery.haze is None:
        return tone
    air = MOST_HAZE * (1 - np.exp(-depth / HAZE_M))[:, None]
    return np.asarray(tone + (255 * scenery.haze - tone) * air)


def _facing(corners: np.ndarray, view: View) -> np.ndarray:
    """Unit normal of a quad (4, 3) on the camera's side."""
    normal = np.cross(corners[2] - corners[0], corners[3] - corners[1])
    normal = normal / max(float(np.linalg.norm(normal)), 1e-12)
    return normal if (view.position - corners[0]) @ normal >= 0 else -normal


def _coverage(corners: np.ndarray, normal: np.ndarray, scenery: Scenery) -> tuple[np.ndarray, np.ndarray]:
    """Share of each pixel that a quad covers, and the depth of its plane there, both float32 (H, W)."""
    view, rays = scenery.view, scenery.rays
    share, depth = np.zeros(rays.shape[:2], np.float32), np.full(rays.shape[:2], np.inf, np.float32)
    x, y, ahead = view.project(corners).T
    window = slice(0, view.size.height), slice(0, view.size.width)
    if ahead.min() > NEAR_M:
        window = (
            slice(max(0, int(np.floor(y.min())) - 1), max(0, int(np.ceil(y.max())) + 1)),
            slice(max(0, int(np.floor(x.min())) - 1), max(0, int(np.ceil(x.max())) + 1)),
        )
    rays = rays[window]
    if not rays.size:
        return share, depth
    towards = rays @ normal.astype(np.float32)
    away = float((corners[0] - view.position) @ normal)
    reached = away / np.where(np.abs(towards) < 1e-9, np.float32(-1e-9), towards)
    part = ((reached > NEAR_M) & (reached < FARTHEST_M)).astype(np.float32)
    offsets = corners - view.position
    centre = offsets.mean(0)
    for a, b in zip(offsets, np.roll(offsets, -1, 0), strict=True):
        edge = np.cross(a, b)  # the plane through the camera and this edge
        edge = edge * np.sign(edge @ centre)
        slope = np.hypot(edge @ view.right, edge @ view.up) / view.focal_px
        part = np.minimum(part, np.clip(rays @ (edge / max(slope, 1e-12)).astype(np.float32) + 0.5, 0, 1))
    share[window], depth[window] = part, reached
    return share, depth


def _patch(
    corners: np.ndarray, points: np.ndarray, rays: np.ndarray, depth: np.ndarray, normal: np.ndarray, view: View
) -> Patch:
    """Coordinates of points in their plane, and how far a pixel reaches along each."""
    if abs(normal[2]) > 0.7:
        axes = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    else:
        across = np.cross((0.0, 0.0, 1.0), normal)
        axes = np.array([across / np.linalg.norm(across), (0.0, 0.0, 1.0)])
    towards = rays @ normal
    pixel = depth / view.focal_px
    spans = []
    for axis in axes:
        along = rays @ axis / np.where(np.abs(towards) < 1e-9, 1e-9, towards)
        steps = [np.abs(side @ axis - along * (side @ normal)) for side in (view.right, view.up)]
        spans.append(pixel * (steps[0] + steps[1]))
    u, v = points @ axes[0], points @ axes[1]
    flat = corners @ axes.T
    middle, extent = (flat.max(0) + flat.min(0)) / 2, np.ptp(flat, axis=0)
    sides = [u - middle[0], v - middle[1]]
    short = int(np.argmin(extent))
    return Patch(u, v, spans[0], spans[1], sides[short], sides[1 - short], float(extent[short]))


def _corner_light(points: np.ndarray, normal: np.ndarray, walls: list[Quad]) -> np.ndarray:
    """Share of the sky's light (N,) that planes standing on this one leave to points near them."""
    openness = np.ones(len(points), np.float32)
    planes: set[tuple[float, ...]] = set()  # a wall with a window is several quads, but takes its light once
    for quad in walls:
        corners = np.array(quad, float)
        other = np.cross(corners[2] - corners[0], corners[3] - corners[1])
        other /= max(float(np.linalg.norm(other)), 1e-12) * (np.sign(other[np.argmax(np.abs(other))]) or 1)
        plane = tuple(np.round([*other, other @ corners[0]], 3).tolist())
        if plane in planes or abs(other @ normal) > 0.7 or ((corners - points[0]) @ normal).max() < 0.3:
            continue  # known, parallel, or not on the lit side
        planes.add(plane)
        openness *= 1 - CORNER_GAIN * np.exp(-np.abs((points - corners[0]) @ other) / CORNER_M).astype(np.float32)
    return openness
