"""The placement prior: boxes in, boxes out, learnable, and what mask-free prediction makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from masker.config import ExamplesConfig, PlacementConfig
from masker.placement import PlacementInputs, PlacementPrior
from masker.placement_task import PlacementTask
from masker.placing import LikelyBoxes, loosened, moved
from masker.stage_config import PlacementStageConfig
from masker.texts import TextBook
from masker.weights import load_placement
from perception.boxes import draw, split_boxes
from runtime.config import validate
from runtime.training import fit
from scene.corpus.store import Corpus
from scene.geometry import Box, Size
from scene.guidance import Guidance

from .conftest import TEXT

CONFIG = PlacementConfig(resolution=32, painted_channels=4, fold=2, widths=(16, 32), text_width=16, size_bins=16)


def _inputs(batch: int = 1) -> PlacementInputs:
    generator = torch.Generator().manual_seed(1)
    geometry = torch.zeros(batch, 4, 32, 32)
    geometry[:, 0, 4:28] = 1  # the canvas covers rows 4 to 27
    return PlacementInputs(
        index=torch.randint(0, 3, (batch, 32, 32), generator=generator),
        labels=torch.randn(3, TEXT.width, generator=generator),
        geometry=geometry,
        object=torch.randn(batch, TEXT.width, generator=generator),
        context=torch.randn(batch, TEXT.width, generator=generator),
    )


def _prior() -> PlacementPrior:
    torch.manual_seed(0)
    return PlacementPrior(CONFIG, TEXT.width).eval()


def test_size_bins_and_sides_are_inverse() -> None:
    prior = _prior()
    bins = torch.arange(16)
    assert torch.equal(prior.bin_of(prior.side_of(bins.float())), bins)
    assert prior.side_of(torch.tensor(0.0)).item() == pytest.approx(CONFIG.smallest)
    assert prior.side_of(torch.tensor(15.0)).item() == pytest.approx(1.0)


def test_places_are_a_distribution_over_the_canvas_alone() -> None:
    where, _, _ = _prior().maps(_inputs())
    probabilities = where.exp().view(32, 32)
    assert probabilities.sum().item() == pytest.approx(1.0, abs=1e-4)
    assert probabilities[:4].sum() == 0 and probabilities[28:].sum() == 0


def test_the_nucleus_leaves_unlikely_outcomes_out() -> None:
    log = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(4000, generator=generator)
    assert set(draw(log[None], 0.79, shares[:200]).tolist()) == {0, 1}
    assert draw(log[None], 0.0, shares[:9]).tolist() == [0] * 9
    counts = torch.bincount(draw(log[None], 1.0, shares), minlength=4) / 4000
    torch.testing.assert_close(counts, log.exp(), atol=0.04, rtol=0)


def test_many_draws_are_the_same_as_one_by_one() -> None:
    places = _prior().places(_inputs())
    at_once, generator = places.samples(5, torch.Generator().manual_seed(3), 0.8), torch.Generator().manual_seed(3)
    one_by_one = torch.stack([places.sample(generator, 0.8) for _ in range(5)])
    torch.testing.assert_close(at_once, one_by_one)
    assert len(at_once.unique(dim=0)) == 5


def test_log_density_prefers_what_training_showed() -> None:
    """A few steps on one box make exactly that box likely, and draws fall near it."""
    prior = _prior().train()
    inputs, box = _inputs(), torch.tensor([[0.4, 0.3, 0.6, 0.7]])
    optimizer = torch.optim.Adam(prior.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        torch.stack(list(prior.loss(inputs, box).values())).sum().backward()
        optimizer.step()
    places = prior.eval().places(inputs)
    near, far = places.log_density(torch.cat([box, torch.tensor([[0.1, 0.2, 0.9, 0.5]])]))
    assert near > far + 3
    drawn = torch.stack([places.sample(torch.Generator().manual_seed(n), 0.9) for n in range(8)])
    base, sizes = split_boxes(drawn)
    true_base, true_sizes = split_boxes(box)
    assert (base - true_base).abs().max() < 0.08
    assert (sizes / true_sizes).log().abs().max() < 0.6


def test_training_learns_and_exports(corpus: Corpus, texts: TextBook, tmp_path: Path) -> None:
    config = validate(
        PlacementStageConfig,
        {
            "text": TEXT.model_dump(),
            "placement": CONFIG.model_dump(),
            "examples": {"surface_share": 0.0},
            "fit": {"batch_size": 8, "total_samples": 480, "warmup_samples": 0, "learning_rate": 3e-3,
                    "sheet_every": 10**6, "log_every": 80, "threads": torch.get_num_threads()},
        },
        "test",
    )  # fmt: skip
    task = PlacementTask(config, [corpus], texts)
    before = task.validation()
    fit(task, config.fit, tmp_path / "run")
    after = task.validation()
    assert after["where"] < before["where"] - 0.3 and after["height"] < before["height"] - 0.3
    loaded = load_placement(tmp_path / "run/export")
    assert loaded is not None and (tmp_path / "run/sheets/0000000480.png").is_file()
    inputs = task.batch([0]).inputs
    drawn = loaded.places(inputs).sample(torch.Generator().manual_seed(0))
    assert torch.equal(drawn, loaded.places(inputs).sample(torch.Generator().manual_seed(0)))


def test_a_loosened_guide_stays_near_and_a_tight_one_is_itself() -> None:
    size, given = Size(320, 256), Box(100, 80, 180, 160)
    boxes = set()
    for seed in range(20):
        guidance = Guidance("box", Guidance.from_box(given, size).map, 0.5)
        got = loosened(guidance, None, size, torch.Generator().manual_seed(seed))
        box = Box.from_mask(got.map > 0.5)
        assert box is not None and box.iou(given) >= 0.45  # rounding to pixels
        boxes.add(box)
    assert len(boxes) > 5
    same = moved(Guidance.from_box(given, size), given, given)
    assert (same.map == Guidance.from_box(given, size).map).all()


class _Wide:
    """A placement prior that knows one thing: objects are 80 px wide on a canvas of 320."""

    def log_density(self, boxes: torch.Tensor) -> torch.Tensor:
        return -(((boxes[:, 2] - boxes[:, 0]) * 320 - 80) / 4).square()


@pytest.mark.parametrize("sigma", [24.0, 36.0])
def test_a_blob_stands_for_a_box_that_fits_the_scene(sigma: float) -> None:
    size, config = Size(320, 256), ExamplesConfig()
    likely = LikelyBoxes.of_blob((160, 120, sigma, sigma / 2), _Wide(), (0.5, 0.25), size, config)  # type: ignore[arg-type]
    assert likely.chances.sum().item() == pytest.approx(1, abs=1e-4)
    sides = likely.boxes[:, 2:] - likely.boxes[:, :2]
    torch.testing.assert_close(sides[:, 0], 2 * sides[:, 1])
    assert sides[:, 0].min() > sigma / 0.5 - 0.01 and sides[:, 0].max() < sigma / 0.25 + 0.01
    found = likely.guide(size, 0.7)
    assert found is not None and (found.kind, found.tightness) == ("box", 0.7)
    box = Box.from_mask(found.map > 0.5)
    assert box is not None and abs(box.width - 80) <= 3 and abs(box.height - 40) <= 2
    assert abs((box.x0 + box.x1) / 2 - 160) <= 2
    assert abs(box.y0 + 0.25 * box.height - 120) <= 2, "the centre of mass, not of the box, is where the blob is"
    generator = torch.Generator().manual_seed(0)
    drawn = [likely.guide(size, 1.0, generator) for _ in range(12)]
    assert len({Box.from_mask(one.map > 0.5) for one in drawn if one is not None}) > 6


def test_a_blob_beyond_the_canvas_stands_for_nothing() -> None:
    size = Size(320, 256)
    likely = LikelyBoxes.of_blob((-300, 120, 30, 30), _Wide(), (0.5, 0.5), size, ExamplesConfig())  # type: ignore[arg-type]
    assert likely.guide(size, 1.0) is None


def test_a_moved_scribble_keeps_its_drawing() -> None:
    size = Size(320, 256)
    drawing = np.zeros(size.shape, bool)
    drawing[80:120, 100:110] = drawing[110:120, 100:160] = True  # an L
    got = moved(Guidance.from_scribble(drawing), Box(100, 80, 160, 120), Box(200, 100, 260, 140))
    assert (got.map[100:140, 200:260] == drawing[80:120, 100:160]).all()
    assert got.map.sum() == drawing.sum()
