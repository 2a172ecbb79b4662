"""The measures themselves: zero for the truth, worse for worse pictures, exact outside the mask."""

from __future__ import annotations

import numpy as np
import pytest

from inpainter.evaluate import Case, cases, flat_colour, mean_colours, mean_surround, measure, pyramid_distance
from scene.corpus.store import Corpus
from scene.seeds import StepSeed


@pytest.fixture
def ball(toy_corpus: Corpus) -> Case:
    return next(c for c in cases(toy_corpus, toy_corpus.records("all"), None, 0) if c.label == "red ball")


def test_truth_scores_perfectly(ball: Case) -> None:
    numbers = measure(ball, ball.truth)
    assert numbers["l2_outside"] == numbers["l2_in_box_outside_mask"] == 0.0
    assert numbers["inside_feature_distance"] == numbers["inside_l2"] == numbers["seam"] == 0.0


def test_touching_one_pixel_outside_shows(ball: Case) -> None:
    output = ball.truth.copy()
    y, x = np.argwhere(~ball.mask)[0]
    output[y, x] ^= 255
    assert measure(ball, output)["l2_outside"] > 0


def test_distance_grows_with_the_error(ball: Case) -> None:
    near = np.clip(ball.truth.astype(int) + 10, 0, 255).astype(np.uint8)
    far = 255 - ball.truth
    distances = [pyramid_distance(o, ball.truth, ball.mask) for o in (ball.truth, near, far)]
    assert distances[0] == 0 and distances[0] < distances[1] < distances[2]


def test_distance_ignores_pixels_outside_the_mask(ball: Case) -> None:
    noisy = np.where(ball.mask[..., None], ball.truth, np.uint8(7))
    assert pyramid_distance(noisy, ball.truth, ball.mask) == 0


def test_flat_colour_baseline_uses_the_training_mean(toy_corpus: Corpus, ball: Case) -> None:
    colours = mean_colours(toy_corpus, toy_corpus.records("train"))
    assert set(colours) == set(toy_corpus.labels)
    assert np.abs(colours["sky"].astype(int) - (120, 200, 240)).max() <= 1
    output = flat_colour(colours)(ball.image, ball.mask, "red ball", "", "", StepSeed(0, 0))
    assert (output[ball.mask] == colours["red ball"]).all()
    assert measure(ball, output)["l2_outside"] == 0


def test_surround_baseline_continues_the_background(ball: Case) -> None:
    output = mean_surround(ball.image, ball.mask, "", "", "", StepSeed(0, 0))
    assert np.abs(output[ball.mask].astype(int) - ball.image[ball.mask]).max() <= 1


def test_cases_are_fixed_by_the_seed(toy_corpus: Corpus) -> None:
    records = toy_corpus.records("all")
    first, again = (list(cases(toy_corpus, records, 5, 3)) for _ in range(2))
    assert [c.label for c in first] == [c.label for c in again] and len(first) == 5
    assert all(np.array_equal(a.truth, b.truth) for a, b in zip(first, again, strict=True))
