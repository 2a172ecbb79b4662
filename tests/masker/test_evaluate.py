"""The measurement itself: its baselines, guides and shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masker import evaluate as evaluation
from masker.baselines import Silhouettes, eroded_scribble, fill_box, place
from masker.cases import Case, choose_cases, choose_groups, moved_at_random, true_guide
from masker.evaluate import FREE_DRAWS, evaluate
from masker.guides import dilate_cells
from masker.metrics import headline, mean_pairwise_iou
from masker.placing import guide_box
from masker.ranking import iou
from masker.smartmask import SmartMask
from masker.tasks import DenoiserTask
from masker.texts import TextBook
from scene.candidates import MaskCandidate
from scene.corpus.store import Corpus
from scene.errors import ModelError, UserError
from scene.geometry import Box, Size

from .conftest import SIZE, masker_config


def test_silhouettes_fit_the_box_they_are_given(corpus: Corpus) -> None:
    silhouettes = Silhouettes([corpus], {"ball"})
    box = Box(50, 60, 130, 140)
    disc = silhouettes.nearest("ball", box, SIZE)
    assert Box.from_mask(disc) == box
    assert disc.sum() == pytest.approx(np.pi * 40**2, rel=0.06)
    assert iou(silhouettes.mean("ball", box, SIZE), disc) > 0.98
    assert np.array_equal(silhouettes.nearest("unheard of", box, SIZE), fill_box(box, SIZE))


def test_place_clips_at_the_canvas() -> None:
    mask = place(np.ones((4, 4), bool), Box(-10, -10, 10, 10), SIZE)
    assert mask.sum() == 100
    assert mask[0, 0]


def test_cases_are_movable_held_out_and_repeatable(corpus: Corpus) -> None:
    cases = choose_cases(corpus, "val", 5, seed=1)
    assert len(cases) == 5
    assert all(case.record.split == "val" for case in cases)
    assert all(case.record.layers[case.k].label in ("ball", "post") for case in cases)
    assert [(c.record.id, c.k) for c in cases] == [(c.record.id, c.k) for c in choose_cases(corpus, "val", 5, seed=1)]
    assert len(choose_cases(corpus, "val", None, seed=1)) == 12


def test_true_guides(corpus: Corpus) -> None:
    case = choose_cases(corpus, "val", 1, seed=0)[0]
    assert true_guide(case, "none", SIZE, 0) is None
    box, blob, scribble = (true_guide(case, form, SIZE, 0) for form in ("box", "blob", "scribble"))
    assert box is not None and blob is not None and scribble is not None
    assert guide_box(box) == case.box
    assert guide_box(blob).iou(case.box) > 0.2
    assert (scribble.map[case.truth] > 0.5).mean() > 0.9
    assert scribble.map.sum() > case.truth.sum()


def test_smaller_limits_keep_the_first_cases_and_rare_labels_are_favoured(corpus: Corpus) -> None:
    few, all_cases = choose_cases(corpus, "val", 4, seed=3), choose_cases(corpus, "val", None, seed=3)
    assert [(c.record.id, c.k) for c in few] == [(c.record.id, c.k) for c in all_cases[:4]]
    first = [choose_cases(corpus, "val", 1, seed=seed)[0].label for seed in range(1500)]
    # one post to two balls: drawn alike often they would be 1/3 posts, by label 1/2; the square root is between
    assert 0.38 < np.mean([label == "post" for label in first]) < 0.46


def test_groups_part_models_by_training(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(group.name, len(group.cases)) for group in choose_groups([corpus], "val", None, 0)] == [("tiny", 12)]
    records = corpus.records

    def without_balls(split: str = "all"):  # type: ignore[no-untyped-def]
        found = records(split)
        if split != "train":
            return found
        kept = [[layer for layer in record.layers if layer.label != "ball"] for record in found]
        return [replace(record, layers=tuple(layers)) for record, layers in zip(found, kept, strict=True)]

    monkeypatch.setattr(corpus, "records", without_balls)
    seen, held_out = choose_groups([corpus], "val", 3, 0)
    assert (seen.name, held_out.name) == ("tiny, models seen", "tiny, held-out models")
    assert {case.label for case in seen.cases} == {"post"}
    assert {case.label for case in held_out.cases} == {"ball"}


def test_moved_masks_are_whole_and_elsewhere(corpus: Corpus) -> None:
    case = choose_cases(corpus, "val", 1, seed=0)[0]
    moved = [moved_at_random(case, 0, number) for number in range(3)]
    assert all(mask.sum() == case.truth.sum() for mask in moved)
    assert not np.array_equal(moved[0], moved[1])
    assert np.array_equal(moved[0], moved_at_random(case, 0, 0))


@pytest.mark.parametrize("radius", [0.05, 0.09, 0.14])
def test_an_eroded_scribble_undoes_its_dilation(radius: float) -> None:
    rows, columns = np.mgrid[0:200, 0:200]
    disc = (rows - 99.5) ** 2 + (columns - 99.5) ** 2 <= 40**2
    scribble = dilate_cells(disc.astype(np.float32), radius) > 0.5
    assert iou(eroded_scribble(scribble, radius), disc) > 0.96
    assert iou(eroded_scribble(scribble, radius), disc) > iou(scribble, disc) + 0.05


def test_diversity() -> None:
    mask, other = np.eye(4, dtype=bool), np.zeros((4, 4), bool)
    assert mean_pairwise_iou([mask, mask, mask]) == 1
    assert mean_pairwise_iou([mask, mask, other]) == pytest.approx(1 / 3)
    assert mean_pairwise_iou([mask]) is None


class FirstOfTheAlphabet:
    """A judge that takes everything for a ball."""

    labels = ("ball", "post")

    def judge(self, mask: np.ndarray, size: Size) -> np.ndarray:
        assert mask.shape == size.shape
        return np.array([0.9, 0.1])


@pytest.fixture
def masker_folder(codec_folder: Path, corpus: Corpus, texts: TextBook, tmp_path: Path,
                  monkeypatch: pytest.MonkeyPatch) -> Path:  # fmt: skip
    """An untrained masker that loads with fake texts."""
    task = DenoiserTask(masker_config(codec_folder), [corpus], texts=texts)
    task.export(task.model, tmp_path / "masker")
    monkeypatch.setattr(TextBook, "load", lambda config: texts)
    return tmp_path / "masker"


def predictor(
    corpus: Corpus, choose: Callable[[Case, int, object], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Puts `choose(case, candidate, guidance)` in the model's place; the last candidate is ranked best."""
    cases = {case.step(0): case for case in choose_cases(corpus, "val", None, seed=0)}

    def predict(self, scene, label, description, context, *, guidance, count, seed):  # type: ignore[no-untyped-def]
        found = [
            MaskCandidate(choose(cases[seed], number, guidance), number, {"candidate": float(number)})
            for number in range(count)
        ]
        return found[::-1]

    monkeypatch.setattr(SmartMask, "predict", predict)


