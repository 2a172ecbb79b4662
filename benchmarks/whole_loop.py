"""What becomes of prompts in the whole loop: planner, masker and self-correction, read off the finished masks.

    python -m benchmarks.whole_loop --preset home --prompts planner/data/held_out/home_dev.jsonl --limit 50

Scores are those of `smartscene evaluate planner`, but boxes are the tight boxes of the masks that were taken, not what
the planner proposed. Nothing is rendered (drawing changes no mask). Progress and what went wrong go to stderr, one JSON
document to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator import Composer
from planner.measures import attributes_hold, case_scores, summary
from planner.prompt_sets import PromptCase, read_prompts
from scene.geometry import Box
from scene.layers import LayeredScene


class FlatInpainter:
    """The `Inpainter` role without a model: objects are grey."""

    def render(self, image: np.ndarray, mask: np.ndarray, *_: Any, **__: Any) -> np.ndarray:
        """See `orchestrator.ports.Inpainter`."""
        return np.where(mask[..., None], np.uint8(128), image)


def composed(composer: Composer, case: PromptCase, seed: int) -> LayeredScene:
    """The finished scene of a prompt."""
    with tempfile.TemporaryDirectory() as folder:
        run = composer.start(case.prompt, seed=seed, out=Path(folder) / "run")
        run.models = replace(run.models, inpainter=FlatInpainter())
        while not run.finished:
            run.advance()
        scene = run.scene
        run.close()
    return scene


def placed_in(scene: LayeredScene) -> list[tuple[str, Box]]:
    """Label and tight box of every layer that shows."""
    return [(layer.label, layer.box) for layer in scene.layers if layer.box is not None]


def faults(case: PromptCase, scores: Mapping[str, list[bool]]) -> str:
    """What of a prompt is not there, in words; "" where all is."""
    missing = [m.any_of[0] for m, there in zip(case.named, scores["named_objects"], strict=True) if not there]
    relations = zip(case.relations, scores["relations"], strict=True)
    broken = [f"{first[0]} {word} {second[0]}" for (first, word, second), holds in relations if not holds]
    parts = [f"missing {', '.join(missing)}"] * bool(missing) + [f"not {text}" for text in broken]
    if scores["exact"] == [False] and not missing:
        parts.append("too many of something")
    return "; ".join(parts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="home")
    parser.add_argument("--prompts", type=Path, default=Path("planner/data/held_out/home_dev.jsonl"))
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of the preset")
    arguments = parser.parse_args()
    composer = Composer.from_preset(arguments.preset, overrides=arguments.set)
    words = composer.models.vocabulary
    surfaces = {label for label in words.labels if words.kind(label) == "surface"}
    found = read_prompts(arguments.prompts, words)
    rows, started = [], time.monotonic()
    for number, case in enumerate(found.cases[: arguments.limit], start=1):
        scene = composed(composer, case, arguments.seed)
        placed, described = placed_in(scene), [(layer.label, layer.description) for layer in scene.layers]
        scores = case_scores(case, placed, surfaces) | {"attributes": attributes_hold(case, described)}
        rows.append(scores)
        spent = (time.monotonic() - started) / number
        print(f"{number}/{arguments.limit} {spent:.1f} s each: {case.prompt}", file=sys.stderr)
        fault = faults(case, scores)
        if fault:
            print(f"    {fault}; placed {', '.join(label for label, _ in placed)}", file=sys.stderr, flush=True)
    count = sum(len(row["relations"]) for row in rows)
    facts = {"preset": arguments.preset, "set": arguments.set, "prompts": len(rows), "relations": count}
    print(json.dumps(facts | {"seed": arguments.seed} | summary(rows), indent=1))


if __name__ == "__main__":
    main()
