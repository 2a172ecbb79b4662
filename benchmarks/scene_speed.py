"""Times whole scenes: cold start, each part per object, peak memory, seconds an object against the number there, and
what a plain loop takes for the same scene.

The object list is fixed, and the planner thinks about every scene all the same, as it would have to. Ratios are of two
measurements in one process; report nothing else.

--plain takes what `plain_loop.py` found: (a) its loop at the fewest steps within 5 % of their best quality, in the same
windows and tiles, and once more without tiles (large surfaces quicker and blurred: another picture, but not to be
hidden); (b) at 50 steps on the full frame, for the first --full-frame objects. --flat composes 30 objects; the first
five and the last five of them are of the same kinds and sizes. --overlap composes the scene with one and two torch
threads, with and without overlap, and compares all pictures. --clock cpu counts processor time: on a busy machine, with
--threads 1, it is near what an idle one would show, but for what threads and overlap save.

Usage: .venv/bin/python -m benchmarks.scene_speed [--preset home] [--plain plain.json] [--flat] [--overlap]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from types import SimpleNamespace
from typing import Any

from benchmarks.plain_loop import FULL_FRAME, PlainSettings, plain_models
from orchestrator import Composer
from orchestrator.planned import FixedPlanner
from orchestrator.ports import Models
from planner.llava_planner import LlavaPlanner
from runtime.seeding import set_threads
from scene.geometry import Box
from scene.layers import LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed

PARTS = ("propose_s", "mask_s", "render_s")
SURFACES = {"home": ("floor", "wall"), "park": ("sky", "grass")}
OBJECTS = {
    "home": ("sofa", "floor lamp", "armchair", "coffee table", "dog", "bookcase", "television", "potted plant"),
    "park": ("boy", "girl", "apple tree", "dog", "soccer ball", "slide", "sun", "cat"),
}
AGAIN, MANY = 5, 30
COLD = """
import time
started = time.{clock}()
from orchestrator import Composer
Composer.from_preset({preset!r}, overrides=["threads={threads}"])
print(time.{clock}() - started)
"""
CLOCKS = {"wall": "perf_counter", "cpu": "process_time"}


class TimedPlan(FixedPlanner):
    """Places the list's objects, but lets the real planner think about each scene; where that would stop, it has to say
    in addition where it would put the object that is due."""

    def __init__(self, plan: list[Proposal], real: LlavaPlanner) -> None:
        super().__init__(plan)
        self.real, self.stops = real, 0

    def propose(self, scene: LayeredScene, prompt: str, *, seed: StepSeed, **rest: Any) -> Proposal:
        """The next of the list, after as much thought as without one."""
        due = super().propose(scene, prompt, seed=seed, **rest)
        thought = self.real.propose(scene, prompt, seed=seed, **rest)
        if thought.stop and not due.stop:
            self.stops += 1
            self.real.place(scene, prompt, due.label, seed=seed)
        return due


class PartClock:
    """Adds up what the three roles take."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.spent = dict.fromkeys(PARTS, 0.0)

    def watch(self, models: Models) -> Models:
        """The same models, each call timed."""
        planner, masker, inpainter = models.planner, models.masker, models.inpainter
        return replace(
            models,
            planner=SimpleNamespace(propose=self._timed("propose_s", planner.propose)),
            masker=SimpleNamespace(predict=self._timed("mask_s", masker.predict)),
            inpainter=SimpleNamespace(render=self._timed("render_s", inpainter.render)),
        )

    def _timed(self, part: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            begun = self.clock()
            try:
                return act(*arguments, **options)
            finally:
                self.spent[part] += self.clock() - begun

        return timed

    def taken(self) -> dict[str, float]:
        """Seconds by part since it was last asked."""
        taken, self.spent = self.spent, dict.fromkeys(PARTS, 0.0)
        return taken


@dataclass(frozen=True)
class Timed:
    """A finished scene.

    Attributes:
        seconds: from the start to the final pictures.
        objects: seconds of each step that placed something, as they passed, files included; and of its parts.
        final: bytes of the picture.
        stops: how often the planner would have stopped.
    """

    seconds: float
    objects: list[tuple[float, dict[str, float]]]
    final: bytes
    stops: int

    def summary(self) -> dict[str, Any]:
        """Seconds of the scene, and the median and the longest an object took, in all and by part."""
        walls = [wall for wall, _ in self.objects]
        report: dict[str, Any] = {"objects": len(walls), "scene_s": round(self.seconds, 2)}
        report["object_s"] = {"median": round(median(walls), 3), "longest": round(max(walls), 3)}
        for part in PARTS:
            found = [parts[part] for _, parts in self.objects]
            report[part] = {"median": round(median(found), 3), "longest": round(max(found), 3)}
        return report | {"planner_would_have_stopped": self.stops}


def object_list(composer: Composer, count: int) -> list[Proposal]:
    """Two surfaces and `count` objects; beyond the eight of `OBJECTS` others of the world, and then, as the last five,
    the first five again."""
    words, world = composer.models.vocabulary, composer.config.world
    first = OBJECTS[world]
    others = [label for label in words.labels if words.kind(label) != "surface" and label not in first]
    more = max(0, count - len(first) - AGAIN)
    labels = [*first, *(others[number * len(others) // more] for number in range(more)), *first[:AGAIN]]
    return [Proposal(label, words.with_article(label)) for label in (*SURFACES[world], *labels[:count])]


def composed(composer: Composer, models: Models, plan: list[Proposal], clock: Callable[[], float]) -> Timed:
    """The plan as a scene. `models` draw it; their planner thinks."""
    assert isinstance(models.planner, LlavaPlanner)
    planner, parts = TimedPlan(plan, models.planner), PartClock(clock)
    with tempfile.TemporaryDirectory() as folder:
        started = clock()
        run = composer.start(", ".join(entry.description for entry in plan)[:400], seed=7, out=Path(folder) / "run")
        run.models = parts.watch(replace(models, planner=planner))
        objects, last = [], clock()
        while not run.finished:
            step, now, taken = run.advance(), clock(), parts.taken()
            if step.outcome == "placed":
                objects.append((now - last, taken))
            last = now
        run.finish()
        seconds = clock() - started
        run.close()
        final = (run.folder.path / "final.png").read_bytes()
    return Timed(seconds, objects, final, planner.stops)


def against(
    composer: Composer,
    plan: list[Proposal],
    ours: Timed,
    settings: PlainSettings,
    part: int,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """The first `part` objects of the plan, by a plain loop; how much longer it takes for the same ones."""
    with plain_models(composer, settings) as models:
        timed = composed(composer, models, plan[:part], clock)
    same = sum(wall for wall, _ in ours.objects[:part])
    ratio = sum(wall for wall, _ in timed.objects) / same
    return {"settings": vars(settings), **timed.summary(), "times_ours": round(ratio, 2)}


def flatness(composer: Composer, clock: Callable[[], float]) -> dict[str, Any]:
    """Thirty objects: the last five against the first five, of the same kinds and in boxes of the same size, since what
    an object costs depends on its own size: large ones are drawn in tiles."""
    plan, skip = object_list(composer, MANY), len(SURFACES[composer.config.world])
    size = composer.config.size
    side, step, top = size.height // 5, size.width // AGAIN, size.height // 4
    for number in range(AGAIN):
        x0, y1 = number * step, size.height - side
        plan[skip + number] = replace(plan[skip + number], box=Box(x0, top, x0 + side, top + side))
        plan[number - AGAIN] = replace(plan[number - AGAIN], box=Box(x0, y1, x0 + side, size.height))
    guided = composer.config.planner.model_copy(update={"use_box": True})
    planner = composer.models.planner
    assert isinstance(planner, LlavaPlanner)
    # Whole answers early and late: late ones, of kinds that are there already, would decide a box in any case.
    whole = planner.with_config(planner.config.model_copy(update={"write_boxes": True}))
    models = replace(composer.models, planner=whole)
    composer = Composer(composer.config.model_copy(update={"planner": guided}), models)
    timed = composed(composer, composer.models, plan, clock)
    if len(timed.objects) != skip + MANY:
        raise SystemExit(f"{len(timed.objects)} of {skip + MANY} objects were placed; early and late do not compare")
    early, late = timed.objects[skip : skip + AGAIN], timed.objects[-AGAIN:]
    report = timed.summary()
    report["late_over_early"] = round(sum(wall for wall, _ in late) / sum(wall for wall, _ in early), 3)
    for part in PARTS:
        report[part]["late_over_early"] = round(mean(p[part] for _, p in late) / mean(p[part] for _, p in early), 3)
    return report


def overlapped(composer: Composer, plan: list[Proposal], repeat: int) -> dict[str, Any]:
    """Seconds of the scene by torch threads and overlap, medians over `repeat` rounds, the four in turns."""
    seconds: dict[str, list[float]] = {}
    pictures: dict[int, set[bytes]] = {}
    for _ in range(repeat):
        for threads in (2, 1):
            for overlap in (False, True):
                set_threads(threads)
                changed = composer.config.model_copy(update={"overlap": overlap})
                timed = composed(Composer(changed, composer.models), composer.models, plan, time.perf_counter)
                name = f"{threads} threads{', overlap' if overlap else ''}"
                seconds.setdefault(name, []).append(timed.seconds)
                pictures.setdefault(threads, set()).add(timed.final)
    set_threads(composer.config.threads)
    report: dict[str, Any] = {name: round(median(found), 2) for name, found in seconds.items()}
    best = min(value for name, value in report.items() if "overlap" not in name)
    gain = best / min(value for name, value in report.items() if "overlap" in name)
    return {"scene_s": report, "gain": round(gain, 3), "same_picture": all(len(p) == 1 for p in pictures.values())}


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(SURFACES), default="home")
    parser.add_argument("--objects", type=int, default=8, help="besides two surfaces")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain", type=Path, help="what `python -m benchmarks.plain_loop` printed")
    parser.add_argument("--full-frame", type=int, default=4, help="so many of the plan's objects at 50 steps, 0 = none")
    parser.add_argument("--flat", action="store_true", help="30 objects: the last five against the first five")
    parser.add_argument("--overlap", action="store_true", help="threads and overlap, four combinations")
    parser.add_argument("--repeat", type=int, default=2, help="rounds of --overlap")
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    arguments = parser.parse_args()
    clock: Callable[[], float] = getattr(time, CLOCKS[arguments.clock])
    start = COLD.format(clock=CLOCKS[arguments.clock], preset=arguments.preset, threads=arguments.threads)
    command = [sys.executable, "-c", start]
    cold = subprocess.run(command, capture_output=True, text=True, check=True)
    settings = [f"max_objects={MANY + 8}", f"threads={arguments.threads}"]
    composer = Composer.from_preset(arguments.preset, overrides=settings)
    plan = object_list(composer, arguments.objects)
    report: dict[str, Any] = {"preset": arguments.preset, "threads": arguments.threads, "clock": arguments.clock}
    report["cold_start_s"] = round(float(cold.stdout), 2)
    ours = composed(composer, composer.models, plan, clock)
    report["ours"] = ours.summary()
    report["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if arguments.plain:
        found = PlainSettings(**json.loads(arguments.plain.read_text())["settings"])
        report["plain"] = against(composer, plan, ours, found, len(plan), clock)
        report["plain_without_tiles"] = against(composer, plan, ours, replace(found, tiles=False), len(plan), clock)
        if arguments.full_frame:
            report["full_frame"] = against(composer, plan, ours, FULL_FRAME, arguments.full_frame, clock)
    if arguments.flat:
        report["flat"] = flatness(composer, clock)
    if arguments.overlap:
        report["overlap"] = overlapped(composer, plan, arguments.repeat)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
