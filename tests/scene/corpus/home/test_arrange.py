"""Furnished scenes obey physics, the picture's frame and the split; the same numbers give the same scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scene.corpus.dependencies import FURNITURE, DataDeps
from scene.corpus.home.arrange import MAX_OBJECTS, MIN_OBJECTS, arrange, check_overlap, split_of
from scene.corpus.home.catalog import Catalog, CatalogModel
from scene.corpus.home.placement import Block, Body, Sight, hidden_share, overlap, sight
from scene.corpus.home.plan import Camera, Placed, ScenePlan
from scene.corpus.home.recipes import ModelRule, ShapeRule
from scene.corpus.home.rules import Rules
from scene.corpus.home.shell import Wall, _pierced
from scene.corpus.home.view import View
from scene.geometry import DEFAULT_SIZE
from scene.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[4]
SCENES = range(40)


@pytest.fixture(scope="module")
def world(packages_or_skip: Callable[..., DataDeps]) -> tuple[Rules, Catalog]:
    """The shipped rules and the real furniture, or skip."""
    furniture = packages_or_skip(FURNITURE).furniture
    return Rules.load(ROOT / "configs" / "worlds" / "home"), Catalog.open(furniture)


@pytest.fixture(scope="module")
def plans(world: tuple[Rules, Catalog]) -> list[ScenePlan]:
    return [arrange(3, number, *world, split_of(number)) for number in SCENES]


def test_equal_numbers_give_equal_scenes(world: tuple[Rules, Catalog], plans: list[ScenePlan]) -> None:
    assert arrange(3, 17, *world, "train") == plans[17]
    assert arrange(4, 17, *world, "train") != plans[17]


def test_nothing_shares_space(world: tuple[Rules, Catalog], plans: list[ScenePlan]) -> None:
    rules, catalog = world
    assert [line for plan in plans for line in check_overlap(plan, catalog, rules)] == []


def test_the_check_sees_what_is_moved_into_something(world: tuple[Rules, Catalog], plans: list[ScenePlan]) -> None:
    rules, catalog = world
    plan = next(plan for plan in plans if sum(placed.support == "floor" for placed in plan.objects) > 1)
    first, second = [i for i, placed in enumerate(plan.objects) if placed.support == "floor"][:2]
    objects = list(plan.objects)
    objects[second] = replace(objects[first], model=objects[second].model, label=objects[second].label)
    assert check_overlap(replace(plan, objects=tuple(objects)), catalog, rules)


def test_everything_is_carried(world: tuple[Rules, Catalog], plans: list[ScenePlan]) -> None:
    """What stands on the ground touches it, what stands on a thing lies at its top and within its footprint."""
    rules, catalog = world
    for plan in plans:
        bodies = [Body.of(placed, catalog, rules) for placed in plan.objects]
        for body in bodies:
            placed = body.placed
            if placed.support == "floor":
                assert placed.position[2] == 0, placed
            if placed.support == "object":
                assert placed.supporter is not None
                below = bodies[placed.supporter]
                sits = rules.models[placed.model].role == "sitting"
                foot = below.placed.position[2] + (0.0 if sits else below.top or 0.0)
                assert placed.position[2] == pytest.approx(foot, abs=1e-3)
                reach = np.hypot(below.width, below.depth) / 2 + (body.depth if sits else 0)
                assert np.hypot(*np.subtract(placed.position[:2], below.placed.position[:2])) < reach


def test_nothing_is_sunk_in_a_wall(world: tuple[Rules, Catalog], plans: list[ScenePlan]) -> None:
    rules, catalog = world
    for plan in plans:
        walls = [s for s in plan.surfaces if s.label in ("wall", "building")]
        if not walls:
            continue
        half = max(abs(x) for s in walls for quad in s.quads for x, _, _ in quad)
        for placed in plan.objects:
            body = Body.of(placed, catalog, rules)
            if not body.opening:
                for x, y in body.block.footprint():
                    assert y <= 0.002 and abs(x) <= half + 0.002, placed


def test_everything_is_on_the_picture(world: tuple[Rules, Catalog], plans: list[ScenePlan]) -> None:
    rules, catalog = world
    for plan in plans:
        view = View.of(plan.camera, DEFAULT_SIZE)
        assert MIN_OBJECTS <= len(plan.objects) <= MAX_OBJECTS
        for placed in plan.objects:
            seen = sight(Body.of(placed, catalog, rules).block, view)
            assert seen is not None
            part = seen.clip(*DEFAULT_SIZE)
            assert part.area >= 0.3 * seen.area
            assert part.y1 - part.y0 >= 14


def test_training_sees_nothing_held_out(world: tuple[Rules, Catalog], plans: list[ScenePlan]) -> None:
    rules, _ = world
    for plan in plans:
        held = [placed for placed in plan.objects if placed.model in rules.held_out_models]
        if plan.split == "train":
            assert not held
            assert plan.recipe not in rules.held_out_recipes
        else:
            assert held
    assert [split_of(number) for number in range(10)] == ["train"] * 8 + ["val", "test"]


def test_words_and_tint_agree(world: tuple[Rules, Catalog], plans: list[ScenePlan]) -> None:
    rules, _ = world
    names = {rgb: name for name, rgb in rules.colours.items()}
    tinted = [placed for plan in plans for placed in plan.objects if placed.tint]
    assert tinted
    for placed in tinted:
        assert placed.tint is not None
        assert names[placed.tint] in placed.description
        assert rules.models[placed.model].colour != names[placed.tint]


def _box(x: float, y: float, yaw: float = 0.0, low: float = 0.0) -> Block:
    return Block(x, y, 0.5, 0.5, yaw, low, low + 1.0)


def test_boxes_meet_only_when_they_share_space() -> None:
    assert overlap(_box(0, 0), _box(0.9, 0))
    assert not overlap(_box(0, 0), _box(1.0, 0))  # side by side
    assert overlap(_box(0, 0), _box(1.0, 0), clearance_m=0.05)
    assert not overlap(_box(0, 0), _box(0, 0, low=1.0))  # one on the other
    assert not overlap(_box(0, 0), _box(1.15, 1.15, 45))  # corners point past each other
    assert overlap(_box(0, 0), _box(1.15, 0, 45))  # a corner points into a side


def _toy(shape: ShapeRule | None) -> tuple[Rules, Catalog]:
    table = CatalogModel("table", "t", "c", (), "n", "l", Path("a"), "m", "i", (1.0, 1.0, 0.8), top_m=0.8)
    chair = replace(table, id="chair", size_m=(0.4, 0.4, 0.6), top_m=0.4)
    rules = Rules(
        Vocabulary("toy", {"table": {"kind": "furniture"}, "chair": {"kind": "furniture"}}),
        {name: ModelRule(label=name, text=name) for name in ("table", "chair")},
        {},
        {},
        {},
        {"table": shape} if shape else {},
        {},
    )
    return rules, Catalog({"table": table, "chair": chair})


def test_a_seat_may_go_under_a_top_that_is_high_enough() -> None:
    placed = (
        Placed("table", "table", "a table", (0, 0, 0), 0),
        Placed("chair", "chair", "a chair", (0, 0.4, 0), 0),
    )
    plan = ScenePlan("toy", "toy/toy", "train", Camera((0, -4, 1), (0, 0, 1), 50), (), placed)
    high, low = (ShapeRule(labels=("table",), parts=((0, 1, 0, 1, z, 1),)) for z in (0.8, 0.7))
    for shape, findings in ((None, 1), (high, 0), (low, 1)):
        rules, catalog = _toy(shape)
        assert len(check_overlap(plan, catalog, rules)) == findings


def test_what_hides_behind_a_solid_thing_is_found() -> None:
    far, near = Sight(0, 0, 10, 10, 5.0), Sight(0, 0, 10, 8, 2.0)
    assert hidden_share(far, [(near, 1.0)]) == pytest.approx(0.8)
    assert hidden_share(far, [(near, 0.25)]) == pytest.approx(0.2)


def test_a_wall_is_whole_but_for_its_openings() -> None:
    wall = Wall((-2, 0), (1, 0), (0, -1), 4.0, 0.0)

    def area(quads: list) -> float:
        return sum((q[1][0] - q[0][0]) * (q[2][2] - q[1][2]) for q in quads)

    assert area(_pierced(wall, 2.5, [])) == pytest.approx(10)
    holes = [(2.0, 3.0, 1.0, 2.0), (0.5, 1.3, 0.0, 2.0)]
    assert area(_pierced(wall, 2.5, holes)) == pytest.approx(10 - 1.0 - 1.6, abs=0.05)
