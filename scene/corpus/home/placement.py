"""What space things take up: oriented boxes, whether two of them meet, and how they look from the camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from scene.corpus.home.catalog import Catalog, CatalogModel
from scene.corpus.home.plan import Placed, ScenePlan
from scene.corpus.home.rules import Rules
from scene.corpus.home.view import NEAR_M, View

TOUCH_M = 0.002  # deeper than this is an overlap: bodies that stand on each other only touch
WHOLE = ((0.0, 1.0, 0.0, 1.0, 0.0, 2.0),)  # the shape of whatever has no shape of its own: its box


@dataclass(frozen=True)
class Block:
    """An upright box, metres: centre (x, y), half sides along its own axes, heading, lowest and highest z."""

    x: float
    y: float
    half_width: float
    half_depth: float
    yaw_deg: float
    low: float
    high: float

    @cached_property
    def radius(self) -> float:
        """Of the upright cylinder round it."""
        return float(np.hypot(self.half_width, self.half_depth))

    @cached_property
    def axes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Unit vectors to its right and to its back."""
        cos, sin = float(np.cos(np.deg2rad(self.yaw_deg))), float(np.sin(np.deg2rad(self.yaw_deg)))
        return (cos, sin), (-sin, cos)

    def footprint(self, grow_m: float = 0.0) -> list[tuple[float, float]]:
        """Corners on the ground, in order."""
        (rx, ry), (bx, by) = self.axes
        corners = []
        for across, along in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            w, d = across * (self.half_width + grow_m), along * (self.half_depth + grow_m)
            corners.append((self.x + w * rx + d * bx, self.y + w * ry + d * by))
        return corners


@dataclass(frozen=True)
class Body:
    """A placed model with its space.

    Attributes:
        placed: the plan's value.
        model: of the catalogue.
        facing_deg: where it looks, 0 = the default camera; the plan's yaw without the model's own correction.
        width, depth, height, top: metres, in its facing frame, scale applied; top = where things are put on it.
        wall: which wall it stands at or hangs on.
        opening: it sits in a hole of that wall.
    """

    placed: Placed
    model: CatalogModel
    facing_deg: float
    width: float
    depth: float
    height: float
    top: float | None
    wall: str | None = None
    opening: bool = False

    @classmethod
    def of(cls, placed: Placed, catalog: Catalog, rules: Rules, wall: str | None = None) -> Body:
        """The body of a plan's object."""
        model, rule = catalog[placed.model], rules.models[placed.model]
        width, depth, height = (side * placed.scale for side in model.size_m)
        if round(rule.yaw / 90) % 2:
            width, depth = depth, width
        top = None if model.top_m is None or rule.bare else model.top_m * placed.scale
        opening = model.door_or_window and placed.support == "wall"
        return cls(placed, model, placed.yaw_deg - rule.yaw, width, depth, height, top, wall, opening)

    @cached_property
    def block(self) -> Block:
        """Its whole box."""
        x, y, z = self.placed.position
        return Block(x, y, self.width / 2, self.depth / 2, self.facing_deg, z, z + self.height)

    def at(self, across: float, along: float) -> tuple[float, float]:
        """World x, y of a point in its own frame: metres to the right of someone looking at its front, metres back."""
        (rx, ry), (bx, by) = self.block.axes
        x, y, _ = self.placed.position
        return x + across * rx + along * bx, y + across * ry + along * by

    def parts(self, rules: Rules) -> list[Block]:
        """The boxes that it fills, finer than `block` where its label has a shape."""
        label, role = self.placed.label, rules.models[self.placed.model].role
        shape = rules.shapes.get(f"{label}/{role}") or rules.shapes.get(label)
        top = self.height if self.top is None else self.top
        z = self.placed.position[2]
        blocks = []
        for x0, x1, y0, y1, z0, z1 in shape.parts if shape else WHOLE:
            x, y = self.at(((x0 + x1) / 2 - 0.5) * self.width, ((y0 + y1) / 2 - 0.5) * self.depth)
            low, high = (z + (h * top if h <= 1 else top + (h - 1) * (self.height - top)) for h in (z0, z1))
            half_width, half_depth = (x1 - x0) * self.width / 2, (y1 - y0) * self.depth / 2
            blocks.append(Block(x, y, half_width, half_depth, self.facing_deg, low, high))
        return blocks


