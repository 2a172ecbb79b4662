"""Training guides match the design note's definitions, and the guides of people."""

from __future__ import annotations

import numpy as np
import pytest

from masker.config import ExamplesConfig
from masker.guides import blob_cells, box_cells, dilate_cells, draw_guide, jittered_box
from masker.windows import Window, sample_coverage
from scene.geometry import Box, Size
from scene.guidance import Guidance

SIZE = Size(256, 256)
WINDOW = Window(0.0, 0.0, 256.0)
BOX = (64.0, 80.0, 160.0, 200.0)


def test_box_edges_move_by_at_most_a_tenth_of_the_side() -> None:
    moves = np.array([np.subtract(jittered_box(BOX, 0.1, np.random.default_rng(i)), BOX) for i in range(300)])
    limit = np.array([9.6, 12.0, 9.6, 12.0])
    assert (np.abs(moves) <= limit).all()
    assert (np.abs(moves).max(axis=0) > 0.9 * limit).all()
    assert len({tuple(row) for row in moves}) == 300


def test_box_in_a_view_is_what_a_persons_box_becomes() -> None:
    window = Window(40.0, 60.0, 150.0)
    person = Guidance.from_box(Box(64, 80, 160, 200), SIZE)
    seen = sample_coverage(person.map, window, 64, supersample=8)
    assert np.abs(seen - box_cells(BOX, window, 64)).max() < 0.15
    assert box_cells(BOX, window, 64).sum() == pytest.approx(seen.sum(), rel=0.01)


def test_blob_is_the_gaussian_of_the_note() -> None:
    cells = blob_cells((112.0, 140.0), (30.0, 40.0), WINDOW, 64)
    x, y = 20, 30  # cell centre at ((x + 0.5) * 4, (y + 0.5) * 4)
    expected = np.exp(-0.5 * (((82.0 - 112) / 30) ** 2 + ((122.0 - 140) / 40) ** 2))
    assert cells[y, x] == pytest.approx(expected, rel=1e-5)
    person = Guidance.from_blob(112.0, 140.0, 30.0, 40.0, SIZE)
    assert np.abs(sample_coverage(person.map, WINDOW, 64) - cells).max() < 0.01


def test_scribble_is_a_dilation_by_a_share_of_the_root_of_the_area() -> None:
    mask = np.zeros((64, 64), dtype=np.float32)
    mask[24:40, 20:44] = 1  # 16 x 24 cells, sqrt(area) = 19.6
    grown = dilate_cells(mask, 0.15)
    assert (grown >= mask).all()
    rows, columns = np.flatnonzero((grown > 0.5).any(1)), np.flatnonzero((grown > 0.5).any(0))
    assert rows[0] == pytest.approx(24 - 0.15 * 19.6, abs=1)
    assert columns[-1] == pytest.approx(43 + 0.15 * 19.6, abs=1)
    assert dilate_cells(np.zeros_like(mask), 0.15).max() == 0


def test_elastic_noise_bends_the_outline_and_needs_a_generator() -> None:
    mask = np.zeros((64, 64), dtype=np.float32)
    mask[16:48, 16:48] = 1
    bent = dilate_cells(mask, 0.1, 0.06, np.random.default_rng(0))
    assert np.abs(bent - dilate_cells(mask, 0.1)).sum() > 20
    with pytest.raises(ValueError, match="needs rng"):
        dilate_cells(mask, 0.1, 0.06)


@pytest.mark.parametrize("form", ["none", "box", "blob", "scribble"])
def test_every_form_lies_in_the_unit_interval(form: str) -> None:
    target = box_cells(BOX, WINDOW, 64)
    rng = np.random.default_rng(1)
    drawn = draw_guide(form, BOX, (112.0, 140.0), 11520.0, ExamplesConfig(), rng)  # type: ignore[arg-type]
    guide = drawn.cells(target, WINDOW, ExamplesConfig(), rng)
    assert guide.shape == (64, 64)
    assert guide.min() >= 0
    assert guide.max() <= 1
    assert (guide.max() == 0) == (form == "none")
