"""The home world as a source of scenes: deterministic, forgiving of broken models, honest in its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scene.corpus.attribution import LICENCE_ADDRESSES
from scene.corpus.build import Draft, Skipped
from scene.corpus.dependencies import FURNITURE, DataDeps
from scene.corpus.home.build import ATTEMPTS, HomeSource, open_source, plan_from_json, without
from scene.corpus.home.meshes import MeshError
from scene.corpus.home.plan import Camera, Placed, ScenePlan
from scene.geometry import Size

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def source(packages_or_skip: Callable[..., DataDeps]) -> HomeSource:
    """The home world on a small canvas, or skip."""
    place = packages_or_skip(FURNITURE, "embreex").furniture.parent
    return open_source(ROOT / "configs" / "worlds" / "home", 1, Size(320, 256), place)


def _placed(name: str, supporter: int | None = None) -> Placed:
    return Placed(name, name, f"a {name}", (0.0, 0.0, 0.0), 0.0, supporter=supporter)


def test_what_is_left_out_takes_along_what_stands_on_it() -> None:
    objects = (
        _placed("rug"),
        _placed("table"),
        _placed("tray", 1),
        _placed("cup", 2),
        _placed("sofa"),
        _placed("cat", 4),
    )
    plan = ScenePlan("one", "room/a", "train", Camera((0, -4, 1.5), (0, 0, 1), 55), (), objects)
    left = without(plan, [1]).objects
    assert [(placed.model, placed.supporter) for placed in left] == [("rug", None), ("sofa", None), ("cat", 1)]
    assert without(plan, []).objects == objects


def test_every_licence_has_its_address(source: HomeSource) -> None:
    credits = source.credits(source.catalog.models)
    assert len(credits) > 800
    assert {credit.licence for credit in credits} <= LICENCE_ADDRESSES.keys()
    assert all(credit.creator for credit in credits)


def test_a_number_gives_one_scene(source: HomeSource) -> None:
    draft = source.draft(0)
    assert isinstance(draft, Draft)
    assert source.draft(0) == draft
    assert len(draft.layers) >= 4
    assert draft.prompts
    assert all(draft.prompts)
    plan = plan_from_json(draft.plan)
    assert (plan.id, plan.split) == (draft.id, draft.split)
    for layer in draft.layers:
        assert 0 < layer.facts.visible_frac <= 1 or layer.asset.source.startswith("surface:")
        assert layer.asset.label in source.vocabulary.entries
    sources = {layer.asset.source for layer in draft.layers}
    assert {credit.source for credit in source.credits(sources)} == {p.model for p in plan.objects}


def test_a_broken_model_is_skipped_with_a_line(source: HomeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = source.draft(0)
    assert isinstance(draft, Draft)
    victim = plan_from_json(draft.plan).objects[0].model
    get = source._meshes.get

    def broken(model):  # type: ignore[no-untyped-def]
        if model.id == victim:
            raise MeshError("no faces")
        return get(model)

    monkeypatch.setattr(source._meshes, "get", broken)
    other = source.draft(0)
    assert isinstance(other, Draft)
    assert ("model skipped", f"{victim}: no faces") in other.notes
    assert victim not in {layer.asset.source for layer in other.layers}


def test_a_number_that_never_succeeds_is_skipped(source: HomeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model):  # type: ignore[no-untyped-def]
        raise MeshError("no faces")

    monkeypatch.setattr(source._meshes, "get", broken)
    result = source.draft(0)
    assert isinstance(result, Skipped)
    assert result.reason == "a model could not be read"
    assert len(result.notes) == 2 * ATTEMPTS
