import json
from pathlib import Path

import pytest

from planner.measures import (
    attributes_hold,
    case_scores,
    co_occurrence,
    out_of_order,
    plausible,
    relation_holds,
    stop_truth,
    summary,
)
from planner.prompt_sets import Mention, PromptCase, read_prompts
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.relations import points
from scene.vocabulary import Vocabulary

CANVAS = Size(640, 512)
WORLD = Vocabulary("w", {"floor": {"kind": "surface"}, "dog": {"kind": "animal"}, "bench": {"kind": "furniture"},
                         "sofa": {"kind": "furniture", "synonyms": ["couch"]}, "cat": {"kind": "animal"}})  # fmt: skip


def at(x, y):
    return Box(x - 10, y - 10, x + 10, y + 10)


@pytest.mark.parametrize(
    ("dx", "dy", "word", "holds"),
    [(-50, 40, "left of", True), (-50, 60, "left of", False), (50, 40, "left of", False), (50, -40, "right of", True),
     (0, -50, "above", True), (0, 50, "below", True), (10, 50, "above", False), (0, 0, "left of", False)],
)  # fmt: skip
def test_nsr_rule_is_within_45_degrees(dx, dy, word, holds):
    assert points(at(100 + dx, 100 + dy), at(100, 100), word) is holds


def test_any_pair_of_the_labels_may_hold_it():
    placed = [("dog", at(300, 100)), ("cat", at(100, 100)), ("dog", at(20, 100))]
    assert relation_holds(placed, {"dog"}, "left of", {"cat"})
    assert not relation_holds(placed, {"cat"}, "left of", {"cat"})


MENTIONS = (Mention(("dog",), 2, True), Mention(("sofa",)), Mention(("cat", "bench"), implied=True))
CASE = PromptCase("1", "two dogs on a sofa", MENTIONS, ((("dog",), "on", ("sofa",)),))


def test_scores_item_by_item():
    sofa = Box(100, 200, 400, 400)
    plan = [("floor", Box(0, 300, 640, 512)), ("sofa", sofa), ("dog", Box(150, 180, 200, 260)),
            ("dog", Box(152, 182, 202, 262)), ("bench", Box(600, 300, 700, 400))]  # fmt: skip
    scores = case_scores(CASE, plan, {"floor"})
    assert scores["complete"] == scores["exact"] == scores["implied"] == scores["relations"] == [True]
    assert scores["boxes"] == [False, False, False, False, True]
    assert scores["pairs"] == [True]
    assert scores["order"] == [False]
    less = case_scores(CASE, plan[:3], {"floor"})
    assert less["complete"] == [False]
    assert less["named_objects"] == [False, True]
    assert less["exact_mentions"] == [False]
    more = case_scores(CASE, [*plan, ("dog", at(500, 300))], {"floor"})
    assert more["complete"] == [True]
    assert more["exact"] == [False]


def test_order():
    assert out_of_order(["floor", "dog", "sofa"], CASE, {"floor"})
    assert out_of_order(["sofa", "floor"], CASE, {"floor"})
    assert not out_of_order(["floor", "sofa", "dog"], CASE, {"floor"})


def test_plausible_means_seen_together():
    together = co_occurrence([{"dog", "sofa"}, {"cat"}])
    assert plausible("dog", ["sofa", "dog"], together)
    assert not plausible("dog", ["dog", "cat"], together)
    assert not plausible("bench", ["dog"], together)


@pytest.mark.parametrize(
    ("stand", "count", "last", "due"),
    [(True, 8, True, True), (True, 8, False, None), (False, 8, False, False), (True, 3, False, False),
     (True, 30, True, None)],
)  # fmt: skip
def test_when_a_stop_is_due(stand, count, last, due):
    assert stop_truth(stand, count, 7, 12, last) is due


def test_summary_leaves_out_what_never_occurred():
    assert summary([{"complete": [True], "exact": []}, {"complete": [False]}]) == {"named_recall": 0.5}


NSR = [{"id": 3, "image_id": 1, "obj1": ["dog", [0.0, 0.5, 0.1, 0.2]], "obj2": ["couch", [0.5, 0.5, 0.4, 0.4]],
        "prompt": "a dog to the left of a couch", "relation": "left", "type": "template"},
       {"id": 4, "image_id": 1, "obj1": ["submarine", [0, 0, 1, 1]], "obj2": ["dog", [0, 0, 1, 1]],
        "prompt": "x", "relation": "top", "type": "template"}]  # fmt: skip


def test_nsr_boxes_are_xywh_and_their_truth_holds(tmp_path):
    file = tmp_path / "spatial.json"
    file.write_text(json.dumps(NSR))
    found = read_prompts(file, WORLD)
    assert (len(found.cases), found.unknown) == (1, 1)
    case = found.cases[0]
    assert case.truth == (("dog", Box(0, 256, 64, 358)), ("sofa", Box(320, 256, 576, 461)))
    assert case_scores(case, case.truth, set())["relations"] == [True]


def test_one_bunch_is_several_unless_a_number_is_said(tmp_path):
    home, file = Vocabulary.load(Path("configs/worlds/home.yaml")), tmp_path / "prompts.jsonl"
    asked = [(["tulips"], 2, False), (["tulips", "flower box"], 2, False), (["chair"], 2, False), (["tulips"], 2, True)]
    objects = [{"any_of": a, "count": c, "exact": e, "implied": False} for a, c, e in asked]
    file.write_text(json.dumps({"id": "a", "prompt": "x", "objects": objects, "relations": []}))
    assert [mention.count for mention in read_prompts(file, home).cases[0].objects] == [1, 2, 2, 2]


def test_geneval(tmp_path):
    file = tmp_path / "geneval.jsonl"
    lines = [{"tag": "counting", "include": [{"class": "dog", "count": 3}], "prompt": "a photo of three dogs"},
             {"tag": "position", "include": [{"class": "cat", "count": 1}, {"class": "bench", "count": 1,
              "position": ["right of", 0]}], "prompt": "a photo of a bench right of a cat"}]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, lines)))
    count, position = read_prompts(file, WORLD).cases
    assert count.objects == (Mention(("dog",), 3, True),)
    assert position.relations == ((("bench",), "right of", ("cat",)),)
    assert not position.objects[0].exact


def test_plain_lines(tmp_path):
    file = tmp_path / "numeracy.txt"
    file.write_text("two dogs\nfour trucks\na dog to the left of a couch\n")
    found = read_prompts(file, WORLD)
    assert found.unknown == 1
    assert found.cases[0].objects == (Mention(("dog",), 2, True),)
    assert found.cases[1].relations == ((("dog",), "left of", ("sofa",)),)


@pytest.mark.parametrize("text", ['[{"obj1": 1}]', '{"tag": "counting"}', '{"prompt": "x"}', "[1]"])
def test_unknown_forms_name_the_entry(tmp_path, text):
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(UserError, match="entry 1 is no prompt of a known form"):
        read_prompts(file, WORLD)


def test_colours_are_looked_for_in_descriptions():
    case = PromptCase("1", "a red sofa and a dog", (Mention(("sofa",), attribute="red"), Mention(("dog",))))
    assert attributes_hold(case, [("sofa", "a red sofa"), ("dog", "a dog")]) == [True]
    assert attributes_hold(case, [("sofa", "a bored sofa"), ("dog", "a red dog")]) == [False]
