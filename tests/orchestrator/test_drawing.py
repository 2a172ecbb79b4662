from dataclasses import replace

import numpy as np
import pytest

from orchestrator.config import load_preset
from orchestrator.drawing import (
    Drawing,
    drawing_config,
    drawing_scores,
    drawing_sheet,
    drawn_dialogue,
    empty_canvas,
    evaluate_drawing,
)
from perception.locator import Found
from planner.geneva import CountedTurn
from scene.corpus.records import LayerRecord, Turn
from scene.errors import UserError
from scene.geometry import Box
from scene.proposal import Proposal
from tests.orchestrator.fakes import fake_models
from tests.planner.conftest import corpus  # noqa: F401  a fixture

CONFIG = drawing_config(load_preset("park", None, []))


class SaidPlanner:
    """Places every label that the turn names and the scene lacks."""

    def propose(self, scene, prompt, *, seed, turn=None, rejected=()):
        placed = {layer.label for layer in scene.layers}
        for label in ("boy", "dog"):
            if label in prompt and label not in placed:
                return Proposal(label, f"a {label}", Box(10, 100, 60, 180))
        return Proposal(stop=True)


class LabelReader:
    """Says that a boy is in every picture."""

    def read(self, pictures):
        return [{"boy": Found(0.2, 0.5, 0.0, 1.0)} for _ in pictures]


def dialogue(corpus):  # noqa: F811
    record = corpus.records("train")[0]
    boy = next(layer for each in corpus.records() for layer in each.layers if layer.label == "boy")
    dog = next(layer for each in corpus.records() for layer in each.layers if layer.label == "dog")
    turns = (Turn("hello", "hi", (), ()), Turn("a boy", "ok", (), (boy,)), Turn("a dog", "ok", (boy,), (boy, dog)))
    spoken = replace(record)
    object.__setattr__(spoken, "turns", turns)
    return spoken


def test_each_turn_draws_what_it_says_on_what_is_there(corpus):  # noqa: F811
    models = replace(fake_models(), planner=SaidPlanner())
    record = dialogue(corpus)
    drawn = drawn_dialogue(models, CONFIG, corpus, record, LabelReader(), 3)
    assert [[layer.label for layer in scene.layers] for scene in drawn.scenes] == [
        ["sky", "grass", "boy"], ["sky", "grass", "boy", "dog"]
    ]  # fmt: skip
    first, second = drawn.scenes
    outside = ~second.layers[-1].mask
    np.testing.assert_array_equal(first.image[outside], second.image[outside])
    again = drawn_dialogue(models, CONFIG, corpus, record, LabelReader(), 3)
    np.testing.assert_array_equal(again.scenes[-1].image, second.image)
    assert drawing_sheet(corpus, [record], [drawn]).width > 600


def found(**at: tuple[float, float]) -> dict[str, Found]:
    return {label: Found(x, 0.5, depth, 1.0) for label, (x, depth) in at.items()}


def test_scores_are_read_off_the_pictures_at_the_last_turn_and_at_every_one(corpus):  # noqa: F811
    start = empty_canvas(corpus, corpus.records("train")[0])
    turns = (
        CountedTurn("a boy", (LayerRecord("boy", "", 0, 0, 0),)),
        CountedTurn("a dog", (LayerRecord("boy", "", 0, 0, 0), LayerRecord("dog", "", 0, 0, 0))),
    )
    theirs = (found(boy=(0.2, 0.0)), found(boy=(0.2, 0.0), dog=(0.8, 2.0)))
    ours = (found(boy=(0.1, 0.0)), found(boy=(0.9, 0.1)))
    drawing = Drawing("a", turns, (start, start), ours, theirs, theirs[-1], 2.0)
    scores = drawing_scores([drawing], ["sky", "grass"])
    assert scores["object_f1"] == pytest.approx(2 / 3, abs=1e-3)
    assert scores["every_turn"]["f1_mean"] == pytest.approx(5 / 6, abs=1e-3)
    assert scores["rsim"] == 0.25  # half recalled; on the other side of the middle, as near as it should be
    assert scores["true_masks"]["rsim"] == 1.0
    assert scores["list"]["recall"] == 0.0


def test_a_corpus_without_dialogues_says_so(corpus, tmp_path):  # noqa: F811
    with pytest.raises(UserError, match="no dialogues"):
        evaluate_drawing(fake_models(), CONFIG, corpus, tmp_path, split="train", limit=2)
