"""Layout-first runs: masks, then drawings; the same picture as object by object; killed, edited and exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.compose import Composer, Run
from orchestrator.export import export
from orchestrator.run_folder import RunFolder
from orchestrator.session import Session
from scene.errors import UserError
from tests.orchestrator.fakes import fake_models

SMALL = ["width=320", "height=256"]


def composer(mode: str = "layout-first") -> Composer:
    return Composer.from_preset("park", overrides=[*SMALL, f"mode={mode}"], models=fake_models())


def started(path: Path, mode: str = "layout-first") -> Run:
    return composer(mode).start("a boy and a dog", seed=7, out=path)


def finished(path: Path, mode: str = "layout-first") -> Run:
    run = started(path, mode)
    list(run.steps())
    run.close()
    return run


def outcomes(run: Run) -> list[str]:
    return [step.outcome for step in run.folder.history.path()]


def test_masks_come_first_then_drawings_then_the_stop(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    assert outcomes(run) == ["placed"] * 4 + ["drawn"] * 4 + ["stopped"]
    path = run.folder.history.path()
    assert all({"mask", "amodal", "layout"} == set(step.files) for step in path[:4])
    assert path[-1].reason == "plan done"
    drawn = [step.changes[0]["layer"] for step in path[4:8]]
    assert drawn == [layer.id for layer in run.scene.layers]
    assert run.models.planner.calls == 5  # type: ignore[attr-defined]  # the drawings ask nobody


def test_the_picture_is_that_of_object_by_object(tmp_path: Path) -> None:
    finished(tmp_path / "first")
    finished(tmp_path / "each", "per-object")
    for name in ("final.png", "layout.png"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "each" / name).read_bytes()


def test_nothing_changes_outside_the_masks(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    before = np.full((256, 320, 3), 255, np.uint8)
    for step in run.folder.history.path():
        if step.outcome == "drawn":
            after = run.folder.picture(step.index, "image", "RGB")
            mask = run.folder.picture(step.index, "mask", "L") > 0
            assert np.array_equal(after[~mask], before[~mask])
            before = after
    assert np.array_equal(before, RunFolder.open(tmp_path / "run", write=False).scene().image)


@pytest.mark.parametrize("steps", [2, 4, 6, 8])
def test_a_run_stopped_anywhere_ends_with_the_same_bytes(tmp_path: Path, steps: int) -> None:
    finished(tmp_path / "whole")
    run = started(tmp_path / "parts")
    for _ in range(steps):
        run.advance()
    run.close()
    _, resumed = Composer.for_run(tmp_path / "parts", models=fake_models())
    list(resumed.steps())
    resumed.close()
    for name in ("final.png", "strip.png", "scene.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_layout_without_pixels_is_shown_but_not_edited(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    for _ in range(3):
        run.advance()
    run.finish()
    scene = json.loads((tmp_path / "run" / "scene.json").read_text())
    assert [layer["rgba"] for layer in scene["layers"]] == [None] * 3
    with pytest.raises(UserError, match=r"no pixels yet; draw them first: smartscene resume .*run"):
        run.edit("boy", colour="red")
    run.edit("boy", delete=True)
    assert [layer.label for layer in run.scene.layers] == ["sky", "grass"]


def test_what_is_added_after_the_stop_is_drawn_at_once(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    _, run = Composer.for_run(tmp_path / "run", models=fake_models())
    step = run.insert("a pine tree", count=1)
    assert "layer" in step.files and run.finished
    run.edit("boy", move=(5, 0))
    run.go(run.folder.history.undone())
    run.close()


def test_the_dialogue_draws_once_the_stop_is_accepted(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    session = Session(run)
    list(session.start())
    for _ in range(4):
        list(session.handle({"do": "accept"}))
    events = list(session.handle({"do": "accept"}))
    told = [event["outcome"] for event in events if event["event"] == "step"]
    assert told == ["drawn"] * 4 + ["stopped"]
    assert all(event["picture"] for event in events if event.get("outcome") == "drawn")
    assert events[-1]["event"] == "finished"
    run.close()


def test_a_person_who_stops_gets_the_picture_too(tmp_path: Path) -> None:
    run = started(tmp_path / "run")
    session = Session(run)
    list(session.start())
    list(session.handle({"do": "accept"}))
    list(session.handle({"do": "stop"}))
    assert outcomes(run) == ["placed", "drawn", "stopped"]
    assert run.folder.history.path()[-1].reason == "stopped by a person"
    run.close()


def test_films_and_layers_are_exported(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    for kind in ("webp", "ora", "coco"):
        export(run.folder, kind, tmp_path / f"out.{kind}")
        assert (tmp_path / f"out.{kind}").stat().st_size > 0
