from pathlib import Path

import numpy as np
import pytest

from planner.guards import GuardConfig, plan_state, rule
from planner.llava_planner import LlavaPlanner, PlannerConfig
from planner.situation import SceneReader, attributes
from planner.spelling import Speller, edit_distance
from scene.geometry import Box
from scene.layers import Layer, LayeredScene
from scene.proposal import PlannedRelation, Proposal
from scene.relations import box_relations
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary
from tests.planner.conftest import ENTRIES, SIZE, TINY_VISION, make_llava, make_tokenizer

HOME = Vocabulary("home", {
    "floor": {"kind": "surface"}, "wall": {"kind": "surface"}, "lawn": {"kind": "surface", "mass": True},
    "sofa": {"kind": "furniture"}, "bunk bed": {"kind": "furniture"}, "cat": {"kind": "animal"},
    "television": {"kind": "electronics", "synonyms": ["tv"]}, "bench": {"kind": "furniture"},
})  # fmt: skip
ENGLISH = {"beach", "where", "with", "living", "room", "sofa", "bench", "television"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("soffa", "sofa"), ("televison", "television"), ("bunkbed", "bunk bed"), ("bunkbeds", "bunk beds"),
     ("bnech", "bench"), ("beach", "beach"), ("Bnech", "Bnech"), ("behnid", "behind"), ("grene", "green"),
      ("xylophone", "xylophone"), ("tv", "tv"), ("sofa", "sofa")],
)  # fmt: skip
def test_slips_are_mended_and_words_are_not(typed, meant):
    text, notes = Speller(HOME, lambda word: word not in ENGLISH).corrected(f"where with {typed}")
    assert text == f"where with {meant}"
    assert len(notes) == (typed != meant)


WORLD = Vocabulary.load(Path("configs/worlds/home.yaml"))


def test_a_model_is_told_the_labels_of_everyday_names():
    typed = "Two settees and a couch, wing chairs by the log burner. Gran's pair of stilettos."
    told = SceneReader(WORLD).in_own_words(typed)
    assert told == "Two settees and a couch, armchairs by the wood stove. Gran's pair of high heels."
    assert SceneReader(Vocabulary("nowhere", {})).in_own_words("two soffas") == "two soffas"


def test_times_are_numbers():
    reader = SceneReader(WORLD)
    assert WORLD.counts(reader.read("3x tree, 2 x dog and a 4x4")[0]) == {"tree": 3, "dog": 2, "car": 1}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("washbasin", "washbasin"), ("trafic cone", "traffic cone"), ("toilett", "toilet"), ("cras", "cars"),
     ("stret", "street"), ("grandma", "grandma"), ("cocktails", "cocktails"), ("strolls", "strolls"), ("cost", "cost"),
     ("there", "there"), ("closest", "closest"), ("coner sofa", "corner sofa"), ("frnech fires", "french fries"),
     ("beer mgu", "beer mug"), ("posh pot", "posh pot"), ("dvd player", "dvd player"), ("woden cat", "woden cat")],
)  # fmt: skip
def test_names_and_ordinary_words_are_left_alone(typed, meant):
    rare = {
        "washbasin",
        "trafic",
        "toilett",
        "cras",
        "grandma",
        "cocktails",
        "strolls",
        "coner",
        "frnech",
        "mgu",
        "posh",
        "dvd",
        "woden",
    }  # "wooden" is not
    assert Speller(WORLD, lambda word: word in rare).corrected(f"a {typed}")[0] == f"a {meant}"


@pytest.mark.parametrize(("a", "b", "distance"), [("cras", "cars", 1), ("sofa", "sofa", 0), ("soffa", "sofa", 1),
                                                  ("chares", "chairs", 2), ("abcd", "wxyz", 3)])  # fmt: skip
def test_edit_distance(a, b, distance):
    assert edit_distance(a, b, 2) == edit_distance(b, a, 2) == distance


