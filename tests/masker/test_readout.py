"""Soft views to clean masks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from masker.readout import bridge_parts, drop_specks, lift_thin_parts, read_mask, read_surface
from masker.windows import Window, sample_coverage, to_canvas
from scene.geometry import Size

SIZE = Size(256, 256)
WINDOW = Window(0.0, 0.0, 256.0)


def _kite() -> np.ndarray:
    """A diamond with a string 3 px wide: three quarters of a 4 px cell at best, often split over two."""
    ys, xs = np.mgrid[0:256, 0:256]
    diamond = np.abs(xs - 60) + np.abs(ys - 60) < 40
    string = (np.abs(xs - ys * 0.9 - 5) < 1.6) & (ys > 60) & (ys < 230)
    return diamond | string


def test_thin_parts_survive() -> None:
    kite = _kite()
    view = sample_coverage(kite, WINDOW, 64)
    mask = read_mask(view, WINDOW, SIZE, threshold=0.5, speck_share=0.02)
    assert mask[61:228].any(axis=1).all()  # no gap along the string
    assert mask[120:].sum() < 2.5 * kite[120:].sum()  # and no rope made of it
    plain = to_canvas(view, WINDOW, SIZE) > 0.5
    assert not drop_specks(plain, 0.02)[120:].any()  # what a bare threshold leaves of it


def test_lifting_changes_nothing_on_a_solid_shape_and_never_lowers() -> None:
    view = sample_coverage(np.pad(np.ones((100, 100), bool), 78), WINDOW, 64)
    assert np.array_equal(lift_thin_parts(view, 0.5), view)
    noise = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    assert (lift_thin_parts(noise, 0.5) >= noise).all()


def test_specks_go_and_small_holes_close_but_real_ones_stay() -> None:
    mask = np.zeros((100, 100), dtype=bool)
    mask[10:70, 10:70] = True
    mask[30:50, 30:50] = False  # a handle's hole
    mask[15, 15] = False  # a pinhole
    mask[90:92, 90:92] = True  # a speck
    clean = drop_specks(mask, 0.02)
    assert not clean[90:92, 90:92].any()
    assert clean[15, 15]
    assert not clean[40, 40]
    assert mask[90, 90]  # the argument is left alone


def test_a_surface_is_one_piece_without_holes() -> None:
    view = np.ones((64, 64), dtype=np.float32)
    view[:32] = 0
    view[40:44, 20:24] = 0.1
    view[5, 5] = 1
    mask = read_surface(view, WINDOW, SIZE, 0.5)
    assert mask[130:].all()
    assert not mask[:126].any()


def test_nothing_in_nothing_out() -> None:
    empty = np.zeros((64, 64), dtype=np.float32)
    assert not read_mask(empty, WINDOW, SIZE, 0.5, 0.02).any()
    assert not read_surface(empty, WINDOW, SIZE, 0.5).any()


def _lamp(stem: float) -> np.ndarray:
    """A shade and a foot with a stem of the given surety between them, (40, 40)."""
    view = np.zeros((40, 40), dtype=np.float32)
    view[4:12, 12:28] = view[32:36, 14:26] = 0.95
    view[12:32, 19:21] = stem
    return view


def test_parts_that_hang_together_faintly_are_joined() -> None:
    view = _lamp(0.2)
    bridged = bridge_parts(view, 0.5)
    assert label(view > 0.5)[1] == 2 and label(bridged > 0.5)[1] == 1
    assert (bridged >= view).all()
    joined = (bridged > 0.5)[12:32]
    assert (joined[1:-1].sum(axis=1) == 2).all(), "as wide as the stem is seen"
    assert not joined[:, :19].any() and not joined[:, 21:].any()


@pytest.mark.parametrize("view", [_lamp(0.02), _lamp(0.9), np.zeros((8, 8), np.float32)], ids=["far", "one", "none"])
def test_parts_with_nothing_between_them_stay_apart(view: np.ndarray) -> None:
    assert np.array_equal(bridge_parts(view, 0.5), view)
