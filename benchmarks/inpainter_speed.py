"""Speed of drawing an object against diffusers' plain pipeline with the same weights, in one run.

Plain: `StableDiffusionControlNetInpaintPipeline` itself, one object per call, its text embedded anew every time.
(a) on the same window with the fewest of 4, 8, 16, 25, 50 steps whose distance to real crops is within 5 % of its best;
reported only: (b) 50 steps on the window, (c) 50 steps on the full frame. The distance is Local-FID from 2,000 objects
on, else the unbiased kernel distance of the same features. Prints JSON.

Usage: .venv/bin/python benchmarks/inpainter_speed.py [--inpainter DIR] [--data DIR] [--limit 40] [--frames 2]
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import StableDiffusionControlNetInpaintPipeline
from tqdm import tqdm

from inpainter.controlnet_inpaint import ControlNetInpainter, Drawing
from inpainter.evaluate import Case, cases
from inpainter.judging import object_crop
from inpainter.measures import local_distance
from inpainter.pipeline import draw_windows
from inpainter.text import TextTokens
from perception.efficientnet import EfficientNetTrunk, feature_maps, mean_and_std
from runtime.seeding import set_threads
from scene.corpus.store import Corpus
from scene.layers import composite

STEPS, TOLERANCE, SEED = (4, 8, 16, 25, 50), 0.05, 3


def plain_pipeline(fast: Any) -> Any:
    """diffusers' own pipeline round the same networks."""
    pipeline: Any = StableDiffusionControlNetInpaintPipeline(
        vae=fast.vae, text_encoder=None, tokenizer=None, unet=fast.unet, controlnet=fast.controlnet,
        scheduler=fast.scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawing(case: Case | Drawing) -> Drawing:
    """The case as the inpainter wants it."""
    return Drawing(case.image, case.mask, case.label, case.description, case.seed)


def plain(
    inpainter: ControlNetInpainter, pipeline: Any, embed: TextTokens, steps: int, *, tiles: bool = False
) -> Callable[[Case | Drawing], np.ndarray]:
    """Drawing on the object's window in so many steps; nothing is remembered between calls.

    Args:
        inpainter: whose windows.
        pipeline: diffusers' own.
        embed: words to tokens.
        steps: of the sampler.
        tiles: draw large surfaces in tiles as `inpainter` does; without, in one coarse window.
    """
    window = inpainter.window_config if tiles else inpainter.window_config.model_copy(update={"tile_px": None})
    sampler = inpainter.sampler.model_copy(update={"steps": steps, "batch": 1})

    def draw(case: Case | Drawing) -> np.ndarray:
        model = ControlNetInpainter(pipeline, embed, window, sampler)
        return composite(case.image, model.draw([drawing(case)])[0])

    return draw


def full_frame(inpainter: ControlNetInpainter, pipeline: Any, embed: TextTokens, case: Case | Drawing) -> np.ndarray:
    """50 steps on the whole canvas."""
    sampler = inpainter.sampler.model_copy(update={"steps": STEPS[-1]})
    return draw_windows(
        pipeline, [case.image], [case.mask], [embed(case.description)], embed(""), [case.seed.derive("inpaint")],
        sampler, dilate_px=inpainter.window_config.dilate_px,
    )[0]  # fmt: skip


def fewest_steps(distances: dict[int, float]) -> int:
    """The fewest steps whose distance is within 5 % of the best one."""
    best = min(distances.values())
    return min(steps for steps, value in distances.items() if value <= best + TOLERANCE * abs(best))


def timed(draw: Callable[[Case], np.ndarray], found: Sequence[Case]) -> tuple[float, list[np.ndarray]]:
    """Median seconds per object after one to warm up, and the crops."""
    draw(found[0])
    seconds, crops = [], []
    for case in found:
        begun = time.perf_counter()
        output = draw(case)
        seconds.append(time.perf_counter() - begun)
        crops.append(object_crop(output, case.mask))
    return float(np.median(seconds)), crops


def compared(
    inpainter: ControlNetInpainter, corpus: Corpus, steps: Sequence[int], limit: int
) -> tuple[dict[str, float], dict[str, dict[str, Any]], str, list[Case]]:
    """ "ours" and the plain pipeline in so many steps, on the same objects of split val.

    Returns:
        Median seconds an object and report by method, the name of the distance in it that counts, and the objects.
    """
    pipeline, embed = plain_pipeline(inpainter.pipeline), TextTokens(inpainter.sampler.max_tokens)
    found = list(cases(corpus, corpus.records("val"), limit, SEED))
    train = cases(corpus, corpus.records("train"), limit, SEED)
    trunk = EfficientNetTrunk.load()
    real, other = (
        mean_and_std(feature_maps(trunk, [object_crop(case.truth, case.mask) for case in part]))
        for part in (found, list(train))
    )
    methods: dict[str, Callable[[Case], np.ndarray]] = {
        "ours": lambda case: composite(case.image, inpainter.draw([drawing(case)])[0])
    }
    methods |= {str(number): plain(inpainter, pipeline, embed, number) for number in steps}
    seconds, reports = {}, {}
    for name, draw in tqdm(methods.items(), unit="method"):
        seconds[name], crops = timed(draw, found)
        reports[name] = local_distance(mean_and_std(feature_maps(trunk, crops)), real, other)
    measure = "local_frechet" if "local_frechet" in reports["ours"] else "local_kernel"
    return seconds, reports, measure, found


def main() -> None:
    """Parses the arguments, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inpainter", type=Path, default=Path("pretrained/park/inpainter"))
    parser.add_argument("--data", type=Path, default=Path("runs/data/park"))
    parser.add_argument("--limit", type=int, default=40, help="objects of split val, at least 8")
    parser.add_argument("--frames", type=int, default=2, help="of these so many are drawn on the full frame")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="of the plain pipeline; the last is (b)'s")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    inpainter = ControlNetInpainter.from_pretrained(arguments.inpainter)
    corpus = Corpus.open(arguments.data)
    seconds, reports, measure, found = compared(inpainter, corpus, arguments.steps, arguments.limit)
    chosen = str(fewest_steps({steps: reports[str(steps)][measure] for steps in arguments.steps}))
    frames = []
    pipeline, embed = plain_pipeline(inpainter.pipeline), TextTokens(inpainter.sampler.max_tokens)
    for case in found[: arguments.frames]:
        begun = time.perf_counter()
        full_frame(inpainter, pipeline, embed, case)
        frames.append(time.perf_counter() - begun)
    report: dict[str, Any] = {
        "inpainter": str(arguments.inpainter),
        "n": len(found),
        "threads": arguments.threads,
        "measure": measure,
        "seconds_per_object": {name: round(value, 4) for name, value in seconds.items()},
        "distance": {name: report[measure] for name, report in reports.items()},
        "floor": reports["ours"][f"{measure}_floor"],
        "a": {"steps": int(chosen), "ratio": round(seconds[chosen] / seconds["ours"], 2)},
        "b": {"steps": arguments.steps[-1], "ratio": round(seconds[str(arguments.steps[-1])] / seconds["ours"], 2)},
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    if frames:
        report["c"] = {"steps": 50, "ratio": round(float(np.median(frames)) / seconds["ours"], 2)}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
