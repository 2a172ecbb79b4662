"""What the planner is tried on, a row a trial: single proposals on real scenes, and roll-outs from empty canvases."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.baselines import Propose
from planner.examples import Plan, PlanSource, choose_steps
from planner.grammar import parse_answer
from planner.llava_planner import LlavaPlanner
from planner.measures import attributes_hold, case_scores, invented, mean, placed_of, plausible, stop_truth
from planner.pictures import layout_steps
from planner.prompt_sets import PromptCase
from scene.corpus.records import SceneRecord
from scene.corpus.store import Corpus
from scene.errors import ModelError
from scene.geometry import Box, Size
from scene.layers import Layer, LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed, derive_seed

PICTURE_SHARE = 4  # one in so many single proposals is measured with other pictures, too
FREE_SHARE = 10
MAX_ROLLOUT_STEPS = 24
FREE_ANSWER_TOKENS = 40
Row = dict[str, Any]


def center_error(one: Box, two: Box, size: Size) -> float:
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
    return round(sum(recalls) / 2, 4)


def box_scene(size: Size, prompt: str, proposals: Sequence[Proposal]) -> LayeredScene:
    """Proposals as layers with box-shaped masks."""
    layers = []
    for number, proposal in enumerate(proposals):
        mask = np.zeros(size.shape, dtype=bool)
        box = proposal.box or Box(0, 0, *size)
        mask[box.y0 : box.y1, box.x0 : box.x1] = True
        layers.append(Layer(number + 1, proposal.label, proposal.description, mask))
    return LayeredScene(size, prompt, tuple(layers))


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


@dataclass(frozen=True)
class Singles:
    """Measures single proposals on the scenes of a corpus.

    Attributes:
        planner: without guards.
        source: held-out scenes.
        rooms: room -> 10th and 90th percentile of its scenes' lengths.
        seed: draws scenes, prompts and k.
    """

    planner: LlavaPlanner
    source: PlanSource
    rooms: Mapping[str, tuple[float, float]]
    seed: int

    def measure(self, number: int) -> Row:
        """One row; what was not measured is absent."""
        record, plan, rng = self.source.sampled(number, self.seed)
        k = choose_steps(len(plan.objects), 1, rng)[0]
        scene = prefix_scene(self.source.corpus, record, plan, k)
        started = time.perf_counter()
        try:
            proposal = self.planner.propose(scene, plan.prompt, seed=StepSeed(self.seed, number))
        except ModelError:
            return {"valid": False}
        row: Row = {"valid": True, "seconds": time.perf_counter() - started, "said_stop": proposal.stop}
        last = k >= len(plan.objects)
        wanted = self.source.corpus.vocabulary.counts(plan.prompt)
        labels = [layer.label for layer in scene.layers]
        stand = all(labels.count(label) >= count for label, count in wanted.items())
        row["stop_due"] = stop_truth(stand, k, *self.rooms[room_of(record)], last)
        row["scene_ends"] = last
        if not last and not proposal.stop:
            row |= self._object(proposal, plan, k)
        if number % FREE_SHARE == 0:
            row["valid_free"] = parses_freely(self.planner, scene, plan.prompt)
        if number % PICTURE_SHARE == 0 and not last and k >= 2:
            row |= self._pictures(scene, plan, k, number)
        return row

    def _object(self, proposal: Proposal, plan: Plan, k: int) -> Row:
        same = [item for item in plan.objects[k:] if item.label == proposal.label]
        row: Row = {"label_next": proposal.label == plan.objects[k].label, "label_later": bool(same)}
        if same and proposal.box is not None:
            errors = [center_error(proposal.box, item.box, plan.size) for item in same]
            best = int(np.argmin(errors))
            row |= {"box_error": errors[best], "box_iou": proposal.box.iou(same[best].box)}
        return row

    def _pictures(self, scene: LayeredScene, plan: Plan, k: int, number: int) -> Row:
        """Centre error of the true next label's box under the scene's own picture, another scene's, an empty one."""
        target, size = plan.objects[k], plan.size
        other = random.Random(derive_seed(self.seed, "other picture", number)).choice(
            [record for record in self.source.records if record.id != plan.scene_id]
        )
        steps = list(layout_steps(self.source.corpus, other.layers))
        pictures = {
            "own": None,
            "shuffled": steps[min(k, len(steps) - 1)],
            "empty": np.full((*size.shape, 3), 255, dtype=np.uint8),
        }
        found: Row = {}
        for name, picture in pictures.items():
            box = self.planner.place(
                scene, plan.prompt, target.label, seed=StepSeed(self.seed, number), picture=picture
            )
            found[f"error_{name}"] = center_error(box, target.box, size)
        return found


