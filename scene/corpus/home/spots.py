"""Where an item of a rule may go: one random pose at a time, before anyone asks whether there is room for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from scene.corpus.home.placement import Body
from scene.corpus.home.recipes import Item
from scene.corpus.home.rules import Rules
from scene.corpus.home.shell import Shell, draw

TURNS = {"same": 0.0, "away": 180.0, "left": -90.0, "right": 90.0, "towards": 180.0}
FRAME_DEPTH_M = 0.03  # how far a window or door frame stands out of its wall
ON_WALL_M = 0.003  # what hangs on a wall does not quite touch it
SEAT_OF_SITTER_M = 0.46  # the library's sitting people sit this high
SITTER_SCALE = (0.86, 1.12)  # how far they may be scaled to fit a seat
SITTER_SHOULDERS_M = 0.7
KNEE_M = 0.06  # how far behind a seat's front edge a sitter's middle lies
SLOT_GAP_M = 0.06  # between chairs on one side of a table


@dataclass(frozen=True)
class Pose:
    """A proposal: position of the model's origin, where it looks, what carries it."""

    x: float
    y: float
    z: float
    facing_deg: float
    support: Literal["floor", "wall", "ceiling", "object"] = "floor"
    supporter: int | None = None
    wall: str | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Extent:
    """Width, depth and height of what is to be placed, metres, and how high it hangs by custom."""

    width: float
    depth: float
    height: float
    elevation: float

    def turned(self, degrees: float) -> tuple[float, float]:
        """Width and depth of the upright rectangle round it when turned."""
        cos, sin = abs(np.cos(np.deg2rad(degrees))), abs(np.sin(np.deg2rad(degrees)))
        return float(self.width * cos + self.depth * sin), float(self.width * sin + self.depth * cos)


