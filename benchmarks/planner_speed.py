"""What keeping the prompt in the cache saves: time per proposal against scene size, ratio to a fresh full prompt.

    python -m benchmarks.planner_speed [pretrained/park/planner] [--repeat 3] [--threads 1] [--clock cpu]

A scene of n objects is proposed to in two ways: *reuse*, as in a run (the cache holds n - 1 lines, one is new), and
*fresh*, the whole prompt in one pass as a planner without a cache would do. tokens/s counts every token that *reuse*
feeds to the model, read or written. `--clock cpu` counts processor time instead of wall time: on a busy machine with
one thread it is what an idle one would show.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from planner.decoding import PlannerConfig
from planner.guards import GuardConfig
from planner.llava_planner import LlavaPlanner
from planner.prefix import Cursor, PrefixCache
from runtime.seeding import set_threads
from scene.geometry import DEFAULT_SIZE
from scene.layers import Layer, LayeredScene
from scene.seeds import StepSeed, derive_seed

SIZES = (3, 6, 12, 20, 30)
PROMPT = "a scene in which many things stand around, some of them near each other"


class FreshPrompt(PrefixCache):
    """No cache between steps, and everything before the picture in one pass."""

    def read(self, chunks: Sequence[Sequence[int]]) -> Cursor:
        """All pieces as one, from nothing."""
        self.reuse = False
        return super().read([[token for chunk in chunks for token in chunk]])


def scene_of(planner: LlavaPlanner, count: int) -> LayeredScene:
    """Surfaces, then objects of the world in order, as boxes at seeded places."""
    labels = planner.vocabulary.labels[:count]
    rng = np.random.default_rng(derive_seed(0, "planner speed"))
    layers = []
    for number, label in enumerate(labels):
        mask = np.zeros(DEFAULT_SIZE.shape, dtype=bool)
        x, y = int(rng.integers(0, 540)), int(rng.integers(0, 412))
        mask[y : y + 100, x : x + 100] = True
        layers.append(Layer(number + 1, label, planner.vocabulary.with_article(label), mask))
    return LayeredScene(DEFAULT_SIZE, PROMPT, tuple(layers))


def seconds(planner: LlavaPlanner, scene: LayeredScene, clock: Callable[[], float]) -> tuple[float, int]:
    """Time of one proposal, and how many tokens were fed to the model."""
    fed = 0
    plain = planner.prefix.feed

    def counted(cursor: Cursor, ids: Sequence[int], pixels: Any = None) -> Cursor:
        nonlocal fed
        fed += len(ids)
        return plain(cursor, ids, pixels)

    planner.prefix.feed = counted  # type: ignore[method-assign]
    started = clock()
    planner.propose(scene, PROMPT, seed=StepSeed(0, len(scene.layers)))
    spent = clock() - started
    planner.prefix.feed = plain  # type: ignore[method-assign]
    return spent, fed


def measure(
    planner: LlavaPlanner, repeat: int, clock: Callable[[], float] = time.perf_counter
) -> list[dict[str, float]]:
    """One row per scene size; medians over `repeat`, the two ways in turns so that a busy machine hurts both."""
    reusing, fresh = planner.with_config(planner.config), planner.with_config(planner.config)
    reusing.prefix, fresh.prefix = PrefixCache(planner.llava), FreshPrompt(planner.llava)
    rows = []
    for count in SIZES:
        kept, whole, tokens = [], [], 0
        for _ in range(repeat):
            seconds(reusing, scene_of(planner, count - 1), clock)
            spent, tokens = seconds(reusing, scene_of(planner, count), clock)
            kept.append(spent)
            whole.append(seconds(fresh, scene_of(planner, count), clock)[0])
        reuse_s, fresh_s = statistics.median(kept), statistics.median(whole)
        rows.append(
            {
                "objects": count,
                "reuse_s": round(reuse_s, 3),
                "fresh_s": round(fresh_s, 3),
                "ratio": round(fresh_s / reuse_s, 2),
                "tokens_per_s": round(tokens / reuse_s, 1),
            }
        )
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", type=Path, default=Path("pretrained/park/planner"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    set_threads(args.threads)
    # Guards stay out: a second look after a ruling would be timed as if it belonged to the scene's size.
    planner = LlavaPlanner.from_pretrained(args.weights, config=PlannerConfig(guards=GuardConfig(enabled=False)))
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[args.clock]
    rows = measure(planner, args.repeat, clock)
    by_size = {row["objects"]: row["reuse_s"] for row in rows}
    report = {"weights": str(args.weights), "threads": args.threads, "clock": args.clock, "repeat": args.repeat,
              "rows": rows, "twelve_to_three": round(by_size[12] / by_size[3], 3)}  # fmt: skip
    if args.json:
        print(json.dumps(report))
        return
    print("objects   reuse s   fresh s     ratio  tokens/s")
    for row in rows:
        cells = (f"{row[key]:9.2f}" for key in ("reuse_s", "fresh_s", "ratio", "tokens_per_s"))
        print(f"{row['objects']:7d}", *cells)
    print(f"a proposal at 12 objects costs {report['twelve_to_three']} of one at 3")


if __name__ == "__main__":
    main()
