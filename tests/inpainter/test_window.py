"""Windows: what is cut, and that stitching touches nothing outside the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpainter.window import (
    Window,
    crop,
    crop_mask,
    cut_out,
    defringed,
    dilate,
    feathered,
    place,
    resize_mask,
    window_around,
)
from scene.geometry import Box, Size
from scene.layers import composite

SIZE = Size(320, 256)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x0, y0 = draw(st.integers(0, SIZE.width - 2)), draw(st.integers(0, SIZE.height - 2))
    return Box(x0, y0, draw(st.integers(x0 + 1, SIZE.width)), draw(st.integers(y0 + 1, SIZE.height)))


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE.shape, 3), dtype=np.uint8)


@given(boxes(), st.floats(1.0, 3.0), st.integers(8, 128))
@settings(max_examples=150, deadline=None)
def test_window_covers_its_box_and_stays_on_the_canvas_where_it_fits(box: Box, context: float, smallest: int) -> None:
    window = window_around(box, SIZE, context=context, min_side_px=smallest)
    assert window.x0 <= box.x0 and window.y0 <= box.y0
    assert window.box.x1 >= box.x1 and window.box.y1 >= box.y1
    assert window.side <= max(SIZE)
    if window.side <= min(SIZE):
        assert window.box.clip(SIZE) == window.box


def test_window_of_the_whole_canvas_is_its_longer_side() -> None:
    assert window_around(Box(0, 0, 320, 256), SIZE, context=1.4, min_side_px=64) == Window(0, -32, 320)


def test_window_refuses_an_empty_box() -> None:
    with pytest.raises(ValueError, match="box with an area"):
        window_around(Box(5, 5, 5, 9), SIZE, context=1.4, min_side_px=8)


@given(boxes(), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_crop_then_paste_at_scale_one_is_identity(box: Box, seed: int) -> None:
    image = picture(seed)
    mask = np.zeros(SIZE.shape, bool)
    mask[box.y0 : box.y1, box.x0 : box.x1] = True
    window = window_around(box, SIZE, context=1.3, min_side_px=16)
    assert np.array_equal(composite(image, cut_out(place(crop(image, window), window, SIZE), mask)), image)


@given(boxes(), st.sampled_from([16, 32, 128]), st.integers(0, 2**31), st.sampled_from([0.0, 1.5]))
@settings(max_examples=60, deadline=None)
def test_paste_leaves_every_pixel_outside_the_mask(box: Box, resolution: int, seed: int, feather_px: float) -> None:
    rng = np.random.default_rng(seed)
    image, before = picture(seed), picture(seed)
    mask = np.zeros(SIZE.shape, bool)
    mask[box.y0 : box.y1, box.x0 : box.x1] = rng.random((box.height, box.width)) < 0.5
    mask[box.y0, box.x0] = True
    window = window_around(box, SIZE, context=1.3, min_side_px=16)
    rendered = rng.integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)
    result = composite(image, cut_out(place(rendered, window, SIZE), mask, feather_px))
    assert np.array_equal(result[~mask], before[~mask])
    assert np.array_equal(image, before), "the paste must not write into its input"


def test_paste_paints_inside_the_mask() -> None:
    mask = np.zeros(SIZE.shape, bool)
    mask[10:40, 20:60] = True
    window = window_around(Box(20, 10, 60, 40), SIZE, context=1.2, min_side_px=16)
    layer = cut_out(place(np.full((16, 16, 3), 200, np.uint8), window, SIZE), mask)
    assert (layer[mask] == (200, 200, 200, 255)).all() and not layer[~mask].any()


def test_feather_fades_inwards_and_not_at_the_canvas_edge() -> None:
    mask = np.zeros(SIZE.shape, bool)
    mask[:40, 20:60] = True
    alpha = feathered(mask, 2)
    assert not alpha[~mask].any()
    assert list(alpha[0, 20:24]) == [85, 170, 255, 255], "rises from the mask's own edge"
    assert alpha[39, 40] == 85 and alpha[0, 40] == 255
    assert (feathered(mask, 0)[mask] == 255).all()
    assert (feathered(np.ones_like(mask), 3) == 255).all()


def test_crop_repeats_the_edge_off_the_canvas_and_masks_stay_empty_there() -> None:
    image = picture()
    window = Window(-10, -20, 64)
    assert (crop(image, window)[:20, 10:] == image[0, :54]).all()
    inside = crop_mask(np.ones(SIZE.shape, bool), window)
    assert not inside[:20].any() and not inside[:, :10].any() and inside[20:, 10:].all()


@given(st.integers(0, 2**31), st.sampled_from([16, 40, 128]))
@settings(max_examples=40, deadline=None)
def test_resized_mask_never_vanishes(seed: int, side: int) -> None:
    mask = np.zeros((90, 90), bool)
    row, column = np.random.default_rng(seed).integers(0, 90, 2)
    mask[row, column] = True
    assert resize_mask(mask, side).any()
    assert not resize_mask(np.zeros((90, 90), bool), side).any()
    assert resize_mask(np.ones((90, 90), bool), side).all()


def test_dilate_grows_by_exactly_its_radius() -> None:
    mask = np.zeros((21, 21), bool)
    mask[10, 10] = True
    assert dilate(mask, 3).sum() == 49
    assert np.array_equal(dilate(mask, 0), mask)


def test_edges_take_the_colours_from_farther_inside() -> None:
    mask = np.zeros(SIZE.shape, dtype=bool)
    mask[60:200, 60:200] = True
    picture = np.full((*SIZE.shape, 3), 255, np.uint8)
    picture[64:196, 64:196] = (200, 30, 30)  # white from outside has bled four pixels into the object
    clean = defringed(picture, mask, 5.0)
    assert (clean[mask] == (200, 30, 30)).all()
    assert np.array_equal(clean[~mask], picture[~mask])
    assert np.array_equal(defringed(picture, mask, 0.0), picture)


def test_thin_parts_keep_their_own_colours() -> None:
    mask = np.zeros(SIZE.shape, dtype=bool)
    mask[60:200, 60:160] = mask[120:126, 160:220] = True  # a stem, six pixels thick
    picture = np.full((*SIZE.shape, 3), 40, np.uint8)
    picture[:, 170:] = 90
    assert (defringed(picture, mask, 4.0)[120:126, 175:220] == 90).all()
