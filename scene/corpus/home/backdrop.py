"""Floors, walls, roads, lawns and the sky: planes seen by the camera, without ray casting.

Each quadrilateral is cut out on the canvas by the planes through the camera and its edges, smooth to a fraction of a
pixel. A surface that nothing lies behind is opaque up to its rim, so that no canvas shows between floor and wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scene.corpus.home.plan import Surface, Vector
from scene.corpus.home.shading import Light, displayed, linear
from scene.corpus.home.surfaces import Patch, colour, sky_colour
from scene.corpus.home.view import NEAR_M, View, dot

CORNER_M, CORNER_GAIN = 0.35, 0.28  # how far and how strongly planes that meet take each other's light
Quad = tuple[Vector, Vector, Vector, Vector]


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


def draw(
    surface: Surface, view: View, rays: np.ndarray, light: Light, covered: np.ndarray, walls: list[Quad], seed: int
) -> Backdrop:
    """Draws one surface.

    Args:
        surface: what to draw; without quads it fills the canvas as a sky.
        view, rays: the camera and its `pixel_rays`.
        light: what shines.
        covered: bool (H, W), pixels that earlier surfaces fill.
        walls: quads of all surfaces of the plan, whose corners darken each other.
        seed: of the pattern.
    """
    height, width = covered.shape
    if not surface.quads:
        rgb = np.rint(255 * sky_colour(surface.material, rays.reshape(-1, 3), seed)).astype(np.uint8)
        empty = np.zeros((height, width, 3), np.float32)
        everywhere = np.ones((height, width), np.float32)
        return Backdrop(rgb.reshape(height, width, 3), everywhere, np.full_like(everywhere, np.inf), empty, empty)
    painted, weight = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    alpha, depth = np.zeros((height, width), np.float32), np.full((height, width), np.inf, np.float32)
    position, normal = np.zeros((height, width, 3), np.float32), np.zeros((height, width, 3), np.float32)
    for number, quad in enumerate(surface.quads):
        corners = np.array(quad, float)
        facing = _facing(corners, view)
        share, reached = _coverage(corners, facing, view, rays)
        rows, columns = np.nonzero((share > 0) & ((reached < depth) | (weight < 1)))
        if not len(rows):
            continue
        at, along, part = reached[rows, columns], rays[rows, columns], share[rows, columns]
        points = view.position + along * at[:, None]
        patch = _patch(corners, points, along, at, facing, view)
        albedo = linear(colour(surface.material, patch, seed + number))
        openness = _corner_light(points, facing, [other for other in walls if other is not quad])
        normals = np.broadcast_to(facing.astype(np.float32), points.shape)
        incident = light.ambient(normals) * openness[:, None] + light.incidence(facing) * light.key
        incident = incident + light.camera * np.abs(along @ facing / np.sqrt(dot(along, along)))[:, None]
        nearer = at < depth[rows, columns]
        kept = np.where(nearer, 1 - part, 1)  # nearer quads go over what is there, farther ones under it
        added = np.where(nearer, part, part * (1 - weight[rows, columns]))
        painted[rows, columns] *= kept[:, None]
        painted[rows, columns] += added[:, None] * displayed(albedo * incident)
        weight[rows, columns] = weight[rows, columns] * kept + added
        alpha[rows, columns] = np.minimum(alpha[rows, columns] + part, 1)  # neighbours share a seam
        front = rows[nearer], columns[nearer]
        depth[front], position[front], normal[front] = at[nearer], points[nearer], facing
    alpha[(alpha > 0) & ~covered] = 1
    rgb = np.rint(painted / np.maximum(weight, 1e-6)[..., None]).astype(np.uint8)
    return Backdrop(rgb, alpha, depth, position, normal)


def _facing(corners: np.ndarray, view: View) -> np.ndarray:
    """Unit normal of a quad (4, 3) on the camera's side."""
    normal = np.cross(corners[2] - corners[0], corners[3] - corners[1])
    normal = normal / max(float(np.linalg.norm(normal)), 1e-12)
    return normal if (view.position - corners[0]) @ normal >= 0 else -normal


def _coverage(corners: np.ndarray, normal: np.ndarray, view: View, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of each pixel that a quad covers, and the depth of its plane there, both float32 (H, W)."""
    offsets = corners - view.position
    centre = offsets.mean(0)
    share = np.ones(rays.shape[:2], np.float32)
    for a, b in zip(offsets, np.roll(offsets, -1, 0), strict=True):
        edge = np.cross(a, b)  # the plane through the camera and this edge
        edge = edge * np.sign(edge @ centre)
        slope = np.hypot(edge @ view.right, edge @ view.up) / view.focal_px
        share = np.minimum(share, np.clip(rays @ edge / max(slope, 1e-12) + 0.5, 0, 1))
    towards = rays @ normal
    depth = (corners[0] - view.position) @ normal / np.where(np.abs(towards) < 1e-9, -1e-9, towards)
    share[(depth < NEAR_M) | (depth > 1e4)] = 0
    return share.astype(np.float32), depth.astype(np.float32)


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
    openness = np.ones(len(points))
    for quad in walls:
        corners = np.array(quad, float)
        other = np.cross(corners[2] - corners[0], corners[3] - corners[1])
        other /= max(float(np.linalg.norm(other)), 1e-12)
        if abs(other @ normal) > 0.7 or ((corners - points[0]) @ normal).max() < 0.3:
            continue  # parallel, or not on the lit side
        openness *= 1 - CORNER_GAIN * np.exp(-np.abs((points - corners[0]) @ other) / CORNER_M)
    return openness
