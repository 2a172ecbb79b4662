"""Surfaces: outlines in and out, joined without a gap, learnable, and what the façade makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from masker.config import SurfaceConfig
from masker.outlining import Outliner
from masker.stage_config import SurfaceStageConfig
from masker.surface_task import SurfaceTask
from masker.surfaces import SurfacePrior, box_hint, column_places, draw_outline, read_outline, runs
from masker.texts import TextBook
from masker.weights import load_surfaces
from runtime.config import validate
from runtime.training import fit
from scene.corpus.store import Corpus
from scene.errors import ModelError
from scene.geometry import Box, Size
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.seeds import StepSeed

from .conftest import SIZE, TEXT

PLACES = column_places(33, SIZE.width)
SMALL = SurfaceConfig(columns=9, code=4, hidden=32, layers=1, steps=4, text_channels=8, painted_channels=4)


def _floor(corner: int = 96) -> np.ndarray:
    """The floor of a room whose corner is at a column: bool (H, W), two straight edges that meet there."""
    x = np.arange(SIZE.width)
    edge = np.where(x < corner, 150 - x * 0.4, 150 - corner * 0.4 + (x - corner) * 0.2)
    return np.arange(SIZE.height)[:, None] >= np.rint(edge)


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("mask", [_floor(), ~_floor(), np.ones(SIZE.shape, bool)], ids=["floor", "wall", "sky"])
def test_an_outline_stands_for_its_mask(mask: np.ndarray) -> None:
    assert _iou(draw_outline(read_outline(mask[:, PLACES]), SIZE), mask) > 0.985


def test_an_outline_is_straight_although_the_code_trembles() -> None:
    outline = read_outline(np.repeat((np.arange(SIZE.height) >= 128)[:, None], len(PLACES), axis=1))
    outline[: len(PLACES)] += np.random.default_rng(0).uniform(-0.005, 0.005, len(PLACES)).astype(np.float32)
    upper = draw_outline(outline, SIZE).argmax(axis=0)
    assert len(set(np.diff(upper))) <= 2 and np.ptp(upper) <= 3


def test_a_wall_meets_the_floor_without_a_gap_or_an_overlap() -> None:
    floor = _floor()
    outline = read_outline(~floor[:, PLACES])
    outline[len(PLACES) :] -= 0.03  # drawn a little too short
    wall = draw_outline(outline, SIZE, [floor])
    assert (wall ^ floor).all()


def test_edges_far_from_another_surface_stay_where_they_are() -> None:
    floor = _floor()
    outline = read_outline(np.repeat((np.arange(SIZE.height) < 40)[:, None], len(PLACES), axis=1))
    assert np.array_equal(draw_outline(outline, SIZE, [floor]), draw_outline(outline, SIZE))


def test_runs_say_how_far_the_lowest_and_the_highest_thing_reach() -> None:
    columns = np.zeros((10, 2), dtype=np.int16)
    columns[7:, 0] = 3  # the floor of the first column; nothing above it
    columns[:, 1] = 5
    assert runs(columns).tolist() == pytest.approx([0.3, 1.0, 0.0, 1.0])


def test_a_box_hint_is_a_share_of_the_canvas() -> None:
    assert box_hint(None, SIZE).tolist() == [0] * 5
    assert box_hint(Box(160, 64, 320, 256), SIZE).tolist() == [1, 0.5, 0.25, 1, 1]


def _stage(**fit_settings: object) -> SurfaceStageConfig:
    settings = {"batch_size": 8, "total_samples": 64, "learning_rate": 3e-3, "snapshot_minutes": 60, "threads": 1}
    return validate(
        SurfaceStageConfig,
        {
            "text": TEXT.model_dump(),
            "surface": SMALL.model_dump(),
            "pool": 64,
            "examples": {"subset_share": 0.0, "shuffle_share": 0.0},
            "fit": settings | fit_settings,
        },
        "test",
    )


def test_training_learns_where_grass_lies(corpus: Corpus, texts: TextBook, tmp_path: Path) -> None:
    task = SurfaceTask(_stage(total_samples=3200, learning_rate=6e-3, batch_size=16), [corpus], texts)
    fit(task, task.config.fit, tmp_path)
    prior = load_surfaces(tmp_path / "export")
    assert prior is not None
    outliner = Outliner(prior, texts, ["sky", "grass"])
    record = corpus.records("val")[0]
    for k, label in enumerate(("sky", "grass")):
        scene, layer = corpus.scene(record, k), corpus.scene(record, k + 1).layers[k]
        found = outliner.predict(scene, label, record.prompts[0], guidance=None, count=2, seed=StepSeed(1, k))
        assert _iou(found[0].mask, layer.mask) > 0.9


@pytest.fixture
def outliner(texts: TextBook) -> Outliner:
    torch.manual_seed(0)
    prior = SurfacePrior(SMALL, TEXT.width)
    prior.code.learn_components(torch.rand(16, 18))
    for parameter in prior.code.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return Outliner(prior.eval(), texts, ["sky", "grass"])


def test_a_candidate_is_the_same_alone_and_among_six(outliner: Outliner, corpus: Corpus) -> None:
    scene = corpus.scene(corpus.records("val")[0], 1)

    def drawn(count: int) -> dict[float, np.ndarray]:
        found = outliner.predict(scene, "grass", "a park", guidance=None, count=count, seed=StepSeed(1, 1))
        return {candidate.details["candidate"]: candidate.mask for candidate in found}

    alone, among = drawn(1), drawn(6)
    assert np.array_equal(alone[0.0], among[0.0])
    assert any(not np.array_equal(among[0.0], mask) for mask in among.values())


def test_an_outline_without_a_pixel_is_an_error(outliner: Outliner) -> None:
    outliner.prior.code.mean.zero_()
    outliner.prior.code.spread.zero_()
    empty = LayeredScene(Size(256, 256), "a park", ())
    with pytest.raises(ModelError, match="give a box or another seed"):
        outliner.predict(empty, "grass", "", guidance=None, count=2, seed=StepSeed(1, 1))


def test_a_box_is_scored_by_how_well_it_is_filled(outliner: Outliner) -> None:
    guidance = Guidance.from_box(Box(0, 100, 320, 256), SIZE)
    found = outliner.predict(
        LayeredScene(SIZE, "a park", ()), "grass", "", guidance=guidance, count=2, seed=StepSeed(1, 1)
    )
    assert all("guide_fit" in candidate.details for candidate in found)
