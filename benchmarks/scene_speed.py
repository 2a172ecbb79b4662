"""Times whole scenes: cold start, each part per object, peak memory, and seconds an object against the number there.

The same object list is composed with the shipped settings and, with --plain, by a plain loop of 50 steps on the same
weights: the masker's guidance terms one after the other, each candidate alone, and the inpainter on the full frame.
The planner is timed on the same scenes in both. Ratios are of two measurements in one process; report nothing else.

Usage: OMP_NUM_THREADS=2 .venv/bin/python benchmarks/scene_speed.py [--preset park] [--objects 8] [--plain]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from masker_speed import PLAIN_STEPS, PLAIN_WEIGHT, plain_latents

from inpainter.controlnet_inpaint import ControlNetInpainter
from masker import sampling
from masker.config import GuidanceWeights
from masker.smartmask import SmartMask
from orchestrator import Composer
from orchestrator.compose import Run
from orchestrator.planned import FixedPlanner
from scene.proposal import Proposal

FULL_FRAME_PX = 512
PARTS = ("propose_s", "mask_s", "render_s")
COLD = """
import time
started = time.monotonic()
from orchestrator import Composer
Composer.from_preset({!r})
print(time.monotonic() - started)
"""


class TimedPlan(FixedPlanner):
    """Places the list's objects, but lets the real planner think about each scene, as it would have to."""

    def __init__(self, plan: list[Proposal], real: Any) -> None:
        super().__init__(plan)
        self.real = real

    def propose(self, scene: Any, prompt: str, **rest: Any) -> Proposal:
        self.real.propose(scene, prompt, **rest)
        return super().propose(scene, prompt, **rest)


def object_list(composer: Composer, count: int) -> list[Proposal]:
    """Surfaces first, then `count` objects of the world, spread over its labels."""
    words = composer.models.vocabulary
    surfaces = [label for label in words.labels if words.kind(label) == "surface"]
    others = [label for label in words.labels if label not in surfaces]
    picked = [others[number * len(others) // count] for number in range(count)]
    return [Proposal(label, words.with_article(label)) for label in (*surfaces, *picked)]


def composed(composer: Composer, plan: list[Proposal], out: Path) -> tuple[Run, float]:
    """The finished run and its seconds."""
    started = time.perf_counter()
    prompt = ", ".join(entry.description for entry in plan)[:400]
    run = composer.start(prompt, seed=7, out=out)
    run.models = replace(composer.models, planner=TimedPlan(plan, composer.models.planner))
    list(run.steps())
    run.close()
    return run, time.perf_counter() - started


@contextmanager
def plain_loop(composer: Composer) -> Iterator[None]:
    """Both samplers as the equations write them down."""
    smartmask, inpainter = composer.models.masker, composer.models.inpainter
    assert isinstance(smartmask, SmartMask) and isinstance(inpainter, ControlNetInpainter)
    kept = sampling.sample_latents, smartmask.config, inpainter.sampler, inpainter.window
    weights = GuidanceWeights(layout=PLAIN_WEIGHT, object=PLAIN_WEIGHT, context=PLAIN_WEIGHT)
    solver = smartmask.config.sampling.model_copy(update={"solver_steps": PLAIN_STEPS, "weights": weights})
    full = {"resolution_px": FULL_FRAME_PX, "min_side_px": max(composer.config.size)}
    sampling.sample_latents = plain_latents
    smartmask.config = smartmask.config.model_copy(update={"sampling": solver})
    inpainter.sampler = inpainter.sampler.model_copy(update={"steps": PLAIN_STEPS})
    inpainter.window = inpainter.window.model_copy(update=full)
    try:
        yield
    finally:
        sampling.sample_latents, smartmask.config, inpainter.sampler, inpainter.window = kept


def summary(run: Run, seconds: float) -> dict[str, Any]:
    """Medians a part, over placed objects, and how the last five objects compare with the first five."""
    steps = [step for step in run.folder.history.path() if step.outcome == "placed"]
    whole = [sum(step.timings.values()) for step in steps]
    edge = min(5, len(whole) // 2)
    report: dict[str, Any] = {"objects": len(steps), "scene_s": round(seconds, 2)}
    report["median_s"] = {part: round(median(step.timings[part] for step in steps), 3) for part in PARTS}
    if edge:
        report["late_over_early"] = round(mean(whole[-edge:]) / mean(whole[:edge]), 3)
    return report


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="park")
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--plain", action="store_true", help="also time the plain loop of 50 steps, on the full frame")
    arguments = parser.parse_args()
    command = [sys.executable, "-c", COLD.format(arguments.preset)]
    cold = subprocess.run(command, capture_output=True, text=True, check=True)
    settings = [f"max_objects={arguments.objects + 8}", "corrections=0"]
    composer = Composer.from_preset(arguments.preset, overrides=settings)
    plan = object_list(composer, arguments.objects)
    report: dict[str, Any] = {"preset": arguments.preset, "cold_start_s": round(float(cold.stdout), 2)}
    with tempfile.TemporaryDirectory() as folder:
        run, seconds = composed(composer, plan, Path(folder) / "run")
        report["ours"] = summary(run, seconds)
        if arguments.plain:
            with plain_loop(composer):
                run, plain_seconds = composed(composer, plan, Path(folder) / "plain")
            report["plain_50_full_frame"] = summary(run, plain_seconds)
            report["speedup"] = round(plain_seconds / seconds, 2)
    report["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
