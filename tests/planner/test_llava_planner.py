import numpy as np
import pytest
import torch

from orchestrator.ports import Planner
from planner.decoding import Picker, PlannerConfig
from planner.drafting import Expected
from planner.guards import GuardConfig
from planner.llava_planner import LlavaPlanner
from scene.errors import ModelError
from scene.geometry import Box
from scene.layers import Layer, LayeredScene
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary
from tests.planner.conftest import ENTRIES, SIZE, TINY_VISION, make_llava, make_tokenizer

SEED = StepSeed(7, 3)


@pytest.fixture(scope="module")
def planner() -> LlavaPlanner:
    return LlavaPlanner(
        make_llava(), make_tokenizer(), TINY_VISION, Vocabulary("tiny", ENTRIES), {"dog": "a brown dog"}, None
    )


def scene_of(*labels: str) -> LayeredScene:
    layers = []
    for number, label in enumerate(labels):
        mask = np.zeros(SIZE.shape, dtype=bool)
        mask[20 * number : 20 * number + 30, 10:60] = True
        layers.append(Layer(number + 1, label, f"a {label}", mask))
    return LayeredScene(SIZE, "", tuple(layers))


def test_satisfies_the_port(planner):
    port: Planner = planner
    assert port.propose(scene_of(), "a boy", seed=SEED).label == "sky"


@pytest.mark.parametrize("placed", [(), ("sky",), ("sky", "grass"), ("sky", "grass", "boy", "dog")])
def test_untrained_weights_still_give_well_formed_guarded_proposals(planner, placed):
    proposal = planner.propose(scene_of(*placed), "a boy and two dogs", seed=SEED)
    if len(placed) < 2:
        assert proposal.label == ("sky", "grass")[len(placed)]
    elif len(placed) == 2 or proposal.label:
        assert proposal.label in ENTRIES
    assert proposal.description
    box = proposal.box
    assert box is not None
    assert 0 <= box.x0 < box.x1 <= SIZE.width
    assert 0 <= box.y0 < box.y1 <= SIZE.height


def test_runs_place_everything_named_then_stop(planner):
    placed: list[str] = []
    for _ in range(20):
        proposal = planner.propose(scene_of(*placed), "two dogs chase a boy", seed=SEED)
        if proposal.stop:
            break
        placed.append(proposal.label)
    assert proposal.stop
    assert proposal.reason
    assert placed[:2] == ["sky", "grass"]
    assert placed.count("dog") == 2
    assert placed.count("boy") == 1


def test_rejected_labels_are_not_proposed(planner):
    scene = scene_of("sky", "grass")
    first = planner.propose(scene, "a dog", seed=SEED)
    second = planner.propose(scene, "a dog", seed=SEED, rejected=(first.label,))
    assert second.label != first.label
    everything = planner.propose(scene, "a dog", seed=SEED, rejected=tuple(ENTRIES))
    assert everything.stop


def test_overruled_choices_leave_a_note(planner):
    silent = planner.with_config(PlannerConfig(guards=GuardConfig(enabled=False)))
    raw = silent.propose(scene_of(), "a boy", seed=SEED)
    guarded = planner.propose(scene_of(), "a boy", seed=SEED)
    assert raw.notes == ()
    assert guarded.label == "sky"
    assert (guarded.notes != ()) == (raw.label != "sky")


def test_same_inputs_same_proposal_whatever_came_before(planner):
    scene = scene_of("sky", "grass")
    first = planner.propose(scene, "a boy", seed=SEED)
    planner.propose(scene_of("sky"), "something else", seed=StepSeed(1, 1))
    assert planner.propose(scene, "a boy", seed=SEED) == first


def test_temperature_draws_from_the_step_seed(planner):
    warm = planner.with_config(PlannerConfig(temperature=2.0))
    scene = scene_of("sky", "grass")
    drawn = [warm.propose(scene, "a boy", seed=StepSeed(run, 0)) for run in range(6)]
    assert len({proposal.description for proposal in drawn}) > 1
    assert warm.propose(scene, "a boy", seed=StepSeed(0, 0)) == drawn[0]
    state = torch.random.get_rng_state()
    warm.propose(scene, "a boy", seed=StepSeed(0, 0))
    assert torch.equal(state, torch.random.get_rng_state())


def test_seeds_move_boxes_and_nothing_else(planner):
    scene = scene_of("sky", "grass")
    drawn = [planner.propose(scene, "a boy", seed=StepSeed(run, 0)) for run in range(6)]
    assert len({proposal.box for proposal in drawn}) > 1
    assert len({proposal.label for proposal in drawn}) == 1
    still = planner.with_config(PlannerConfig(box_spread=0.0))
    assert len({still.propose(scene, "a boy", seed=StepSeed(run, 0)).box for run in range(6)}) == 1


def test_a_box_is_decided_only_where_something_asks_for_it(planner):
    lazy = planner.with_config(PlannerConfig(write_boxes=False))
    whole, bare = (p.propose(scene_of("sky", "grass"), "a dog", seed=SEED) for p in (planner, lazy))
    assert (bare.label, bare.box) == (whole.label, None)
    assert whole.box is not None
    others = [label for label in ENTRIES if label != "dog"]
    twin = lazy.propose(scene_of("sky", "grass", "dog"), "two dogs", seed=SEED, rejected=others)
    assert twin.label == "dog"
    assert twin.box is not None


