"""The tracer: what a scribble says, its stage, and what the mask model makes of it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from masker.config import TracerConfig
from masker.guides import dilate_cells
from masker.placing import guide_box
from masker.smartmask import SmartMask
from masker.stage_config import TracerStageConfig
from masker.texts import TextBook
from masker.tracer import DISCS, ScribbleTracer, TracerInputs, granulometry, trace
from masker.tracer_task import TracerTask
from masker.weights import build_model, export_masker, load_codec, load_tracer
from masker.windows import to_canvas
from runtime.config import validate
from runtime.training import fit
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.guidance import Guidance
from scene.seeds import StepSeed

from .conftest import SIZE, TEXT, fake_encode, masker_config

TINY = {"cells": 64, "widths": [16, 16], "text_width": 8}


def _settings(samples: int) -> TracerStageConfig:
    fitting = {"batch_size": 4, "total_samples": samples, "learning_rate": 3e-3, "warmup_samples": 8,
               "ema_decay": None, "sheet_every": samples, "log_every": samples}  # fmt: skip
    settings = {"stage": "tracer", "text": TEXT.model_dump(), "tracer": TINY, "fit": fitting}
    return validate(TracerStageConfig, settings, "test")


@pytest.fixture(scope="module")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tracer")
    config = _settings(320)
    fit(TracerTask(config, [corpus], TextBook(TEXT, fake_encode)), config.fit, out)
    return out


def _scribble(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A box on the canvas and the scribble round it."""
    solid = np.zeros(SIZE.shape, dtype=np.float32)
    solid[80:160, 90:200] = 1
    return solid > 0.5, dilate_cells(solid, radius) > 0.5


def test_at_first_every_scribble_is_eroded_by_the_mean_radius() -> None:
    tracer = ScribbleTracer(TracerConfig(), TEXT.width).eval()
    truth, drawn = _scribble(0.09)
    guide = Guidance.from_scribble(drawn)
    window, soft = trace(tracer, guide.map, guide_box(guide), torch.zeros(TEXT.width), SIZE)
    found = to_canvas(soft, window, SIZE) > 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.9


def test_a_granulometry_tells_the_radius() -> None:
    spectra = []
    for radius in (0.04, 0.08, 0.14):
        solid = np.zeros((128, 128), dtype=np.float32)
        solid[40:88, 30:98] = 1
        thickness, spectrum = granulometry(dilate_cells(solid, radius) > 0.5)
        spectra.append(spectrum)
        assert (np.diff(spectrum) >= -0.01).all() and thickness.max() == 1
    gone = [next(disc for disc, share in zip(DISCS, spectrum, strict=True) if share > 0.004) for spectrum in spectra]
    assert gone[0] < gone[1] < gone[2], "a rounded corner survives discs up to its radius"
    nothing, everything = (granulometry(np.full((32, 32), full)) for full in (False, True))
    assert nothing[1].min() == 1 and everything[1].max() == 0 and everything[0].min() == 1


def test_the_stage_learns_and_exports(trained: Path, corpus: Corpus, texts: TextBook) -> None:
    tracer = load_tracer(trained / "export")
    assert tracer is not None and tracer.config.cells == 64
    assert list((trained / "sheets").glob("*.png")) and (trained / "sheets" / "validation.jsonl").is_file()
    task = TracerTask(_settings(320), [corpus], texts)
    before = task.validation()
    task.tracer.load_state_dict(tracer.state_dict())
    after = task.validation()
    assert before["traced"] == pytest.approx(before["eroded"], abs=1e-3)
    assert after["eroded"] == before["eroded"] and after["traced"] > before["traced"] + 0.001


def test_examples_depend_on_their_number_alone(corpus: Corpus, texts: TextBook) -> None:
    task = TracerTask(_settings(8), [corpus], texts)
    alone, among = task.batch([5]), task.batch([3, 5])
    assert torch.equal(alone.masks[0], among.masks[1]) and torch.equal(alone.text[0], among.text[1])
    for field in fields(TracerInputs):
        assert torch.equal(getattr(alone.inputs, field.name)[0], getattr(among.inputs, field.name)[1])
    scribble, mask = alone.inputs.scribble[0, 0], alone.masks[0, 0]
    assert (scribble >= (mask > 0.99)).float().mean() > 0.95, "a scribble goes round its object"


def test_a_spoilt_tracer_is_refused(trained: Path, tmp_path: Path) -> None:
    assert load_tracer(tmp_path) is None
    (tmp_path / "tracer.yaml").write_bytes((trained / "export" / "tracer.yaml").read_bytes())
    (tmp_path / "tracer.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError):
        load_tracer(tmp_path)


@pytest.mark.parametrize("tightness", [1.0, 0.6])
def test_under_a_scribble_what_is_read_off_it_comes_first(
    trained: Path, corpus: Corpus, codec_folder: Path, texts: TextBook, tmp_path: Path, tightness: float
) -> None:
    codec, config = load_codec(codec_folder), masker_config(codec_folder, tracer=str(trained / "export"))
    export_masker(build_model(config, codec), codec, config, [corpus], tmp_path)
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
