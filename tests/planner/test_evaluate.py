import json

import pytest

from planner.baselines import common_ground, frequency_propose, mean_boxes, regex_propose
from planner.evaluate import ResultLog, evaluate
from planner.examples import PlanSource, fixed_descriptions
from planner.few_shot import FewShotPlanner
from planner.llava_planner import LlavaPlanner
from planner.prompt_sets import Mention, PromptCase
from planner.trials import Rollouts, balanced_accuracy, box_scene, roll_out, singles_report
from scene.errors import ModelError, UserError
from scene.geometry import Box
from scene.proposal import Proposal
from scene.relations import box_relations
from scene.seeds import StepSeed
from tests.planner.conftest import SIZE, TINY_VISION, make_llava, make_tokenizer


def test_balanced_accuracy():
    assert balanced_accuracy([(True, True), (False, False), (False, True), (False, False), (False, True)]) == 0.75
    assert balanced_accuracy([(False, False)]) is None


def test_roll_out_ends_on_stop_on_errors_and_by_itself():
    def stopping(scene, prompt, seed):
        return Proposal("dog", "a dog", Box(0, 0, 9, 9)) if len(scene.layers) < 3 else Proposal(stop=True)

    def failing(scene, prompt, seed):
        if scene.layers:
            raise ModelError("no")
        return Proposal("dog", "a dog")

    assert [len(roll_out(stopping, SIZE, "x", 0)[0]), roll_out(stopping, SIZE, "x", 0)[1]] == [3, True]
    assert [len(roll_out(failing, SIZE, "x", 0)[0]), roll_out(failing, SIZE, "x", 0)[1]] == [1, False]


def test_box_scenes_show_the_boxes():
    scene = box_scene(SIZE, "x", [Proposal("sky", "sky"), Proposal("dog", "a dog", Box(10, 20, 30, 50))])
    assert scene.layers[0].box == Box(0, 0, *SIZE)
    assert scene.layers[1].box == Box(10, 20, 30, 50)


def test_regex_baseline_counts_and_relates(corpus):
    words = regex_propose(corpus.vocabulary, mean_boxes(PlanSource(corpus, "train")), common_ground(corpus))
    placed, stopped = roll_out(words, corpus.size, "two dogs, a boy to the left of an apple tree", 0)
    assert sorted(p.label for p in placed) == ["apple tree", "boy", "dog", "dog", "grass", "sky"]
    assert stopped
    boxes = {p.label: p.box for p in placed}
    assert "left of" in box_relations(boxes["boy"], boxes["apple tree"])


def test_the_frequency_baseline_does_not_read(corpus):
    unread = frequency_propose(corpus, mean_boxes(PlanSource(corpus, "train")))
    same = [[p.label for p in roll_out(unread, corpus.size, text, 0)[0]] for text in ("a dog", "a boy")]
    assert same[0] == same[1]
    assert same[0][:2] == ["sky", "grass"]


def test_rows_are_measured_once(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return {"value": len(calls)}

    log = ResultLog("a", tmp_path)
    assert log.once("x", measure) == {"value": 1} == log.once("x", measure)
    with log.path.open("a") as file:
        file.write('["half a li')
    again = ResultLog("a", tmp_path)
    assert again.once("x", measure) == {"value": 1}
    assert ResultLog("b", tmp_path).once("x", measure) == {"value": 2}


def test_singles_report_compares_pictures():
    rows = [{"valid": True, "said_stop": False, "stop_due": False, "scene_ends": False,
             "error_own": 0.1, "error_shuffled": 0.2, "error_empty": 0.3},
            {"valid": True, "said_stop": True, "stop_due": True, "scene_ends": True}, {"valid": False}]  # fmt: skip
    report = singles_report(rows)
    assert report["shuffled_picture_worsens"] == 1.0
    assert report["stop_balanced_accuracy"] == 1.0
    assert report["valid"] == 0.6667


def test_truth_is_scored_like_a_plan():
    truth = (("dog", Box(0, 0, 20, 20)), ("boy", Box(100, 0, 120, 30)), ("apple tree", Box(0, 0, 9, 9)))
    mentions = (Mention(("dog",)), Mention(("boy",), 1, True))
    case = PromptCase("1", "a dog left of a boy", mentions, ((("dog",), "left of", ("boy",)),), SIZE, truth)
    row = Rollouts(["sky"], {"apple tree": ["boy"]}, 0).truth(case)
    assert row["complete"] == row["exact"] == row["relations"] == row["plausible"] == [True]
    assert row["boxes"] == [False, False, False]


def make_planner(corpus):
    return LlavaPlanner(
        make_llava(), make_tokenizer(), TINY_VISION, corpus.vocabulary, fixed_descriptions(corpus), None
    )


def test_report_has_the_promised_keys_and_goes_on(corpus, monkeypatch, tmp_path):
    planner = make_planner(corpus)
    monkeypatch.setattr(LlavaPlanner, "from_pretrained", lambda *_: planner)
    monkeypatch.setenv("SMARTSCENE_CACHE", str(tmp_path / "cache"))
    prompts = tmp_path / "some.txt"
    prompts.write_text("two dogs\na boy left of a dog\na submarine\n")

    def run():
        return evaluate(
            corpus.path, data=[corpus.path, prompts], split="all", limit=6, progress=False, base_model=False
        )

    report = run()
    assert json.loads(json.dumps(report)) == report
    promised = {"corpus", "split", "n", "seconds", "command", "baselines", "valid", "named_recall", "relation_accuracy"}
    promised |= {"named_recall_unguarded", "seconds_per_proposal", "count_exact", "off_canvas"}
    assert promised <= report.keys()
    assert report["valid"] == report["named_recall"] == 1.0
    assert report["off_canvas"] == 0.0
    assert report["sets"]["guarded"]["some"]["unknown"] == 1
    assert report["baselines"]["regex_prompt"]["named_recall"] == 1.0
    assert report["baselines"]["ground_truth"]["sets"]["corpus"]["named_recall"] == 1.0
    assert None not in report.values()
    monkeypatch.setattr(planner, "propose", None)  # a second run measures nothing again
    again = run()
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in report.items() if k != "seconds"}


def test_few_shot_reads_its_examples_once(corpus, monkeypatch):
    planner = FewShotPlanner(make_llava(), make_tokenizer(), TINY_VISION, corpus.vocabulary, {})
    planner.teach(corpus)
    planner.propose(box_scene(SIZE, "", []), "a boy", seed=StepSeed(0, 0))
    before = planner.prefix.read_tokens
    planner.propose(box_scene(SIZE, "", []), "a dog", seed=StepSeed(0, 0))
    assert before >= len(planner.shots) > planner.prefix.read_tokens - before


def test_no_known_prompt_is_an_error(corpus, monkeypatch, tmp_path):
    monkeypatch.setattr(LlavaPlanner, "from_pretrained", lambda *_: make_planner(corpus))
    monkeypatch.setenv("SMARTSCENE_CACHE", str(tmp_path / "cache"))
    prompts = tmp_path / "some.txt"
    prompts.write_text("a submarine\n")
    with pytest.raises(UserError, match="knows the objects of no prompt"):
        evaluate(corpus.path, data=[corpus.path, prompts], split="all", limit=1, progress=False)
