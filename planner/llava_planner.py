"""The planner of the composition loop: LLaVA proposes, the grammar keeps it well-formed, guards keep it sensible."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from planner.decoding import Picker, PlannerConfig
from planner.grammar import Answer, AnswerAutomaton, AnswerTokens, cells_to_box, parse_answer
from planner.guards import PlanState, plan_state, rule, too_close
from planner.llava import VisionConfig, pixel_values
from planner.prompt import PromptEncoder, object_answer, scene_objects
from scene.errors import ModelError
from scene.layout import layout_picture
from scene.proposal import Proposal
from scene.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlavaForConditionalGeneration

    from scene.geometry import Box
    from scene.layers import LayeredScene
    from scene.seeds import StepSeed


ELSEWHERE = (0.9, 0.1, 0.7)  # quantiles of a box's left edge, tried when another object of its label is in the way


@dataclass(frozen=True)
class _Cursor:
    """Where decoding stands: cache filled to `length`, the logits that follow, and chosen tokens not yet fed."""

    cache: Any
    length: int
    logits: torch.Tensor
    pending: tuple[int, ...] = ()


class LlavaPlanner:
    """Next object, or stop, for a scene.

    Every proposal starts from an empty cache and batch size 1, so it depends on scene, prompt and seed only, however
    often a run was interrupted.

    Args:
        llava: model with merged adapters, in evaluation mode.
        tokenizer: SmolLM2's.
        vision: the tower's shape.
        vocabulary: the world's words; proposals are bound to its labels.
        fixed_descriptions: label -> its only description.
        config: decoding and guards.
        max_prompt_tokens: longer prompts are cut, and the proposal notes it.
    """

    def __init__(
        self,
        llava: LlavaForConditionalGeneration,
        tokenizer: Tokenizer,
        vision: VisionConfig,
        vocabulary: Vocabulary,
        fixed_descriptions: dict[str, str],
        config: PlannerConfig | None = None,
        max_prompt_tokens: int = 96,
    ) -> None:
        self.llava, self.vision, self.vocabulary = llava, vision, vocabulary
        self.fixed_descriptions = fixed_descriptions
        self.config = config or PlannerConfig()
        self.encoder = PromptEncoder(tokenizer, vision.image_tokens, max_prompt_tokens)
        self.tokens = AnswerTokens(tokenizer, vocabulary.labels)
        self.surfaces = tuple(label for label in vocabulary.labels if vocabulary.kind(label) == "surface")
        self.people = tuple(label for label in vocabulary.labels if vocabulary.kind(label) == "person")

    @classmethod
    def from_pretrained(
        cls,
        path: Path,
        adapter: Path | None = None,
        config: PlannerConfig | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> Self:
        """Load a weight folder.

        Args:
            path: the preset's planner folder ("pretrained/park/planner").
            adapter: a freshly tuned folder (`train`'s `export/`) to use instead; None = `path`.
            config: decoding and guards.
            vocabulary: the world's words; None = those stored with the weights.

        Raises:
            UserError: weights or weight package missing.
        """
        from planner.language_model import load_tokenizer, prepare
        from planner.weights import load_planner

        base = prepare()
        llava, card = load_planner(adapter or path, base)
        return cls(
            llava,
            load_tokenizer(base),
            card.vision,
            vocabulary or Vocabulary(card.world, card.vocabulary),
            card.fixed_descriptions,
            config,
            card.max_prompt_tokens,
        )

    def with_config(self, config: PlannerConfig) -> Self:
        """The same weights under other settings; nothing is copied."""
        other = copy.copy(self)
        other.config = config
        return other

    def propose(
        self,
        scene: LayeredScene,
        prompt: str,
        *,
        seed: StepSeed,
        turn: str | None = None,
        rejected: Sequence[str] = (),
    ) -> Proposal:
        """The next object for a scene, or stop.

        Args:
            scene: layers so far; the model sees their layout picture and their list.
            prompt: what the whole scene should show.
            seed: draws the box within `box_spread`, and the words with `temperature` > 0.
            turn: in a dialogue, what was said last; read after the prompt.
            rejected: labels that must not be proposed now.

        Returns:
            A proposal; `notes` names every guard that fired and a prompt that was cut.

        Raises:
            ModelError: the answer is unusable.
        """
        text = " ".join(part for part in (prompt, turn) if part)
        notes = [] if self.encoder.fits(text) else ["prompt cut: too long for the planner"]
        state = plan_state(
            [layer.label for layer in scene.layers],
            self.vocabulary.counts(text),
            self.vocabulary.labels,
            self.surfaces,
            rejected,
            self.people,
        )
        start = self.read(scene, text)
        pick = Picker(self.config, seed)
        automaton, cursor, fired = self._choose(start, state, pick)
        notes += fired
        if automaton is None or automaton.label is None:
            return Proposal(stop=True, reason=self._stop_reason(state), notes=tuple(notes))
        self._advance(automaton, cursor, pick, until_head=False)
        answer, box = self._read_answer(automaton, scene)
        twins = [layer.box for layer in scene.layers if layer.label == answer.label and layer.box is not None]
        if too_close(box, twins, self.config.guards):
            answer, box = self._elsewhere(start, scene, answer, box, twins, seed)
            notes.append(f"another {answer.label} stood there: placed again")
        fixed = self.fixed_descriptions.get(answer.label, self.vocabulary.with_article(answer.label))
        reason = "named in the prompt" if state.wanted.get(answer.label) else "fits the scene"
        return Proposal(
            label=answer.label,
            description=answer.description or fixed,
            box=box,
            reason="carries the scene" if answer.label in self.surfaces else reason,
            notes=tuple(notes),
        )

    def read(self, scene: LayeredScene, prompt: str) -> _Cursor:
        """Prefill: instruction, prompt, objects so far and layout picture."""
        import torch

        answers = [object_answer(item, scene.size, self.fixed_descriptions) for item in scene_objects(scene)]
        trunk = self.encoder.trunk(prompt, [answer for answer in answers if answer is not None])
        ids = torch.tensor([[*trunk, *self.encoder.picture]])
        pixels = pixel_values(layout_picture(scene.layout), self.vision)[None]
        return self._forward(ids, None, 0, pixels)

    def _forward(self, ids: torch.Tensor, cache: Any, length: int, pixels: torch.Tensor | None = None) -> _Cursor:
        import torch

        with torch.inference_mode():
            out = self.llava(
                input_ids=ids, pixel_values=pixels, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
        return _Cursor(out.past_key_values, length + ids.shape[1], out.logits[0, -1])

    def _choose(
        self, start: _Cursor, state: PlanState, pick: Picker
    ) -> tuple[AnswerAutomaton | None, _Cursor, list[str]]:
        """Label or stop, after all guards. None = a guard says stop."""
        labels: Iterable[str] = [label for label in self.vocabulary.labels if label not in state.rejected]
        allow_stop = True
        notes: list[str] = []
        for _ in range(self.config.max_rulings):
            automaton = AnswerAutomaton(
                self.tokens, labels, allow_stop, self.config.max_description_tokens, self.fixed_descriptions.keys()
            )
            cursor = self._advance(automaton, start, pick, until_head=True)
            ruling = rule(automaton.label, state, self.config.guards)
            if ruling is None:
                return automaton, cursor, notes
            notes.append(ruling.note)
            labels, allow_stop = ruling.labels, ruling.allow_stop
            if not ruling.labels:
                return None, start, notes
        raise ModelError(f"guards do not agree: {'; '.join(notes)}")

    def _read_answer(self, automaton: AnswerAutomaton, scene: LayeredScene) -> tuple[Answer, Box]:
        """The parsed answer and its box in canvas pixels."""
        answer = parse_answer(self.encoder.decode(automaton.ids), self.vocabulary.labels)
        if answer.cells is None:
            raise ModelError(f"planner answered {answer.line()!r} where an object was due")
        return answer, cells_to_box(answer.cells, scene.size)

    def _elsewhere(
        self, start: _Cursor, scene: LayeredScene, answer: Answer, box: Box, twins: Sequence[Box], seed: StepSeed
    ) -> tuple[Answer, Box]:
        """The same label at the unlikelier ends of its distribution across the canvas, least on top of its twins."""

        def overlap(found: Box) -> float:
            return max(found.iou(twin) for twin in twins)

        best = (overlap(box), answer, box)
        for across in ELSEWHERE:
            automaton = AnswerAutomaton(
                self.tokens,
                [answer.label],
                False,
                self.config.max_description_tokens,
                self.fixed_descriptions.keys(),
            )
            pick = Picker(self.config, seed, quantiles=(across, 0.5, 0.5, 0.5))
            self._advance(automaton, start, pick, until_head=False)
            again, moved = self._read_answer(automaton, scene)
            if overlap(moved) < best[0]:
                best = (overlap(moved), again, moved)
            if not too_close(moved, twins, self.config.guards):
                break
        return best[1], best[2]

    def _advance(
        self,
        automaton: AnswerAutomaton,
        cursor: _Cursor,
        pick: Picker,
        *,
        until_head: bool,
    ) -> _Cursor:
        """Decode until the label stands, or to the end; tokens without a choice are fed together, not decoded.

        The cache is cropped to `cursor.length` first, so that a cursor can be used again after another branch.
        """
        import torch

        surplus = cursor.cache.get_seq_length() - cursor.length
        if surplus:
            cursor.cache.crop(-surplus)
        pending = list(cursor.pending)
        while not automaton.done and not (until_head and automaton.head_done):
            allowed = automaton.allowed()
            if len(allowed) == 1:
                token = allowed[0]
            else:
                if pending:
                    cursor = self._forward(torch.tensor([pending]), cursor.cache, cursor.length)
                    pending = []
                token = pick(cursor.logits, allowed, automaton.box_digit)
            automaton.advance(token)
            pending.append(token)
        return replace(cursor, pending=tuple(pending))

    def free_answer(self, scene: LayeredScene, prompt: str, max_tokens: int) -> str:
        """The likeliest answer line without grammar, guards or label set: what the model alone would say."""
        import torch

        cursor = self.read(scene, prompt)
        ids: list[int] = []
        while len(ids) < max_tokens:
            token = int(cursor.logits.argmax())
            if token == self.tokens.end:
                return self.encoder.decode(ids)
            ids.append(token)
            cursor = self._forward(torch.tensor([[token]]), cursor.cache, cursor.length)
        return self.encoder.decode(ids)

    @staticmethod
    def _stop_reason(state: PlanState) -> str:
        named = sum(1 for label in state.wanted if label not in state.surfaces)
        if state.missing:
            return f"stopped with {', '.join(state.missing)} missing"
        return "everything that the prompt names is placed" if named else "the scene is complete"


__all__ = ["LlavaPlanner", "PlannerConfig"]
