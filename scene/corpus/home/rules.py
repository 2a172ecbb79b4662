"""The home world's rules of use, read from `configs/worlds/home/*.yaml` into frozen values.

Nothing here knows what a sofa is: which things stand where, beside what and how often is data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from scene.corpus.home.plan import Material
from scene.errors import UserError
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary

RULES_FOLDER = Path("configs/worlds/home")
FEWEST_TO_HOLD_OUT = 4  # a label with fewer models, or a room with fewer recipes, keeps them all for training
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, in C, where libyaml is there


def _range(value: object) -> object:
    """One number stands for a range of that number alone."""
    return (value, value) if isinstance(value, int | float) else value


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"range {list(value)} goes downwards; write the smaller number first")
    return value


Range = Annotated[tuple[float, float], BeforeValidator(_range), Field(description="low, high")]
Weights = Annotated[dict[str, float], BeforeValidator(lambda value: {value: 1.0} if isinstance(value, str) else value)]


Where = Literal[
    "wall", "hang", "opening", "ceiling", "floor", "on", "beside", "front", "around", "over", "above", "sit"
]  # fmt: skip


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Any:
        for name, kind in type(self).model_fields.items():
            value = getattr(self, name)
            if kind.annotation in (tuple[float, float], tuple[float, float] | None) and value is not None:
                _ascending(value)
        return self


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
    x: tuple[float, float] = (-200.0, 200.0)
    y: tuple[float, float]


class Front(_Rule):
    """The wall of a house that closes an outdoor place at y = 0."""

    label: str = "building"
    materials: tuple[str, ...]
    x: tuple[float, float] = (-200.0, 200.0)
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


@dataclass(frozen=True)
class Rules:
    """Everything that `arrange` needs to know; get it with `Rules.load`.

    Attributes:
        vocabulary: words of the world.
        models: usable models by id.
        colours: names of the colours that models may be given.
        materials, sets, shapes, recipes: by name; a recipe's is "room/recipe".
        see_through: labels whose boxes are mostly air, which hide little of what stands behind them.
        round_tops: labels or models whose top is round, so that nothing stands in the corners of their box.
    """

    vocabulary: Vocabulary
    models: Mapping[str, ModelRule]
    colours: Mapping[str, tuple[int, int, int]]
    materials: Mapping[str, MaterialRule]
    sets: Mapping[str, tuple[Item, ...]]
    shapes: Mapping[str, ShapeRule]
    recipes: Mapping[str, Recipe]
    see_through: frozenset[str] = frozenset()
    round_tops: frozenset[str] = frozenset()

    @classmethod
    def load(cls, folder: Path | str = RULES_FOLDER) -> Rules:
        """Reads a folder of rules and the vocabulary `<folder>.yaml` beside it.

        Raises:
            UserError: a file is missing or breaks the schema (the message names file and key), or names something that
                no file defines.
        """
        folder = Path(folder)
        vocabulary_file = folder.with_suffix(".yaml")
        _read(vocabulary_file)
        vocabulary = Vocabulary.load(vocabulary_file)
        world = _Parsed(folder / "world.yaml")
        recipes: dict[str, Recipe] = {}
        for file in sorted((folder / "rooms").glob("*.yaml")):
            recipes |= _room(file)
        rules = cls(
            vocabulary,
            {
                name: rule
                for name, rule in _Parsed(folder / "models.yaml").table("models", ModelRule).items()
                if rule.unusable is None
            },
            {name: tuple(rgb) for name, rgb in world.data["colours"].items()},
            world.table("materials", MaterialRule),
            {name: tuple(items) for name, items in _Parsed(folder / "sets.yaml").lists("sets").items()},
            {label: shape for shape in world.table("shapes", ShapeRule).values() for label in shape.labels},
            recipes,
            *(frozenset(world.data.get(key, ())) for key in ("see_through", "round_tops")),
        )
        rules._check(folder)
        return rules

    @cached_property
    def by_pick(self) -> Mapping[str, tuple[str, ...]]:
        """Model ids for each "label" or "label/role"."""
        table: dict[str, list[str]] = {}
        for name, rule in self.models.items():
            table.setdefault(f"{rule.label}/{rule.role}" if rule.role else rule.label, []).append(name)
        return {pick: tuple(names) for pick, names in table.items()}

    @cached_property
    def held_out_models(self) -> frozenset[str]:
        """Models that never occur in training.

        Of every label with at least four models a tenth, at least one: those with the smallest
        `derive_seed("home model", id)`, so that it depends on nothing but the ids.
        """
        return _held_out("home model", list(self.models), lambda name: self.models[name].label)

    @cached_property
    def held_out_recipes(self) -> frozenset[str]:
        """Recipes that never occur in training.

        Of every room with at least four recipes a tenth, at least one: those with the smallest
        `derive_seed("home recipe", name)`.
        """
        return _held_out("home recipe", list(self.recipes), lambda name: name.split("/")[0])

    def _check(self, folder: Path) -> None:
        """Every name used is defined."""
        known = set(self.by_pick) | set(self.models)
        for name, items in [*self.sets.items(), *((name, recipe.things) for name, recipe in self.recipes.items())]:
            for item in _walk(items):
                for wrong in set(item.pick) - known:
                    raise UserError(f"{folder}: {name} picks {wrong!r}, but no usable model has that label and role")
                if item.use is not None and item.use not in self.sets:
                    raise UserError(f"{folder}: {name} uses the set {item.use!r}, which sets.yaml does not define")
        for name, recipe in self.recipes.items():
            place = recipe.place
            used = [
                *place.floor,
                *place.wall,
                *place.ceiling,
                *place.sky,
                *(place.front.materials if place.front else ()),
            ]
            for material in [*used, *(m for ground in place.ground for m in ground.materials)]:
                if material not in self.materials:
                    raise UserError(
                        f"{folder}: {name} names the material {material!r}, which world.yaml does not define"
                    )
        for name, rule in self.models.items():
            if rule.label not in self.vocabulary.entries:
                raise UserError(f"{folder}/models.yaml: {name} has the label {rule.label!r}, which home.yaml lacks")
            if rule.colour is not None and rule.colour not in self.colours:
                raise UserError(f"{folder}/models.yaml: {name} has the colour {rule.colour!r}, which world.yaml lacks")


def _held_out(purpose: str, names: list[str], group_of: Callable[[str], str]) -> frozenset[str]:
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: derive_seed(purpose, name)):
        groups.setdefault(group_of(name), []).append(name)
    large = [group for group in groups.values() if len(group) >= FEWEST_TO_HOLD_OUT]
    return frozenset(name for group in large for name in group[: max(1, len(group) // 10)])


def _walk(items: tuple[Item, ...]) -> list[Item]:
    """The items and everything that goes with them."""
    return [each for item in items for each in (item, *_walk(item.things))]


def _read(file: Path) -> dict[str, Any]:
    try:
        data = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)
    except FileNotFoundError:
        raise UserError(f"{file} is missing; point to a folder of rules like {RULES_FOLDER}") from None
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise UserError(f"{file} must be a mapping of keys; got {type(data).__name__}")
    return data


class _Parsed:
    """A YAML file whose tables are checked against a model; errors name file and key."""

    def __init__(self, file: Path) -> None:
        self.file, self.data = file, _read(file)

    def table(self, key: str, model: type[Any]) -> dict[str, Any]:
        return {name: _validate(self.file, f"{key}.{name}", model, value) for name, value in self._get(key).items()}

    def lists(self, key: str) -> dict[str, list[Item]]:
        return {
            name: [_validate(self.file, f"{key}.{name}[{i}]", Item, value) for i, value in enumerate(values)]
            for name, values in self._get(key).items()
        }

    def _get(self, key: str) -> dict[str, Any]:
        value = self.data.get(key)
        if not isinstance(value, dict):
            raise UserError(f"{self.file}: needs the key {key!r} with a mapping below it")
        return value


def _validate(file: Path, where: str, model: type[Any], value: Any) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([where, *(str(part) for part in first["loc"])])
        raise UserError(f"{file}: {path}: {first['msg']}") from None


def _room(file: Path) -> dict[str, Recipe]:
    """Recipes of one room file: `place` of the room, and `recipes`, each with `things` and changes to the place."""
    data = _read(file)
    if set(data) != {"place", "recipes"}:
        raise UserError(f"{file}: needs exactly the keys 'place' and 'recipes'; got {sorted(data)}")
    recipes = {}
    for name, value in data["recipes"].items():
        if not isinstance(value, dict):
            raise UserError(f"{file}: recipes.{name}: must be a mapping with the key 'things'")
        changes = value.get("place", {})
        place = data["place"] | changes
        if "camera" in changes:
            place["camera"] = data["place"].get("camera", {}) | changes["camera"]
        merged = {**value, "place": place}
        recipes[f"{file.stem}/{name}"] = _validate(file, f"recipes.{name}", Recipe, merged)
    return recipes