def overlap(a: Block, b: Block, clearance_m: float = 0.0) -> bool:
    """Whether two blocks share space; `clearance_m` more room is asked for sideways."""
    if min(a.high, b.high) - max(a.low, b.low) <= TOUCH_M:
        return False
    offset = (b.x - a.x, b.y - a.y)
    if np.hypot(*offset) >= a.radius + b.radius + clearance_m:
        return False
    reach = TOUCH_M - clearance_m
    for axis in (*a.axes, *b.axes):
        extent = sum(
            half * abs(axis[0] * side[0] + axis[1] * side[1])
            for block in (a, b)
            for half, side in zip((block.half_width, block.half_depth), block.axes, strict=True)
        )
        if abs(offset[0] * axis[0] + offset[1] * axis[1]) >= extent - reach:
            return False
    return True


def bodies_overlap(a: Body, b: Body, rules: Rules, clearance_m: float = 0.0) -> bool:
    """Whether two things share space, by their parts; a thing rests on its supporter without meeting it."""
    if not overlap(a.block, b.block, clearance_m):
        return False
    return any(overlap(p, q, clearance_m) for p, q in product(a.parts(rules), b.parts(rules)))


def check_overlap(plan: ScenePlan, catalog: Catalog, rules: Rules) -> list[str]:
    """One line for every two things of a plan that share space; empty when all is well.

    A thing and what it stands on are left out: one touches the other's top, which for a bed or a sofa lies below its
    highest point.
    """
    bodies = [Body.of(placed, catalog, rules) for placed in plan.objects]
    found = []
    for i, a in enumerate(bodies):
        for j in range(i + 1, len(bodies)):
            b = bodies[j]
            if j == a.placed.supporter or i == b.placed.supporter:
                continue
            if bodies_overlap(a, b, rules):
                found.append(f"{plan.id}: {a.placed.model} ({i}) and {b.placed.model} ({j}) share space")
    return found


@dataclass(frozen=True)
class Sight:
    """How a box looks from the camera: its rectangle in pixels, not clipped, and its distance in metres."""

    x0: float
    y0: float
    x1: float
    y1: float
    distance_m: float

    @property
    def area(self) -> float:
        """Square pixels."""
        return max(self.x1 - self.x0, 0.0) * max(self.y1 - self.y0, 0.0)

    def clip(self, width: float, height: float) -> Sight:
        """The part on the canvas."""
        return Sight(
            min(max(self.x0, 0), width), min(max(self.y0, 0), height), min(max(self.x1, 0), width),
            min(max(self.y1, 0), height), self.distance_m,
        )  # fmt: skip

    def shrink(self, share: float) -> Sight:
        """The middle part, `share` of its width and height."""
        dx, dy = (self.x1 - self.x0) * (1 - share) / 2, (self.y1 - self.y0) * (1 - share) / 2
        return Sight(self.x0 + dx, self.y0 + dy, self.x1 - dx, self.y1 - dy, self.distance_m)

    def common(self, other: Sight) -> float:
        """Square pixels of both."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(width, 0.0) * max(height, 0.0)


def sight(block: Block, view: View) -> Sight | None:
    """The rectangle round a block's projected corners; None when part of it lies behind the camera."""
    corners = np.array([(x, y, z) for x, y in block.footprint() for z in (block.low, block.high)])
    x, y, depth = view.project(corners).T
    if depth.min() <= 4 * NEAR_M:
        return None
    return Sight(float(x.min()), float(y.min()), float(x.max()), float(y.max()), float(depth.mean()))


def hidden_share(target: Sight, nearer: Sequence[tuple[Sight, float]]) -> float:
    """Rough share of a rectangle that nearer things cover; each comes with how solid it is, 0 to 1."""
    if target.area <= 0:
        return 1.0
    return min(1.0, sum(solid * target.common(other) for other, solid in nearer) / target.area)