@dataclass(frozen=True)
class Spots:
    """Draws poses for one scene."""

    shell: Shell
    rules: Rules
    rng: np.random.Generator

    def propose(self, item: Item, size: Extent, parent: Body | None, parent_index: int | None) -> Pose | None:
        """A pose as the rule wants it, or None where this size cannot go there at all."""
        if item.at in ("wall", "hang", "opening"):
            return self._against_wall(item, size)
        if item.at == "ceiling" or (item.at == "floor" and parent is None):
            return self._free(item, size)
        if parent is None or parent_index is None:
            return self._free(item, size)
        if item.at == "on":
            return self._on(item, size, parent, parent_index)
        if item.at == "over":
            return self._over(item, size, parent)
        if item.at == "above":
            x, y, _ = parent.placed.position
            return Pose(x, y, self._hanging(item, size), parent.facing_deg, "ceiling")
        if item.at == "around":
            return self._around(item, size, parent)
        if item.at == "sit":
            return self._sit(item, size, parent, parent_index)
        if parent.placed.support == "wall":
            return self._along_wall(item, size, parent)
        return self._next_to(item, size, parent)

    def _is_round(self, body: Body) -> bool:
        return body.placed.label in self.rules.round_tops or body.placed.model in self.rules.round_tops

    def _turn(self, item: Item) -> float:
        return draw(self.rng, item.turn)

    def _hanging(self, item: Item, size: Extent) -> float:
        return draw(self.rng, item.z) if item.z else self.shell.height - size.height

    def _against_wall(self, item: Item, size: Extent) -> Pose | None:
        names = [name for name in item.walls if name in self.shell.walls]
        if not names:
            return None
        name = names[int(self.rng.integers(len(names)))]
        wall = self.shell.walls[name]
        room = wall.length - size.width
        if room < 0:
            return None
        along = size.width / 2 + draw(self.rng, item.along) * room
        if item.at == "wall":
            x, y = wall.point(along, draw(self.rng, item.gap) + size.depth / 2)
            z = draw(self.rng, item.z) if item.z else 0.0
            return Pose(x, y, z, wall.facing_deg + self._turn(item), "floor", None, name)
        inwards = FRAME_DEPTH_M - size.depth / 2 if item.at == "opening" else ON_WALL_M + size.depth / 2
        x, y = wall.point(along, inwards)
        z = draw(self.rng, item.z) if item.z else size.elevation
        return Pose(x, y, z, wall.facing_deg, "wall", None, name)

    def _free(self, item: Item, size: Extent) -> Pose:
        half = max(self.shell.width / 2 - size.width / 2, 0.0)
        facing = self.rng.uniform(0, 360) if item.face == "any" else TURNS[item.face]
        x = draw(self.rng, item.x or (-half, half))
        y = draw(self.rng, item.y or (-self.shell.depth + size.depth / 2, -size.depth / 2))
        facing = float(facing) + self._turn(item)
        if item.at == "ceiling":
            return Pose(x, y, self._hanging(item, size), facing, "ceiling")
        return Pose(x, y, draw(self.rng, item.z) if item.z else 0.0, facing)

    def _on(self, item: Item, size: Extent, parent: Body, index: int) -> Pose | None:
        if parent.top is None:
            return None
        turn = (float(self.rng.uniform(0, 360)) if item.face == "any" else TURNS[item.face]) + self._turn(item)
        width, depth = size.turned(turn)
        half_x, half_y = (parent.width - width) / 2, (parent.depth - depth) / 2
        if half_x < 0 or half_y < 0:
            return None
        across = draw(self.rng, item.x or (-0.9, 0.9)) * half_x
        along = draw(self.rng, item.y or (-0.9, 0.9)) * half_y
        if self._is_round(parent):
            reach = np.hypot(across, along) + np.hypot(size.width, size.depth) / 2
            if reach > min(parent.width, parent.depth) / 2:
                return None
        x, y = parent.at(across, along)
        return Pose(
            x, y, parent.placed.position[2] + parent.top, parent.facing_deg + turn, "object", index, parent.wall
        )

    def _over(self, item: Item, size: Extent, parent: Body) -> Pose | None:
        if parent.wall is None:
            return None
        wall = self.shell.walls[parent.wall]
        px, py, pz = parent.placed.position
        along = (px - wall.origin[0]) * wall.along[0] + (py - wall.origin[1]) * wall.along[1]
        along += draw(self.rng, item.x or (-0.1, 0.1)) * max(parent.width - size.width, 0.0) / 2
        if not size.width / 2 <= along <= wall.length - size.width / 2:
            return None
        z = draw(self.rng, item.z) if item.z else pz + parent.height + draw(self.rng, item.gap)
        in_front = FRAME_DEPTH_M if parent.opening else 0.0
        x, y = wall.point(along, in_front + ON_WALL_M + size.depth / 2)
        return Pose(x, y, z, wall.facing_deg, "wall", None, parent.wall)

    def _around(self, item: Item, size: Extent, parent: Body) -> Pose:
        """A seat at a table: on one of its sides, looking at it, its front edge under the top by `tuck`."""
        tuck = draw(self.rng, item.tuck)
        if self._is_round(parent):
            angle = float(self.rng.integers(8)) * 45.0
            reach = min(parent.width, parent.depth) / 2 + size.depth / 2 - tuck
            across, along = reach * np.sin(np.deg2rad(angle)), -reach * np.cos(np.deg2rad(angle))
            facing = angle + 180.0
        else:
            side = item.side[int(self.rng.integers(len(item.side)))]
            length = parent.width if side in ("front", "back") else parent.depth
            slots = max(1, int(length / (size.width + SLOT_GAP_M)))
            slot = ((int(self.rng.integers(slots)) + 0.5) / slots - 0.5) * length
            reach = (parent.depth if side in ("front", "back") else parent.width) / 2 + size.depth / 2 - tuck
            across, along, facing = {
                "front": (slot, -reach, 180.0), "back": (slot, reach, 0.0),
                "left": (-reach, slot, 90.0), "right": (reach, slot, -90.0),
            }[side]  # fmt: skip
        x, y = parent.at(float(across), float(along))
        return Pose(x, y, 0.0, parent.facing_deg + facing + self._turn(item))

    def _sit(self, item: Item, size: Extent, parent: Body, index: int) -> Pose | None:
        """A sitting person: calves before the seat's front edge, feet on the ground that the seat stands on."""
        if parent.top is None or parent.placed.support != "floor":
            return None
        scale = parent.top / SEAT_OF_SITTER_M
        if not SITTER_SCALE[0] <= scale <= SITTER_SCALE[1]:
            return None
        room = max(parent.width - SITTER_SHOULDERS_M, 0.0) / 2
        across = draw(self.rng, item.x or (-0.9, 0.9)) * room
        x, y = parent.at(across, -parent.depth / 2 + KNEE_M * scale)
        z = parent.placed.position[2]
        return Pose(x, y, z, parent.facing_deg, "object", index, None, scale)

    def _along_wall(self, item: Item, size: Extent, parent: Body) -> Pose | None:
        """Beside something that hangs on a wall or sits in it, on the same wall."""
        wall = self.shell.walls[parent.wall or ""]
        px, py, pz = parent.placed.position
        along = (px - wall.origin[0]) * wall.along[0] + (py - wall.origin[1]) * wall.along[1]
        side = item.side[int(self.rng.integers(len(item.side)))]
        along += (-1 if side == "left" else 1) * (parent.width / 2 + size.width / 2 + draw(self.rng, item.gap))
        if not size.width / 2 <= along <= wall.length - size.width / 2:
            return None
        x, y = wall.point(along, ON_WALL_M + size.depth / 2)
        return Pose(x, y, draw(self.rng, item.z) if item.z else pz, wall.facing_deg, "wall", None, parent.wall)

    def _next_to(self, item: Item, size: Extent, parent: Body) -> Pose | None:
        """Beside, or in front of, what it goes with, on the same supporter."""
        gap = draw(self.rng, item.gap)
        turn = (float(self.rng.uniform(0, 360)) if item.face == "any" else TURNS[item.face]) + self._turn(item)
        width, depth = size.turned(turn)
        if item.at == "front":
            across = draw(self.rng, item.x or (-0.1, 0.1)) * parent.width / 2
            along = -(parent.depth / 2 + gap + depth / 2)
        else:
            side = item.side[int(self.rng.integers(len(item.side)))]
            slack = (parent.depth - depth) / 2
            across = (-1 if side == "left" else 1) * (parent.width / 2 + gap + width / 2)
            along = {"back": slack, "front": -slack, "centre": 0.0}[item.align]
            if item.y:
                along += draw(self.rng, item.y) * parent.depth / 2
        x, y = parent.at(across, along)
        placed = parent.placed
        on_object = placed.support == "object"
        wall = parent.wall if item.at == "beside" and item.align == "back" else None
        return Pose(
            x, y, placed.position[2] if on_object else 0.0, parent.facing_deg + turn,
            "object" if on_object else "floor", placed.supporter if on_object else None, wall,
        )  # fmt: skip
