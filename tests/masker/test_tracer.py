"""The tracer: what a scribble says, its stage, and what the mask model makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from masker.config import TracerConfig
from masker.guides import dilate_cells
from masker.placing import guide_box
from masker.remember import remember
from masker.smartmask import SmartMask
from masker.stage_config import MemoryStageConfig, TracerStageConfig
from masker.texts import TextBook
from masker.tracer import DISCS, NUMBERS, ScribbleTracer, scribble_numbers, trace
from masker.tracer_task import TracerTask
from masker.weights import MEMORY_FILES, build_model, export_masker, load_codec, load_tracer
from masker.windows import to_canvas
from runtime.config import validate
from runtime.training import fit
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.geometry import Box
from scene.guidance import Guidance
from scene.seeds import StepSeed

from .conftest import SIZE, masker_config


def _settings() -> TracerStageConfig:
    fitting = {"batch_size": 32, "total_samples": 8000, "learning_rate": 3e-3, "warmup_samples": 100,
               "ema_decay": None, "sheet_every": 8000, "log_every": 8000}  # fmt: skip
    settings = {"stage": "tracer", "tracer": {"cells": 64, "hidden": 16}, "pool": 60, "fit": fitting}
    return validate(TracerStageConfig, settings, "test")


@pytest.fixture(scope="module")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, config = tmp_path_factory.mktemp("tracer"), _settings()
    fit(TracerTask(config, [corpus], progress=False), config.fit, out)
    return out


def _scribble(radius: float, left: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """A box on the canvas and the scribble round it."""
    solid = np.zeros(SIZE.shape, dtype=np.float32)
    solid[80:160, left : left + 110] = 1
    return solid > 0.5, dilate_cells(solid, radius) > 0.5


@pytest.mark.parametrize("left", [90, 0, SIZE.width - 110])
def test_at_first_every_scribble_is_eroded_by_the_mean_radius(left: int) -> None:
    """Wherever it lies: what the canvas cuts goes on beyond it."""
    truth, drawn = _scribble(0.09, left)
    guide = Guidance.from_scribble(drawn)
    window, soft = trace(ScribbleTracer(TracerConfig()).eval(), guide.map, guide_box(guide), SIZE)
    found = to_canvas(soft, window, SIZE) > 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.9


def test_a_scribble_over_everything_is_taken_as_it_is() -> None:
    everything = np.ones(SIZE.shape, dtype=np.float32)
    window, soft = trace(ScribbleTracer(TracerConfig()).eval(), everything, Box(0, 0, *SIZE), SIZE)
    assert (to_canvas(soft, window, SIZE) > 0.5).all()
    assert scribble_numbers(np.zeros((32, 32), np.float32), np.ones((32, 32), np.float32)) is None


def test_a_thin_scribble_leaves_something() -> None:
    line = np.zeros(SIZE.shape, dtype=bool)
    line[100:103, 40:280] = True
    guide = Guidance.from_scribble(line)
    window, soft = trace(ScribbleTracer(TracerConfig()).eval(), guide.map, guide_box(guide), SIZE)
    assert (to_canvas(soft, window, SIZE) > 0.5).sum() > 100


def test_numbers_tell_the_radius() -> None:
    taken = []
    for radius in (0.04, 0.08, 0.14):
        solid = np.zeros((256, 256), dtype=np.float32)
        solid[80:176, 60:196] = 1
        numbers = scribble_numbers(dilate_cells(solid, radius), np.ones_like(solid))
        assert numbers is not None and numbers.shape == (NUMBERS,)
        assert numbers[-1] == pytest.approx(np.log(0.075), abs=0.12), "whatever it was"
        taken.append(numbers[: len(DISCS)])
        assert (np.diff(taken[-1]) >= -0.01).all()
    gone = [next(disc for disc, share in zip(DISCS, shares, strict=True) if share > 0.0055) for shares in taken]
    assert gone[0] < gone[1] < gone[2], "a rounded corner survives discs up to its radius"


def test_the_stage_learns_and_exports(trained: Path, corpus: Corpus) -> None:
    tracer = load_tracer(trained / "export")
    assert tracer is not None and tracer.config.hidden == 16
    assert list((trained / "sheets").glob("*.png")) and (trained / "sheets" / "validation.jsonl").is_file()
    task = TracerTask(_settings(), [corpus], progress=False)
    everything = task.batch(range(60))
    untrained, learnt = (float(task.loss(model, everything)[0]) for model in (task.tracer.eval(), tracer))
    assert learnt < 0.8 * untrained


def test_samples_depend_on_their_number_alone(corpus: Corpus) -> None:
    task = TracerTask(_settings(), [corpus], progress=False)
    alone, among = task.batch([5 + 60]), task.batch([3, 5])
    assert torch.equal(alone.numbers[0], among.numbers[1]) and torch.equal(alone.radius[0], among.radius[1])


def test_a_spoilt_tracer_is_refused(trained: Path, tmp_path: Path) -> None:
    assert load_tracer(tmp_path) is None
    (tmp_path / "tracer.yaml").write_bytes((trained / "export" / "tracer.yaml").read_bytes())
    (tmp_path / "tracer.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError):
        load_tracer(tmp_path)


def _export(trained: Path, corpus: Corpus, codec_folder: Path, out: Path) -> None:
    """A masker folder, untrained but for its tracer."""
    codec, config = load_codec(codec_folder), masker_config(codec_folder, tracer=str(trained / "export"))
    export_masker(build_model(config, codec), codec, config, [corpus], out)


@pytest.mark.parametrize("tightness", [1.0, 0.6])
def test_under_a_scribble_what_is_read_off_it_comes_first(
    trained: Path, corpus: Corpus, codec_folder: Path, texts: TextBook, tmp_path: Path, tightness: float
) -> None:
    _export(trained, corpus, codec_folder, tmp_path)
    model, scene = SmartMask.from_pretrained(tmp_path, texts), corpus.scene(corpus.records("val")[0], 2)
    assert model.tracer is not None, "an export takes its tracer along"
    truth, drawn = _scribble(0.09)
    guide = Guidance.from_scribble(drawn, tightness)
    alone = model.predict(scene, "ball", "a red ball", "", guidance=guide, count=1, seed=StepSeed(7, 3))
    many = model.predict(scene, "ball", "a red ball", "", guidance=guide, count=3, seed=StepSeed(7, 3))
    first = next(one for one in many if one.details["candidate"] == 0)
    assert np.array_equal(first.mask, alone[0].mask) and first.details == alone[0].details
    assert all(0 <= one.details["likely"] <= 1 for one in many) and "agreement" not in first.details
    assert first.details["likely"] == max(one.details["likely"] for one in many)
    if tightness == 1:
        assert (first.mask & truth).sum() / (first.mask | truth).sum() > 0.85
    box = model.predict(scene, "ball", "a red ball", "", guidance=None, count=1, seed=StepSeed(7, 3))
    assert "likely" not in box[0].details


def test_under_a_scribble_the_second_candidate_is_the_thing_as_remembered(
    trained: Path, corpus: Corpus, codec_folder: Path, texts: TextBook, tmp_path: Path
) -> None:
    _export(trained, corpus, codec_folder, tmp_path)
    remember(validate(MemoryStageConfig, {"masker": str(tmp_path), "objects": 12}, "test"), [corpus], tmp_path, texts)
    for name in MEMORY_FILES:
        (tmp_path / name).write_bytes((tmp_path / "export" / name).read_bytes())
    model, scene = SmartMask.from_pretrained(tmp_path, texts), corpus.scene(corpus.records("val")[0], 2)
    truth, drawn = _scribble(0.09)
    asked = {"guidance": Guidance.from_scribble(drawn), "count": 3, "seed": StepSeed(7, 3)}
    remembered = {one.details["candidate"]: one for one in model.predict(scene, "ball", "a red ball", "", **asked)}
    model.memory = None
    drawn_alone = {one.details["candidate"]: one for one in model.predict(scene, "ball", "a red ball", "", **asked)}
    assert all(np.array_equal(remembered[number].mask, drawn_alone[number].mask) for number in (0.0, 2.0))
    ball = remembered[1.0]
    assert not np.array_equal(ball.mask, drawn_alone[1.0].mask)
    assert (ball.mask & truth).sum() / (ball.mask | truth).sum() > 0.7, "in line with what was drawn"
    assert ball.details["likely"] <= remembered[0.0].details["likely"]
