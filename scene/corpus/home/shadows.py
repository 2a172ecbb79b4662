"""How much of the key light and of the sky an object takes from the points around it, by ray casting at half size.

A few rays a point, turned from pixel to pixel in a 3 x 3 pattern, then averaged over that pattern within one surface:
soft shadows without noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scene.corpus.home.meshes import Mesh
from scene.corpus.home.shading import Light
from scene.corpus.home.tracing import Instance
from scene.corpus.home.view import dot

PATTERN = 3
KEY_RAYS, SKY_RAYS = 8, 8
REACH_M = (0.15, 1.2)  # least and most distance at which an object hides the sky
LIFT_M = 3e-3  # off the surface, where rays start
GOLDEN = np.pi * (3 - np.sqrt(5))
PASSES = 4  # holes and panes that a shadow ray goes through


@dataclass(frozen=True, eq=False)
class Receivers:
    """Surface points on a grid of every second pixel.

    Attributes:
        position, normal: float32 (h, w, 3), world frame, metres.
        reach: float32 (h, w, 2), shares of the key light and of the sky that reach them.
        known: bool (h, w), False = nothing there (sky).
    """

    position: np.ndarray
    normal: np.ndarray
    reach: np.ndarray
    known: np.ndarray

    def crop(self, rows: slice, columns: slice) -> Receivers:
        """A part of the grid; shares memory."""
        return Receivers(*(part[rows, columns] for part in (self.position, self.normal, self.reach, self.known)))


def _disc(count: int) -> np.ndarray:
    """Evenly spread points of the unit disc (PATTERN ** 2, count, 2); each row covers all radii."""
    number = np.arange(PATTERN**2 * count)
    radius, angle = np.sqrt((number + 0.5) / len(number)), number * GOLDEN
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    return points.reshape(count, PATTERN**2, 2).swapaxes(0, 1).astype(np.float32)


def _frame(normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors (..., 3) that are square to each unit normal and to each other."""
    x, y, z = np.moveaxis(normal, -1, 0)
    sign = np.where(z >= 0, np.float32(1), np.float32(-1))
    a = -1 / (sign + z)
    b = x * y * a
    return (
        np.stack([1 + sign * x * x * a, sign * b, -sign * x], -1),
        np.stack([b, sign + y * y * a, -y], -1),
    )


def reach_past(caster: Instance, receivers: Receivers, light: Light) -> np.ndarray:
    """Shares of key light and sky that get past one object.

    Args:
        caster: the object.
        receivers: points that it may shade; may be its own.
        light: where the key light comes from.

    Returns:
        float32 (h, w, 2), 0 to 1, not yet averaged over the pattern; 1 where it takes nothing.
    """
    passed = np.ones((*receivers.known.shape, 2), np.float32)
    rows, columns = np.nonzero(receivers.known)
    normal = receivers.normal[rows, columns]
    start = receivers.position[rows, columns] + LIFT_M * normal
    pattern = (rows % PATTERN) * PATTERN + columns % PATTERN
    model = caster.to_model(start).astype(np.float32)
    key = light.direction.astype(np.float32)
    lit = np.flatnonzero((normal @ key > 0) & _ray_meets_box(caster, model, key))
    if len(lit):
        across, upwards = _frame(key)
        spread = _disc(KEY_RAYS) * np.tan(np.deg2rad(light.spread_deg))
        rays = key + spread[..., :1] * across + spread[..., 1:] * upwards
        rays = caster.directions_to_model(rays).astype(np.float32)[pattern[lit]]
        passed[rows[lit], columns[lit], 0] = _clear(caster.mesh, model[lit], rays, np.full(rays.shape[:2], 1e6))
    reach_m = float(np.clip(0.6 * max(caster.size_m), *REACH_M))
    near = np.flatnonzero(_near_box(caster, model, reach_m))
    if len(near):
        across, upwards = _frame(normal[near])
        spread = _disc(SKY_RAYS)[pattern[near]]
        rise = np.sqrt(1 - (spread**2).sum(-1, keepdims=True))
        rays = spread[..., :1] * across[:, None] + spread[..., 1:] * upwards[:, None] + rise * normal[near, None]
        rays = caster.directions_to_model(rays).astype(np.float32)
        number = np.arange(PATTERN**2 * SKY_RAYS).reshape(SKY_RAYS, -1).T
        lengths = reach_m * (0.3 + 0.7 * (number * GOLDEN % 1))  # of all lengths, so that the effect ends softly
        passed[rows[near], columns[near], 1] = _clear(caster.mesh, model[near], rays, lengths[pattern[near]])
    return passed


