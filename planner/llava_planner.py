"""The planner of the composition loop: LLaVA proposes, the grammar keeps it well-formed, guards keep it sensible."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from planner.brief import BriefAutomaton, Item, completed
from planner.decoding import Picker, PlannerConfig
from planner.drafting import Drafts, Expected
from planner.grammar import LINKS, SEPARATOR, Answer, AnswerAutomaton, AnswerTokens, Boxes, cells_to_box, parse_answer
from planner.guards import settle, too_close
from planner.listener import said_about
from planner.llava import VisionConfig, pixel_values
from planner.places import Placer, Sought, Words
from planner.prefix import Cursor, PrefixCache
from planner.prompt import Listing, PromptEncoder, scene_answers
from planner.situation import Moment, SceneReader, due_colour, due_links, held
from planner.spelling import Speller
from runtime.seeding import torch_generator
from scene.errors import ModelError
from scene.layout import layout_picture
from scene.proposal import Proposal
from scene.vocabulary import Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import torch
    from tokenizers import Tokenizer
    from transformers import LlavaForConditionalGeneration

    from scene.geometry import Box
    from scene.layers import LayeredScene
    from scene.seeds import StepSeed


FORGETTING = 2.0  # nats that ending a brief has to be ahead: what is left out is never placed
STAND_IN = (25, 25, 74, 74)  # per cent of the canvas: read as a box where none is decided
ELSEWHERE = (0.9, 0.1, 0.7)  # quantiles of a box's left edge, tried when another object of its label is in the way
OTHER_PLACES, OTHER_TOP_P = 12, 0.95  # draws of a place head, likewise


class LlavaPlanner:
    """Next object, or stop, for a scene.

    The prompt's fixed part and the list of objects stay in the cache from step to step (`planner.prefix`); they are
    read piece by piece at batch size 1, so a proposal depends on scene, prompt and seed only, however often a run was
    interrupted. One planner serves one run at a time.

    Args:
        llava: model with merged adapters, in evaluation mode.
        tokenizer: SmolLM2's.
        vision: the tower's shape.
        vocabulary: the world's words; proposals are bound to its labels.
        fixed_descriptions: label -> its only description.
        config: decoding and guards.
        max_prompt_tokens: longer prompts are cut, and the proposal notes it.
        listing: what the lines of placed objects tell.
        links: whether the weights know relations in answers.
        brief: whether the weights write down first what the prompt asks for (`planner.brief`).
        boxes: whether answers write boxes, or point.
        placer: decides boxes, whatever is written; None = what is written counts.
        usual_descriptions: label -> what it is often described as, the commonest first; saves time, decides nothing.

    Raises:
        ValueError: answers that point, and no placer.
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
        listing: Listing = "boxes",
        links: bool = False,
        brief: bool = False,
        boxes: Boxes = "written",
        placer: Placer | None = None,
        usual_descriptions: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if boxes == "pointed" and placer is None:
            raise ValueError("answers that point need a placer")
        self.llava, self.vision, self.vocabulary = llava, vision, vocabulary
        self.boxes: Boxes = boxes
        self.placer, self.brief, self._briefs = placer, brief, dict[str, tuple[Item, ...]]()
        self.fixed_descriptions, self.links = fixed_descriptions, links
        self.config = config or PlannerConfig()
        self.encoder = PromptEncoder(tokenizer, vision.image_tokens, max_prompt_tokens, listing, boxes)
        self.tokens = AnswerTokens(tokenizer, vocabulary.labels)
        self.reader = SceneReader(vocabulary, Speller(vocabulary, self.encoder.is_rare))
        self.prefix = PrefixCache(llava)
        self.drafts = Drafts(self.tokens, vocabulary, usual_descriptions or {})

    @classmethod
    def from_pretrained(
        cls,
        path: Path,
        adapter: Path | None = None,
        config: PlannerConfig | None = None,
        vocabulary: Vocabulary | None = None,
        *,
        half: bool = True,
    ) -> Self:
        """Load a weight folder.

        Args:
            path: the preset's planner folder ("pretrained/park/planner").
            adapter: a freshly tuned folder (`train`'s `export/`) to use instead; None = `path`.
            config: decoding and guards.
            vocabulary: the world's words; None = those stored with the weights.
            half: keep the layers' weights in float16, which halves what is read per token (`runtime.half_linear`).

        Raises:
            UserError: weights or weight package missing.
        """
        from planner.language_model import load_tokenizer, prepare
        from planner.weights import load_planner

        base, folder = prepare(), adapter or path
        llava, card = load_planner(folder, base, half=half)
        tokenizer, placer = load_tokenizer(base), None
        if card.places is not None:
            placer = Placer.load(
                folder, card.places, Words(tokenizer, cast("torch.Tensor", llava.get_input_embeddings().weight))
            )
        return cls(
            llava,
            tokenizer,
            card.vision,
            vocabulary or Vocabulary(card.world, card.vocabulary),
            card.fixed_descriptions,
            config,
            card.max_prompt_tokens,
            card.listing,
            card.links,
            card.brief,
            card.boxes,
            placer,
            card.usual_descriptions,
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
        situation = self.reader.situation(scene, prompt, turn, rejected)
        notes = [] if self.encoder.fits(situation.told) else ["prompt cut: too long for the planner"]
        brief = situation.brief if self.brief and self.config.guards.enabled else None
        moment = Moment(scene, situation, seed, layout_picture(scene.layout))
        start = self.read(scene, situation.told, moment.picture, brief)
        pick = Picker(self.config, seed)
        automaton, cursor, fired = self._choose(start, moment, pick)
        notes += fired
        if automaton is None or automaton.label is None:
            return self.reader.stop(situation, notes, round(cursor.confidence, 4) if automaton else None)
        asked = due_links(automaton.label, situation, scene, self.config.guards) if self.links else []
        if asked:
            automaton.limit_links(asked)
        twins = [layer.box for layer in scene.layers if layer.label == automaton.label and layer.box is not None]
        pointed = self._pointed(automaton.label)
        boxed = pointed or self.config.write_boxes or bool(asked) or bool(twins)
        automaton.box = STAND_IN if pointed or not boxed else None
        self._advance(automaton, cursor, pick, moment.expected, until_head=False)
        answer, box = self._read_answer(automaton, moment)
        fixed = self.fixed_descriptions.get(answer.label, self.vocabulary.with_article(answer.label))
        colour = due_colour(answer.label, answer.description or fixed, situation, scene, self.config.guards)
        if colour is not None:
            answer, box = self._coloured(start, moment, answer, box, colour, pick)
            notes.append(f"the prompt says {colour}: described again")
        if too_close(box, twins, self.config.guards):
            answer, box = self._elsewhere(start, moment, answer, box, twins)
            notes.append(f"another {answer.label} stood there: placed again")
        box, moved = held(answer.link, box, scene, asked)
        return self.reader.proposal(
            situation,
            scene,
            answer.label,
            answer.description or fixed,
            box if boxed else None,
            answer.link,
            [*notes, *moved],
            round(cursor.confidence, 4),
        )

    def place(
        self, scene: LayeredScene, prompt: str, label: str, *, seed: StepSeed, picture: np.ndarray | None = None
    ) -> Box:
        """Where the model would put an object of this label, without guards; see `answer`."""
        return self.answer(scene, prompt, label, seed=seed, picture=picture)[1]

    def answer(
        self, scene: LayeredScene, prompt: str, label: str, *, seed: StepSeed, picture: np.ndarray | None = None
    ) -> tuple[Answer, Box]:
        """What the model would say of an object of this label, and where it would put it: nothing guards it.

        Args:
            scene, prompt, seed: as in `propose`.
            label: of the world.
            picture: uint8 (H, W, 3) to see instead of the scene's own layout, for measuring; None = its own.
        """
        automaton = self._automaton(scene, [label], False)
        automaton.box = STAND_IN if self._pointed(label) else None
        situation = self.reader.situation(scene, prompt, None, ())
        moment = Moment(scene, situation, seed, layout_picture(scene.layout) if picture is None else picture)
        brief = situation.brief if self.brief and self.config.guards.enabled else None
        start = self.read(scene, situation.told, moment.picture, brief)
        self._advance(automaton, start, Picker(self.config, seed), moment.expected, until_head=False)
        return self._read_answer(automaton, moment)

    def read(
        self,
        scene: LayeredScene,
        prompt: str,
        picture: np.ndarray | None = None,
        brief: Sequence[Item] | None = None,
    ) -> Cursor:
        """Instruction, prompt, its brief, objects so far (what is new of them) and layout picture (or another one).

        Args:
            picture: uint8 (H, W, 3) to see instead of the scene's own layout; None = its own.
            brief: what the prompt asks for, of weights that know briefs; None = the model's own words for it.
        """
        if self.brief and brief is None:
            brief = self.written_brief(prompt)
        answers = scene_answers(scene, self.fixed_descriptions)
        pieces = self.encoder.chunks(prompt, [*answers.values()], brief)
        labels = [layer.label for layer in scene.layers]
        ends = [self._after(brief, labels[:count]) for count in (*answers, len(labels))]
        tails = [0] * (len(pieces) - len(ends)) + [len(end) for end in ends]
        seen = layout_picture(scene.layout) if picture is None else picture
        return self.prefix.read(pieces, ends[-1], pixel_values(seen, self.vision)[None], tails[:-1])

    def _after(self, brief: Sequence[Item] | None, placed: Sequence[str]) -> list[int]:
        """What follows the list once these objects stand: the picture, and what of the brief is left."""
        return [*self.encoder.picture, *(self.encoder.left(brief, placed) if brief is not None else ())]

    def written_brief(self, prompt: str) -> tuple[Item, ...]:
        """What the model itself says that a prompt asks for; kept, for the next step asks again."""
        if prompt not in self._briefs:
            start = self.prefix.read(self.encoder.chunks(prompt, []))
            automaton, cursor = BriefAutomaton(self.tokens), self.prefix.feed(start, self.encoder.brief_opening)
            while not automaton.done:
                allowed = automaton.allowed()
                scores = self.prefix.scores(cursor, allowed).clone()
                if self.tokens.end in allowed:
                    scores[allowed.index(self.tokens.end)] -= FORGETTING
                token = allowed[int(scores.argmax())]
                automaton.advance(token)
                if not automaton.done:
                    cursor = self.prefix.follow(cursor, [token])
            self._briefs[prompt] = completed(automaton.items)
        return self._briefs[prompt]

    def _automaton(self, scene: LayeredScene, labels: Iterable[str], allow_stop: bool) -> AnswerAutomaton:
        there = dict.fromkeys(layer.label for layer in scene.layers if layer.box is not None)
        partners = [label for label in there if label in self.tokens.label_paths] if self.links else []
        links = [(word, label) for label in partners if label not in self.reader.surfaces for word in LINKS]
        most, plain = self.config.max_description_tokens, self.fixed_descriptions.keys()
        return AnswerAutomaton(self.tokens, labels, allow_stop, most, plain, links, self.boxes)

    def _choose(self, start: Cursor, moment: Moment, pick: Picker) -> tuple[AnswerAutomaton | None, Cursor, list[str]]:
        """Label or stop, after all guards. None = a guard says stop."""

        def ask(labels: Sequence[str], allow_stop: bool) -> tuple[str | None, tuple[AnswerAutomaton, Cursor]]:
            automaton = self._automaton(moment.scene, labels, allow_stop)
            cursor = self._advance(automaton, start, pick, moment.expected, until_head=True)
            return automaton.label, (automaton, cursor)

        reply, notes = settle(moment.situation.state, self.config.guards, self.config.max_rulings, ask)
        return (*reply, notes) if reply is not None else (None, start, notes)

    def _read_answer(self, automaton: AnswerAutomaton, moment: Moment) -> tuple[Answer, Box]:
        """The parsed answer and its box in canvas pixels: the place head's, or the one that is written."""
        answer = parse_answer(self.encoder.decode(automaton.ids), self.vocabulary.labels)
        if answer.stop or (answer.cells is None and self.placer is None):
            raise ModelError(f"planner answered {answer.line()!r} where an object with a box was due")
        if answer.cells is None or self._pointed(answer.label):
            return answer, next(self._draws(answer, moment, self.config.box_spread, self.config.box_draws))
        return answer, cells_to_box(answer.cells, moment.scene.size)

    def _pointed(self, label: str) -> bool:
        """Whether the place head decides. A head beside a model that writes boxes has learned from dialogues, which add
        no surfaces."""
        return self.placer is not None and (self.boxes == "pointed" or label not in self.reader.surfaces)

    def _draws(self, answer: Answer, moment: Moment, top_p: float, draws: int = 1) -> Iterator[Box]:
        """Boxes for an answer, from the place head, without end. Where it states no relation, one that the prompt asks
        for and whose partner stands there counts; the others are wishes, and so is room for what is to stand beside."""
        assert self.placer is not None
        answer, wishes = moment.wishes(answer, room=self.links)
        if self.placer.head.config.said and answer.description is None:  # as `places_train.spoken_examples`
            answer = answer.model_copy(update={"description": self.fixed_descriptions.get(answer.label)})
        sought = Sought(moment.picture, answer, said_about(moment.situation.text, answer.label, self.vocabulary))
        generator = torch_generator(moment.seed.derive("planner", "box"))
        return self.placer.boxes(sought, moment.scene.size, generator, top_p, draws, wishes)

    def _once_more(self, scene: LayeredScene, answer: Answer) -> AnswerAutomaton:
        """For an answer of the same label and relation."""
        automaton = self._automaton(scene, [answer.label], False)
        automaton.limit_links([answer.link] if answer.link else [])
        return automaton

    def _coloured(
        self, start: Cursor, moment: Moment, answer: Answer, box: Box, colour: str, pick: Picker
    ) -> tuple[Answer, Box]:
        """The same label, relation and box in words that begin with a colour ("a red ..."). The model goes on from
        there, unless the label always had one description: then it has learned no words for it."""
        words = self.vocabulary.with_article(answer.label, f"{colour} {answer.label}")
        if answer.label in self.fixed_descriptions:
            return answer.model_copy(update={"description": words}), box
        automaton = self._once_more(moment.scene, answer)
        automaton.box = answer.cells
        automaton.opening = self.tokens.encode(f" {words.removesuffix(f' {answer.label}')}", SEPARATOR)
        self._advance(automaton, start, pick, moment.expected, until_head=False)
        return self._read_answer(automaton, moment)

    def _elsewhere(
        self, start: Cursor, moment: Moment, answer: Answer, box: Box, twins: Sequence[Box]
    ) -> tuple[Answer, Box]:
        """The same label at the unlikelier ends of its distribution across the canvas, least on top of its twins."""

        def overlap(found: Box) -> float:
            return max(found.iou(twin) for twin in twins)

        if self._pointed(answer.label):
            draws = islice(self._draws(answer, moment, OTHER_TOP_P), OTHER_PLACES)
            return answer, min((box, *draws), key=overlap)
        best = (overlap(box), answer, box)
        for across in ELSEWHERE:
            automaton = self._once_more(moment.scene, answer)
            pick = Picker(self.config, moment.seed, quantiles=(across, 0.5, 0.5, 0.5))
            self._advance(automaton, start, pick, moment.expected, until_head=False)
            again, moved = self._read_answer(automaton, moment)
            if overlap(moved) < best[0]:
                best = (overlap(moved), again, moved)
            if not too_close(moved, twins, self.config.guards):
                break
        return best[1], best[2]

    def _advance(
        self, automaton: AnswerAutomaton, cursor: Cursor, pick: Picker, expected: Expected, *, until_head: bool
    ) -> Cursor:
        """Decode until the label stands, or to the end; tokens without a choice are fed together, not decoded, and with
        them a guess of what comes next."""
        pending, confidence = list(cursor.pending), cursor.confidence
        while not automaton.done and not (until_head and automaton.head_done):
            allowed = automaton.allowed()
            if len(allowed) == 1:
                token = allowed[0]
            else:
                if pending:
                    cursor = self.prefix.follow(cursor, pending, partial(self.drafts.after, automaton, expected))
                    pending = []
                scores = self.prefix.scores(cursor, allowed)
                token = pick(scores, allowed, automaton.box_digit)
                if not automaton.head_done:
                    confidence *= float(scores.double().softmax(0)[allowed.index(token)])
            automaton.advance(token)
            pending.append(token)
        return replace(cursor, pending=tuple(pending), confidence=confidence)

    def free_answer(self, scene: LayeredScene, prompt: str, max_tokens: int) -> str:
        """The likeliest answer line without grammar, guards or label set: what the model alone would say."""
        cursor = self.read(scene, prompt)
        everything = range(self.llava.lm_head.weight.shape[0])
        ids: list[int] = []
        while len(ids) < max_tokens:
            token = int(self.prefix.scores(cursor, everything).argmax())
            if token == self.tokens.end:
                return self.encoder.decode(ids)
            ids.append(token)
            cursor = self.prefix.feed(cursor, [token])
        return self.encoder.decode(ids)


__all__ = ["LlavaPlanner", "PlannerConfig"]
