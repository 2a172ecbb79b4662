"""The schema of the rules of use: what `configs/worlds/home/*.yaml` may say, as frozen values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from scene.corpus.home.plan import Material


def _range(value: object) -> object:
    """One number stands for a range of that number alone."""
    return (value, value) if isinstance(value, int | float) else value


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"range {list(value)} goes downwards; write the smaller number first")
    return value


Range = Annotated[tuple[float, float], BeforeValidator(_range), AfterValidator(_ascending)]  # low, high
Weights = Annotated[dict[str, float], BeforeValidator(lambda value: {value: 1.0} if isinstance(value, str) else value)]


Where = Literal[
    "wall", "hang", "opening", "ceiling", "floor", "on", "beside", "front", "around", "over", "above", "sit"
]  # fmt: skip


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ModelRule(_Rule):
    """What one model shows; see the head of models.yaml."""

    label: str = ""
    text: str = ""
    colour: str | None = None
    role: str = ""
    yaw: float = 0.0
    scale: float = 1.0
    bare: bool = False
    unusable: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> ModelRule:
        if self.unusable is None and not (self.label and self.text):
            raise ValueError("needs a label and a text, or unusable: why")
        if ("{colour}" in self.text) != (self.colour is not None):
            raise ValueError("{colour} in the text and the key colour go together")
        return self


class Item(_Rule):
    """One thing, or several alike, and what goes with it.

    Attributes:
        pick: label or "label/role", with weights; a model's id works too. `use` takes a named list of items instead.
        at: "wall" = its back to a wall; "hang" = on a wall; "opening" = in a hole of a wall; "ceiling"; "floor" = free
            standing; relative to the thing it goes with: "on", "beside", "front" of it, "around" it facing it,
            "over" it on the same wall, "above" it from the ceiling, "sit" = a sitting person at the front of a seat,
            scaled so that the feet reach the ground.
        chance: how often it is there at all, 0 to 1.
        count: how many, low and high.
        must: without it the scene is given up and drawn again.
        scale: factor on the catalogue's size.
        walls: for wall, hang and opening.
        along: where along a wall, 0 = its left end as seen from inside, 1 = its right end.
        mixed: the several things are picked one by one and no model comes twice; otherwise they are one model in one
            colour.
        x, y: metres from the middle of the back wall (y is negative inside a room) for floor and ceiling, None = the
            whole room; shares of the other thing's half width and depth for on, front and beside, -1 (left, front) to
            1 (right, back).
        z: height of the lowest point above the floor, metres; None = by the catalogue.
        side: for beside and around, which sides may be used.
        gap: metres between it and what it stands beside, before, over or against.
        clear: free space asked for on all sides, metres; None = a little, so that things do not touch.
        tuck: for around, how far it may stand under the table top, metres.
        align: for beside, which edges are in line.
        face: "same" as what it goes with (or, alone, the camera), "away", "left", "right", "any", "towards" it.
        turn: degrees added, drawn from this range.
        partly: it may reach far beyond the picture, like the desk of a view of what lies on a desk.
        once: nothing of that label may stand there already.
        things: what goes with it (key "with").
    """

    pick: Weights = Field(default_factory=dict)
    use: str | None = None
    at: Where = "on"
    chance: float = Field(1.0, ge=0, le=1)
    count: Annotated[tuple[int, int], BeforeValidator(_range)] = (1, 1)
    must: bool = False
    scale: Range = (1.0, 1.0)
    walls: tuple[Literal["back", "left", "right"], ...] = ("back",)
    along: Range = (0.0, 1.0)
    mixed: bool = False
    x: Range | None = None
    y: Range | None = None
    z: Range | None = None
    side: tuple[Literal["left", "right", "front", "back"], ...] = ("left", "right")
    gap: Range = (0.03, 0.12)
    clear: float | None = None
    tuck: Range = (0.0, 0.0)
    align: Literal["back", "front", "centre"] = "back"
    face: Literal["same", "away", "left", "right", "any", "towards"] = "same"
    turn: Range = (0.0, 0.0)
    partly: bool = False
    once: bool = False
    things: tuple[Item, ...] = Field((), alias="with")

    @model_validator(mode="after")
    def _one_source(self) -> Item:
        if bool(self.pick) == bool(self.use):
            raise ValueError("needs either pick (labels) or use (a named list)")
        return self


class CameraRule(_Rule):
    """Where the camera may stand: metres from the middle of the back wall; it looks from y = -distance."""

    distance: Range
    height: Range = (1.3, 1.7)
    x: Range = (-0.8, 0.8)
    look_x: Range = (-0.4, 0.4)
    look_y: Range = (-1.5, -0.5)
    look_z: Range = (0.6, 1.0)
    fov: Range = (50.0, 62.0)


class Ground(_Rule):
    """A rectangle of ground, metres; the rectangles of a place touch and never overlap."""

    label: str
    materials: tuple[str, ...]
    x: Range = (-200.0, 200.0)
    y: Range


class Front(_Rule):
    """The wall of a house that closes an outdoor place at y = 0."""

    label: str = "building"
    materials: tuple[str, ...]
    x: Range = (-200.0, 200.0)
    height: Range = (5.0, 7.0)


class Place(_Rule):
    """The shell of a scene: a room (floor, wall, ceiling), or outdoors (sky, ground, front)."""

    width: Range = (4.0, 6.0)
    depth: Range = (3.5, 5.0)
    height: Range = (2.5, 2.8)
    floor: tuple[str, ...] = ()
    wall: tuple[str, ...] = ()
    ceiling: tuple[str, ...] = ()
    sky: tuple[str, ...] = ()
    ground: tuple[Ground, ...] = ()
    front: Front | None = None
    phrase: str = ""
    camera: CameraRule

    @model_validator(mode="after")
    def _indoors_or_out(self) -> Place:
        if bool(self.floor) == bool(self.ground):
            raise ValueError("needs either floor, wall and ceiling (a room) or sky and ground (outdoors)")
        return self

    @property
    def indoors(self) -> bool:
        """It has walls and a ceiling."""
        return bool(self.floor)


class Recipe(_Rule):
    """One way to furnish a place; `place` overrides keys of the room's place, `weight` is how often it is drawn."""

    place: Place
    weight: float = Field(1.0, gt=0)
    things: tuple[Item, ...]


class MaterialRule(_Rule):
    """A surface's look; `text` has {surface} where its label stands."""

    kind: str
    colours: tuple[tuple[int, int, int], ...]
    scale: float = 1.0
    text: str
    fact: str | None = None

    @property
    def material(self) -> Material:
        """The plan's value."""
        return Material(self.kind, self.colours, self.scale)


class ShapeRule(_Rule):
    """What space things of some labels take up, finer than one box.

    Attributes:
        labels: whose shape it is; "label/role" wins over "label".
        parts: boxes x0, x1, y0, y1, z0, z1; x and y are shares of the footprint, 0 = left and front; z is 0 at the
            bottom, 1 where things are put on it, 2 at its highest point.
    """

    labels: tuple[str, ...]
    parts: tuple[tuple[float, float, float, float, float, float], ...]
