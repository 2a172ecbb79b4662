"""Plans of corpus scenes, and how several samples of one are packed into one token sequence.

A `Plan` is a scene as the planner sees it: prompt, canvas, objects back to front. Each k of it is one sample: the
first k objects placed, object k + 1 (or stop) the answer. For training, several k of one scene are packed into one
token sequence (`pack`): the *trunk* (prompt and object lines, whose lines are themselves text-only answers) and one
*branch* per chosen k (picture and answer), which sees the trunk only up to line k. That equals separate samples, at a
third of the cost.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from planner.brief import Item
from planner.grammar import Answer
from planner.prompt import PlannedObject, PromptEncoder, object_answer, plain_words
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.seeds import derive_seed

if TYPE_CHECKING:
    from scene.corpus.records import LayerRecord, SceneRecord
    from scene.corpus.store import Corpus

DIALOGUE_WEIGHT = 0.6  # the human's own words come last in `prompts` and are three times as long as the others


@dataclass(frozen=True)
class Plan:
    """A scene as a sequence of proposals.

    Attributes:
        scene_id: record id.
        prompt: global prompt.
        size: canvas.
        objects: back to front; parts off the canvas are clipped away.
        layers: for each object, its position in the record's layers.
    """

    scene_id: str
    prompt: str
    size: Size
    objects: tuple[PlannedObject, ...]
    layers: tuple[int, ...]


class PlanSource:
    """Plans of a corpus split.

    Args:
        corpus: an imported corpus.
        split: train, val, test or all.
    """

    def __init__(self, corpus: Corpus, split: str) -> None:
        self.corpus = corpus
        self.records: Sequence[SceneRecord] = corpus.records(split)
        if not self.records:
            raise UserError(f"split {split!r} of corpus {corpus.name!r} has no scenes; import the corpus again")

    def box(self, layer: LayerRecord) -> Box | None:
        """Tightest box of the layer's mask on the canvas; None where it is empty."""
        return self.corpus.box(layer)

    def plan(self, record: SceneRecord, prompt: str) -> Plan:
        """The record as a plan under this prompt."""
        objects, layers = [], []
        for position, layer in enumerate(record.layers):
            box = self.box(layer)
            if box is not None:
                objects.append(PlannedObject(layer.label, layer.description, box))
                layers.append(position)
        return Plan(record.id, prompt, self.corpus.size, tuple(objects), tuple(layers))

    def described(self) -> Iterator[tuple[str, str]]:
        """Label and description of every layer of its scenes."""
        return ((layer.label, layer.description) for record in self.records for layer in record.layers)

    def sampled(self, number: int, seed: int) -> tuple[SceneRecord, Plan, random.Random]:
        """Scene and prompt of global sample `number`: every scene once per epoch, in an order shuffled per epoch."""
        epoch, index = divmod(number, len(self.records))
        order = np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(len(self.records))
        rng = random.Random(derive_seed(seed, "sample", number))
        record = self.records[int(order[index])]
        weights = [1.0] * min(3, len(record.prompts)) + [DIALOGUE_WEIGHT] * max(0, len(record.prompts) - 3)
        return record, self.plan(record, rng.choices(record.prompts, weights)[0]), rng


def fixed_descriptions(corpus: Corpus) -> dict[str, str]:
    """Labels that always come with one and the same description, which answers therefore leave out."""
    found: dict[str, set[str]] = defaultdict(set)
    for label, description in corpus.descriptions:
        found[label].add(description)
    return {label: next(iter(texts)) for label, texts in sorted(found.items()) if len(texts) == 1}