def test_a_colour_that_the_prompt_asks_for_is_in_the_description(planner):
    others = [label for label in ENTRIES if label != "dog"]
    plain = planner.propose(scene_of("sky", "grass"), "a dog", seed=SEED, rejected=others)
    red = planner.propose(scene_of("sky", "grass"), "a red dog", seed=SEED, rejected=others)
    assert "red" not in plain.description.split()
    assert red.description.startswith("a red")
    assert "the prompt says red: described again" in red.notes
    assert red.label == "dog"
    free = planner.with_config(PlannerConfig(guards=GuardConfig(enabled=False)))
    raw = free.propose(scene_of("sky", "grass"), "a red dog", seed=SEED, rejected=others)
    assert not any("red" in note for note in raw.notes)


def test_a_colour_that_a_fixed_description_has_is_there_already(planner):
    others = [label for label in ENTRIES if label != "dog"]
    brown = planner.propose(scene_of("sky", "grass"), "a brown dog", seed=SEED, rejected=others)
    assert brown.description == "a brown dog"
    assert not any("brown" in note for note in brown.notes)
    red = planner.propose(scene_of("sky", "grass"), "a red dog", seed=SEED, rejected=others)
    assert red.description == "a red dog"  # the model has learned no words for it
    assert red.box == brown.box


def test_a_colour_is_asked_for_once(planner):
    others = [label for label in ENTRIES if label != "dog"]
    mask = np.ones(SIZE.shape, dtype=bool)
    there = LayeredScene(SIZE, "", (*scene_of("sky", "grass").layers, Layer(3, "dog", "a red dog", mask)))
    second = planner.propose(there, "a red dog and another dog", seed=SEED, rejected=others)
    assert not any("red" in note for note in second.notes)


def test_a_twin_is_placed_apart_where_the_model_can(planner, monkeypatch):
    whole = np.ones(SIZE.shape, dtype=bool)
    scene = LayeredScene(SIZE, "", (*scene_of("sky", "grass").layers, Layer(5, "dog", "a dog", whole)))
    monkeypatch.setattr("planner.llava_planner.too_close", lambda *_: True)
    seen = []
    monkeypatch.setattr(planner, "_read_answer", lambda *a, f=planner._read_answer: seen.append(f(*a)[1]) or f(*a))
    others = tuple(label for label in ENTRIES if label != "dog")
    proposal = planner.propose(scene, "two dogs", seed=SEED, rejected=others)
    assert proposal.label == "dog"
    assert any("placed again" in note for note in proposal.notes)
    assert len(seen) == 4
    smallest = min(seen, key=lambda box: box.iou(scene.layers[2].box))
    assert proposal.box == smallest


def test_cached_decoding_equals_a_full_pass(planner):
    """Decoding with the cache picks what one pass over the finished answer would pick."""
    scene = scene_of("sky", "grass", "boy")
    raw = planner.with_config(PlannerConfig(guards=GuardConfig(enabled=False), box_spread=0.0))
    start = raw.read(scene, "a dog")
    from planner.grammar import AnswerAutomaton

    automaton = AnswerAutomaton(raw.tokens, raw.vocabulary.labels, False)
    raw._advance(automaton, start, Picker(raw.config, SEED), Expected(), until_head=False)
    from planner.llava import pixel_values
    from planner.prompt import scene_answers
    from scene.layout import layout_picture

    answers = [*scene_answers(scene, raw.fixed_descriptions).values()]
    prefix = [*raw.encoder.trunk("a dog", answers), *raw.encoder.picture]
    pixels = pixel_values(layout_picture(scene.layout), TINY_VISION)[None]
    with torch.no_grad():
        logits = raw.llava(input_ids=torch.tensor([[*prefix, *automaton.ids]]), pixel_values=pixels).logits[0]
    walk, pick = AnswerAutomaton(raw.tokens, raw.vocabulary.labels, False), Picker(raw.config, SEED)
    for offset, token in enumerate(automaton.ids):
        allowed = walk.allowed()
        assert token == pick(logits[len(prefix) - 1 + offset][list(allowed)], allowed, walk.box_digit)
        walk.advance(token)


def test_long_prompts_are_noted(planner):
    proposal = planner.propose(scene_of(), "a dog and " * 60, seed=SEED)
    assert any("prompt cut" in note for note in proposal.notes)


def test_unknown_words_do_not_crash(planner):
    proposal = planner.propose(scene_of("sky", "grass"), "a submarine under the ice", seed=SEED)
    assert proposal.label in ENTRIES


def test_turn_adds_to_what_is_wanted(planner):
    scene = scene_of("sky", "grass", "boy", "apple tree", "soccer ball", "sky", "grass")
    full = planner.with_config(PlannerConfig(guards=GuardConfig(max_implied=2)))
    stops = full.propose(scene, "a boy", seed=SEED)
    goes_on = full.propose(scene, "a boy", seed=SEED, turn="now a dog")
    assert stops.stop
    assert goes_on.label == "dog"


def test_contradicting_guards_are_a_model_error(planner, monkeypatch):
    from planner.guards import Ruling

    monkeypatch.setattr("planner.guards.rule", lambda *_: Ruling(("boy",), "never happy"))
    with pytest.raises(ModelError, match="never happy"):
        planner.propose(scene_of(), "a boy", seed=SEED)


def test_boxes_of_empty_masks_are_left_out(planner):
    empty = Layer(9, "dog", "a dog", np.zeros(SIZE.shape, dtype=bool))
    scene = scene_of("sky", "grass").with_layer(empty)
    assert isinstance(planner.propose(scene, "a boy", seed=SEED).box, Box)
