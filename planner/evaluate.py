"""How good the planner is on held-out scenes and prompts: `smartscene evaluate planner`.

*Single proposals*: the first k layers of a real scene are given, the model proposes once, unguarded; measured are form,
the decision to stop, the label, and the box against the scene's own next object, with the scene's layout picture, an
empty one and another scene's. *Roll-outs*: from an empty canvas to stop, with guards and without; placed objects get
box-shaped masks, since the masker is not part of this. What is done is kept in the cache folder: an interrupted
evaluation goes on.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from planner.baselines import Propose, common_ground, frequency_propose, mean_boxes, regex_propose, surfaces_of
from planner.decoding import PlannerConfig
from planner.examples import Plan, PlanSource, choose_steps
from planner.few_shot import FewShotPlanner
from planner.grammar import parse_answer
from planner.guards import GuardConfig
from planner.llava_planner import LlavaPlanner
from planner.measures import (
    case_scores,
    co_occurrence,
    invented,
    mean,
    placed_of,
    plausible,
    room_percentiles,
    stop_truth,
    summary,
)
from planner.pictures import layout_steps
from planner.prompt_sets import Mention, PromptCase, PromptSet, plain_case, read_prompts
from runtime.files import sha256_of
from runtime.weights import cache_dir
from scene.corpus.records import SceneRecord
from scene.corpus.store import Corpus
from scene.errors import ModelError, UserError
from scene.geometry import Box, Size
from scene.layers import Layer, LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed, derive_seed

ROLLOUT_SHARE = 20  # one roll-out of each kind for this many single proposals: it takes about eleven
PICTURE_SHARE = 4  # one in so many single proposals is measured with other pictures, too
FREE_SHARE = 10
MAX_ROLLOUT_STEPS = 24
FREE_ANSWER_TOKENS = 40
HELD_OUT = Path(__file__).parent / "data" / "held_out"
Row = dict[str, Any]
Show = Callable[[Iterable[Any]], Iterable[Any]]


class ResultLog:
    """Rows of an evaluation by key, on disk as they come, so that the same evaluation never measures one twice.

    Args:
        name: what is evaluated: weights, data, seed. Another name is another evaluation.
        folder: where logs lie.
    """

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.jsonl"
        self.rows: dict[str, Row] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else ():
            try:
                key, row = json.loads(line)
            except ValueError:
                continue  # the process was killed while it wrote this line
            self.rows[key] = row

    def once(self, key: str, measure: Callable[[], Row]) -> Row:
        """The row of a key, measured now unless it was before."""
        if key not in self.rows:
            self.rows[key] = measure()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, self.rows[key]]) + "\n")
        return self.rows[key]


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
        return self.scored(case, [proposal.label for proposal in proposals], placed_of(proposals, case.size), stopped)

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


def corpus_prompts(source: PlanSource, count: int, seed: int) -> PromptSet:
    """Prompts of held-out scenes that the vocabulary can read, with the scene's own layout as truth."""
    vocabulary, unknown = source.corpus.vocabulary, 0
    cases: list[PromptCase] = []
    for number in range(8 * count):
        if len(cases) == count:
            break
        rng = random.Random(derive_seed(seed, "rollout", number))
        record = source.records[rng.randrange(len(source.records))]
        prompt = rng.choice(record.prompts)
        case = plain_case(f"{record.id}/{number}", prompt, vocabulary)
        counts = vocabulary.counts(prompt)
        if case is None and not counts:
            unknown += 1
            continue
        objects = case.objects if case else tuple(Mention((label,), n, exact=True) for label, n in counts.items())
        plan = source.plan(record, prompt)
        truth = tuple((item.label, item.box) for item in plan.objects)
        relations = case.relations if case else ()
        cases.append(PromptCase(f"{record.id}/{number}", prompt, objects, relations, plan.size, truth))
    return PromptSet("corpus", tuple(cases), unknown)