def _half_box(caster: Instance, margin_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corner of the model's box, model frame, with a margin in world metres."""
    width, depth, height = caster.mesh.size_m
    margin = margin_m / caster.placed.scale
    return (
        np.array([-width / 2, -depth / 2, 0], np.float32) - margin,
        np.array([width / 2, depth / 2, height], np.float32) + margin,
    )


def _near_box(caster: Instance, points: np.ndarray, reach_m: float) -> np.ndarray:
    low, high = _half_box(caster, reach_m)
    return np.asarray(((points > low) & (points < high)).all(1))


def _ray_meets_box(caster: Instance, points: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Whether the key light, as a bundle, comes to points (N, 3; model frame) through the object's box."""
    low, high = _half_box(caster, 0.02 + 0.15 * max(caster.size_m))
    towards = caster.directions_to_model(key).astype(np.float32)
    towards = np.where(np.abs(towards) < 1e-6, np.float32(1e-6), towards)
    a, b = (low - points) / towards, (high - points) / towards
    enter, leave = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
    return np.asarray(leave > np.maximum(enter, 0))


def _clear(mesh: Mesh, points: np.ndarray, rays: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Share of the rays (N, K, 3) of some lengths (N, K) from points (N, 3) that get through, float32 (N,)."""
    count, each = rays.shape[:2]
    start, ahead = np.repeat(points, each, axis=0), rays.reshape(-1, 3)
    clear = np.ones(len(start), np.float32)
    far = lengths.reshape(-1).astype(np.float32)
    if not mesh.see_through:
        blocked = mesh.tracer.run(start, ahead, dists=far, query="OCCLUDED") >= 0
        return np.asarray(1 - blocked.reshape(count, each).mean(1, dtype=np.float32))
    live = np.arange(len(start))
    for _ in range(PASSES):
        found = mesh.tracer.run(start, ahead, dists=far, output=1)
        hit = np.flatnonzero(found["primID"] >= 0)
        face, u, v = found["primID"][hit], found["u"][hit], found["v"][hit]
        opacity = mesh.opacity_at(face, np.stack([1 - u - v, u, v], -1))
        live = live[hit]
        clear[live] *= 1 - opacity
        on = opacity < 1
        live, hit = live[on], hit[on]
        if not len(live):
            break
        step = found["tfar"][hit] + LIFT_M
        start, ahead, far = start[hit] + ahead[hit] * step[:, None], ahead[hit], far[hit] - step
        keep = far > 0
        live, start, ahead, far = live[keep], start[keep], ahead[keep], far[keep]
        if not len(live):
            break
    return np.asarray(clear.reshape(count, each).mean(1))


def smooth(values: np.ndarray, receivers: Receivers) -> np.ndarray:
    """Averages values (h, w, C) over the pattern, within one surface: along rows, then along columns."""
    for axis in (1, 0):
        total, weight = np.zeros_like(values), np.zeros((*values.shape[:2], 1), np.float32)
        length = values.shape[axis]
        for shift in range(-(PATTERN // 2), PATTERN // 2 + 1):
            here: list[slice] = [slice(None), slice(None)]
            there = list(here)
            here[axis] = slice(max(0, -shift), length - max(0, shift))
            there[axis] = slice(max(0, shift), length - max(0, -shift))
            a, b = tuple(here), tuple(there)
            share = receivers.known[b].astype(np.float32)
            if shift:
                share *= same_surface(
                    receivers.position[a], receivers.normal[a], receivers.position[b], receivers.normal[b]
                )
            total[a] += share[..., None] * values[b]
            weight[a] += share[..., None]
        values = np.where(weight > 0, total / np.maximum(weight, 1), 1).astype(np.float32)
    return values


def same_surface(position: np.ndarray, normal: np.ndarray, position_b: np.ndarray, normal_b: np.ndarray) -> np.ndarray:
    """Whether pairs of points (..., 3) face one way and lie in one plane, as bool (...)."""
    offset = position_b - position
    apart = np.abs(dot(offset, normal))
    return np.asarray((dot(normal, normal_b) > 0.8) & (apart < 0.01 + 0.3 * np.sqrt(dot(offset, offset))))


def enlarge(values: np.ndarray, receivers: Receivers, position: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Brings values (h, w, C) to full size, taking each pixel's from grid points of its own surface.

    Args:
        values: on the grid.
        receivers: the grid.
        position, normal: float32 (H, W, 3), full size; pixel (2 i, 2 j) is grid point (i, j).
    """
    height, width = position.shape[:2]
    rows, columns = np.arange(height), np.arange(width)
    total = np.zeros((height, width, values.shape[2]), np.float32)
    weight = np.zeros((height, width, 1), np.float32)
    for dy in (0, 1):
        for dx in (0, 1):
            y = np.minimum(rows // 2 + dy * (rows % 2), values.shape[0] - 1)[:, None]
            x = np.minimum(columns // 2 + dx * (columns % 2), values.shape[1] - 1)[None]
            alike = same_surface(position, normal, receivers.position[y, x], receivers.normal[y, x])
            share = np.where(receivers.known[y, x], np.where(alike, 1.0, 1e-3), 0.0)[..., None].astype(np.float32)
            total += share * values[y, x]
            weight += share
    return np.where(weight > 0, total / np.maximum(weight, 1e-6), 1).astype(np.float32)
