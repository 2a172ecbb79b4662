import pytest

from planner.geneva import counted_turns, drawn_lists, f1, object_scores, precision_recall, rsim
from scene.corpus.records import LayerRecord, Turn
from scene.geometry import Box
from scene.proposal import Proposal
from tests.planner.conftest import SIZE


def layer(label):
    return LayerRecord(label, f"a {label}", 0, 0, 0)


def turn(text, *labels):
    return Turn(text, "ok", (), tuple(map(layer, labels)))


def test_only_turns_that_add_a_class_count_and_words_are_carried():
    turns = [turn("hello"), turn("a boy", "boy"), turn("move him", "boy"), turn("a dog", "boy", "dog", "dog")]
    counted = counted_turns(turns)
    assert [each.text for each in counted] == ["hello ok a boy ok", "move him ok a dog ok"]
    assert counted[-1].classes == {"boy", "dog"}


def test_precision_recall_f1():
    assert precision_recall(["a", "b"], ["b", "c", "d"]) == (0.5, pytest.approx(1 / 3))
    assert precision_recall([], ["a"]) == (0.0, 0.0)
    assert f1(0.5, 1.0) == pytest.approx(2 / 3)
    scores = object_scores([(["a"], ["a"]), ([], ["a"])])
    assert scores == {"precision": 0.5, "recall": 0.5, "f1_mean": 0.5, "f1_of_means": 0.5}
    uneven = object_scores([(["a"], ["a", "b"]), (["a", "b"], ["a"])])
    assert uneven["f1_mean"] == pytest.approx(0.6667)
    assert uneven["f1_of_means"] == 0.75


TRUTH = {"a": (0.1, 0.1), "b": (0.5, 0.5), "c": (0.9, 0.9)}


def test_rsim_is_recall_times_agreement_in_x_and_depth():
    assert rsim(TRUTH, TRUTH) == 1.0
    # b lies on the middle line in the truth and before it here: two of eight entries differ
    assert rsim({"a": (0.0, 0.0), "b": (0.2, 0.1)}, TRUTH) == pytest.approx(2 / 3 * 6 / 8)
    flipped = {label: (1 - x, z) for label, (x, z) in TRUTH.items()}
    # b on the middle line is all that agrees in x, all nine entries do in depth
    assert rsim(flipped, TRUTH) == pytest.approx((1 + 9) / 18)
    assert rsim({"d": (0, 0)}, TRUTH) == 0.0
    assert rsim({**TRUTH, "d": (0.0, 0.0)}, TRUTH) == 1.0


def test_lists_grow_turn_by_turn():
    def propose(scene, text, seed):
        word = text.split()[1]
        there = any(each.label == word for each in scene.layers)
        return Proposal(stop=True) if there else Proposal(word, f"a {word}", Box(0, 0, 9, 9))

    turns = counted_turns([turn("a boy", "boy"), turn("a dog", "boy", "dog")])
    lists = drawn_lists(propose, SIZE, turns, [Proposal("sky", "sky", Box(0, 0, *SIZE))], 0)
    assert [[item.label for item in done] for done in lists] == [["sky", "boy"], ["sky", "boy", "dog"]]
