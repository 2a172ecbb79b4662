"""The façade: what it promises whatever the weights are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from masker.config import SamplingConfig
from masker.placing import guide_box
from masker.smartmask import SmartMask
from masker.texts import TextBook
from masker.weights import build_model, load_codec
from scene.corpus.store import Corpus
from scene.errors import ModelError
from scene.geometry import Box
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.seeds import StepSeed

from .conftest import SIZE, masker_config


def _smartmask(codec_folder: Path, texts: TextBook, bias: float = 0.5, **sampling: object) -> SmartMask:
    """Random weights; `bias` moves the decoder so that masks are neither empty nor full."""
    torch.manual_seed(1)
    config = masker_config(codec_folder)
    config = config.model_copy(update={"sampling": SamplingConfig(solver_steps=3, **sampling)})  # type: ignore[arg-type]
    codec = load_codec(codec_folder)
    with torch.no_grad():
        codec.decoder[-2].weight.normal_(0, 0.5)
        codec.decoder[-2].bias.fill_(bias)
    model = build_model(config, codec).eval()
    for parameter in model.denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return SmartMask(config, codec, model, texts, surfaces=["sky", "grass"])


@pytest.fixture
def scene(corpus: Corpus) -> LayeredScene:
    return corpus.scene(corpus.records("val")[0], 3)


def _predict(model: SmartMask, scene: LayeredScene, guidance: Guidance | None, count: int, step: int = 3):  # type: ignore[no-untyped-def]
    found = model.predict(
        scene, "ball", "a red ball", "a ball on grass", guidance=guidance, count=count, seed=StepSeed(7, step)
    )
    return {int(c.details["candidate"]): c for c in found}


@pytest.mark.parametrize("guided", [False, True])
def test_a_candidate_is_the_same_alone_and_among_four(
    codec_folder: Path, texts: TextBook, scene: LayeredScene, guided: bool
) -> None:
    guidance = Guidance.from_box(Box(100, 90, 180, 170), SIZE) if guided else None
    model = _smartmask(codec_folder, texts, refine="all")
    alone, among = _predict(model, scene, guidance, 1), _predict(model, scene, guidance, 4)
    assert set(among) == {0, 1, 2, 3}
    assert np.array_equal(alone[0].mask, among[0].mask)
    agreed = {key: value for key, value in among[0].details.items() if key != "agreement"}
    assert alone[0].details == agreed and ("agreement" in among[0].details) == guided
    assert not np.array_equal(among[0].mask, among[1].mask)
    again = _predict(_smartmask(codec_folder, texts, refine="all"), scene, guidance, 4)
    assert all(np.array_equal(again[i].mask, among[i].mask) for i in among)


def test_candidates_are_ranked_masks_of_the_canvas(codec_folder: Path, texts: TextBook, scene: LayeredScene) -> None:
    found = _smartmask(codec_folder, texts).predict(scene, "ball", "", "", guidance=None, count=4, seed=StepSeed(0, 1))
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    for candidate in found:
        assert candidate.mask.shape == SIZE.shape
        assert candidate.mask.dtype == np.bool_
        assert candidate.mask.any()
        assert 0 <= candidate.score <= 1


def test_nothing_global_is_read_or_changed(codec_folder: Path, texts: TextBook, scene: LayeredScene) -> None:
    model = _smartmask(codec_folder, texts)
    torch.manual_seed(1)
    first = _predict(model, scene, None, 1)[0].mask
    state = torch.random.get_rng_state()
    second = _predict(model, scene, None, 1)[0].mask
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.array_equal(first, second)
    assert not np.array_equal(first, _predict(model, scene, None, 1, step=4)[0].mask)


def test_a_guided_first_pass_stays_in_its_window(codec_folder: Path, texts: TextBook, scene: LayeredScene) -> None:
    box = Box(200, 100, 260, 150)
    model = _smartmask(codec_folder, texts, bias=3.0, refine="none")
    mask = _predict(model, scene, Guidance.from_box(box, SIZE), 1)[0].mask
    found = Box.from_mask(mask)
    assert found is not None
    assert found.intersection(box.expand(0.6)) == found


def test_a_mask_that_stays_empty_is_a_model_error(codec_folder: Path, texts: TextBook, scene: LayeredScene) -> None:
    model = _smartmask(codec_folder, texts, bias=-50.0)
    with pytest.raises(ModelError, match="no mask for 'ball': 2 candidates stayed empty in 3 draws each"):
        _predict(model, scene, None, 2)


def test_misuse_is_named(codec_folder: Path, texts: TextBook, scene: LayeredScene) -> None:
    model = _smartmask(codec_folder, texts)
    with pytest.raises(ValueError, match="at least 1"):
        _predict(model, scene, None, 0)
    wrong = Guidance("box", np.ones((64, 64), dtype=np.float32))
    with pytest.raises(ValueError, match="the canvas is"):
        _predict(model, scene, wrong, 1)


def test_surfaces_come_out_whole(codec_folder: Path, texts: TextBook, scene: LayeredScene) -> None:
    model = _smartmask(codec_folder, texts, bias=50.0)
    empty = LayeredScene(SIZE, "", ())
    found = model.predict(empty, "sky", "blue sky", "", guidance=None, count=1, seed=StepSeed(0, 0))
    assert found[0].mask.all()
    assert found[0].details["passes"] == 1


def test_guide_box_reads_the_guides_of_people() -> None:
    box = Box(60, 40, 160, 120)
    assert guide_box(Guidance.from_box(box, SIZE)) == box
    blob = guide_box(Guidance.from_blob(110, 80, 37.5, 30, SIZE))  # sigma = 0.375 of the box's sides
    assert blob.iou(box) > 0.9
