"""The measurement itself: its baselines, guides and shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from masker.baselines import Silhouettes, fill_box, place
from masker.evaluate import choose_cases, evaluate, iou, true_guide
from masker.smartmask import SmartMask, guide_box
from masker.tasks import DenoiserTask
from masker.texts import TextBook
from scene.candidates import MaskCandidate
from scene.corpus.store import Corpus
from scene.geometry import Box

from .conftest import SIZE, masker_config


def test_silhouettes_fit_the_box_they_are_given(corpus: Corpus) -> None:
    silhouettes = Silhouettes(corpus)
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


def test_a_perfect_model_scores_one(
    corpus: Corpus, codec_folder: Path, texts: TextBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = DenoiserTask(masker_config(codec_folder), [corpus], texts=texts)
    task.export(task.model, tmp_path / "masker")
    monkeypatch.setattr(TextBook, "load", lambda config: texts)
    cases = iter([case for case in choose_cases(corpus, "val", 3, seed=0) for _ in range(4)])

    def truth(self, scene, label, description, context, *, guidance, count, seed):  # type: ignore[no-untyped-def]
        return [MaskCandidate(next(cases).truth, 1.0, {"candidate": 0.0})] * count

    monkeypatch.setattr(SmartMask, "predict", truth)
    result = evaluate(tmp_path / "masker", data=[corpus.path], split="val", limit=3, progress=False)
    assert result["iou"] == {"none": 1.0, "box": 1.0, "blob": 1.0, "scribble": 1.0}
    assert result["n"] == 3
    assert result["empty"] == 0
    assert set(result["baselines"]) >= {"fill_box", "mean_silhouette", "nearest_silhouette"}
    assert 0 < result["baselines"]["fill_box"]["iou"]["blob"] < 1
    assert result["seconds_per_mask"] >= 0
    assert "--limit 3" in result["command"]