def test_a_perfect_model_scores_one(masker_folder: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor(corpus, lambda case, number, guidance: case.truth, monkeypatch)
    monkeypatch.setattr(evaluation, "load_judge", lambda folder: FirstOfTheAlphabet())
    result = evaluate(masker_folder, data=[corpus.path], limit=4, progress=False, oneshot=masker_folder)
    group = result["groups"]["tiny"]
    assert group["n"] == 4
    for method in ("model", "oneshot"):
        assert group["iou"][method] == {"none": 1.0, "box": 1.0, "blob": 1.0, "scribble": 1.0}
    assert group["ranked"]["blob"] == {"n": 4, "mean_of_draws": 1.0, "best": 1.0}
    assert 0 < group["iou"]["fill_box"]["blob"] < 1
    assert set(group["iou"]["eroded_scribble"]) == {"scribble"}
    free = group["mask_free"]
    assert (free["n"], free["draws"], free["empty"]) == (2, 2 * FREE_DRAWS, 0)
    assert free["diversity_pairwise_iou"] == 1
    assert free["size_ratio"]["all"] == {"p10": 1.0, "median": 1.0, "p90": 1.0}
    assert free["support_right"]["all"] == free["support_right"]["real"] == free["support_right"]["best_ranked"]
    judged = [case.label == "ball" for case in choose_cases(corpus, "val", 4, seed=0)[::2]]
    assert free["recognised"]["all"] == free["recognised"]["real"] == np.mean(judged)
    assert "eroded" in result["table"] and "recognised, real masks" in result["table"]
    assert "--limit 4" in result["command"]
    assert (result["corpus"], result["split"], result["n"]) == ("tiny", "val", 4)
    assert result["iou"] == group["iou"]["model"]
    assert result["baselines"]["fill_box"]["iou"] == group["iou"]["fill_box"]
    assert result["label_recognised"] == result["label_recognised_real"] == np.mean(judged)
    assert (result["diversity_pairwise_iou"], result["support_right"]) == (1, free["support_right"]["all"])


def test_the_headline_weighs_groups_by_their_objects() -> None:
    def group(n: int, box: float, recognised: dict[str, float] | None) -> dict[str, Any]:
        free = {"n": n, "recognised": recognised, "support_right": {"all": box}, "diversity_pairwise_iou": None}
        return {"n": n, "iou": {"model": {"box": box}}, "mask_free": free, "seconds_per_mask": {"guided": 1.0}}

    found = headline({"a": group(1, 0.2, None), "b": group(3, 0.6, {"n": 2, "all": 0.5, "real": 1.0})})
    assert found["n"] == 4 and found["iou"]["box"] == pytest.approx(0.5)
    assert (found["label_recognised"], found["label_recognised_real"]) == (0.5, 1.0)
    assert "diversity_pairwise_iou" not in found


def test_draws_ranks_and_empty_masks_count(
    masker_folder: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def last_is_right(case: Case, number: int, guidance: object) -> np.ndarray:
        return case.truth if number == 3 else np.roll(~case.truth, 1)

    predictor(corpus, last_is_right, monkeypatch)
    monkeypatch.setattr(evaluation, "load_judge", lambda folder: None)
    group = evaluate(masker_folder, data=[corpus.path], limit=1, progress=False)["groups"]["tiny"]
    assert group["iou"]["model"]["box"] < 0.05  # the first draw, not the best-ranked
    assert group["ranked"]["box"]["best"] == 1
    assert 0.25 <= group["ranked"]["box"]["mean_of_draws"] < 0.3
    assert group["mask_free"]["recognised"] is None

    def nothing(*args: object, **kwargs: object) -> None:
        raise ModelError("all stayed empty")

    monkeypatch.setattr(SmartMask, "predict", nothing)
    result = evaluate(masker_folder, data=[corpus.path], limit=1, progress=False)
    group = result["groups"]["tiny"]
    assert group["iou"]["model"]["scribble"] == 0
    assert group["empty"] == 1 and group["mask_free"]["empty"] == 1
    assert group["mask_free"]["support_right"]["all"] == 0
    assert group["calibration"]["n"] == 1
    assert "not shown" in result["table"]


def test_the_same_world_twice_is_refused(masker_folder: Path, corpus: Corpus) -> None:
    with pytest.raises(UserError, match="same world"):
        evaluate(masker_folder, data=[corpus.path, corpus.path], progress=False)
