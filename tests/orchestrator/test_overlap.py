"""Overlap: the next step is thought about while this one is drawn, and nobody can tell from the result."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator import versions
from orchestrator.compose import Composer, Run
from orchestrator.ports import Models
from scene.candidates import MaskCandidate
from scene.errors import ModelError
from scene.layers import LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed
from tests.orchestrator.fakes import FakeMasker, FakePlanner, fake_models
from tests.orchestrator.faults import Faults, FlatInpainter, Killed

PLAN = ("sky", "grass", "ghost", "boy", "dog", "cat")
PROMPT = "a boy left of a dog, and a cat"


class SeenPlanner(FakePlanner):
    """Notes which thread asked, and fails once in a while, by the seed and not by what ran before."""

    def __init__(self) -> None:
        super().__init__(PLAN)
        self.threads: list[str] = []

    def propose(self, scene: LayeredScene, prompt: str, *, seed: StepSeed, **rest: Any) -> Proposal:
        self.threads.append(threading.current_thread().name)
        if seed.step == 4 and seed.attempt == 0:
            raise ModelError("no parse")
        return super().propose(scene, prompt, seed=seed, **rest)


def models(**parts: Any) -> Models:
    made = {"planner": SeenPlanner(), "masker": FakeMasker(), "inpainter": FlatInpainter(), **parts}
    return Models(vocabulary=fake_models().vocabulary, **made)


def start(path: Path, overlap: bool, loaded: Models, *more: str) -> Run:
    settings = ["width=256", "height=256", f"overlap={str(overlap).lower()}", *more]
    return Composer.from_preset("park", overrides=settings, models=loaded).start(PROMPT, seed=7, out=path)


def finish(run: Run) -> None:
    list(run.steps())
    run.close()


def everything(path: Path) -> dict[str, Any]:
    """All of a run but seconds and the setting itself."""
    found: dict[str, Any] = {}
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if file.name == "step.json":
            found[name] = json.loads(file.read_text()) | {"timings": None}
        elif file.is_file() and name not in ("run.json", ".lock"):
            found[name] = file.read_bytes()
    return found


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "versions", dict)


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, Any]:
    """What the plain order gives."""
    finish(start(tmp_path / "whole", False, models()))
    return everything(tmp_path / "whole")


def test_planner_and_masker_work_while_an_object_is_drawn(tmp_path: Path) -> None:
    masked = {number: threading.Event() for number in range(1, 6)}

    class Tells(FakeMasker):
        def predict(self, scene: LayeredScene, *words: str, seed: StepSeed, **rest: Any) -> list[MaskCandidate]:
            found = super().predict(scene, *words, seed=seed, **rest)
            masked[seed.step].set()
            return found

    class Waits(FlatInpainter):
        def render(self, image: np.ndarray, mask: np.ndarray, *words: str, seed: StepSeed) -> np.ndarray:
            if seed.step < 4:  # the fourth is the last
                assert masked[seed.step + 1].wait(20), "the next mask was not predicted meanwhile"
            return super().render(image, mask, *words, seed=seed)

    planner = FakePlanner(("sky", "grass", "boy", "dog"))
    run = start(tmp_path / "run", True, models(planner=planner, masker=Tells(), inpainter=Waits()), "corrections=0")
    finish(run)
    assert [step.outcome for step in run.folder.history.path()] == ["placed"] * 4 + ["stopped"]
    assert planner.calls == 5  # nothing is thought twice


def test_the_result_is_that_of_the_plain_order(tmp_path: Path, whole: dict[str, Any]) -> None:
    loaded = models()
    finish(start(tmp_path / "run", True, loaded))
    assert everything(tmp_path / "run") == whole
    assert any(name.startswith("ahead") for name in loaded.planner.threads)  # type: ignore[attr-defined]
    outcomes = [step["outcome"] for name, step in whole.items() if name.endswith("step.json")]
    assert outcomes.count("placed") == 5 and outcomes.count("rejected") == 5


@pytest.mark.parametrize("stop_after", range(1, 11))
def test_closed_after_any_step_it_goes_on_to_the_same_bytes(
    tmp_path: Path, whole: dict[str, Any], stop_after: int
) -> None:
    run = start(tmp_path / "run", True, models())
    for _ in range(stop_after):
        run.advance()
    run.close()
    finish(Composer.for_run(tmp_path / "run", models=models())[1])
    assert everything(tmp_path / "run") == whole


def test_killed_while_writing_it_goes_on_to_the_same_bytes(tmp_path: Path, whole: dict[str, Any]) -> None:
    with Faults().installed() as counted:
        finish(start(tmp_path / "count", True, models()))
    for number in range(20, len(counted.seen), 37):
        path = tmp_path / f"{number}"
        with Faults(number).installed(), pytest.raises(Killed):
            finish(start(path, True, models()))
        finish(Composer.for_run(path, models=models())[1])
        assert everything(path) == whole
        shutil.rmtree(path)


def undo_and_branch(run: Run) -> None:
    """A person who changes their mind between steps; each time what was thought ahead may be of no use."""
    for _ in range(2):
        run.advance()
    run.go(run.folder.history.undone())
    run.advance()
    run.insert("a cat", count=1)
    run.advance()
    run.go(run.folder.history.branched(2))
    draft = run.propose()
    run.reject(draft, "not this one", by="person")
    run.advance()
    run.go(run.folder.history.undone())
    run.go(run.folder.history.redone())
    finish(run)


def test_undo_branch_reject_and_insert_between_steps(tmp_path: Path) -> None:
    for name, overlap in (("plain", False), ("overlap", True)):
        undo_and_branch(start(tmp_path / name, overlap, models()))
    assert everything(tmp_path / "overlap") == everything(tmp_path / "plain")


def test_nothing_is_thought_beyond_the_limit_or_in_layout_first_mode(tmp_path: Path) -> None:
    counts = []
    for overlap, more in ((False, "max_objects=1"), (True, "max_objects=1"), (True, "mode=layout-first")):
        loaded = models(planner=(planner := SeenPlanner()))
        finish(start(tmp_path / f"{overlap}-{more}", overlap, loaded, more))
        counts.append((planner.calls, any(name.startswith("ahead") for name in planner.threads)))
    assert counts[0][0] == counts[1][0]
    assert [in_thread for _, in_thread in counts] == [False, True, False]


def failing(step: int, act: Callable[[], None]) -> Models:
    class Fails(FlatInpainter):
        def render(self, image: np.ndarray, mask: np.ndarray, *words: str, seed: StepSeed) -> np.ndarray:
            if seed.step == step:
                act()
            return super().render(image, mask, *words, seed=seed)

    return models(inpainter=Fails())


def test_a_drawing_that_fails_leaves_no_thread_and_no_step(tmp_path: Path, whole: dict[str, Any]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    run = start(tmp_path / "run", True, failing(2, interrupt))
    with pytest.raises(KeyboardInterrupt):
        list(run.steps())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
    assert run.folder.history.head == 1
    run.models = models()
    finish(run)
    assert everything(tmp_path / "run") == whole


def test_a_bug_in_a_thought_is_raised_at_its_own_step(tmp_path: Path) -> None:
    class Broken(FakePlanner):
        def propose(self, scene: LayeredScene, prompt: str, *, seed: StepSeed, **rest: Any) -> Proposal:
            if seed.step == 2:
                raise ZeroDivisionError("boom")
            return super().propose(scene, prompt, seed=seed, **rest)

    run = start(tmp_path / "run", True, models(planner=Broken()))
    assert run.advance().outcome == "placed"
    with pytest.raises(ZeroDivisionError, match="boom"):
        run.advance()
    run.close()
