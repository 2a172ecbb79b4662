"""The contract between arranging a scene (`arrange`) and rendering it (`render`): a frozen description in metres.

World frame: x to the right, y away from the camera's default position, z up; the floor or ground is z = 0.
Model frame: origin in the middle of the footprint at its lowest point, x right, y backwards (a model faces -y), z up,
metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position, target: metres, world frame; the picture's up is as near to +z as it can be.
        fov_deg: horizontal field of view.
    """

    position: Vector
    target: Vector
    fov_deg: float


@dataclass(frozen=True)
class Material:
    """A procedural material of a surface, or a recolouring of a model.

    Attributes:
        kind: name of a pattern in `surfaces` ("paint", "planks", "tiles", "carpet", "grass", "asphalt", "sky", ...).
        colours: RGB 0 to 255, main colour first.
        scale_m: size of the pattern's unit in metres.
    """

    kind: str
    colours: tuple[tuple[int, int, int], ...]
    scale_m: float = 1.0


@dataclass(frozen=True)
class Surface:
    """One of the first layers.

    Attributes:
        label: category ("floor", "wall", "sky", "road", "lawn", ...).
        description: `T_obj` ("a light oak plank floor").
        material: what it looks like.
        quads: planar quadrilaterals, four corners each in order, world frame; several walls make one layer. Empty = the
            whole background (sky).
    """

    label: str
    description: str
    material: Material
    quads: tuple[tuple[Vector, Vector, Vector, Vector], ...] = ()


@dataclass(frozen=True)
class Placed:
    """One model in the scene.

    Attributes:
        model: catalogue id.
        label, description: category and `T_obj` ("a red leather armchair").
        position: where the model frame's origin lies, metres.
        yaw_deg: rotation about +z, counter-clockwise from above; 0 = faces -y, towards the default camera.
        scale: uniform, 1 = the catalogue's real size.
        tint: recolouring of its untextured main material, or None; the description already says so.
        support: what carries it: "floor", "wall" or "ceiling", or "object" (then `supporter`).
        supporter: index into `ScenePlan.objects` of what it stands on.
    """

    model: str
    label: str
    description: str
    position: Vector
    yaw_deg: float
    scale: float = 1.0
    tint: tuple[int, int, int] | None = None
    support: Literal["floor", "wall", "ceiling", "object"] = "floor"
    supporter: int | None = None


@dataclass(frozen=True)
class ScenePlan:
    """Everything that a picture is made of.

    Attributes:
        id: unique in the corpus.
        recipe: which room recipe made it ("living_room/tv_corner").
        split: train, val or test.
        camera: the view.
        surfaces: back to front.
        objects: any order; the renderer finds the depth order.
        light: unit vector towards the main light.
        facts: whatever else a prompt may say truthfully (time of day, style).
    """

    id: str
    recipe: str
    split: str
    camera: Camera
    surfaces: tuple[Surface, ...]
    objects: tuple[Placed, ...]
    light: Vector = (0.3, -0.5, 0.8)
    facts: tuple[str, ...] = field(default=())
