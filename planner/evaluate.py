"""How good the planner is on held-out scenes: `smartscene evaluate planner`.

Two measurements. *Single proposals*: the first k layers of a real scene are given, the model proposes once, unguarded;
measured are form, the decision to stop, the label, and the box against the scene's own next object. *Roll-outs*: from
an empty canvas to stop, with guards and without; placed objects get box-shaped masks, since the masker is not part of
this.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from planner.decoding import PlannerConfig
from planner.examples import Plan, PlanSource, choose_steps
from planner.grammar import parse_answer
from planner.guards import GuardConfig
from planner.llava_planner import LlavaPlanner
from scene.corpus.store import Corpus
from scene.errors import ModelError
from scene.geometry import Box, Size
from scene.layers import Layer, LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed, derive_seed
from scene.vocabulary import Vocabulary

ROLLOUT_SHARE = 10  # one roll-out pair for this many single proposals: a pair takes about sixteen
MAX_ROLLOUT_STEPS = 20
FREE_ANSWER_TOKENS = 32


@dataclass
class Tally:
    """Counts of single proposals."""

    valid: list[bool] = field(default_factory=list)
    valid_free: list[bool] = field(default_factory=list)
    stops: list[tuple[bool, bool]] = field(default_factory=list)
    label_next: list[bool] = field(default_factory=list)
    label_later: list[bool] = field(default_factory=list)
    box_error: list[float] = field(default_factory=list)
    box_iou: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, proposal: Proposal, plan: Plan, k: int) -> None:
        """Compare one proposal with the plan's object k (stop after the last)."""
        due = k >= len(plan.objects)
        self.stops.append((due, proposal.stop))
        if due or proposal.stop:
            return
        self.label_next.append(proposal.label == plan.objects[k].label)
        same = [item for item in plan.objects[k:] if item.label == proposal.label]
        self.label_later.append(bool(same))
        if same and proposal.box is not None:
            size = plan.size
            errors = [_center_error(proposal.box, item.box, size) for item in same]
            best = int(np.argmin(errors))
            self.box_error.append(errors[best])
            self.box_iou.append(proposal.box.iou(same[best].box))


def _center_error(one: Box, two: Box, size: Size) -> float:
    """Distance of the centres as a share of the canvas diagonal."""
    (x0, y0), (x1, y1) = one.center, two.center
    return float(np.hypot(x0 - x1, y0 - y1) / np.hypot(*size))


def balanced_accuracy(pairs: Iterable[tuple[bool, bool]]) -> float | None:
    """Mean of the recalls of stop and go on; None unless both occur. Pairs are (due, said)."""
    rows = list(pairs)
    recalls = []
    for due in (True, False):
        said = [answer == due for truth, answer in rows if truth == due]
        if not said:
            return None
        recalls.append(sum(said) / len(said))
    return sum(recalls) / 2


def named_placed(wanted: Mapping[str, int], placed: Sequence[str]) -> bool:
    """Every label that the prompt names is there, as often as it says."""
    counts = Counter(placed)
    return all(counts[label] >= count for label, count in wanted.items())


def box_scene(size: Size, prompt: str, proposals: Sequence[Proposal]) -> LayeredScene:
    """Proposals as layers with box-shaped masks."""
    layers = []
    for number, proposal in enumerate(proposals):
        mask = np.zeros(size.shape, dtype=bool)
        box = proposal.box or Box(0, 0, *size)
        mask[box.y0 : box.y1, box.x0 : box.x1] = True
        layers.append(Layer(number + 1, proposal.label, proposal.description, mask))
    return LayeredScene(size, prompt, tuple(layers))


Propose = Callable[[LayeredScene, str, StepSeed], Proposal]


def roll_out(propose: Propose, size: Size, prompt: str, seed: int) -> tuple[list[Proposal], bool]:
    """From an empty canvas until stop, an unusable answer, or `MAX_ROLLOUT_STEPS`.

    Returns:
        the proposals without the stop, and whether it stopped by itself.
    """
    done: list[Proposal] = []
    for step in range(MAX_ROLLOUT_STEPS):
        try:
            proposal = propose(box_scene(size, prompt, done), prompt, StepSeed(seed, step))
        except ModelError:
            return done, False
        if proposal.stop:
            return done, True
        done.append(proposal)
    return done, False


