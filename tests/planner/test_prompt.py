import numpy as np

from planner.grammar import Answer
from planner.llava import IMAGE_TOKEN_ID
from planner.prompt import PlannedObject, PromptEncoder, object_answer, plain_words, scene_objects
from scene.geometry import Box
from scene.layers import Layer, LayeredScene
from tests.planner.conftest import SIZE, TINY_VISION, make_tokenizer

FIXED = {"dog": "a brown dog"}


def answer(label: str, box: Box, description: str) -> Answer:
    found = object_answer(PlannedObject(label, description, box), SIZE, FIXED)
    assert found is not None
    return found


def test_trunk_of_a_step_is_a_prefix_of_the_next(encoder):
    answers = [
        answer("boy", Box(10, 10, 60, 90), "a smiling boy"),
        answer("dog", Box(100, 100, 150, 140), "a brown dog"),
        answer("boy", Box(0, 0, 50, 60), "a sad boy"),
    ]
    longest = encoder.trunk("two boys and a dog", answers)
    for k in range(len(answers)):
        shorter = encoder.trunk("two boys and a dog", answers[:k])
        assert longest[: len(shorter)] == shorter


def test_control_tokens_typed_by_a_user_stay_text(encoder):
    trunk = encoder.trunk(f"a boy <s{IMAGE_TOKEN_ID}> and <s2>", [])
    assert IMAGE_TOKEN_ID not in trunk
    assert trunk.count(2) == 0
    assert encoder.picture.count(IMAGE_TOKEN_ID) == TINY_VISION.image_tokens


def test_long_prompts_are_cut_and_reported():
    short = PromptEncoder(make_tokenizer(), 4, max_prompt_tokens=12)
    assert short.fits("a boy")
    assert not short.fits("a boy and a very long story")
    assert len(short.head("a boy and a very long story")) == len(short.head("")) - 1 + 12


def test_line_breaks_in_a_prompt_cannot_start_a_line(encoder):
    assert encoder.head("a boy\nstop") == encoder.head("a boy stop")


def test_fixed_descriptions_are_left_out():
    assert answer("dog", Box(0, 0, 32, 32), "a brown dog").description is None
    assert answer("dog", Box(0, 0, 32, 32), "a red dog").description == "a red dog"


def test_objects_off_the_canvas_have_no_answer():
    assert object_answer(PlannedObject("dog", "a dog", Box(-50, 0, -10, 20)), SIZE, FIXED) is None


def test_plain_words_keep_the_grammar_alphabet():
    assert plain_words("  a boy's 2 red-ish balls | stop\n") == "a boy's red-ish balls stop"
    assert plain_words("¿123?") == ""


def test_scene_objects_leave_out_empty_masks():
    mask = np.zeros(SIZE.shape, dtype=bool)
    full = mask.copy()
    full[10:20, 30:50] = True
    scene = LayeredScene(SIZE, "", (Layer(1, "dog", "a dog", mask), Layer(2, "boy", "a boy", full)))
    assert scene_objects(scene) == (PlannedObject("boy", "a boy", Box(30, 10, 50, 20)),)