def room_of(record: SceneRecord) -> str:
    """ "living_room" of "living_room/dining"."""
    return record.recipe.split("/")[0]


def prefix_scene(corpus: Corpus, record: SceneRecord, plan: Plan, k: int) -> LayeredScene:
    """The scene of the plan's first k objects with their real masks; pixels are not needed."""
    layers = [record.layers[position] for position in plan.layers[:k]]
    found = [Layer(n + 1, layer.label, layer.description, corpus.mask(layer)) for n, layer in enumerate(layers)]
    return LayeredScene(corpus.size, plan.prompt, tuple(found))


def parses_freely(planner: LlavaPlanner, scene: LayeredScene, prompt: str) -> bool:
    """Whether the likeliest answer follows the grammar when nothing holds it there."""
    try:
        parse_answer(planner.free_answer(scene, prompt, FREE_ANSWER_TOKENS), planner.vocabulary.labels)
    except ModelError:
        return False
    return True


def singles_report(rows: Sequence[Row]) -> Row:
    """Shares and means over rows of `Singles`."""

    def of(key: str) -> list[Any]:
        return [row[key] for row in rows if row.get(key) is not None]

    due = [(row["stop_due"], row["said_stop"]) for row in rows if row.get("stop_due") is not None]
    report: Row = {
        "valid": mean(of("valid")),
        "valid_free": mean(of("valid_free")),
        "stop_balanced_accuracy": balanced_accuracy(due),
        "stop_precision": mean([truth for truth, said in due if said]),
        "stop_recall": mean([said for truth, said in due if truth]),
        "stop_as_the_scene": balanced_accuracy(
            (row["scene_ends"], row["said_stop"]) for row in rows if "scene_ends" in row
        ),
        "label_next": mean(of("label_next")),
        "label_later": mean(of("label_later")),
        "box_center_error": mean(of("box_error")),
        "box_iou": mean(of("box_iou")),
        "seconds_per_proposal": mean(of("seconds")),
        "n_pictures": len(of("error_own")),
    }
    own = mean(of("error_own"))
    if own:
        for name in ("own", "shuffled", "empty"):
            report[f"box_center_error_{name}_picture"] = mean(of(f"error_{name}"))
        for name in ("shuffled", "empty"):
            report[f"{name}_picture_worsens"] = round(report[f"box_center_error_{name}_picture"] / own - 1, 4)
    return report


@dataclass(frozen=True)
class Rollouts:
    """Measures whole plans.

    Attributes:
        surfaces: labels that carry scenes.
        together: label -> labels of held-out scenes that hold it.
        seed: of every roll-out.
    """

    surfaces: Sequence[str]
    together: Mapping[str, Iterable[str]]
    seed: int

    def measure(self, propose: Propose, case: PromptCase) -> Row:
        """Scores of one prompt, item by item."""
        proposals, stopped = roll_out(propose, case.size, case.prompt, self.seed)
        labels = [proposal.label for proposal in proposals]
        row = self.scored(case, labels, placed_of(proposals, case.size), stopped)
        return row | {"attributes": attributes_hold(case, [(each.label, each.description) for each in proposals])}

    def truth(self, case: PromptCase) -> Row:
        """The same scores of a person's own layout."""
        return self.scored(case, [label for label, _ in case.truth], list(case.truth), True)

    def scored(self, case: PromptCase, labels: list[str], placed: list[tuple[str, Box]], stopped: bool) -> Row:
        """See `planner.measures.case_scores`; also invented objects that are plausible, and the length."""
        row: Row = dict(case_scores(case, placed, self.surfaces))
        others = [label for label in labels if label not in self.surfaces]
        together = {label: list(found) for label, found in self.together.items()}
        row["plausible"] = [plausible(label, others, together) for label in invented(case, labels, self.surfaces)]
        return row | {"stopped": [stopped], "length": len(labels), "labels": labels}