def usual_descriptions(
    described: Iterable[tuple[str, str]], fixed: Mapping[str, str], most: int = 12
) -> dict[str, tuple[str, ...]]:
    """What labels without a fixed description are often described as, the commonest first.

    Args:
        described: label and description of every object of the training scenes.
        fixed: labels left out.
        most: of a label.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label, description in described:
        if label not in fixed:
            counts[label][plain_words(description)] += 1
    ranked = {label: sorted(found, key=lambda text: (-found[text], text)) for label, found in sorted(counts.items())}
    return {label: tuple(texts[:most]) for label, texts in ranked.items()}


def plan_answers(plan: Plan, fixed: Mapping[str, str]) -> list[Answer]:
    """The answers of a plan in order, stop last."""
    answers = [object_answer(item, plan.size, fixed) for item in plan.objects]
    return [*(answer for answer in answers if answer is not None), Answer(stop=True)]


def choose_steps(count: int, branches: int, rng: random.Random) -> list[int]:
    """Which k of a plan get a branch: the stop answer in about 15 % of all branches, the easy surfaces rarely.

    Args:
        count: objects in the plan; k runs from 0 to `count` (= stop).
        branches: how many, at most count + 1.
        rng: draws without replacement.
    """
    weights = {k: 0.3 if k < 2 else 1.0 for k in range(count)} | {count: 0.45 * max(1, count) / 3}
    chosen: list[int] = []
    while weights and len(chosen) < branches:
        step = rng.choices(list(weights), list(weights.values()))[0]
        chosen.append(step)
        del weights[step]
    return sorted(chosen)


@dataclass(frozen=True)
class Packed:
    """Several samples of one scene in one token sequence of length T.

    Attributes:
        ids: int64 (T,).
        positions: int64 (T,); a branch continues counting where its part of the trunk ends.
        visible: bool (T, T); row t sees the columns that are True.
        targets: int64 (T,); the next token where it belongs to an answer, else -100.
        weights: float32 (T,); weight of each target.
        steps: the k of each branch, in the order of their pictures.
    """

    ids: np.ndarray
    positions: np.ndarray
    visible: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    steps: tuple[int, ...]


def pack(
    encoder: PromptEncoder,
    prompt: str,
    answers: Sequence[Answer],
    steps: Sequence[int],
    trunk_weight: float = 0.5,
    label_weight: float = 2.0,
    brief: Sequence[Item] | None = None,
    pictured: bool = True,
) -> Packed:
    """Pack the samples k in `steps` of one plan, and the trunk's own lines as text-only samples.

    Args:
        encoder: tokens.
        prompt: global prompt.
        answers: all answers of the plan in order, stop last.
        steps: which answers get a picture (and the line of what is left); distinct, each < len(answers).
        trunk_weight: loss weight of the text-only answers (0 = none); picture answers weigh 1.
        label_weight: further factor on tokens that decide the label or stop; the eight digits of a box would otherwise
            outweigh them.
        brief: learned after the prompt, before everything else; None = this planner has none.
        pictured: False: there are no pictures, the answers at `steps` follow the line of what is left alone.
    """
    head, lines = encoder.head(prompt), [encoder.line(answer) for answer in answers]
    briefed = encoder.brief(brief) if brief is not None else []
    if brief is not None:
        head = [*head, *encoder.brief_opening, *briefed]
    listed, labels = [encoder.listed(answer) for answer in answers], [answer.label for answer in answers]
    starts = np.cumsum([len(head), *(len(line) for line in listed)]).tolist()  # trunk length before line k
    kept = len(answers) if trunk_weight > 0 else max(steps, default=0)
    trunk = [*head, *(token for line in listed[:kept] for token in line)]
    pieces, positions, bounds = [trunk], [list(range(len(trunk)))], []
    before = [
        [*(encoder.picture if pictured else ()), *(encoder.left(brief, labels[:step]) if brief is not None else ())]
        for step in steps
    ]
    for step, shown in zip(steps, before, strict=True):
        branch = [*shown, *lines[step]]
        bounds.append((sum(len(piece) for piece in pieces), len(branch), starts[step]))
        pieces.append(branch)
        positions.append(list(range(starts[step], starts[step] + len(branch))))
    ids = np.asarray([token for piece in pieces for token in piece], dtype=np.int64)
    total = len(ids)
    visible = np.zeros((total, total), dtype=bool)
    visible[: len(trunk), : len(trunk)] = np.tri(len(trunk), dtype=bool)
    targets, weights = np.full(total, -100, dtype=np.int64), np.zeros(total, dtype=np.float32)
    heavy = [encoder.label_tokens(answer) for answer in answers]

    def emphasis(line: Sequence[int], label: int) -> list[float]:
        return [label_weight] * min(label, len(line)) + [1.0] * (len(line) - label)

    asking = len(head) - len(briefed)
    targets[asking - 1 : len(head) - 1] = ids[asking : len(head)]
    weights[asking - 1 : len(head) - 1] = 1.0
    if trunk_weight > 0 and answers:
        targets[len(head) - 1 : len(trunk) - 1] = ids[len(head) : len(trunk)]
        told = [emphasis(line, label) for line, label in zip(listed, heavy, strict=True)]
        weights[len(head) - 1 : len(trunk) - 1] = trunk_weight * np.concatenate(told)
    for step, shown, (start, length, seen) in zip(steps, before, bounds, strict=True):
        visible[start : start + length, :seen] = True
        visible[start : start + length, start : start + length] = np.tri(length, dtype=bool)
        first = start + len(shown)
        end = first + len(lines[step])
        targets[first - 1 : end - 1] = ids[first:end]
        weights[first - 1 : end - 1] = emphasis(lines[step], heavy[step])
    flat = np.asarray([position for piece in positions for position in piece], dtype=np.int64)
    return Packed(ids, flat, visible, targets, weights, tuple(steps))
