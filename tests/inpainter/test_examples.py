"""Training examples: reproducible, and true to the corpus."""

from __future__ import annotations

import numpy as np
import pytest

from inpainter.config import ExampleConfig, VaeTraining, WindowConfig
from inpainter.examples import Example, ExampleSource, bend, paint_window, roughen
from inpainter.window import Window
from scene.corpus.store import Corpus
from tests.inpainter.conftest import SIZE

WINDOW = WindowConfig(resolution_px=64, min_side_px=32)


def source(corpus: Corpus, **changes: object) -> ExampleSource:
    return ExampleSource(corpus, corpus.records("train"), ExampleConfig(**changes), WINDOW, seed=1)


def equal(a: Example, b: Example) -> bool:
    arrays = all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("image", "mask", "target"))
    return arrays and (a.text, a.label, a.window) == (b.text, b.label, b.window)


def test_an_example_depends_on_its_number_alone(toy_corpus: Corpus) -> None:
    first, second = source(toy_corpus), source(toy_corpus)
    forwards = [first.example(n) for n in range(6)]
    backwards = [second.example(n) for n in reversed(range(6))][::-1]
    assert all(equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not equal(forwards[0], forwards[1])


def test_target_differs_from_the_canvas_only_inside_the_mask(toy_corpus: Corpus) -> None:
    examples = source(toy_corpus)
    for number in range(30):
        example = examples.example(number)
        assert example.mask.any()
        assert np.array_equal(example.target[~example.mask], example.image[~example.mask])


def test_window_painting_equals_the_scene(toy_corpus: Corpus) -> None:
    record = toy_corpus.records("all")[0]
    whole = toy_corpus.scene(record).image
    painted = paint_window(toy_corpus, record.layers, Window(10, 40, 100))
    assert np.array_equal(painted, whole[40:140, 10:110])


def test_plain_example_shows_the_real_object(toy_corpus: Corpus) -> None:
    record = toy_corpus.records("val")[0]
    example = source(toy_corpus).plain(record, 1)
    assert example is not None and example.text == "a round red ball"
    middle = example.target[example.mask]
    assert np.abs(np.median(middle, axis=0) - (220, 30, 30)).max() < 5


def test_text_is_dropped_as_often_as_configured(toy_corpus: Corpus) -> None:
    always = source(toy_corpus, drop_text=1.0)
    never = source(toy_corpus, drop_text=0.0, label_text=1.0)
    assert {always.example(n).text for n in range(5)} == {""}
    assert {never.example(n).text for n in range(12)} <= set(toy_corpus.labels)


def test_box_is_none_off_the_canvas(toy_corpus: Corpus) -> None:
    from dataclasses import replace

    layer = toy_corpus.records("all")[0].layers[1]
    assert toy_corpus.box(layer) is not None
    assert toy_corpus.box(replace(layer, x=-500)) is None


def test_bend_without_reach_is_identity_inside(toy_corpus: Corpus) -> None:
    rgba, _, _ = toy_corpus.asset(toy_corpus.records("all")[0].layers[1])
    bent = bend(np.array(rgba), np.random.default_rng(0), 0.0, 0.0)
    solid = rgba[..., 3] == 255
    assert np.abs(bent[solid].astype(int) - rgba[solid]).max() <= 1


def test_roughened_masks_stay_close_and_alive() -> None:
    mask = np.zeros((64, 64), bool)
    mask[20:44, 20:44] = True
    for seed in range(20):
        moved = roughen(mask, np.random.default_rng(seed), 3.0)
        assert moved.any() and not moved[:14].any()
        assert moved[28:36, 28:36].all()


@pytest.mark.parametrize("number", range(3))
def test_vae_crops_have_the_configured_size(toy_corpus: Corpus, number: int) -> None:
    picture = source(toy_corpus).picture(number, VaeTraining(crop_px=16))
    assert picture.shape == (16, 16, 3) and picture.dtype == np.uint8


def test_tiles_show_part_of_a_large_layer_and_continue_what_is_drawn(toy_corpus: Corpus) -> None:
    examples = source(toy_corpus, surface_share=1.0, tile_share=1.0, tile_px=(60, 120), subset=0.0, rough=0.0)
    drawn = [examples.example(number) for number in range(20)]
    assert all(60 <= e.window.side <= 120 and e.window.box.clip(SIZE) == e.window.box for e in drawn)
    shares = np.array([e.mask.mean() for e in drawn])
    assert shares.max() == 1 and (shares > 0).all() and (shares < 1).any()
    for example in drawn:
        assert (example.image[~example.mask] == (120, 200, 240)).all(), "neighbouring tiles are there already"
        assert (example.image[example.mask] == 255).all()
        assert np.array_equal(example.target[~example.mask], example.image[~example.mask])
