"""Views of the canvas and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masker.windows import (
    Window,
    canvas_window,
    geometry_channels,
    inside_view,
    sample_cells,
    sample_coverage,
    to_canvas,
    window_round,
)
from scene.geometry import Box, Size

SIZE = Size(320, 256)


def test_canvas_window_holds_the_whole_canvas() -> None:
    assert canvas_window(SIZE) == Window(0.0, -32.0, 320.0)
    assert canvas_window(Size(256, 512)) == Window(-128.0, 0.0, 512.0)


@settings(max_examples=50, deadline=None)
@given(
    x=st.integers(0, 250),
    y=st.integers(0, 200),
    w=st.integers(1, 70),
    h=st.integers(1, 56),
    factor=st.floats(1.15, 2.5),
    dx=st.floats(-1, 1),
    dy=st.floats(-1, 1),
)
def test_window_holds_its_box(x: int, y: int, w: int, h: int, factor: float, dx: float, dy: float) -> None:
    window = window_round(Box(x, y, x + w, y + h), factor, SIZE, (dx, dy))
    assert window.side >= 32
    assert window.x0 <= x + 1e-6
    assert window.x0 + window.side >= x + w - 1e-6
    assert window.y0 <= y + 1e-6
    assert window.y0 + window.side >= y + h - 1e-6


def test_coverage_is_the_mean_over_the_cell() -> None:
    mask = np.zeros(SIZE.shape, dtype=bool)
    mask[0:16, 0:8] = True  # half of the first 16 px cell
    cells = sample_coverage(mask, Window(0, 0, 256), 16)
    assert cells[0, 0] == pytest.approx(0.5)
    assert cells.sum() == pytest.approx(0.5)


def test_beyond_the_canvas_objects_end_and_surfaces_go_on() -> None:
    mask = np.ones(SIZE.shape, dtype=bool)
    window = canvas_window(SIZE)
    assert sample_coverage(mask, window, 32)[0, 0] == 0
    assert sample_coverage(mask, window, 32, clamp=SIZE).min() == 1
    assert sample_cells(np.full(SIZE.shape, 5), window, 32, outside=-1)[0, 0] == -1


def test_inside_and_geometry_name_the_canvas() -> None:
    window = canvas_window(SIZE)
    inside = inside_view(window, SIZE, 64)
    assert inside.sum() * (320 / 64) ** 2 == pytest.approx(SIZE.width * SIZE.height)
    channels = geometry_channels(Window(0, 0, 80), SIZE, 64)
    assert channels.shape == (4, 64, 64)
    assert channels[1, 0, 0] == pytest.approx(2 * 0.625 / 320 - 1)
    assert np.all(channels[3] == -2.0)


@settings(max_examples=20, deadline=None)
@given(x0=st.floats(-40, 200), y0=st.floats(-40, 150), side=st.floats(40, 320))
def test_a_smooth_shape_survives_the_round_trip(x0: float, y0: float, side: float) -> None:
    window = Window(x0, y0, side)
    ys, xs = np.mgrid[0 : SIZE.height, 0 : SIZE.width]
    radius = side * 0.3
    disc = (xs + 0.5 - x0 - side / 2) ** 2 + (ys + 0.5 - y0 - side / 2) ** 2 <= radius**2
    back = to_canvas(sample_coverage(disc, window, 64), window, SIZE)
    assert back.shape == SIZE.shape
    assert back.min() >= 0
    if disc.sum() > 100:
        found = back > 0.5
        assert (found & disc).sum() / (found | disc).sum() > 0.93


def test_to_canvas_is_constant_on_a_constant_view_and_zero_beyond() -> None:
    back = to_canvas(np.ones((16, 16), dtype=np.float32), Window(32, 32, 64), SIZE)
    assert np.allclose(back[32:96, 32:96], 1)
    assert back.sum() == pytest.approx(64 * 64, rel=1e-5)
