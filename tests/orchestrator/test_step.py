"""The step dialogue driven through the pipe: every event, and that mistakes change nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator import assemble
from orchestrator.cli import run_cli
from orchestrator.compose import Composer
from orchestrator.interactive import parse_line
from orchestrator.ports import Models
from orchestrator.run_folder import RunFolder
from scene.proposal import Proposal
from tests.orchestrator.fakes import FakePlanner, fake_models

SMALL = ["--set", "width=256", "--set", "height=256"]


class ToldPlanner(FakePlanner):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str | None, tuple[str, ...]]] = []

    def propose(self, *arguments: Any, **rest: Any) -> Proposal:
        self.told.append((rest.get("turn"), tuple(rest.get("rejected", ()))))
        return super().propose(*arguments, **rest)


@pytest.fixture
def planner(monkeypatch: pytest.MonkeyPatch) -> ToldPlanner:
    plain = fake_models()
    models = Models(ToldPlanner(), plain.masker, plain.inpainter, plain.vocabulary)
    monkeypatch.setattr(assemble, "assemble", lambda config: models)
    return models.planner  # type: ignore[return-value]


def piped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path, *events: Any
) -> list[dict[str, Any]]:
    lines = "".join((event if isinstance(event, str) else json.dumps(event)) + "\n" for event in events)
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    where = [str(out)] if out.exists() else ["--prompt", "a boy and a dog", "--out", str(out), *SMALL]
    capsys.readouterr()
    assert run_cli(["step", *where, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def test_accepting_everything_gives_the_bytes_of_generate(
    tmp_path: Path, planner: ToldPlanner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["generate", "a boy and a dog", "--out", str(tmp_path / "whole"), *SMALL]) == 0
    piped(monkeypatch, capsys, tmp_path / "run", *[{"do": "accept"}] * 2)
    told = piped(monkeypatch, capsys, tmp_path / "run", {"do": "accept"}, {"do": "finish"}, {"do": "quit"})
    assert of(told, "finished") and told[-1]["event"] == "bye"
    for name in ("final.png", "scene.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "run").glob("candidates-*"))


def test_a_scripted_dialogue_edits_branches_undoes_and_finishes(
    tmp_path: Path, planner: ToldPlanner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    events = piped(
        monkeypatch, capsys, out,
        {"do": "accept"}, {"do": "accept"},  # 1 sky, 2 grass
        {"do": "reject", "reason": "too crowded"},  # 3: no boy, ever
        {"do": "words", "words": "a black cat"},  # in place of the dog
        {"do": "guide", "box": [40, 60, 100, 140], "tightness": 0.5},
        {"do": "another"}, {"do": "accept"},  # 4
        {"do": "add", "words": "a red balloon", "box": "0.1,0.1,0.5,0.5", "behind": ["cat"]},
        {"do": "more", "count": 3}, {"do": "accept", "pick": 5},  # 5
        {"do": "undo"}, {"do": "redo"},
        {"do": "branch", "at": 2, "name": "other"},
        {"do": "skip"},  # 6: not the boy now
        {"do": "finish"}, {"do": "tree"}, {"do": "branch", "at": "main"}, {"do": "quit"},
    )  # fmt: skip
    assert not of(events, "error")
    folder = RunFolder.open(out, write=False)
    steps = folder.history.steps
    assert (steps[3].outcome, steps[3].reason, steps[3].by) == ("rejected", "too crowded", "person")
    assert ("too crowded", ("boy",)) in planner.told
    assert (steps[4].proposal.label, steps[4].chosen, steps[4].guidance["tightness"]) == ("cat", 1, 0.5)
    assert folder.picture(4, "amodal", "L")[60:140, 40:100].all()
    assert (steps[5].by, steps[5].behind, steps[5].chosen, len(steps[5].candidates)) == ("person", (4,), 4, 7)
    heads = [event["head"] for event in of(events, "head")]
    assert heads == [4, 5, 2, 5]
    tree = of(events, "tree")[0]
    assert tree["branches"]["main"] == 5
    assert tree["branches"]["other"] == tree["head"] > 6
    labels = [layer.label for layer in folder.scene(tree["head"]).layers]
    assert labels == ["sky", "grass", "dog", "boy"]  # skipped is not rejected: the boy came later
    assert np.array_equal(Image.open(out / "final.png"), Image.open(out / "steps/0005/image.png"))


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ("nonsense", "no JSON"),
        ("[]", "an event is"),
        ({"do": "dance"}, "NAME one of accept"),
        ({"do": "accept", "pick": 9}, "not one of 1 to 4"),
        ({"do": "pick", "candidate": "x"}, "not one of 1 to 4"),
        ({"do": "words", "words": "a quasar"}, "names nothing that preset home knows"),
        ({"do": "more", "count": 99}, "1 to 16 more"),
        ({"do": "guide", "box": [9, 9, 1, 1]}, "0 <= x0 < x1"),
        ({"do": "guide", "box": {"x": 1}}, "give four numbers"),
        ({"do": "guide", "tightness": "tight"}, "from 0 to 1"),
        ({"do": "guide", "scribble": "missing.png"}, "no readable PNG"),
        ({"do": "behind", "layers": ["unicorn"]}, "no layer 'unicorn'"),
        ({"do": "behind", "layers": 3.5}, "layer ids or words"),
        ({"do": "undo", "count": 9}, "can be undone"),
        ({"do": "redo"}, "can be redone"),
        ({"do": "branch", "at": 77}, "no step 77"),
    ],
)
def test_each_mistake_is_an_error_event_and_changes_nothing(
    tmp_path: Path,
    planner: ToldPlanner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    event: Any,
    says: str,
) -> None:
    out = tmp_path / "run"
    events = piped(monkeypatch, capsys, out, event, {"do": "accept"})
    (error,) = of(events, "error")
    assert says in error["message"] and "\n" not in error["message"]
    assert [step["index"] for step in of(events, "step")] == [1]  # and the dialogue went on
    assert [layer.label for layer in RunFolder.open(out, write=False).scene().layers] == ["sky"]


def test_after_the_end_one_can_still_undo_and_add(
    tmp_path: Path, planner: ToldPlanner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    events = piped(
        monkeypatch, capsys, out,
        {"do": "finish"}, {"do": "skip"}, {"do": "add", "words": "a cat"}, {"do": "accept"},
        {"do": "undo"}, {"do": "quit"},
    )  # fmt: skip
    assert "the scene is finished" in of(events, "error")[0]["message"]
    assert RunFolder.open(out, write=False).history.finished
    assert 6 in RunFolder.open(out, write=False).history.steps


def test_typed_lines_mean_the_same_events() -> None:
    assert parse_line("a 2") == {"do": "accept", "pick": 2}
    assert parse_line("box 1,2,3,4 0.5") == {"do": "guide", "box": "1,2,3,4", "tightness": 0.5}
    assert parse_line("behind dog, a cat") == {"do": "behind", "layers": ["dog", "a cat"]}
    assert parse_line("branch 3 night") == {"do": "branch", "at": "3", "name": "night"}
    assert parse_line("r too many") == {"do": "reject", "reason": "too many"}
    assert parse_line("dance") is None


def test_composer_is_not_needed_to_know_what_was_done(tmp_path: Path, planner: ToldPlanner) -> None:
    """A dialogue that ends without quit (a closed pipe) keeps every decision."""
    run = Composer.from_preset("park", overrides=["width=256", "height=256"], models=fake_models()).start(
        "a boy", seed=1, out=tmp_path / "run"
    )
    from orchestrator.interactive import json_dialogue

    lines = iter(['{"do": "accept"}\n', ""])
    json_dialogue(run, lambda: next(lines), lambda line: None)
    run.close()
    assert RunFolder.open(tmp_path / "run", write=False).history.head == 1
