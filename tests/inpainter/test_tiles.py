"""Tiles: they cover the surface, overlap, and blend back without seams."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inpainter.tiles import OVERLAP, blend, tiles
from inpainter.window import Window, crop, place
from scene.geometry import Box, Size


@given(st.integers(0, 600), st.integers(0, 480), st.integers(8, 640), st.integers(8, 512), st.integers(64, 320))
@settings(max_examples=60, deadline=None)
def test_tiles_cover_the_box_and_overlap(x: int, y: int, width: int, height: int, side: int) -> None:
    size = Size(640, 512)
    box = Box(x, y, x + width, y + height).clip(size)
    windows = tiles(box, size, side)
    covered = np.zeros(size.shape, bool)
    for window in windows:
        assert window.side == side and window.box.clip(size) == window.box
        covered[window.y0 : window.y0 + side, window.x0 : window.x0 + side] = True
    assert covered[box.y0 : box.y1, box.x0 : box.x1].all()
    for row in {w.y0 for w in windows}:
        starts = [w.x0 for w in windows if w.y0 == row]
        assert all(b - a <= side * (1 - OVERLAP) + 1 for a, b in itertools.pairwise(starts))


def test_blending_tiles_of_one_picture_gives_it_back() -> None:
    size = Size(256, 256)
    picture = np.random.default_rng(0).integers(0, 256, (*size.shape, 3), dtype=np.uint8)
    windows = tiles(Box(0, 0, 256, 256), size, 112)
    assert len(windows) == 9
    assert np.array_equal(blend([place(crop(picture, w), w, size) for w in windows], windows), picture)


def test_tiles_that_differ_meet_without_a_step() -> None:
    size = Size(256, 256)
    windows = tiles(Box(0, 0, 256, 100), size, 112)
    shades = [np.full((*size.shape, 3), value, np.uint8) for value in (60, 180, 90)]
    row = blend(shades, windows)[50, :, 0].astype(int)
    assert row[5] == 60 and row[250] == 90 and row.max() > 170
    assert np.abs(np.diff(row)).max() <= 8, "120 grey levels are spread over the overlap"


def test_off_canvas_tiles_keep_to_the_canvas() -> None:
    assert tiles(Box(0, 0, 256, 256), Size(256, 256), 300) == [Window(-22, -22, 300)]
