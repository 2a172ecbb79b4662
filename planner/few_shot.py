"""The untuned base model as a planner, taught by worked examples in its prompt: a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from planner.decoding import PlannerConfig
from planner.examples import PlanSource, plan_answers
from planner.guards import GuardConfig
from planner.llava_planner import LlavaPlanner
from planner.prefix import Cursor
from planner.prompt import START_ID, scene_answers

if TYPE_CHECKING:
    import numpy as np

    from planner.brief import Item
    from scene.corpus.store import Corpus
    from scene.layers import LayeredScene

SHOTS = 4
TASK = (
    "You plan pictures. Given a scene, list its objects one a line, from the back to the front, each as\n"
    "label | x0y0x1y1 | description, where the corners of its box are per cent of the picture with two digits each.\n"
    "Name everything that the scene asks for, in the right number and place, add little else, then write stop.\n\n"
)


class FewShotPlanner(LlavaPlanner):
    """SmolLM2 without adapters, reading `SHOTS` worked training scenes. It gets no picture (its tower is untrained),
    but its list tells every box; answers are bound to the same grammar, and no guard helps."""

    shots: tuple[int, ...] = ()

    @classmethod
    def from_corpus(cls, tuned: LlavaPlanner, corpus: Corpus, prompts: Sequence[int] = (0, 1, 2, 3)) -> Self:
        """The base model beside a tuned planner of the same world; examples are short training scenes of four prompt
        styles."""
        from planner.language_model import load_tokenizer, prepare
        from planner.llava import load_base
        from runtime.half_linear import half_linears

        llava = load_base(tuned.vision).requires_grad_(False)
        half_linears(llava.model.language_model.layers)
        config = PlannerConfig(guards=GuardConfig(enabled=False))
        planner = cls(llava, load_tokenizer(prepare()), tuned.vision, corpus.vocabulary, {}, config)
        planner.teach(corpus, prompts)
        return planner

    def teach(self, corpus: Corpus, prompts: Sequence[int] = (0, 1, 2, 3)) -> None:
        """Write the worked examples: four of the shorter training scenes, each with another style of prompt."""
        source = PlanSource(corpus, "train")
        records = sorted(source.records, key=lambda record: (len(record.layers), record.id))
        chosen = [records[len(records) // 4 + 7 * number] for number in range(min(SHOTS, len(records) // 16 or 1))]
        text = TASK
        for number, record in enumerate(chosen):
            prompt = record.prompts[prompts[number] % len(record.prompts)]
            lines = [answer.line() for answer in plan_answers(source.plan(record, prompt), {})]
            text += f"Scene: {prompt}\n" + "\n".join(lines) + "\n\n"
        self.shots = (START_ID, *self.encoder.plain(text))

    def read(
        self,
        scene: LayeredScene,
        prompt: str,
        picture: np.ndarray | None = None,
        brief: Sequence[Item] | None = None,
    ) -> Cursor:
        """Task and examples (read once), the prompt, and the list; no picture."""
        lines = [self.encoder.line(answer) for answer in scene_answers(scene, {}).values()]
        head = self.encoder.plain(f"Scene: {' '.join(prompt.split())}\n")
        return self.prefix.read([self.shots, head, *lines])