def split_data(data: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Corpus folders and prompt files among `--data`."""
    return [path for path in data if not path.is_file()], [path for path in data if path.is_file()]


def evaluate(
    pretrained: Path,
    *,
    data: Sequence[Path],
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
    progress: bool = True,
    base_model: bool = True,
) -> dict[str, Any]:
    """Measure a planner folder.

    Args:
        pretrained: weight folder.
        data: one corpus folder, and any number of prompt files (`planner.prompt_sets.read_prompts`), which are then
            rolled out in full (or up to `limit`). Without a file, home's `held_out/home_dev.jsonl` is read.
        split: train, val, test or all.
        limit: number of single proposals (default 200), and a twentieth as many roll-outs of each kind on each set.
        seed: draws scenes, prompts and k.
        progress: draw bars on stderr.
        base_model: also roll out the untuned base model.

    Returns:
        The report; keys as in docs/planner.md. What was not measured is absent.
    """
    from tqdm import tqdm

    started, count = time.perf_counter(), limit or 200
    folders, files = split_data(data)
    corpus = Corpus.only(folders)
    source = PlanSource(corpus, split)
    tuned = LlavaPlanner.from_pretrained(pretrained)
    raw = tuned.with_config(PlannerConfig(guards=GuardConfig(enabled=False)))
    marks = [sha256_of(path) for path in sorted(pretrained.rglob("*.safetensors"))]
    log = ResultLog(json.dumps([*marks, str(corpus.path), split, seed, _code_mark()]), cache_dir() / "evaluate-planner")

    def show(items: Iterable[Any], name: str = "") -> Iterable[Any]:
        return tqdm(items, desc=name, disable=not progress)

    lengths: dict[str, list[int]] = {}
    for record in corpus.records("train"):
        lengths.setdefault(room_of(record), []).append(len(record.layers))
    rooms = room_percentiles(lengths)
    singles = Singles(raw, source, rooms, seed)
    rows = [log.once(f"single/{n}", lambda n=n: singles.measure(n)) for n in show(range(count), "proposals")]  # type: ignore[misc]

    share = max(5, count // ROLLOUT_SHARE)
    sets = [_head(read_prompts(file, corpus.vocabulary), limit) for file in files]
    if not files and (HELD_OUT / f"{corpus.name}_dev.jsonl").is_file():
        sets.append(_head(read_prompts(HELD_OUT / f"{corpus.name}_dev.jsonl", corpus.vocabulary), share))
    sets.append(corpus_prompts(source, share, seed))
    surfaces = surfaces_of(corpus.vocabulary)
    rollouts = Rollouts(surfaces, co_occurrence({la.label for la in r.layers} for r in source.records), seed)

    def run(name: str, propose: Propose | None) -> Row:
        found = {}
        for each in sets:
            cases = [case for case in each.cases if propose is not None or case.truth]
            done = [
                log.once(f"{name}/{each.name}/{case.id}", lambda case=case: _one(rollouts, propose, case))  # type: ignore[misc]
                for case in show(cases, f"{name} on {each.name}")
            ]
            if done:
                extra = {"objects_per_scene": mean([row["length"] for row in done]), "n": len(done)}
                found[each.name] = summary(done) | extra | ({"unknown": each.unknown} if each.unknown else {})
        return found

    boxes = mean_boxes(PlanSource(corpus, "train"))
    guarded, unguarded = run("guarded", _of(tuned)), run("unguarded", _of(raw))
    others = {
        "regex_prompt": run("regex_prompt", regex_propose(corpus.vocabulary, boxes, common_ground(corpus))),
        "label_frequency": run("label_frequency", frequency_propose(corpus, boxes)),
        "ground_truth": run("ground_truth", None),
    }
    if base_model:
        others["base_few_shot"] = run("base_few_shot", _lazy(lambda: FewShotPlanner.from_corpus(tuned, corpus)))
    main = sets[0].name
    figures = {
        "corpus": corpus.name,
        "split": split,
        "n": count,
        "prompts": main,
        "n_rollouts": guarded.get(main, {}).get("n"),
        **singles_report(rows),
        **{key: value for key, value in guarded.get(main, {}).items() if key != "n"},
        **{f"{key}_unguarded": unguarded[main][key] for key in _UNGUARDED if key in unguarded.get(main, {})},
        "sets": {"guarded": guarded, "unguarded": unguarded},
        "baselines": {name: found.get(main, {}) | {"sets": found} for name, found in others.items() if found},
        "seconds": round(time.perf_counter() - started, 1),
        "command": f"smartscene evaluate planner --data {corpus.path} --split {split} --limit {count} --json",
    }
    return {key: value for key, value in figures.items() if value is not None}


_UNGUARDED = ("named_recall", "named_object_recall", "implied_recall", "count_exact", "relation_accuracy", "off_canvas")


def _one(rollouts: Rollouts, propose: Propose | None, case: PromptCase) -> Row:
    return rollouts.truth(case) if propose is None else rollouts.measure(propose, case)


def _of(planner: LlavaPlanner) -> Propose:
    return lambda scene, prompt, seed: planner.propose(scene, prompt, seed=seed)


def _lazy(make: Callable[[], LlavaPlanner]) -> Propose:
    """A planner that is built when it is first asked."""
    made: list[LlavaPlanner] = []

    def propose(scene: LayeredScene, prompt: str, seed: StepSeed) -> Proposal:
        if not made:
            made.append(make())
        return made[0].propose(scene, prompt, seed=seed)

    return propose


def _head(found: PromptSet, count: int | None) -> PromptSet:
    if not found.cases:
        raise UserError(f"the world knows the objects of no prompt in {found.name}")
    return PromptSet(found.name, found.cases[:count], found.unknown)


def _code_mark() -> str:
    """Hash of the planner's own code: rows of another version are not mixed in."""
    return hashlib.sha256(
        b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    ).hexdigest()
