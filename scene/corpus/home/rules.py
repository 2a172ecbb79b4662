"""The home world's rules of use, read from `configs/worlds/home/*.yaml` into frozen values.

Nothing here knows what a sofa is: which things stand where, beside what and how often is data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from scene.corpus.home.recipes import Item, MaterialRule, ModelRule, Recipe, ShapeRule
from scene.errors import UserError
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary
from scene.words import LOADER

RULES_FOLDER = Path("configs/worlds/home")
FEWEST_TO_HOLD_OUT = 4  # a label with fewer models, or a room with fewer recipes, keeps them all for training


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
            {name: tuple(rgb) for name, rgb in world.get("colours").items()},
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
        data = yaml.load(file.read_text(encoding="utf-8"), Loader=LOADER)
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
        return {name: _validate(self.file, f"{key}.{name}", model, value) for name, value in self.get(key).items()}

    def lists(self, key: str) -> dict[str, list[Item]]:
        return {
            name: [_validate(self.file, f"{key}.{name}[{i}]", Item, value) for i, value in enumerate(values)]
            for name, values in self.get(key).items()
        }

    def get(self, key: str) -> dict[str, Any]:
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