def regex_propose(vocabulary: Vocabulary, boxes: Mapping[str, Box]) -> Propose:
    """Baseline `regex_prompt`: surfaces, then what the prompt names in world order, each in its label's mean box."""
    surfaces = [label for label in vocabulary.labels if vocabulary.kind(label) == "surface"]

    def propose(scene: LayeredScene, prompt: str, seed: StepSeed) -> Proposal:
        wanted = dict.fromkeys(surfaces, 1) | vocabulary.counts(prompt)
        placed = Counter(layer.label for layer in scene.layers)
        for label in sorted(wanted, key=vocabulary.labels.index):
            if placed[label] < wanted[label]:
                return Proposal(label, vocabulary.with_article(label), boxes.get(label, Box(0, 0, *scene.size)))
        return Proposal(stop=True)

    return propose


def frequency_propose(corpus: Corpus, boxes: Mapping[str, Box]) -> Propose:
    """Baseline `label_frequency`: the prompt unread; most frequent labels of the training scenes, mean scene length."""
    records = corpus.records("train")
    counts = Counter(layer.label for record in records for layer in record.layers)
    length = round(sum(len(record.layers) for record in records) / len(records))
    order = [label for label, _ in counts.most_common(length)]
    order.sort(key=lambda label: corpus.vocabulary.kind(label) != "surface")

    def propose(scene: LayeredScene, prompt: str, seed: StepSeed) -> Proposal:
        if len(scene.layers) >= length:
            return Proposal(stop=True)
        label = order[len(scene.layers)]
        return Proposal(label, corpus.vocabulary.with_article(label), boxes[label])

    return propose


def mean_boxes(source: PlanSource, limit: int = 2000) -> dict[str, Box]:
    """Mean box of every label over the first `limit` scenes."""
    found: dict[str, list[Box]] = {}
    for record in source.records[:limit]:
        for item in source.plan(record, "").objects:
            found.setdefault(item.label, []).append(item.box)
    return {label: Box(*np.asarray(boxes).mean(0).round().astype(int).tolist()) for label, boxes in found.items()}


def single_proposals(
    planner: LlavaPlanner, source: PlanSource, count: int, seed: int, show: Callable[[Iterable[int]], Iterable[int]]
) -> Tally:
    """`count` unguarded proposals on held-out scenes, each at one k drawn as in training."""
    tally = Tally()
    for number in show(range(count)):
        record, plan, rng = source.sampled(number, seed)
        k = choose_steps(len(plan.objects), 1, rng)[0]
        scene = _prefix(source.corpus, record, plan, k)
        started = time.perf_counter()
        try:
            proposal = planner.propose(scene, plan.prompt, seed=StepSeed(seed, number))
            tally.valid.append(True)
        except ModelError:
            tally.valid.append(False)
            continue
        tally.seconds.append(time.perf_counter() - started)
        tally.add(proposal, plan, k)
        if number % ROLLOUT_SHARE == 0:
            tally.valid_free.append(parses_freely(planner, scene, plan.prompt))
    return tally


def _prefix(corpus: Corpus, record: Any, plan: Plan, k: int) -> LayeredScene:
    """The scene of the plan's first k objects with their real masks; pixels are not needed."""
    layers = [record.layers[position] for position in plan.layers[:k]]
    return LayeredScene(
        corpus.size,
        plan.prompt,
        tuple(
            Layer(number + 1, layer.label, layer.description, corpus.mask(layer)) for number, layer in enumerate(layers)
        ),
    )


def parses_freely(planner: LlavaPlanner, scene: LayeredScene, prompt: str) -> bool:
    """Whether the likeliest answer follows the grammar when nothing holds it there."""
    try:
        parse_answer(planner.free_answer(scene, prompt, FREE_ANSWER_TOKENS), planner.vocabulary.labels)
    except ModelError:
        return False
    return True


