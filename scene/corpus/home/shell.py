"""The shell of a scene before anything stands in it: dimensions, walls, camera, light; and its surfaces at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scene.corpus.home.plan import Camera, Surface, Vector
from scene.corpus.home.recipes import Place, Range
from scene.corpus.home.rules import Rules

Quad = tuple[Vector, Vector, Vector, Vector]
Hole = tuple[float, float, float, float]  # along from, along to, low, high; metres
_Add = Callable[[str, Sequence[str], Sequence[Quad]], None]
BEHIND_CAMERA_M = 2.0  # walls and floor go on behind the camera, so that no edge shows
TOUCH_WALL_M = 0.001  # positions are rounded, so that what touches a wall may stick in it by less than this
UNDER_EDGE_M = 0.005  # how far a frame covers the edge of its opening


def draw(rng: np.random.Generator, limits: Range) -> float:
    """A number from a range."""
    return float(rng.uniform(*limits))


@dataclass(frozen=True)
class Wall:
    """A wall as seen from inside: its left end (x, y), unit vector along it to the right, unit vector inwards, metres.

    Attributes:
        facing_deg: where something with its back to this wall looks.
    """

    origin: tuple[float, float]
    along: tuple[float, float]
    inwards: tuple[float, float]
    length: float
    facing_deg: float

    def point(self, along_m: float, inwards_m: float) -> tuple[float, float]:
        """World x, y."""
        return (
            self.origin[0] + along_m * self.along[0] + inwards_m * self.inwards[0],
            self.origin[1] + along_m * self.along[1] + inwards_m * self.inwards[1],
        )


@dataclass(frozen=True)
class Shell:
    """Dimensions drawn for one scene; the back wall is y = 0, the middle of it x = 0.

    Attributes:
        place: the rule it was drawn from.
        width, depth, height: metres; outdoors the height of the house front, 0 without one.
        walls: by name; outdoors at most "back".
        camera: the view.
        light: unit vector towards the main light.
    """

    place: Place
    width: float
    depth: float
    height: float
    walls: Mapping[str, Wall]
    camera: Camera
    light: Vector

    @classmethod
    def drawn(cls, place: Place, rng: np.random.Generator) -> Shell:
        """Draws dimensions, camera and light within the rule's ranges."""
        width, depth = draw(rng, place.width), draw(rng, place.depth)
        height = draw(rng, place.height if place.indoors else place.front.height if place.front else (0, 0))
        walls: dict[str, Wall] = {}
        if height > 0:
            walls["back"] = Wall((-width / 2, 0.0), (1.0, 0.0), (0.0, -1.0), width, 0.0)
        if place.indoors:
            walls["left"] = Wall((-width / 2, -depth), (0.0, 1.0), (1.0, 0.0), depth, 90.0)
            walls["right"] = Wall((width / 2, 0.0), (0.0, -1.0), (-1.0, 0.0), depth, -90.0)
        rule = place.camera
        x = draw(rng, rule.x)
        if place.indoors:
            x = float(np.clip(x, -width / 2 + 0.4, width / 2 - 0.4))
        camera = Camera(
            (x, -draw(rng, rule.distance), draw(rng, rule.height)),
            (draw(rng, rule.look_x), draw(rng, rule.look_y), draw(rng, rule.look_z)),
            draw(rng, rule.fov),
        )
        light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.8, -0.3), rng.uniform(0.7, 1.0)])
        lx, ly, lz = (float(value) for value in light / np.linalg.norm(light))
        return cls(place, width, depth, height, walls, camera, (lx, ly, lz))

    def contains(self, corners: Sequence[tuple[float, float]], margin_m: float = 0.0) -> bool:
        """Whether points on the ground lie within the walls."""
        if not self.walls:
            return True
        half = self.width / 2 - margin_m if self.place.indoors else np.inf
        return all(abs(x) <= half + TOUCH_WALL_M and y <= -margin_m + TOUCH_WALL_M for x, y in corners)

    def surfaces(
        self, openings: Mapping[str, Sequence[Hole]], rules: Rules, rng: np.random.Generator
    ) -> tuple[tuple[Surface, ...], tuple[str, ...]]:
        """Surfaces back to front and the facts that they bring along.

        Args:
            openings: per wall, rectangles (along from, along to, low, high) in metres that windows and doors fill.
        """
        place, found, facts = self.place, [], []

        def add(label: str, names: Sequence[str], quads: Sequence[Quad] = ()) -> None:
            rule = rules.materials[names[int(rng.integers(len(names)))]]
            text = rules.vocabulary.with_article(label, rule.text.format(surface=label))
            found.append(Surface(label, text, rule.material, tuple(quads)))
            if rule.fact:
                facts.append(rule.fact)

        if place.sky and (openings or not place.indoors):  # a room shows the sky only through its windows
            add("sky", place.sky)
        if place.indoors:
            self._room(add, openings)
        for ground in place.ground:
            (x0, x1), (y0, y1) = ground.x, ground.y
            add(ground.label, ground.materials, [((x0, y0, 0.0), (x1, y0, 0.0), (x1, y1, 0.0), (x0, y1, 0.0))])
        if place.front:
            wall = Wall((place.front.x[0], 0.0), (1.0, 0.0), (0.0, -1.0), place.front.x[1] - place.front.x[0], 0.0)
            shift = -self.width / 2 - place.front.x[0]
            holes = [(a + shift, b + shift, low, high) for a, b, low, high in openings.get("back", ())]
            add(place.front.label, place.front.materials, _pierced(wall, self.height, holes))
        return tuple(found), tuple(facts)

    def _room(self, add: _Add, openings: Mapping[str, Sequence[Hole]]) -> None:
        far = max(-self.camera.position[1], self.depth) + BEHIND_CAMERA_M
        half, top = self.width / 2, self.height
        floor: Quad = ((-half, -far, 0.0), (half, -far, 0.0), (half, 0.0, 0.0), (-half, 0.0, 0.0))
        ceiling: Quad = ((-half, -far, top), (half, -far, top), (half, 0.0, top), (-half, 0.0, top))
        quads: list[Quad] = []
        for name, wall in self.walls.items():
            longer = wall
            holes = list(openings.get(name, ()))
            if name != "back":
                extra = far - self.depth
                origin = wall.point(-extra, 0.0) if name == "left" else wall.origin
                longer = Wall(origin, wall.along, wall.inwards, wall.length + extra, wall.facing_deg)
                if name == "left":
                    holes = [(a + extra, b + extra, low, high) for a, b, low, high in holes]
            quads += _pierced(longer, top, holes)
        add("floor", self.place.floor, [floor])
        add("ceiling", self.place.ceiling, [ceiling])
        add("wall", self.place.wall, quads)


def _pierced(wall: Wall, height: float, holes: Sequence[Hole]) -> list[Quad]:
    """A wall as rectangles round its openings, none of which share a stretch of the wall."""

    def panel(a: float, b: float, low: float, high: float) -> Quad:
        (ax, ay), (bx, by) = wall.point(a, 0.0), wall.point(b, 0.0)
        return (ax, ay, low), (bx, by, low), (bx, by, high), (ax, ay, high)

    quads, done = [], 0.0
    for a, b, low, high in sorted(holes):
        a, b, high = a + UNDER_EDGE_M, b - UNDER_EDGE_M, high - UNDER_EDGE_M
        low = low + UNDER_EDGE_M if low > 0 else 0.0
        quads.append(panel(done, a, 0.0, height))
        if low > 0:
            quads.append(panel(a, b, 0.0, low))
        if high < height:
            quads.append(panel(a, b, high, height))
        done = b
    quads.append(panel(done, wall.length, 0.0, height))
    return quads