def state(placed=(), wanted=None, supporters=None):
    surfaces = [label for label in HOME.labels if HOME.kind(label) == "surface"]
    return plan_state(placed, wanted or {}, HOME.labels, surfaces, supporters=supporters)


def test_a_world_of_many_surfaces_needs_one_and_those_named():
    assert set(rule("sofa", state(), GuardConfig()).labels) == {"floor", "wall", "lawn"}
    assert rule("wall", state(), GuardConfig()) is None
    assert rule("sofa", state(("floor",), {"sofa": 1}), GuardConfig()) is None
    assert rule("sofa", state(("floor",), {"lawn": 1, "sofa": 1}), GuardConfig()).labels == ("lawn",)


def test_no_surface_after_objects():
    ruling = rule("wall", state(("floor", "sofa"), {"sofa": 1, "cat": 1}), GuardConfig())
    assert ruling.labels == ("cat",)
    assert "surfaces first" in ruling.note
    assert rule("lawn", state(("floor", "sofa"), {"lawn": 1}), GuardConfig()) is None


def test_what_carries_comes_first():
    wanted, under = {"cat": 1, "sofa": 1}, {"cat": ["sofa"]}
    assert rule("cat", state(("floor",), wanted, under), GuardConfig()).labels == ("sofa",)
    assert rule("cat", state(("floor", "sofa"), wanted, under), GuardConfig()) is None


def test_attributes_are_what_the_description_adds():
    assert attributes("a long black sofa", "sofa") == ("long", "black")
    assert attributes("a sofa with rolled arms", "sofa") == ("with rolled arms",)
    assert attributes("a sofa", "sofa") == ()


def test_proposals_keep_relation_and_confidence_through_json():
    proposal = Proposal("cat", "a black cat", Box(1, 2, 3, 4), attributes=("black",), confidence=0.5,
                        relation=PlannedRelation("on", "sofa", 4))  # fmt: skip
    assert Proposal.from_json(proposal.to_json()) == proposal
    old = {"label": "cat", "description": "a cat", "box": [1, 2, 3, 4], "stop": False, "reason": "", "notes": []}
    assert Proposal.from_json(old).relation is None


def linked_planner(enabled=True) -> LlavaPlanner:
    config = PlannerConfig(guards=GuardConfig(enabled=enabled))
    vocabulary = Vocabulary("tiny", ENTRIES)
    return LlavaPlanner(make_llava(), make_tokenizer(), TINY_VISION, vocabulary, {"dog": "a brown dog"}, config,
                        listing="names", links=True)  # fmt: skip


@pytest.mark.parametrize("word", ["left of", "right of", "above", "below"])
def test_a_relation_that_the_prompt_asks_for_holds_and_is_stated(word):
    masks = [np.zeros(SIZE.shape, dtype=bool) for _ in range(3)]
    masks[0][:128], masks[1][128:] = True, True
    masks[2][110:150, 140:180] = True
    layers = [Layer(i + 1, label, f"a {label}", mask) for i, (label, mask) in
              enumerate(zip(("sky", "grass", "boy"), masks, strict=True))]  # fmt: skip
    scene = LayeredScene(SIZE, "", tuple(layers))
    others = tuple(label for label in ENTRIES if label != "dog")
    proposal = linked_planner().propose(scene, f"a dog {word} a boy", seed=StepSeed(1, 1), rejected=others)
    assert proposal.relation == PlannedRelation(word, "boy", 3)
    assert word in box_relations(proposal.box, layers[2].box)
    assert 0 < proposal.confidence <= 1


def test_without_guards_nothing_is_moved():
    scene = LayeredScene(SIZE, "", (Layer(1, "boy", "a boy", np.ones(SIZE.shape, dtype=bool)),))
    for seed in range(6):
        proposal = linked_planner(False).propose(scene, "a dog left of a boy", seed=StepSeed(seed, 1))
        assert not any("moved" in note for note in proposal.notes)
        if proposal.relation:
            assert proposal.relation.label == "boy"
