"""Every check of a corpus passes on a sound one and fails on one spoiled on purpose."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="the extra `data` is not installed")
pytest.importorskip("contourpy", reason="the extra `data` is not installed")

from toy_world import LABELS, opener

import scene.corpus.check as check_module
from scene.corpus.build import build_corpus
from scene.corpus.check import check_corpus
from scene.corpus.claims import false_claims, relation_claims
from scene.corpus.store import Corpus
from scene.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "toy"
    build_corpus(opener(), folder, 12)
    return folder


def _fine(plan: Any, labels: Any, masks: Any) -> list[str]:
    return []


SOUND_PLANS = {"overlap": _fine}


def test_a_sound_corpus_passes(sound: Path) -> None:
    report = check_corpus(Corpus.open(sound), SOUND_PLANS)
    assert report.findings == []
    assert set(report.checked) == {"masks", "visibility", "prompts", "labels", "overlap", "splits"}
    assert report.checked["masks"] == 11 * 4


def _first_scene(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "scenes.jsonl"
        lines = path.read_text().splitlines()
        raw = json.loads(lines[0])
        change(raw)
        path.write_text("\n".join([json.dumps(raw), *lines[1:]]) + "\n")

    return spoil


def _relabel(folder: Path) -> None:
    path = folder / "assets.jsonl"
    path.write_text(path.read_text().replace('"lawn","a lawn"', '"moon","a moon"', 1))


def _change(key: str, value: Any) -> Callable[[Path], None]:
    return _first_scene(lambda raw: raw.__setitem__(key, value))


@pytest.mark.parametrize(
    ("check", "says", "spoil"),
    [
        ("visibility", "recorded as visible", _first_scene(lambda raw: raw["layers"][0][4].__setitem__(0, 0.123))),
        ("visibility", "recorded as visible", _first_scene(lambda raw: raw["layers"].reverse())),
        ("prompts", "says 3 x ball, the scene has 2", _change("prompts", ["three balls"])),
        ("prompts", "no lawn is above a ball", _change("prompts", ["a lawn above a ball"])),
        ("prompts", "no prompt", _change("prompts", [""])),
        ("labels", "label 'moon' is not in the vocabulary", _relabel),
        ("splits", "ball-3 is held out of training", _first_scene(lambda raw: raw.update(split="train"))),
        ("splits", "split 'half'", _change("split", "half")),
        ("splits", "occurs 2 times", _change("id", "toy-1")),
        ("splits", "recipe attic is held out", _change("recipe", "attic")),
        ("splits", "group 8 is in", _change("group", 8)),
    ],
)
def test_each_check_can_fail(
    sound: Path, tmp_path: Path, check: str, says: str, spoil: Callable[[Path], None]
) -> None:  # fmt: skip
    folder = tmp_path / "toy"
    shutil.copytree(sound, folder)
    if "ball-3" in says:  # the first scene must be one that shows what is held out
        lines = (folder / "scenes.jsonl").read_text().splitlines()
        plans = (folder / "plans.jsonl").read_text().splitlines()
        held = next(i for i, line in enumerate(lines) if json.loads(line)["split"] == "val")
        (folder / "scenes.jsonl").write_text(lines[held] + "\n")
        (folder / "plans.jsonl").write_text(plans[held] + "\n")
    spoil(folder)
    findings = check_corpus(Corpus.open(folder)).findings
    assert any(finding.check == check and says in finding.message for finding in findings), findings


def test_the_overlap_check_reports_what_the_plan_check_says(sound: Path) -> None:
    def second_overlaps(plan: Any, labels: Any, masks: Any) -> list[str]:
        assert list(labels) == ["wall", "lawn", "ball", "ball"]
        assert len(masks) == 4
        return ["a and b share space"] * (plan["number"] == 2)

    findings = check_corpus(Corpus.open(sound), {"overlap": second_overlaps}).findings
    assert [(f.check, f.scene, f.message) for f in findings] == [("overlap", "toy-2", "a and b share space")]


def test_a_missing_plan_is_found(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(sound, folder)
    lines = (folder / "plans.jsonl").read_text().splitlines()
    (folder / "plans.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert [f.message for f in check_corpus(Corpus.open(folder), SOUND_PLANS).findings] == ["no plan is kept"]


@pytest.mark.parametrize(
    ("broken", "says"), [("from_rle", "COCO run lengths"), ("from_polygons", "changes in polygons")]
)
def test_lossy_outlines_are_found(
    sound: Path, monkeypatch: pytest.MonkeyPatch, broken: str, says: str
) -> None:  # fmt: skip
    monkeypatch.setattr(check_module, broken, lambda *arguments: np.zeros((1, 1), bool))
    assert any(says in f.message for f in check_corpus(Corpus.open(sound)).findings)


def test_masks_that_are_not_their_pictures_are_found(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus.open(sound)
    monkeypatch.setattr(corpus, "shape", lambda layer: np.zeros(corpus.asset(layer)[0].shape[:2], bool))
    messages = {f.message for f in check_corpus(corpus).findings if f.check == "masks"}
    assert {"ball: packed mask and picture differ", "ball: empty mask"} <= messages


def _square(x: int, y: int, side: int = 10) -> np.ndarray:
    mask = np.zeros((60, 60), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_claims_are_read_and_judged() -> None:
    vocabulary = Vocabulary("toy", {**LABELS, "dog": {"kind": "animal"}, "table": {"kind": "thing"}})
    text = "a big red ball to the left of a small brown dog, a table and a ball behind a dog"
    found = [(c.first, c.relation, c.second) for c in relation_claims(text, vocabulary)]
    assert found == [("ball", "left of", "dog"), ("dog", "in front of", "ball")]
    labels, masks = ["ball", "dog"], [_square(5, 20), _square(40, 20)]
    assert false_claims("a ball left of a dog", vocabulary, labels, masks) == []
    assert false_claims("a ball right of a dog", vocabulary, labels, masks)
    assert false_claims("a ball in front of a dog", vocabulary, labels, masks)
    assert false_claims("a dog on a ball", vocabulary, ["ball", "dog"], [_square(5, 20, 30), _square(15, 30)]) == []
