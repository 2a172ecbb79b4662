"""The loop with fake models: steps, checkpoints, resume, rejections, limits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.compose import Composer, Run
from orchestrator.config import load_preset
from orchestrator.run_folder import RunFolder
from scene.errors import SmartSceneError, UserError
from tests.orchestrator.fakes import FakeInpainter, fake_models


def composer(**planner: object) -> Composer:
    return Composer.from_preset("park", overrides=["width=320", "height=256"], models=fake_models(**planner))


def finished(path: Path, **planner: object) -> Run:
    run = composer(**planner).start("a boy and a dog", seed=7, out=path)
    list(run.steps())
    run.close()
    return run


def test_run_folder_holds_every_step_and_the_products(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    assert [s.outcome for s in run.folder.history.path()] == ["placed"] * 4 + ["stopped"]
    for name in ("run.json", "history.json", "scene.json", "final.png", "layout.png", "strip.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    scene = json.loads((tmp_path / "run" / "scene.json").read_text())
    assert [layer["label"] for layer in scene["layers"]] == ["sky", "grass", "boy", "dog"]
    assert {"edges", "nodes"} <= scene["graph"].keys()
    for layer in scene["layers"]:
        with Image.open(tmp_path / "run" / layer["rgba"]) as rgba:
            assert rgba.mode == "RGBA"
            assert rgba.size == (320, 256)
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_a_word_is_unknown_only_where_the_planner_cannot_read_it_either(tmp_path: Path) -> None:
    maker = composer()
    object.__setattr__(maker.models, "read", lambda prompt: prompt.replace("a barker", "a dog"))
    run = maker.start("a boy, a barker and a submarine", seed=7, out=tmp_path / "run")
    assert list(run.unknown) == ["submarine"]
    run.close()


def test_pixels_outside_each_mask_never_change(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    before = np.full((256, 320, 3), 255, np.uint8)
    for step in run.folder.history.path():
        if step.outcome == "placed":
            after = run.folder.picture(step.index, "image", "RGB")
            mask = run.folder.picture(step.index, "mask", "L") > 0
            assert np.array_equal(after[~mask], before[~mask])
            before = after
    assert np.array_equal(before, run.folder.scene().image)


def test_an_inpainter_that_leaks_is_stopped(tmp_path: Path) -> None:
    maker = composer()
    object.__setattr__(maker.models, "inpainter", FakeInpainter(leak=True))
    run = maker.start("a boy", seed=1, out=tmp_path / "run")
    with pytest.raises(SmartSceneError, match="outside the mask"):
        list(run.steps())  # the sky covers all; the grass leaks


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3, 4])
def test_resume_equals_uninterrupted(tmp_path: Path, stop_after: int) -> None:
    whole = finished(tmp_path / "whole")
    run = composer().start("a boy and a dog", seed=7, out=tmp_path / "cut")
    for _ in range(stop_after):
        run.advance()
    half = run.folder.step_dir(run.folder.history.next_id)
    half.mkdir()
    (half / "image.png").write_bytes(b"half-written")  # what a kill leaves behind
    run.close()
    _, again = Composer.for_run(tmp_path / "cut", models=fake_models())
    list(again.steps())
    again.close()
    assert (tmp_path / "cut" / "final.png").read_bytes() == (whole.folder.path / "final.png").read_bytes()
    assert (tmp_path / "cut" / "scene.json").read_bytes() == (whole.folder.path / "scene.json").read_bytes()


def test_a_step_written_just_before_the_head_was_stored_is_kept(tmp_path: Path) -> None:
    run = composer().start("a boy", seed=3, out=tmp_path / "run")
    run.advance()
    old = (tmp_path / "run" / "history.json").read_text()
    run.advance()
    run.close()
    (tmp_path / "run" / "history.json").write_text(old)
    folder = RunFolder.open(tmp_path / "run", write=False)
    assert folder.history.head == 2


def test_same_seed_same_scene_and_other_seed_another(tmp_path: Path) -> None:
    one, two = finished(tmp_path / "1"), finished(tmp_path / "2")
    assert np.array_equal(one.scene.image, two.scene.image)
    other = composer().start("a boy and a dog", seed=8, out=tmp_path / "3")
    list(other.steps())
    assert not np.array_equal(one.scene.image, other.scene.image)


def test_model_mistakes_are_recorded_and_the_loop_goes_on(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", plan=("sky", "ghost", "dog"), unusable=2)
    outcomes = [(s.outcome, s.reason) for s in run.folder.history.path()]
    assert outcomes[:2] == [("rejected", "planner: no parse")] * 2
    assert ("rejected", "masker: empty mask") in outcomes
    assert [layer.label for layer in run.scene.layers] == ["sky", "dog"]


def test_endless_mistakes_end_the_run(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", unusable=99)
    assert [s.outcome for s in run.folder.history.path()] == ["rejected"] * 4 + ["stopped"]
    assert (tmp_path / "run" / "final.png").exists()


def test_what_the_prompt_names_may_be_more_than_max_objects(tmp_path: Path) -> None:
    more = ["max_objects=1", "max_named=2"]
    run = Composer.from_preset("park", overrides=more, models=fake_models()).start(
        "a boy and a dog", out=tmp_path / "run"
    )
    assert list(run.steps())[-1].reason == "max_objects = 2 reached"
    assert load_preset("park").max_named > load_preset("park", overrides=["max_objects=3"]).max_named == 0


def test_what_the_planner_reads_counts_as_named(tmp_path: Path) -> None:
    models = replace(fake_models(), read=lambda prompt: prompt.replace("bouy", "boy"))
    maker = Composer.from_preset("park", overrides=["max_objects=1", "max_named=2"], models=models)
    run = maker.start("a bouy and a dog", out=tmp_path / "run")
    assert list(run.steps())[-1].reason == "max_objects = 2 reached"


def test_max_objects_does_not_count_surfaces(tmp_path: Path) -> None:
    maker = Composer.from_preset("park", overrides=["max_objects=1"], models=fake_models())
    run = maker.start("a boy and a dog", out=tmp_path / "run")
    assert list(run.steps())[-1].reason == "max_objects = 1 reached"
    assert [layer.label for layer in run.scene.layers] == ["sky", "grass", "boy"]


def test_starting_again_in_the_same_folder(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    again = composer().start("a boy and a dog", seed=7, out=tmp_path / "run")
    assert again.finished
    again.close()
    with pytest.raises(UserError, match=r"holds another run.*choose another --out"):
        composer().start("a cat", seed=7, out=tmp_path / "run")


def test_two_processes_cannot_share_a_run(tmp_path: Path) -> None:
    run = composer().start("a boy", seed=1, out=tmp_path / "run")
    with pytest.raises(UserError, match="another process"):
        RunFolder.open(tmp_path / "run")
    run.close()
    RunFolder.open(tmp_path / "run").close()


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("run.json", b"{", "cannot be read"),
        ("run.json", b'{"schema_version": 99}', "schema 99"),
        ("run.json", b'{"schema_version": 1}', "lacks prompt"),
        ("history.json", b"[]", "schema None"),
        ("steps/0002/step.json", b'{"schema_version": 1, "index": 2}', "is broken"),
        ("steps/0002/step.json", b"", "cannot be read"),
        ("history.json", b'{"schema_version": 3}', "is broken .*goes on from its newest step"),
    ],
)
def test_broken_folders_are_named_in_one_line(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    finished(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(UserError, match=match) as caught:
        Composer.for_run(tmp_path / "run", models=fake_models())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["amodal", "layer"])
@pytest.mark.parametrize("content", [b"\x89PNG broken", None])
def test_a_lost_picture_is_made_again_to_the_byte(tmp_path: Path, name: str, content: bytes | None) -> None:
    finished(tmp_path / "run")
    file, final = tmp_path / "run" / "steps" / "0003" / f"{name}.png", (tmp_path / "run" / "final.png").read_bytes()
    before = file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    _, run = Composer.for_run(tmp_path / "run", models=fake_models())
    run.finish()
    run.close()
    assert file.read_bytes() == before
    assert (tmp_path / "run" / "final.png").read_bytes() == final


def test_a_tampered_step_is_named_and_can_be_left_behind(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    stolen = run.folder.step_dir(4)
    for name in ("layer", "amodal"):
        (run.folder.step_dir(3) / f"{name}.png").write_bytes((stolen / f"{name}.png").read_bytes())  # valid PNGs
    with pytest.raises(UserError, match=r"0003/amodal.png cannot be read .*sha256 differs.*smartscene branch .* 2"):
        Composer.for_run(tmp_path / "run", models=fake_models())
    folder = RunFolder.open(tmp_path / "run")
    folder.set_history(folder.history.branched(2))
    folder.close()
    _, again = Composer.for_run(tmp_path / "run", models=fake_models())
    assert [layer.label for layer in again.scene.layers] == ["sky", "grass"]
    again.close()


def test_without_a_history_file_the_newest_step_is_the_head(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    (tmp_path / "run" / "history.json").unlink()
    folder = RunFolder.open(tmp_path / "run", write=False)
    assert folder.history.head == run.folder.history.head == 5
