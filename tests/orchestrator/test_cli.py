"""The command line: exit codes, one-line errors, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator import assemble
from orchestrator.cli import run_cli
from orchestrator.compose import Composer
from orchestrator.interactive import dialogue
from orchestrator.starting import default_out
from tests.orchestrator.fakes import fake_models


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "assemble", lambda config: fake_models())


def test_generate_show_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert (
        run_cli(
            ["generate", "a boy and a dog in a submarine", "--preset", "park", "--seed", "7", "--out", out, "--json"]
        )
        == 0
    )
    captured = capsys.readouterr()
    assert json.loads(captured.out)["finished"] is True
    assert "non-commercial" in captured.err
    assert captured.err.count("non-commercial") == 1
    assert "unknown to preset park: submarine" in captured.err
    assert run_cli(["show", out]) == 0
    assert "a boy and a dog in a submarine" in capsys.readouterr().out
    assert run_cli(["resume", out]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "a boy", "--preset", "nope"], "unknown preset 'nope'; there are: home, park"),
        (["generate", "   "], "prompt is empty"),
        (["generate", "x" * 10_000], "10,000 characters; at most 2,000"),
        (["generate", "a boy", "--size", "100x100"], "256 to 1024"),
        (["generate", "a boy", "--size", "650x512"], "multiples of 16"),
        (["generate", "a boy", "--size", "huge"], "WIDTHxHEIGHT"),
        (["generate", "a boy", "--seed", "-1"], "seed -1"),
        (["generate", "a boy", "--set", "colour=red"], "colour"),
        (["generate", "a boy", "--set", "nonsense"], "key=value"),
        (["generate", "a boy", "--max-objects", "0"], "max_objects"),
        (["generate", "a boy", "--config", "missing.yaml"], "cannot read config"),
        (["generate"], "PROMPT"),
        (["show", "not-a-run"], "no run in not-a-run"),
        (["resume", "not-a-run"], "no run in not-a-run"),
        (["step"], "either a RUN folder or --prompt"),
        (["nonsense"], "No such command"),
        (["data", "import", "codraw", "missing", "dst"], "missing"),
        (["data", "show", "missing"], "no corpus in missing"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error
    assert error.startswith("smartscene: ")
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_unusable_out_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for out in ("file", "file/run", "full"):
        assert run_cli(["generate", "a boy", "--out", str(tmp_path / out)]) == 2
        assert "choose another --out" in capsys.readouterr().err
    assert run_cli(["generate", "a boy", "--out", "/proc/nowhere"]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_default_out_is_a_plain_folder_name() -> None:
    assert str(default_out("A Boy / ../ & a dog!", 7)) == "runs/a-boy-a-dog-7"
    assert str(default_out("日本", 7)) == "runs/scene-7"


def test_dialogue_accepts_edits_rejects_and_quits(tmp_path: Path) -> None:
    run = Composer.from_preset("park", models=fake_models()).start("a boy", seed=1, out=tmp_path / "run")
    lines = iter(
        ["a\n", "accept\n", "r too many boys\n", "e a black cat\n", "b 9,9,1,1\n", "b 50,60,150,160\n", "a\n", "q\n"]
    )
    said: list[str] = []
    dialogue(run, lambda: next(lines), said.append)
    assert [layer.label for layer in run.scene.layers] == ["sky", "grass", "cat"]
    assert run.scene.layers[2].box == (50, 60, 150, 160)
    assert any("0 <= x0 < x1" in line for line in said)
    assert not run.finished
    run.close()
    _, again = Composer.for_run(tmp_path / "run", models=fake_models())
    lines = iter(["f\n", "q\n"])
    dialogue(again, lambda: next(lines), said.append)
    assert again.finished


def test_dialogue_ends_at_the_end_of_input(tmp_path: Path) -> None:
    run = Composer.from_preset("park", models=fake_models()).start("a boy", seed=1, out=tmp_path / "run")
    dialogue(run, lambda: "", lambda line: None)
    assert run.scene.layers == ()
