"""The measures themselves: zero for the truth, worse for worse pictures, exact outside the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from inpainter.compare import compare_modes, drift, sketch
from inpainter.controlnet_inpaint import ControlNetInpainter
from inpainter.evaluate import (
    Case,
    blurred,
    cases,
    filled_box,
    flat_colour,
    mean_colours,
    mean_surround,
    measure,
    pyramid_distance,
    through,
)
from inpainter.judging import Judges, object_crop
from perception.config import CropHeadConfig
from perception.crops import CropHead, CropJudge
from perception.efficientnet import EfficientNetTrunk
from perception.matching import TextImageScore
from scene.corpus.store import Corpus
from scene.seeds import StepSeed


@pytest.fixture
def ball(toy_corpus: Corpus) -> Case:
    return next(c for c in cases(toy_corpus, toy_corpus.records("all"), None, 0) if c.label == "red ball")


def test_truth_scores_perfectly(ball: Case) -> None:
    numbers = measure(ball, ball.truth)
    assert numbers["l2_outside"] == numbers["l2_in_box_outside_mask"] == 0.0
    assert numbers["inside_feature_distance"] == numbers["inside_l2"] == numbers["edge_error"] == 0.0
    assert numbers["seam"] == numbers["seam_real"] > 0


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


def test_coarse_masks_reach_beyond_the_fine_one(ball: Case) -> None:
    for coarse in (filled_box(ball.mask), blurred(ball.mask)):
        assert coarse[ball.mask].all() and coarse.sum() > 1.1 * ball.mask.sum()
    assert np.array_equal(filled_box(filled_box(ball.mask)), filled_box(ball.mask))


def test_box_mask_changes_the_background_and_the_fine_mask_does_not(ball: Case, inpainter: ControlNetInpainter) -> None:
    words = (ball.label, ball.description, ball.context, ball.seed)
    fine = measure(ball, through(inpainter)(ball.image, ball.mask, *words))
    box = measure(ball, through(inpainter, filled_box)(ball.image, ball.mask, *words))
    assert fine["l2_in_box_outside_mask"] == fine["l2_outside"] == 0
    assert box["l2_in_box_outside_mask"] > 0


class Constant(CropHead):
    """Always the same label."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.0, 1.0]]).repeat(len(features), 1)


def judges(real: list[np.ndarray], labels: list[str], judged: tuple[str, ...] = ("sky", "red ball")) -> Judges:
    torch.manual_seed(0)
    head = Constant(CropHeadConfig(), 2)
    judge = CropJudge(EfficientNetTrunk().eval(), head, CropHeadConfig(), ("sky", "red ball"), "toy")
    return Judges(judge, judged, real, real[::-1], labels)


def test_only_labels_that_the_judge_knows_are_counted(ball: Case) -> None:
    crops = [object_crop(ball.truth, ball.mask)] * 4
    labels = ["red ball", "red ball", "sky", "blue ball"]
    report = judges(crops, labels).report(crops)
    assert report["recognised"] == report["recognised_real"] == pytest.approx(2 / 3, abs=1e-4)
    assert report["recognised_n"] == 3
    assert "recognised" not in judges(crops, labels, ()).report(crops), "absent means not measured"


class Colour(TextImageScore):
    """Says "red" of a crop that is red in its middle, "blue" of a blue one."""

    def __init__(self) -> None:
        self.world = "toy"

    def scores(self, maps: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        return np.array([[float(shown == ("red" in text)) for text in texts] for shown in maps[:, 0, 0, 0] > 0])


def test_words_are_scored_where_there_are_some(ball: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_colour(trunk: object, crops: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([np.full((112, 8, 8), np.sign(int(crop[64, 64, 0]) - int(crop[64, 64, 2]))) for crop in crops])

    monkeypatch.setattr("inpainter.judging.feature_maps", by_colour)
    red = object_crop(ball.truth, ball.mask)
    blue, sky = red[..., ::-1], np.full_like(red, 200)
    plain = judges([red, blue, sky], ["red ball", "blue ball", "sky"], ())
    assert not any(name.startswith("text_") for name in plain.report([red, blue, sky])), "absent means not measured"
    told = ["a red ball", "a blue ball", ""]
    scored = Judges(plain.judge, (), [red, blue, sky], [sky, blue, red], ["a", "b", "c"], Colour(), told)
    right, wrong = scored.report([red, blue, sky]), scored.report([blue, red, sky])
    assert right["text_n"] == right["text_choices"] == 2
    assert right["text_top1"] == right["text_top1_real"] == right["text_margin"] == 1
    assert wrong["text_top1"] == right["text_top1_shuffled"] == 0 and wrong["text_margin"] == -1


def test_layout_first_and_per_object_agree_and_all_at_once_does_not(
    toy_corpus: Corpus, inpainter: ControlNetInpainter
) -> None:
    records = toy_corpus.records("val")[:1]
    report = compare_modes(
        inpainter, toy_corpus, records, 0, judging=lambda r, n: judges(list(r), list(n)), progress=False
    )
    assert report["same_pixels"] == 1 and report["objects"] == 2
    assert set(report) >= {"per_object", "layout_first", "all_at_once"}
    assert sketch(toy_corpus, records[0]).layers[1].label == "red ball"


def test_drift_is_zero_for_exact_pasting_and_shows_a_tint(toy_corpus: Corpus, inpainter: ControlNetInpainter) -> None:
    class Tinting(ControlNetInpainter):
        def render(self, image: np.ndarray, *args: object, **options: object) -> np.ndarray:
            return np.minimum(image, 250)

    records = toy_corpus.records("all")
    assert drift(inpainter, toy_corpus, records[:4], 0) == 0
    tinting = Tinting(inpainter.pipeline, inpainter.embed, inpainter.window_config, inpainter.sampler)
    white = [replace(record, layers=record.layers[1:]) for record in records[:4]]
    assert drift(tinting, toy_corpus, white, 0) > 0
