"""What keeping the prompt in the cache saves: time per proposal against scene size, ratio to a fresh full prompt.

    python -m benchmarks.planner_speed [pretrained/park/planner] [--data runs/data/park] [--repeat 3] [--threads 1]
        [--clock cpu]

Scenes of n objects are proposed to: two surfaces and seeded objects that have nothing to do with one another, under
eight prompts, 3 to 30 objects; with `--data` the first 3, 6 and 12 objects of the first validation scenes that have
more, under their own prompts. In three ways: *reuse*, as in a run (the cache holds n - 1 lines, one is new); *fresh*,
the whole prompt in one pass as a planner without a cache would do, answers written in the same way; and *token by
token*, as in a run but without guesses of how an answer goes on (`planner.drafting`). A cell is the mean over scenes of
medians over `--repeat`. tokens/s counts every token that *reuse* feeds to the model. `--clock cpu` counts processor
time instead of wall time: on a busy machine with one thread it is what an idle one would show.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from planner.decoding import PlannerConfig
from planner.drafting import Drafts
from planner.examples import PlanSource
from planner.guards import GuardConfig
from planner.llava_planner import LlavaPlanner
from planner.prefix import Cursor, PrefixCache
from planner.trials import prefix_scene
from runtime.seeding import set_threads
from scene.corpus.store import Corpus
from scene.geometry import DEFAULT_SIZE
from scene.layers import Layer, LayeredScene
from scene.seeds import StepSeed, derive_seed

SIZES = (3, 6, 12, 20, 30)
REAL_SIZES, REAL_CASES = (3, 6, 12), 24
PROMPTS = {
    "home": (
        "a scene in which many things stand around, some of them near each other",
        "a living room with a sofa, two armchairs and a floor lamp to the left of the bookcase",
        "my kitchen: fridge, stove, a wooden table with four chairs around it and a clock on the wall",
        "a quiet bedroom at night, bed, wardrobe, and a cat on the rug",
        "an office with a desk, a grey office chair and a printer on the filing cabinet",
        "a bathroom with a bathtub beside the washbasin, towels and a mirror",
        "two people having tea in the garden, with a barbecue and sun loungers nearby",
        "kids' room full of toys with a bunk bed and a blue chest of drawers under the window",
    ),
    "park": (
        "a scene in which many things stand around, some of them near each other",
        "a boy and a girl playing with a soccer ball next to a big apple tree",
        "a sunny day, girl on the right is waving, dog sits beside her",
        "a child's birthday party with balloons, a pie and a hot dog on the table",
        "a bear by the tent frightens the boy, campfire in front of it",
        "large pine tree on the left, cut off at the top, an owl sits in it",
        "rain cloud above a swing set, and nobody is there",
        "two kids in the sandbox, the boy wears a pirate hat and kicks the bucket",
    ),
}


class Counted(PrefixCache):
    """Counts what is fed to the model."""

    fed = 0

    def forward(
        self, cursor: Cursor, ids: Sequence[int], pixels: torch.Tensor | None = None, **image: torch.Tensor
    ) -> torch.Tensor:
        """See `PrefixCache.forward`."""
        self.fed += len(ids)
        return super().forward(cursor, ids, pixels, **image)


class FreshPrompt(PrefixCache):
    """No cache between steps, and everything in one pass."""

    def read(self, pieces: Sequence[Sequence[int]], *now: Any) -> Cursor:
        """All pieces as one, followed by what comes now (tokens, picture); how it was cut before is no matter."""
        return super().read([[token for piece in pieces for token in piece]], *now[:2])


class NoDrafts(Drafts):
    """No guess at all."""

    def after(self, *_: Any) -> tuple[int, ...]:
        """Nothing."""
        return ()


Case = tuple[str, Callable[[int], LayeredScene]]
"""A prompt, and the scene of so many objects under it."""


def corpus_cases(data: Path, count: int, sizes: Sequence[int]) -> list[Case]:
    """Validation scenes that have more objects than the largest size."""
    corpus = Corpus.open(data)
    source = PlanSource(corpus, "val")
    plans = [(record, source.plan(record, record.prompts[0])) for record in source.records]
    large = [(record, plan) for record, plan in plans if len(plan.objects) > max(sizes)]
    return [(plan.prompt, partial(prefix_scene, corpus, record, plan)) for record, plan in large[:count]]


def scene_of(planner: LlavaPlanner, prompt: str, count: int) -> LayeredScene:
    """Two surfaces, then objects of the world, drawn by the prompt, as boxes at seeded places."""
    rng = np.random.default_rng(derive_seed(0, "planner speed", prompt))
    others = [label for label in planner.vocabulary.labels if label not in planner.reader.surfaces]
    labels = [*planner.reader.surfaces[-2:], *rng.permutation(others).tolist()][:count]
    layers = []
    for number, label in enumerate(labels):
        mask = np.zeros(DEFAULT_SIZE.shape, dtype=bool)
        x, y = int(rng.integers(0, 540)), int(rng.integers(0, 412))
        mask[y : y + 100, x : x + 100] = True
        layers.append(Layer(number + 1, label, planner.vocabulary.with_article(label), mask))
    return LayeredScene(DEFAULT_SIZE, prompt, tuple(layers))


def seconds(planner: LlavaPlanner, case: Case, count: int, clock: Callable[[], float]) -> float:
    """Time of one proposal to a scene of so many objects."""
    prompt, scene_with = case
    scene = scene_with(count)
    started = clock()
    planner.propose(scene, prompt, seed=StepSeed(0, count))
    return clock() - started


def measure(
    planner: LlavaPlanner,
    cases: Sequence[Case],
    sizes: Sequence[int],
    repeat: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, float]]:
    """One row per scene size, the three ways in turns so that a busy machine hurts all."""
    reusing, fresh, stepwise = (planner.with_config(planner.config) for _ in range(3))
    counted = reusing.prefix = Counted(planner.llava)
    fresh.prefix, stepwise.prefix = FreshPrompt(planner.llava, reuse=False), PrefixCache(planner.llava)
    stepwise.drafts = NoDrafts(planner.tokens, planner.vocabulary, {})
    for each in (reusing, fresh, stepwise):
        seconds(each, cases[1], 3, clock)
    rows = []
    for count in sizes:
        times: dict[str, list[float]] = {"reuse": [], "fresh": [], "token by token": []}
        tokens = 0
        for case in cases:
            taken: dict[str, list[float]] = {name: [] for name in times}
            for _ in range(repeat):
                for name, each in (("reuse", reusing), ("token by token", stepwise)):
                    seconds(each, case, count - 1, clock)
                    before = counted.fed
                    taken[name].append(seconds(each, case, count, clock))
                    tokens += counted.fed - before if name == "reuse" else 0
                taken["fresh"].append(seconds(fresh, case, count, clock))
            for name, found in taken.items():
                times[name].append(statistics.median(found))
        reuse_s, fresh_s, stepwise_s = (statistics.mean(found) for found in times.values())
        rows.append(
            {
                "objects": count,
                "reuse_s": round(reuse_s, 3),
                "fresh_s": round(fresh_s, 3),
                "ratio": round(fresh_s / reuse_s, 2),
                "least": round(min(f / r for r, f in zip(times["reuse"], times["fresh"], strict=True)), 2),
                "stepwise_s": round(stepwise_s, 3),
                "drafts": round(stepwise_s / reuse_s, 2),
                "tokens_per_s": round(tokens / repeat / len(cases) / reuse_s, 1),
            }
        )
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", type=Path, default=Path("pretrained/park/planner"))
    parser.add_argument("--data", type=Path, help="corpus folder: real scenes")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    set_threads(args.threads)
    # Guards stay out: a second look after a ruling would be timed as if it belonged to the scene's size.
    planner = LlavaPlanner.from_pretrained(args.weights, config=PlannerConfig(guards=GuardConfig(enabled=False)))
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[args.clock]
    sizes = REAL_SIZES if args.data else SIZES
    made = [(prompt, partial(scene_of, planner, prompt)) for prompt in PROMPTS[planner.vocabulary.name]]
    cases = corpus_cases(args.data, REAL_CASES, sizes) if args.data else made
    rows = measure(planner, cases, sizes, args.repeat, clock)
    by_size = {row["objects"]: row["reuse_s"] for row in rows}
    report = {"weights": str(args.weights), "threads": args.threads, "clock": args.clock, "repeat": args.repeat,
              "rows": rows, "twelve_to_three": round(by_size[12] / by_size[3], 3)}  # fmt: skip
    if args.json:
        print(json.dumps(report))
        return
    print("objects   reuse s   fresh s     ratio least ratio token by token s   ratio  tokens/s")
    for row in rows:
        print("{objects:7d} {reuse_s:9.2f} {fresh_s:9.2f} {ratio:9.2f} {least:11.2f} {stepwise_s:16.2f} {drafts:7.2f} "
              "{tokens_per_s:9.1f}".format(**row))  # fmt: skip
    print(f"a proposal at 12 objects costs {report['twelve_to_three']} of one at 3")


if __name__ == "__main__":
    main()
