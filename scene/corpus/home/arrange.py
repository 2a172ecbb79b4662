"""Furnishes a scene by the rules: deterministic for a seed and number, and nothing sinks, floats or overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scene.corpus.home.catalog import Catalog
from scene.corpus.home.placement import Body, Sight, bodies_overlap, check_overlap, hidden_share, overlap, sight
from scene.corpus.home.plan import Placed, ScenePlan
from scene.corpus.home.recipes import Item, ModelRule, Recipe
from scene.corpus.home.rules import Rules
from scene.corpus.home.shell import Hole, Shell
from scene.corpus.home.spots import Extent, Pose, Spots
from scene.corpus.home.view import View
from scene.errors import SmartSceneError
from scene.geometry import DEFAULT_SIZE
from scene.seeds import derive_seed

__all__ = ["arrange", "check_overlap", "split_of"]

MIN_OBJECTS, FEWEST_WANTED, MAX_OBJECTS = 3, 7, 14
RECIPE_DRAWS, SCENE_ATTEMPTS, MODEL_ATTEMPTS, POSE_ATTEMPTS = 4, 12, 3, 14
MIN_INSIDE, MIN_INSIDE_PARTLY = 0.6, 0.3  # of an object's rectangle that must lie on the picture
MIN_HEIGHT_PX, MIN_WIDTH_PX, MAX_AREA_FRAC = 14.0, 6.0, 0.75
MAX_HIDDEN = 0.7
BOX_FILL = 0.8  # a thing fills its rectangle's middle, not its corners
SOLID, SEE_THROUGH = 1.0, 0.35
CLEARANCE_M, CLEARANCE_ON_TOP_M, CEILING_M = 0.02, 0.008, 0.005
LOW_M = 0.05  # what is lower may lie before a door
FREE_BEFORE_OPENING_M, FREE_BELOW_SILL_M = 0.5, 0.05
TINT_CHANCE = 0.6
HELD_OUT_WEIGHT = 6.0  # how much likelier a held-out model is picked in val and test
HELD_OUT_RECIPE_CHANCE = 0.5


def split_of(number: int) -> str:
    """Split of a scene: of ten scenes the ninth is val, the tenth test."""
    return {8: "val", 9: "test"}.get(number % 10, "train")


def arrange(seed: int, number: int, rules: Rules, catalog: Catalog, split: str) -> ScenePlan:
    """One scene; equal arguments give equal plans.

    Scenes of train use neither held-out models nor held-out recipes (see `Rules`). Those of val and test draw a
    held-out recipe half of the time, and are drawn again until a held-out model stands in them, while attempts last.

    Raises:
        SmartSceneError: no attempt gave a scene, which is a mistake in the rules.
    """
    best: ScenePlan | None = None
    for attempt in range(RECIPE_DRAWS * SCENE_ATTEMPTS):
        if attempt % SCENE_ATTEMPTS == 0:
            rng = np.random.default_rng(derive_seed("home recipe of", seed, number, attempt))
            name = _recipe(rules, split, rng)
        rng = np.random.default_rng(derive_seed("home scene", seed, number, attempt))
        scene = _Scene(rules.recipes[name], rules, catalog, split, rng)
        if not scene.furnish():
            continue
        plan = scene.plan(f"home-{seed}-{number:06d}", name)
        if split == "train" or any(placed.model in rules.held_out_models for placed in plan.objects):
            return plan
        best = best or plan
    if best is None:
        raise SmartSceneError(f"no scene came of seed {seed}, number {number}; loosen the rules of {name}")
    return best


def _recipe(rules: Rules, split: str, rng: np.random.Generator) -> str:
    """The name of a recipe that the split allows."""
    held = rules.held_out_recipes
    wants_held = bool(held) and split != "train" and bool(rng.random() < HELD_OUT_RECIPE_CHANCE)
    names = [name for name in rules.recipes if (name in held) == wants_held]
    weights = np.array([rules.recipes[name].weight for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


class _Scene:
    """One attempt at a scene; grows thing by thing."""

    def __init__(self, recipe: Recipe, rules: Rules, catalog: Catalog, split: str, rng: np.random.Generator) -> None:
        self.recipe, self.rules, self.catalog, self.split, self.rng = recipe, rules, catalog, split, rng
        self.shell = Shell.drawn(recipe.place, rng)
        self.view = View.of(self.shell.camera, DEFAULT_SIZE)
        self.spots = Spots(self.shell, rules, rng)
        self.bodies: list[Body] = []
        self.sights: list[Sight] = []
        self.most = int(rng.integers(FEWEST_WANTED, MAX_OBJECTS + 1))

    def furnish(self) -> bool:
        """Places what the recipe asks for; False when something that must be there has no room, or too little is."""
        return self._place_all(self.recipe.things, None) and len(self.bodies) >= MIN_OBJECTS

    def plan(self, id: str, recipe: str) -> ScenePlan:
        """The finished value."""
        openings: dict[str, list[Hole]] = {}
        for body in self.bodies:
            if body.opening and body.wall:
                openings.setdefault(body.wall, []).append(self._hole(body))
        surfaces, facts = self.shell.surfaces(openings, self.rules, self.rng)
        objects = tuple(body.placed for body in self.bodies)
        phrase = self.recipe.place.phrase
        return ScenePlan(
            id, recipe, self.split, self.shell.camera, surfaces, objects, self.shell.light, (phrase, *facts)
        )

    def _hole(self, body: Body) -> Hole:
        wall = self.shell.walls[body.wall or ""]
        x, y, z = body.placed.position
        along = (x - wall.origin[0]) * wall.along[0] + (y - wall.origin[1]) * wall.along[1]
        return along - body.width / 2, along + body.width / 2, z, z + body.height

    def _place_all(self, items: Sequence[Item], parent: int | None) -> bool:
        for item in items:
            if len(self.bodies) >= self.most and not item.must:
                continue
            if self.rng.random() >= item.chance:
                continue
            if item.use is not None:
                if not self._place_all(self.rules.sets[item.use], parent):
                    return False
                continue
            wanted = int(self.rng.integers(item.count[0], item.count[1] + 1))
            if not self._place_several(item, wanted, parent) and item.must:
                return False
        return True

    def _place_several(self, item: Item, wanted: int, parent: int | None) -> int:
        """Places up to `wanted` of an item with what goes with each; returns how many found room."""
        done: list[int] = []
        like: Placed | None = None
        for _ in range(wanted):
            if len(self.bodies) >= self.most and not (item.must and not done):
                break
            index = self._place(item, parent, None if item.mixed else like)
            if index is None:
                break
            done.append(index)
            like = self.bodies[index].placed
        for index in done:
            if not self._place_all(item.things, index):
                return 0
        return len(done)

    def _place(self, item: Item, parent: int | None, like: Placed | None) -> int | None:
        for _ in range(1 if like else MODEL_ATTEMPTS):
            blank = like or self._choose(item)
            if blank is None:
                return None
            if item.once and any(body.placed.label == blank.label for body in self.bodies):
                continue
            if item.mixed and any(body.placed.model == blank.model for body in self.bodies):
                continue
            index = self._find_room(item, blank, parent)
            if index is not None:
                return index
        return None

    def _choose(self, item: Item) -> Placed | None:
        """A model for an item, in its colour, at the origin; None when the split allows none."""
        picks = list(item.pick)
        weights = np.array([item.pick[pick] for pick in picks])
        pick = picks[int(self.rng.choice(len(picks), p=weights / weights.sum()))]
        names = [pick] if pick in self.rules.models else list(self.rules.by_pick[pick])
        held = self.rules.held_out_models
        if self.split == "train":
            names = [name for name in names if name not in held]
        if not names:
            return None
        odds = np.array([HELD_OUT_WEIGHT if name in held else 1.0 for name in names])
        name = names[int(self.rng.choice(len(names), p=odds / odds.sum()))]
        rule = self.rules.models[name]
        description, tint = self._describe(rule)
        scale = rule.scale * float(self.rng.uniform(*item.scale))
        return Placed(name, rule.label, description, (0.0, 0.0, 0.0), 0.0, scale, tint)

    def _describe(self, rule: ModelRule) -> tuple[str, tuple[int, int, int] | None]:
        tint, colour = None, rule.colour
        if colour is not None and self.rng.random() < TINT_CHANCE:
            others = [name for name in self.rules.colours if name != colour]
            colour = others[int(self.rng.integers(len(others)))]
            tint = self.rules.colours[colour]
        text = rule.text.format(colour=colour)
        vocabulary = self.rules.vocabulary
        if vocabulary.entries[rule.label].get("plural_only"):
            return text, tint
        return vocabulary.with_article(rule.label, text), tint

    def _find_room(self, item: Item, blank: Placed, parent: int | None) -> int | None:
        extent_of = Body.of(blank, self.catalog, self.rules)
        elevation = extent_of.model.elevation_m
        size = Extent(extent_of.width, extent_of.depth, extent_of.height, elevation)
        for _ in range(POSE_ATTEMPTS):
            pose = self.spots.propose(item, size, None if parent is None else self.bodies[parent], parent)
            if pose is None:
                continue
            body = self._body(replace(blank, scale=blank.scale * pose.scale), pose)
            seen = self._seen(body, item.partly)
            if seen is not None and self._fits(body, item.clear) and self._shows(body, seen):
                self.bodies.append(body)
                self.sights.append(seen)
                return len(self.bodies) - 1
        return None

    def _body(self, blank: Placed, pose: Pose) -> Body:
        placed = replace(
            blank,
            position=(round(pose.x, 4), round(pose.y, 4), round(pose.z, 4)),
            yaw_deg=round((pose.facing_deg + self.rules.models[blank.model].yaw) % 360, 2),
            support=pose.support,
            supporter=pose.supporter,
        )
        return Body.of(placed, self.catalog, self.rules, pose.wall)

    def _fits(self, body: Body, clear: float | None) -> bool:
        """Inside the room, under the ceiling, and clear of everything that stands already."""
        block = body.block
        if self.shell.place.indoors and block.high > self.shell.height - CEILING_M * (body.placed.support != "ceiling"):
            return False
        if block.low < 0 or (not body.opening and not self.shell.contains(block.footprint())):
            return False
        usual = CLEARANCE_ON_TOP_M if body.placed.support == "object" else CLEARANCE_M
        clearance = usual if clear is None else clear
        carriers = self._carriers(body)
        for index, other in enumerate(self.bodies):
            if index not in carriers and bodies_overlap(body, other, self.rules, clearance):
                return False
            if self._blocks(body, other) or self._blocks(other, body):
                return False
            if body.opening and other.opening and body.wall == other.wall:
                a, b = self._hole(body), self._hole(other)
                if min(a[1], b[1]) > max(a[0], b[0]):
                    return False
        if body.opening:
            hole, wall = self._hole(body), self.shell.walls[body.wall or ""]
            return hole[0] >= 0.05 and hole[1] <= wall.length - 0.05 and hole[3] <= self.shell.height - 0.05
        return True

    def _blocks(self, body: Body, opening: Body) -> bool:
        """Whether something stands in a door's way or before a window."""
        if not opening.opening or body.placed.support == "wall" or body.height < LOW_M:
            return False
        across, along = opening.at(0.0, -opening.depth / 2 - FREE_BEFORE_OPENING_M / 2)
        before = replace(opening.block, x=across, y=along, half_depth=FREE_BEFORE_OPENING_M / 2)
        before = replace(before, low=before.low + FREE_BELOW_SILL_M)
        return overlap(before, body.block)

    def _carriers(self, body: Body) -> set[int]:
        return {body.placed.supporter} if body.placed.supporter is not None else set()

    def _seen(self, body: Body, partly: bool) -> Sight | None:
        """How it looks, or None if too little of it would be on the picture."""
        seen = sight(body.block, self.view)
        if seen is None:
            return None
        part = seen.clip(*DEFAULT_SIZE)
        canvas = DEFAULT_SIZE.width * DEFAULT_SIZE.height
        if part.area < (MIN_INSIDE_PARTLY if partly else MIN_INSIDE) * seen.area:
            return None
        if part.area > MAX_AREA_FRAC * canvas and not partly:
            return None
        if part.y1 - part.y0 < MIN_HEIGHT_PX or part.x1 - part.x0 < MIN_WIDTH_PX:
            return None
        return part

    def _solidity(self, body: Body) -> float:
        return SEE_THROUGH if body.placed.label in self.rules.see_through else SOLID

    def _shows(self, body: Body, seen: Sight) -> bool:
        """Neither hidden by what stands already nor hiding any of it."""
        bodies, sights = [*self.bodies, body], [*self.sights, seen]
        for index, target in enumerate(sights):
            nearer = [
                (other.shrink(BOX_FILL), self._solidity(bodies[j]))
                for j, other in enumerate(sights)
                if other.distance_m < target.distance_m and j not in self._carriers(bodies[index])
                and index != j and bodies[j].placed.supporter != index
            ]  # fmt: skip
            if hidden_share(target, nearer) > MAX_HIDDEN:
                return False
        return True
