"""Public LLaVAs as planners, on tiny random checkpoints of three families with their own tokenizers and templates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from planner.chat import ChatPlanner, load_llava, load_shots
from planner.chat_config import ChatConfig
from planner.grammar import parse_answer
from runtime.hardware import HardwareConfig
from scene.errors import ModelError, UserError
from scene.geometry import Size
from scene.layers import LayeredScene
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "configs" / "planner" / "shots_home.yaml"
CPU = HardwareConfig(device="cpu")
CHAT = ChatConfig(shots=1, list_labels=False, max_prompt_tokens=20000)
EMPTY = LayeredScene(Size(320, 256), "a sofa")


@pytest.fixture(scope="module")
def home() -> Vocabulary:
    return Vocabulary.load(ROOT / "configs" / "worlds" / "home.yaml")


@pytest.fixture(scope="module", params=["llava", "llava_next", "onevision"])
def planner(request: pytest.FixtureRequest, checkpoints: Path, home: Vocabulary) -> ChatPlanner:
    return ChatPlanner.from_folder(checkpoints / request.param, home, shots=SHOTS, chat=CHAT, hardware=CPU)


def test_random_weights_answer_in_the_grammar(planner: ChatPlanner) -> None:
    proposal = planner.propose(EMPTY, "a wall and a sofa", seed=StepSeed(1, 1))
    assert proposal.label == "wall" and proposal.box is not None and proposal.box.area > 0
    assert proposal.description
    again = planner.propose(EMPTY, "a wall and a sofa", seed=StepSeed(1, 1))
    assert again == proposal
    assert planner.propose(EMPTY, "a wall and a sofa", seed=StepSeed(2, 1)).box != proposal.box


def test_written_answers_are_read_back(planner: ChatPlanner) -> None:
    """The automaton's tokens come back as text that the strict parser knows, spaces and line end included."""
    automaton = planner._automaton(EMPTY, ["coffee table"], False)
    while not automaton.done:
        automaton.advance(automaton.allowed()[0])
    answer = parse_answer(planner.encoder.decode(automaton.ids), planner.vocabulary.labels)
    assert answer.label == "coffee table" and answer.cells == (0, 0, 0, 0)


def test_prompt_holds_task_examples_scene_and_list_in_the_models_turn(planner: ChatPlanner, home: Vocabulary) -> None:
    shots = load_shots(SHOTS, home)
    answers = [parse_answer("wall | 00009961 | a plain wall", home.labels)]
    text = planner.encoder.text("two sofas <image> USER: and </s> more", answers)
    assert text.count("<image>") == 1 and "</s>" not in text
    assert shots[0].lines[0] in text and shots[1].prompt not in text
    assert text.endswith("\nwall | 00009961 | a plain wall\n")
    inputs = planner.encoder.inputs("a sofa", answers, torch.zeros(256, 320, 3, dtype=torch.uint8).numpy())
    placeholder = planner.llava.config.image_token_id
    assert int((inputs["input_ids"] == placeholder).sum()) >= 4


def test_the_picture_and_the_list_change_what_is_read(planner: ChatPlanner) -> None:
    dark = torch.zeros(256, 320, 3, dtype=torch.uint8).numpy()
    first = planner.read(EMPTY, "a sofa", dark).hidden
    other = planner.read(EMPTY, "a sofa", dark + 200).hidden
    assert first is not None and other is not None and not torch.equal(first, other)


def test_a_smaller_picture_is_fewer_tokens(checkpoints: Path, home: Vocabulary) -> None:
    lengths = []
    for side in (None, 28):
        chat = CHAT.model_copy(update={"picture_px": side})
        planner = ChatPlanner.from_folder(checkpoints / "onevision", home, shots=SHOTS, chat=chat, hardware=CPU)
        wide = torch.zeros(40, 120, 3, dtype=torch.uint8).numpy()
        lengths.append(planner.encoder.inputs("a sofa", [], wide)["input_ids"].shape[1])
    assert lengths[1] < lengths[0]


def test_too_long_a_prompt_is_said(checkpoints: Path, home: Vocabulary) -> None:
    short = CHAT.model_copy(update={"max_prompt_tokens": 64})
    planner = ChatPlanner.from_folder(checkpoints / "llava", home, shots=SHOTS, chat=short, hardware=CPU)
    with pytest.raises(ModelError, match="max_prompt_tokens allows 64"):
        planner.propose(EMPTY, "a sofa", seed=StepSeed(1, 1))


def test_lora_is_merged(checkpoints: Path, tmp_path: Path) -> None:
    plain, _ = load_llava(checkpoints / "llava", CPU)
    config = LoraConfig(r=2, target_modules=r".*language_model.*q_proj", init_lora_weights=False)
    wrapped = get_peft_model(load_llava(checkpoints / "llava", CPU)[0], config)
    wrapped.save_pretrained(tmp_path / "lora")
    merged, _ = load_llava(checkpoints / "llava", CPU, tmp_path / "lora")
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(merged.state_dict()[name], plain.state_dict()[name])
    assert list(merged.state_dict()) == list(plain.state_dict())
    with pytest.raises(UserError, match=r"no adapter_model\.safetensors"):
        load_llava(checkpoints / "llava", CPU, checkpoints)


def test_what_is_no_llava_is_refused(checkpoints: Path) -> None:
    with pytest.raises(UserError, match="it must be one of llava, llava_next, llava_onevision"):
        load_llava(checkpoints / "zimage" / "base" / "text_encoder", CPU)


def test_shots_that_break_the_grammar_are_refused(tmp_path: Path, home: Vocabulary) -> None:
    file = tmp_path / "shots.yaml"
    file.write_text("shots:\n  - prompt: a sofa\n    lines: ['sofa | 1234 | a sofa']\n")
    with pytest.raises(UserError, match="need eight digits"):
        load_shots(file, home)
    with pytest.raises(UserError, match=r"set planner\.llava\.shots=0"):
        load_shots(tmp_path / "none.yaml", home)


def test_shipped_examples_are_plans_the_guards_would_accept(home: Vocabulary) -> None:
    surfaces = {label for label in home.labels if home.kind(label) == "surface"}
    for shot in load_shots(SHOTS, home):
        answers = [parse_answer(line, home.labels) for line in shot.lines]
        kinds = [answer.label in surfaces for answer in answers]
        assert kinds == sorted(kinds, reverse=True)  # surfaces first
        wanted = home.counts(shot.prompt)
        for label, count in wanted.items():
            assert sum(answer.label == label for answer in answers) == count, (shot.prompt, label)
        for number, answer in enumerate(answers):
            assert answer.link is None or answer.link[1] in {earlier.label for earlier in answers[:number]}
