"""Batches: resumable, each scene as its single run, and a failure stays alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator import assemble, batch, versions
from orchestrator.cli import run_cli
from orchestrator.ports import Models
from scene.layers import LayeredScene
from scene.proposal import Proposal
from tests.orchestrator.fakes import FakeMasker, FakePlanner, fake_models
from tests.orchestrator.faults import Faults, FlatInpainter, Killed

SMALL = ["--set", "width=256", "--set", "height=256", "--set", "masker.candidates=1"]


class FussyPlanner(FakePlanner):
    """Breaks down (a bug, not a model's mistake) on one prompt."""

    def propose(self, scene: LayeredScene, prompt: str, **rest: Any) -> Proposal:
        if "bomb" in prompt:
            raise ZeroDivisionError("boom")
        return super().propose(scene, prompt, **rest)


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models(FussyPlanner(("sky", "dog")), FakeMasker(), FlatInpainter(), fake_models().vocabulary)
    monkeypatch.setattr(assemble, "assemble", lambda config: models)
    monkeypatch.setattr(versions, "versions", dict)


def prompts(path: Path, *lines: Any) -> str:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n\n")
    return str(path)


def test_each_scene_equals_its_single_run_and_failures_stay_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = prompts(
        tmp_path / "p.jsonl", '"a dog"', {"prompt": "a bomb"}, {"prompt": "  "},
        {"prompt": "a dog", "seed": 8, "name": "eight"}, {"prompt": "a dog", "seed": -1},
    )  # fmt: skip
    out = tmp_path / "out"
    assert run_cli(["batch", file, "--out", str(out), *SMALL, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [result["state"] for result in told["results"]] == ["done", "failed", "failed", "done", "failed"]
    assert "ZeroDivisionError: boom" in told["results"][1]["error"]
    assert "boom" in (out / "0002-a-bomb/error.txt").read_text()
    assert "prompt is empty" in told["results"][2]["error"]
    assert (told["done"], told["failed"]) == (2, 3)
    for name, seed in (("0001-a-dog", 7), ("eight", 8)):
        single = tmp_path / f"single-{seed}"
        assert run_cli(["generate", "a dog", "--seed", str(seed), "--out", str(single), *SMALL]) == 0
        assert (single / "final.png").read_bytes() == (out / name / "final.png").read_bytes()
    assert np.asarray(Image.open(out / "contact-sheet.png")).shape[1] > 5 * 200


def test_a_batch_killed_twice_ends_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = prompts(tmp_path / "p.jsonl", *[{"prompt": "a dog", "seed": seed} for seed in range(4)])
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run_cli(["batch", file, "--out", str(whole), *SMALL]) == 0
    said = capsys.readouterr().out
    assert "1/4" in said and "to go" in said and "4 of 4 done" in said
    for boundary in (3, 150, 130):  # inside the manifest, in the second scene, in the third
        with Faults(boundary).installed(), pytest.raises(Killed):
            run_cli(["batch", file, "--out", str(out), *SMALL])
    assert run_cli(["batch", file, "--out", str(out), *SMALL, "--json"]) == 0
    capsys.readouterr()
    for scene in sorted(path.name for path in whole.iterdir() if path.is_dir()):
        for product in ("final.png", "scene.json", "strip.png"):
            assert (out / scene / product).read_bytes() == (whole / scene / product).read_bytes()
    assert run_cli(["batch", file, "--out", str(out), *SMALL, "--json"]) == 0  # nothing left to do
    assert [result["seconds"] for result in json.loads(capsys.readouterr().out)["results"]] == [0.0] * 4
    assert (out / "contact-sheet.png").read_bytes() == (whole / "contact-sheet.png").read_bytes()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["nonsense"], "line 1 is no JSON"),
        (['"a dog"', {"seed": 3}], "line 2 needs a prompt in words"),
        ([{"prompt": "a", "colour": 1}], "nothing else"),
        ([{"prompt": "a", "seed": "x"}], "no whole number"),
        ([{"prompt": "a", "name": "../x"}], "no plain folder name"),
        ([{"prompt": "a", "name": "x"}, {"prompt": "b", "name": "x"}], "names 'x' twice"),
        ([], "holds 0 prompts"),
    ],
)
def test_wrong_files_are_named_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[Any], says: str
) -> None:
    file = prompts(tmp_path / "p.jsonl", *lines)
    assert run_cli(["batch", file, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_batch_in_the_same_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert run_cli(["batch", prompts(tmp_path / "p.jsonl", '"a dog"'), "--out", out, *SMALL]) == 0
    assert run_cli(["batch", prompts(tmp_path / "q.jsonl", '"a cat"'), "--out", out, *SMALL]) == 2
    assert "holds another batch" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    assert run_cli(["batch", str(tmp_path / "p.jsonl"), "--out", str(tmp_path / "mine"), *SMALL]) == 2
    assert "holds no batch (file)" in capsys.readouterr().err


def test_a_worker_that_dies_takes_only_its_prompt_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_work", deadly_work)
    items = [batch.Item(n, f"{n}", "bomb" if n == 2 else "a dog", 7) for n in range(1, 5)]
    results = {r["number"]: r for r in batch._in_processes(items, tmp_path, None, 2)}  # type: ignore[arg-type]
    assert {n: r["state"] for n, r in results.items()} == {1: "done", 2: "failed", 3: "done", 4: "done"}
    assert "died twice" in results[2]["error"]


def deadly_work(config: object, item: batch.Item, out: str) -> dict[str, Any]:
    import os
    import signal

    if item.prompt == "bomb":
        os.kill(os.getpid(), signal.SIGKILL)
    return {**vars(item), "state": "done", "error": "", "seconds": 0.1}
