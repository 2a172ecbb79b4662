"""`data build` and `data check` on the command line: exit codes, one-line errors, one JSON document."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.cli import run_cli
from scene.corpus.records import LayerFacts, LayerRecord
from scene.corpus.store import CorpusWriter
from scene.geometry import Size
from scene.vocabulary import Vocabulary


def _corpus(folder: Path, prompt: str) -> None:
    size = Size(256, 256)
    vocabulary = Vocabulary("toy", {"wall": {"kind": "surface"}})
    writer = CorpusWriter(folder, name="toy", licence="CC0", size=size, vocabulary=vocabulary)
    picture = np.full((*size.shape, 4), 255, np.uint8)
    number = writer.add_asset(picture, label="wall", description="a white wall", source="surface:wall")
    layer = LayerRecord("wall", "a white wall", number, 0, 0, facts=LayerFacts(1.0))
    writer.add_scene("one", 0, "train", [layer], [prompt])
    writer.finish()


def test_check_says_what_it_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools", reason="the extra `data` is not installed")
    pytest.importorskip("contourpy", reason="the extra `data` is not installed")
    _corpus(tmp_path / "good", "a wall")
    assert run_cli(["data", "check", str(tmp_path / "good")]) == 0
    assert "masks 1 checked" in capsys.readouterr().out
    _corpus(tmp_path / "bad", "two walls")
    assert run_cli(["data", "check", str(tmp_path / "bad")]) == 2
    assert "prompts: one: prompt 'two walls' says 2 x wall, the scene has 1" in capsys.readouterr().err
    assert run_cli(["data", "check", str(tmp_path / "bad"), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["findings"][0]["check"] == "prompts"
    assert document["checked"]["labels"] == 1


@pytest.mark.parametrize("world", ["home", "icons"])
def test_build_says_how_to_get_what_it_needs(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SMARTSCENE_DATA_DEPS", str(tmp_path / "nothing"))
    assert run_cli(["data", "build", world, str(tmp_path / "out"), "--scenes", "2"]) == 2
    captured = capsys.readouterr().err
    assert "make data-deps" in captured
    assert captured.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert run_cli(["data", "build", world, str(tmp_path / "out"), "--scenes", "2", "--size", "9x9"]) == 2
    assert "256 to 1024" in capsys.readouterr().err
    assert run_cli(["data", "build", world, str(tmp_path / "out"), "--scenes", "0"]) == 2
