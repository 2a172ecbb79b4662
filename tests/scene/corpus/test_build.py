"""The builder: same bytes whatever the workers and however often it was stopped; bad input is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_world import BROKEN_SCENE, opener

import scene.corpus.build as build_module
from scene.corpus.build import build_corpus
from scene.corpus.store import CHECKPOINT_FILE, Corpus
from scene.errors import UserError

SCENES = 24


def _bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "toy"
    build_corpus(opener(), folder, SCENES, workers=1)
    return folder


def test_any_number_of_workers_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build_corpus(opener(), tmp_path / "toy", SCENES, workers=3)
    assert _bytes(tmp_path / "toy") == _bytes(built)


def test_killed_and_run_again_it_ends_the_same(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    script = Path(__file__).with_name("toy_world.py")
    child = subprocess.Popen([sys.executable, str(script), str(folder), str(SCENES)], env=environment)
    pictures = folder / "assets.bin"
    deadline = time.monotonic() + 60
    while not (pictures.exists() and pictures.stat().st_size > 0) and time.monotonic() < deadline:
        time.sleep(0.02)  # then the first scene has reached the disk, and 23 are to come
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (folder / "corpus.json").exists()
    assert (folder / CHECKPOINT_FILE).exists()
    with pytest.raises(UserError, match="not finished; run the same"):
        Corpus.open(folder)
    build_corpus(opener(), folder, SCENES, workers=2)
    assert _bytes(folder) == _bytes(built)


def test_stopped_after_a_checkpoint_it_goes_on_from_there(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "CHECKPOINT_S", 0.0)
    folder, drawn = tmp_path / "toy", []

    def stop_at_nine(results, total, done):  # type: ignore[no-untyped-def]
        for result in results:
            if len(drawn) == 9:
                raise RuntimeError("stop")
            drawn.append(done)
            yield result

    with pytest.raises(RuntimeError, match="stop"):
        build_corpus(opener(), folder, SCENES, progress=stop_at_nine)
    with (folder / "assets.bin").open("ab") as file:
        file.write(b"torn")  # what a crash may leave behind the checkpoint
    seen = []

    def watch(results, total, done):  # type: ignore[no-untyped-def]
        seen.append((total, done))
        return results

    build_corpus(opener(), folder, SCENES, progress=watch)
    assert seen == [(SCENES, 9)]
    assert _bytes(folder) == _bytes(built)


def test_a_complete_corpus_is_returned_as_it_is(built: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in built.iterdir()}
    assert len(build_corpus(opener(), built, SCENES).records()) == SCENES - 1
    assert {file: file.stat().st_mtime_ns for file in built.iterdir()} == before


def test_other_settings_and_strange_folders_are_refused(built: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="built otherwise"):
        build_corpus(opener(seed=2), built, SCENES)
    (tmp_path / "letter.txt").write_text("dear me")
    with pytest.raises(UserError, match="choose another DST"):
        build_corpus(opener(), tmp_path, SCENES)
    with pytest.raises(UserError, match="at least 1"):
        build_corpus(opener(), tmp_path / "new", 0)


def test_report_and_attribution(built: Path) -> None:
    report = json.loads((built / "build.json").read_text())
    assert report["unusable"] == ["ball-7: 0 m wide"]
    assert report["scenes"] == SCENES - 1
    assert report["skipped"] == {str(BROKEN_SCENE): "nothing fits"}
    assert report["notes"] == {"model skipped": {"ball-9: no faces": 1}}
    text = (built / "ATTRIBUTION.md").read_text()
    assert "**A. Maker**: Ball-1 (`ball-1`); Ball-3 (`ball-3`)" in text
    assert "surface" not in text
