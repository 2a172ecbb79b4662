"""Undo, redo, branches, diff and the tree: the head is only a pointer, and nothing is ever overwritten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator import assemble
from orchestrator.cli import run_cli
from orchestrator.compose import Composer
from orchestrator.history import History, StepRecord
from orchestrator.run_folder import RunFolder
from scene.errors import UserError
from tests.orchestrator.fakes import fake_models

OLD_RUN = Path(__file__).parent / "old_runs" / "schema2"


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "assemble", lambda config: fake_models())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An unfinished run of three layers: 1 sky, 2 grass, 3 boy."""
    composer = Composer.from_preset("park", overrides=["width=256", "height=256"], models=fake_models())
    run = composer.start("a boy and a dog", seed=7, out=tmp_path / "run")
    for _ in range(3):
        run.advance()
    run.finish()
    run.close()
    return tmp_path / "run"


def steps_of(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in (path / "steps").rglob("*") if file.is_file()}


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    capsys.readouterr()
    assert run_cli([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_undo_branch_and_redo_only_move_the_head(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, final, run = steps_of(path), (path / "final.png").read_bytes(), str(path)
    assert told(capsys, "undo", run, "2")["head"] == 1
    assert np.array_equal(Image.open(path / "final.png"), Image.open(path / "steps/0001/image.png"))
    assert told(capsys, "redo", run)["head"] == 2
    assert told(capsys, "redo", run)["head"] == 3
    assert (path / "final.png").read_bytes() == final
    assert steps_of(path) == before

    assert told(capsys, "branch", run, "2", "--name", "night")["branch"] == "night"
    assert run_cli(["resume", run]) == 0  # grows the new branch only
    after = steps_of(path)
    assert {name: after[name] for name in before} == before
    shown = told(capsys, "show", run)["tree"]
    assert shown["branches"] == {"main": 3, "night": 6}
    assert {step["id"]: step["children"] for step in shown["steps"]}[2] == [3, 4]
    assert [step["id"] for step in shown["steps"] if step["on_path"]] == [1, 2, 4, 5, 6]
    assert told(capsys, "branch", run, "main")["head"] == 3
    assert (path / "final.png").read_bytes() == final
    assert told(capsys, "branch", run, "0")["layers"] == []


def test_a_new_step_after_undo_never_reuses_an_id(path: Path) -> None:
    assert run_cli(["undo", str(path)]) == 0
    _, run = Composer.for_run(path, models=fake_models())
    assert run.advance().index == 4
    run.close()
    assert run_cli(["redo", str(path)]) == 2  # a new step ends what can be redone
    assert set(RunFolder.open(path, write=False).history.steps) == {1, 2, 3, 4}


def test_diff_names_layers_and_counts_pixels(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(path)
    assert run_cli(["branch", run, "2", "--name", "other"]) == 0
    assert run_cli(["insert", run, "a cat", "--box", "10,20,60,80"]) == 0
    picture = str(path.parent / "diff.png")
    found = told(capsys, "diff", run, "main", "other", "--picture", picture)
    assert ([entry["id"] for entry in found["added"]], [entry["id"] for entry in found["removed"]]) == ([4], [3])
    images = [np.asarray(Image.open(path / f"steps/000{n}/image.png")) for n in (3, 4)]
    assert found["pixels"] == (images[0] != images[1]).any(axis=2).sum() > 0
    assert found["common"] == 2
    assert Image.open(picture).size == (3 * 256, 256)
    assert told(capsys, "diff", run, "3", "3")["pixels"] == 0


def test_the_tree_picture_shows_every_step_and_frames_the_head(path: Path) -> None:
    file = path.parent / "tree.png"
    assert run_cli(["branch", str(path), "1"]) == 0
    assert run_cli(["insert", str(path), "a cat", "--box", "10,20,60,80"]) == 0
    assert run_cli(["show", str(path), "--tree", str(file)]) == 0
    pixels = np.asarray(Image.open(file))
    assert pixels.shape[1] > 4 * 150 and pixels.shape[0] > 2 * 150  # four deep, two lanes
    from orchestrator.pictures import HIGHLIGHT

    rows = np.flatnonzero((pixels == HIGHLIGHT).all(axis=2).sum(axis=1) > 140)  # the head's frame, in the lower lane
    assert rows.size and rows.min() > pixels.shape[0] // 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["undo", "RUN", "9"], "3 steps can be undone, not 9"),
        (["redo", "RUN"], "0 undone steps can be redone"),
        (["branch", "RUN", "9"], "there is no step 9; steps are 0 (empty canvas) to 3"),
        (["branch", "RUN", "nowhere"], "is no step and no branch; branches: main"),
        (["branch", "RUN", "2", "--name", "main"], "branch 'main' exists"),
        (["branch", "RUN", "2", "--name", "7"], "is not usable"),
        (["branch", "RUN", "2", "--name", "a/b"], "is not usable"),
        (["diff", "RUN", "1", "77"], "there is no step 77"),
        (["show", "RUN", "--tree", "nowhere/x.png"], "in a folder that exists"),
    ],
)
def test_mistakes_are_one_line_and_move_nothing(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    before = (path / "history.json").read_bytes()
    assert run_cli([str(path) if word == "RUN" else word for word in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error
    assert (path / "history.json").read_bytes() == before


def test_undo_passes_over_what_only_failed() -> None:
    history = History()
    for index, outcome in enumerate(("placed", "placed", "rejected", "skipped"), start=1):
        history = history.add(StepRecord(index, history.head, outcome))  # type: ignore[arg-type]
    assert history.undone().head == 1
    assert history.undone().redone().head == 4
    with pytest.raises(UserError, match="2 steps can be undone, not 3"):
        history.undone(3)


def test_runs_of_schema_version_2_open_and_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "old"
    shutil.copytree(OLD_RUN, path)
    final = (path / "final.png").read_bytes()
    assert json.loads((path / "history.json").read_text())["schema_version"] == 2
    assert run_cli(["show", str(path)]) == 0
    assert run_cli(["undo", str(path)]) == 0
    assert (path / "final.png").read_bytes() != final
    assert run_cli(["redo", str(path)]) == 0
    assert run_cli(["resume", str(path)]) == 0
    assert (path / "final.png").read_bytes() == final
    assert json.loads((path / "history.json").read_text())["branches"] == {"main": 7}


def test_pointing_at_a_step_goes_there_without_losing_a_name() -> None:
    history = History()
    for index in (1, 2, 3):
        history = history.add(StepRecord(index, index - 1, "placed"))
    back = history.visited(1)
    assert (back.head, back.branch, back.trail) == (1, "main", (3,))
    assert back.redone().head == 3 and back.visited(3).head == 3 and back.visited(3).trail == ()
    further = back.visited(0)
    assert further.trail == (3, 1) and further.visited(3) == history
    other = history.branched(1, "other").add(StepRecord(4, 1, "placed"))
    assert other.visited(3).branch == "main"  # the end of a branch: a switch
    assert other.visited(2).branch == "from-2" and other.visited(2).branches["main"] == 3
    with pytest.raises(UserError, match="no step 9"):
        history.visited(9)
