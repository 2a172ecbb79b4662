import json

from planner.evaluate import (
    Tally,
    balanced_accuracy,
    box_scene,
    evaluate,
    frequency_propose,
    mean_boxes,
    named_placed,
    regex_propose,
    roll_out,
)
from planner.examples import PlanSource, fixed_descriptions
from planner.llava_planner import LlavaPlanner
from scene.errors import ModelError
from scene.geometry import Box
from scene.proposal import Proposal
from tests.planner.conftest import SIZE, TINY_VISION, make_llava, make_tokenizer


def test_balanced_accuracy():
    assert balanced_accuracy([(True, True), (False, False), (False, True), (False, False), (False, True)]) == 0.75
    assert balanced_accuracy([(False, False)]) is None


def test_named_means_as_often_as_named():
    assert named_placed({"dog": 2}, ["dog", "boy", "dog"])
    assert not named_placed({"dog": 2}, ["dog", "boy"])
    assert named_placed({}, [])


def test_tally_compares_with_the_next_object(corpus):
    record = corpus.records("train")[0]
    plan = PlanSource(corpus, "train").plan(record, "x")
    tally = Tally()
    target = plan.objects[2]
    tally.add(Proposal(target.label, "a thing", target.box), plan, 2)
    tally.add(Proposal("sky", "blue sky", Box(0, 0, 9, 9)), plan, 2)
    tally.add(Proposal(stop=True), plan, len(plan.objects))
    assert tally.label_next == [True, False]
    assert tally.label_later == [True, False]
    assert tally.box_error == [0.0]
    assert tally.box_iou == [1.0]
    assert tally.stops == [(False, False), (False, False), (True, True)]


def test_roll_out_ends_on_stop_on_errors_and_by_itself():
    def stopping(scene, prompt, seed):
        return Proposal("dog", "a dog", Box(0, 0, 9, 9)) if len(scene.layers) < 3 else Proposal(stop=True)

    def failing(scene, prompt, seed):
        raise ModelError("no")

    def endless(scene, prompt, seed):
        return Proposal("dog", "a dog")

    assert [len(roll_out(f, SIZE, "x", 0)[0]) for f in (stopping, failing, endless)] == [3, 0, 20]
    assert [roll_out(f, SIZE, "x", 0)[1] for f in (stopping, failing, endless)] == [True, False, False]


def test_box_scenes_show_the_boxes():
    scene = box_scene(SIZE, "x", [Proposal("sky", "sky"), Proposal("dog", "a dog", Box(10, 20, 30, 50))])
    assert scene.layers[0].box == Box(0, 0, *SIZE)
    assert scene.layers[1].box == Box(10, 20, 30, 50)


def test_baselines(corpus):
    boxes = mean_boxes(PlanSource(corpus, "train"))
    words = regex_propose(corpus.vocabulary, boxes)
    placed, stopped = roll_out(words, corpus.size, "two dogs and a boy", 0)
    assert sorted(p.label for p in placed) == ["boy", "dog", "dog", "grass", "sky"]
    assert stopped
    unread = frequency_propose(corpus, boxes)
    same = [[p.label for p in roll_out(unread, corpus.size, text, 0)[0]] for text in ("a dog", "a boy")]
    assert same[0] == same[1]
    assert same[0][:2] == ["sky", "grass"]


def test_report_has_the_promised_keys(corpus, monkeypatch):
    planner = LlavaPlanner(
        make_llava(), make_tokenizer(), TINY_VISION, corpus.vocabulary, fixed_descriptions(corpus), None
    )
    monkeypatch.setattr(LlavaPlanner, "from_pretrained", lambda *_: planner)
    report = evaluate(corpus.path, data=[corpus.path], split="train", limit=6, progress=False)
    assert json.loads(json.dumps(report)) == report
    promised = {"corpus", "split", "n", "seconds", "command", "baselines", "valid", "named_recall"}
    promised |= {"named_recall_unguarded", "seconds_per_proposal", "count_exact"}
    assert promised <= report.keys()
    assert report["valid"] == report["named_recall"] == 1.0
    assert report["baselines"]["regex_prompt"]["named_recall"] == 1.0
    assert None not in report.values()