def _rollout_report(
    propose: Propose, vocabulary: Vocabulary, size: Size, prompts: Sequence[str], seed: int
) -> dict[str, Any]:
    complete, exact, stopped, lengths = [], [], [], []
    for prompt in prompts:
        proposals, stop = roll_out(propose, size, prompt, seed)
        placed = [proposal.label for proposal in proposals]
        wanted = vocabulary.counts(prompt)
        counts = Counter(placed)
        complete.append(named_placed(wanted, placed))
        exact.append(all(counts[label] == count for label, count in wanted.items()))
        stopped.append(stop)
        lengths.append(len(placed))
    return {
        "named_recall": _mean(complete),
        "count_exact": _mean(exact),
        "stopped": _mean(stopped),
        "objects_per_scene": _mean(lengths),
    }


def _mean(values: Sequence[float | bool]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def evaluate(
    pretrained: Path,
    *,
    data: Sequence[Path],
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure a planner folder.

    Args:
        pretrained: weight folder.
        data: corpus folder; just one.
        split: train, val, test or all.
        limit: number of single proposals (default 200); a tenth as many roll-outs with guards, and without.
        seed: draws scenes, prompts and k.
        progress: draw bars on stderr.

    Returns:
        The report; keys as in docs/planner.md. What was not measured is absent.
    """
    from tqdm import tqdm

    started = time.perf_counter()
    count = limit or 200
    corpus = Corpus.only(data)
    source = PlanSource(corpus, split)
    guarded = LlavaPlanner.from_pretrained(pretrained)
    raw = guarded.with_config(PlannerConfig(guards=GuardConfig(enabled=False)))

    def show(numbers: Iterable[Any]) -> Iterable[Any]:
        return tqdm(numbers, disable=not progress)

    tally = single_proposals(raw, source, count, seed, show)
    prompts = []
    for number in range(max(1, count // ROLLOUT_SHARE)):
        rng = random.Random(derive_seed(seed, "rollout", number))
        record = source.records[rng.randrange(len(source.records))]
        prompts.append(rng.choice(record.prompts))
    named = [prompt for prompt in prompts if corpus.vocabulary.counts(prompt)]

    def report(propose: Propose) -> dict[str, Any]:
        return _rollout_report(propose, corpus.vocabulary, corpus.size, named, seed)

    def of(planner: LlavaPlanner) -> Propose:
        bar = tqdm(total=None, disable=not progress, unit="proposal")

        def propose(scene: LayeredScene, prompt: str, step: StepSeed) -> Proposal:
            bar.update()
            return planner.propose(scene, prompt, seed=step)

        return propose

    boxes = mean_boxes(PlanSource(corpus, "train"))
    with_guards, without = report(of(guarded)), report(of(raw))
    figures = {
        "corpus": corpus.name,
        "split": split,
        "n": count,
        "n_rollouts": len(named),
        "valid": _mean(tally.valid),
        "valid_free": _mean(tally.valid_free),
        "named_recall": with_guards["named_recall"],
        "named_recall_unguarded": without["named_recall"],
        "count_exact": with_guards["count_exact"],
        "stopped": with_guards["stopped"],
        "objects_per_scene": with_guards["objects_per_scene"],
        "stop_balanced_accuracy": balanced_accuracy(tally.stops),
        "label_next": _mean(tally.label_next),
        "label_later": _mean(tally.label_later),
        "box_center_error": _mean(tally.box_error),
        "box_iou": _mean(tally.box_iou),
        "seconds_per_proposal": _mean(tally.seconds),
        "baselines": {
            "regex_prompt": report(regex_propose(corpus.vocabulary, boxes)),
            "label_frequency": report(frequency_propose(corpus, boxes)),
        },
        "seconds": round(time.perf_counter() - started, 1),
        "command": f"smartscene evaluate planner --data {corpus.path} --split {split} --limit {count} --json",
    }
    return {key: value for key, value in figures.items() if value is not None}
