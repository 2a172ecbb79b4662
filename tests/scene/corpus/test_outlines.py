"""COCO run lengths and polygons lose nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

pytest.importorskip("pycocotools", reason="the extra `data` is not installed")
pytest.importorskip("contourpy", reason="the extra `data` is not installed")

from scene.corpus.outlines import from_polygons, from_rle, to_polygons, to_rle


@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=24)))
@settings(max_examples=80, deadline=None)
def test_round_trips(mask: np.ndarray) -> None:
    assert np.array_equal(from_rle(to_rle(mask)), mask)
    assert np.array_equal(from_polygons(to_polygons(mask), (mask.shape[0], mask.shape[1])), mask)


def test_a_ring_has_two_outlines() -> None:
    mask = np.ones((9, 9), bool)
    mask[3:6, 3:6] = False
    assert len(to_polygons(mask)) == 2


def test_polygons_use_pixel_centres() -> None:
    assert from_polygons([[0.5, 0.5, 2.5, 0.5, 2.5, 1.5, 0.5, 1.5]], (3, 4)).tolist() == [
        [False] * 4,
        [False, True, True, False],
        [False] * 4,
    ]
