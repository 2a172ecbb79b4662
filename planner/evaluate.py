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
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from planner.baselines import Propose, common_ground, frequency_propose, mean_boxes, regex_propose, surfaces_of
from planner.decoding import PlannerConfig
from planner.examples import PlanSource
from planner.few_shot import FewShotPlanner
from planner.guards import GuardConfig
from planner.llava_planner import LlavaPlanner
from planner.measures import (
    co_occurrence,
    mean,
    room_percentiles,
    summary,
)
from planner.prompt_sets import Mention, PromptCase, PromptSet, plain_case, read_prompts
from planner.trials import Rollouts, Row, Singles, room_of, singles_report
from runtime.assets import cache_dir
from runtime.files import sha256_of
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.layers import LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed, derive_seed

ROLLOUT_SHARE = 20  # one roll-out of each kind for this many single proposals: it takes about eleven
MAX_NAMED = 24  # as in the presets: ten chairs are ten chairs
HELD_OUT = Path(__file__).parent / "data" / "held_out"
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
    loaded = LlavaPlanner.from_pretrained(pretrained)
    tuned = loaded.with_config(PlannerConfig(guards=GuardConfig(max_named=MAX_NAMED)))
    raw = loaded.with_config(PlannerConfig(guards=GuardConfig(enabled=False)))
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


_UNGUARDED = (
    "named_recall",
    "named_object_recall",
    "implied_recall",
    "count_exact",
    "relation_accuracy",
    "attribute_accuracy",
    "off_canvas",
)


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
