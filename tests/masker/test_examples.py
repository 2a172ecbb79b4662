"""Training examples: right pixels, right words, and nothing but the sample number behind them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from masker.config import ExamplesConfig
from masker.examples import ExampleSource, mirror_words
from masker.guides import GuideForm
from masker.placing import guide_box
from masker.windows import canvas_window, sample_cells, sample_coverage, to_canvas, window_round
from scene.corpus.records import SceneRecord
from scene.corpus.store import Corpus
from scene.guidance import Guidance


@pytest.fixture(scope="module")
def source(corpus: Corpus) -> ExampleSource:
    return ExampleSource(corpus, "train", ExamplesConfig(), 32, seed=5)


def test_an_example_is_a_function_of_its_number(corpus: Corpus, source: ExampleSource) -> None:
    other = ExampleSource(corpus, "train", ExamplesConfig(), 32, seed=5)
    other.example(3)  # order must not matter
    for number in (0, 7):
        first, second = source.example(number), other.example(number)
        for name in ("index", "guide", "geometry", "target"):
            assert np.array_equal(getattr(first, name), getattr(second, name))
        assert (first.object, first.context, first.form) == (second.object, second.context, second.form)


def test_shares_of_forms_windows_and_surfaces(source: ExampleSource) -> None:
    examples = [source.example(number) for number in range(800)]
    forms = Counter(example.form for example in examples)
    assert all(abs(forms[form] / 800 - 0.25) < 0.06 for form in ("none", "box", "blob", "scribble"))
    guided = [example for example in examples if example.form != "none" and example.label not in ("sky", "grass")]
    assert 0.02 < np.mean([example.window == canvas_window(source.corpus.size) for example in guided]) < 0.3
    assert all(e.window == canvas_window(source.corpus.size) for e in examples if e.form == "none")
    assert 0.02 < np.mean([example.label in ("sky", "grass") for example in examples]) < 0.12
    assert len({example.object for example in examples if example.label == "ball"}) == 2  # label and description


def test_target_and_layout_agree_with_the_corpus_on_the_canvas(corpus: Corpus, source: ExampleSource) -> None:
    plain = ExamplesConfig(mirror=False, subset_share=0, shuffle_share=0)
    straight = ExampleSource(corpus, "train", plain, 32, seed=5)
    record, window = straight.records[0], canvas_window(corpus.size)
    example = straight.build(record, 4, "none", np.random.default_rng(0), window)
    inside = example.geometry[0] == 1
    expected = sample_coverage(corpus.mask(record.layers[4]), window, 32)
    assert np.allclose(example.target[inside], expected[inside])
    layout = corpus.layout(record, 4)
    labels = ("", *corpus.labels)
    names = np.array(["", *layout.labels])[sample_cells(layout.index, window, 32, outside=-1) + 1]
    assert (np.array(labels)[example.index] == names).all()


@pytest.mark.parametrize("form", ["box", "blob", "scribble"])
def test_the_guide_frames_its_window(corpus: Corpus, form: GuideForm) -> None:
    """Training shows an object where `SmartMask` will: in a window round what the guide alone says."""
    config = ExamplesConfig(window_jitter=0, canvas_share=0, mirror=False, scribble_noise=0)
    source = ExampleSource(corpus, "train", config, 64, seed=5)
    record = source.records[0]
    for k in range(2, len(record.layers)):
        example = source.build(record, k, form, np.random.default_rng(k))
        guide = to_canvas(example.guide, example.window, corpus.size)
        extent = guide_box(Guidance(form, guide.clip(0, 1).astype(np.float32)))
        used = window_round(extent, config.window[form], corpus.size)
        cell = example.window.side / 64
        assert abs(used.x0 - example.window.x0) < 2.5 * cell and abs(used.y0 - example.window.y0) < 2.5 * cell
        assert used.side == pytest.approx(example.window.side, abs=4 * cell)


def test_mirroring_mirrors_everything(corpus: Corpus) -> None:
    source = ExampleSource(corpus, "train", ExamplesConfig(subset_share=0, shuffle_share=0), 32, seed=0)
    record = source.records[0]
    box = source.canvas_box(record.layers[3])
    assert box is not None
    window = window_round(box, 2.0, corpus.size, (0.6, -0.5))
    straight = ExampleSource(corpus, "train", ExamplesConfig(mirror=False, subset_share=0), 32, seed=0)
    plain = straight.build(record, 3, "none", np.random.default_rng(0), window)
    built = [source.build(record, 3, "none", np.random.default_rng(i), window) for i in range(12)]
    mirrored = next(e for e in built if not np.array_equal(e.target, plain.target))
    assert np.array_equal(plain.target, mirrored.target[:, ::-1])
    assert np.array_equal(plain.index, mirrored.index[:, ::-1])
    assert np.allclose(plain.geometry[1], -mirrored.geometry[1][:, ::-1])
    assert np.allclose(plain.geometry[2], mirrored.geometry[2][:, ::-1])
    assert mirrored.geometry[1, 0, 0] < mirrored.geometry[1, 0, -1]  # x still grows to the right


def test_mirrored_words() -> None:
    text = "a dog left of a tree, the rightmost boy on the Left-hand side; bright"
    assert mirror_words(text) == "a dog right of a tree, the leftmost boy on the Right-hand side; bright"
    assert mirror_words(mirror_words(text)) == text


def test_box_of_an_object_cut_by_the_canvas_is_exact(corpus: Corpus, source: ExampleSource) -> None:
    from scene.geometry import Box

    for record in corpus.records("train"):
        for layer in record.layers:
            assert source.canvas_box(layer) == Box.from_mask(corpus.mask(layer))


def _hidden_ball(corpus: Corpus) -> tuple[SceneRecord, int]:
    """A scene whose first ball is partly covered by the second."""
    record = corpus.records("train")[0]
    ball = record.layers[3]
    nearer = replace(record.layers[4], x=ball.x + 20, y=ball.y)
    return replace(record, layers=(*record.layers[:4], nearer)), 3


def test_modal_training_asks_for_what_shows(corpus: Corpus) -> None:
    record, k = _hidden_ball(corpus)
    plain: dict[str, Any] = {"mirror": False, "box_jitter": 0, "window_jitter": 0, "canvas_share": 0}
    expected = corpus.mask(record.layers[k]) & ~corpus.mask(record.layers[k + 1])
    whole = corpus.mask(record.layers[k])
    assert 0 < expected.sum() < whole.sum()
    for amodal, truth in ((True, whole), (False, expected)):
        source = ExampleSource(corpus, "train", ExamplesConfig(amodal=amodal, **plain), 64, seed=5)
        example = source.build(record, k, "box", np.random.default_rng(0))
        inside = example.geometry[0] == 1
        seen = sample_coverage(truth, example.window, 64)
        assert np.allclose(example.target[inside], seen[inside])
        rows, columns = np.nonzero(example.guide > 0.5)
        seen_rows, seen_columns = np.nonzero((seen > 0.5) & inside)
        assert abs(int(columns.max()) - int(seen_columns.max())) <= 1  # the box is the visible part's, too
        assert abs(int(rows.max()) - int(seen_rows.max())) <= 1


def test_a_wholly_hidden_object_is_no_modal_example(corpus: Corpus) -> None:
    source = ExampleSource(corpus, "train", ExamplesConfig(amodal=False), 32, seed=5)
    record, k = _hidden_ball(corpus)
    covered = replace(record, layers=(*record.layers[:4], replace(record.layers[3])))
    source.records = [covered]
    assert source._shows(record, k) and not source._shows(covered, k)


@pytest.mark.parametrize("order", ["recorded", "random", "front_to_back"])
def test_order_decides_what_lies_there_already(corpus: Corpus, order: Any) -> None:
    config = ExamplesConfig(order=order, subset_share=0, shuffle_share=0)
    source = ExampleSource(corpus, "train", config, 32, seed=5)
    record = source.records[0]  # sky, grass, post, ball, ball
    rng = np.random.default_rng(0)
    drawn = Counter(tuple(source._placed_before(record, 3, rng)) for _ in range(400))
    if order == "random":
        assert set(drawn) == {(0, 1), (0, 1, 2), (0, 1, 4), (0, 1, 2, 4)}
        assert drawn[0, 1] / 400 == pytest.approx(1 / 3, abs=0.08)  # any of the three may come first
        assert drawn[0, 1, 2, 4] / 400 == pytest.approx(1 / 3, abs=0.08)
    else:
        assert set(drawn) == {(0, 1, 2) if order == "recorded" else (0, 1, 4)}
    assert source._placed_before(record, 1, rng) == [0]  # a surface has those behind it
