"""The composition loop as one writes it down first, for `scene_speed.py` to compare ours with: the same weights,
windows, candidates and objects, nothing remembered and nothing batched.

At every step the planner reads its whole prompt anew, in one pass, with weights in float32, and writes its whole
answer, box included; the masker evaluates the four branches of chained
guidance one after the other, at every step of the sampler anew, candidate by candidate (`masker_speed.plain_latents`);
the inpainter is diffusers' own pipeline from pure noise, an object a call, in the same windows and tiles
(`inpainter_speed.plain`), or on the full frame.

Run alone it finds the settings that the loop deserves: for both samplers the fewest steps within 5 % of their best
quality on held-out objects (mean IoU under box, blob and scribble; distance of crops to real ones). Quality does not
depend on how busy the machine is.

Usage: .venv/bin/python -m benchmarks.plain_loop [--preset home] [--data runs/data/home] [--limit 8] > plain.json
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inpainter_speed import TOLERANCE, compared, fewest_steps, full_frame, plain, plain_pipeline
from benchmarks.masker_speed import SEED, measure, plain_latents
from benchmarks.planner_speed import FreshPrompt
from inpainter.controlnet_inpaint import ControlNetInpainter, Drawing
from inpainter.text import TextTokens
from masker import sampling
from masker.cases import choose_cases
from masker.config import GuidanceWeights
from masker.smartmask import SmartMask
from orchestrator import Composer
from orchestrator.assemble import room_weights
from orchestrator.ports import Models
from planner.llava_planner import LlavaPlanner
from scene.corpus.store import Corpus
from scene.seeds import StepSeed

MASKER_STEPS, INPAINTER_STEPS = (1, 2, 4, 8, 16, 25, 50), (2, 4, 8, 16, 25, 50)
WEIGHTS, MANY = (1.0, 1.5), 50


@dataclass(frozen=True)
class PlainSettings:
    """Of the plain loop.

    Attributes:
        masker_steps, masker_weight: steps of its sampler, and weight of each guidance term.
        inpainter_steps: of its sampler.
        tiles: draw large surfaces in the same tiles as ours; else in one coarse window, which is quicker and blurred.
        whole_frame: draw on the full frame instead of the object's window.
    """

    masker_steps: int
    masker_weight: float
    inpainter_steps: int
    tiles: bool = True
    whole_frame: bool = False


FULL_FRAME = PlainSettings(MANY, 1.5, MANY, tiles=False, whole_frame=True)


class PlainInpainter:
    """The `Inpainter` role played by diffusers' own pipeline."""

    def __init__(self, inpainter: ControlNetInpainter, settings: PlainSettings) -> None:
        self.inpainter, self.settings = inpainter, settings
        self.pipeline, self.embed = plain_pipeline(inpainter.pipeline), TextTokens(inpainter.sampler.max_tokens)

    def render(
        self, image: np.ndarray, mask: np.ndarray, label: str, description: str, context: str, *, seed: StepSeed
    ) -> np.ndarray:
        """See `orchestrator.ports.Inpainter`."""
        asked = Drawing(image, mask, label, description, seed)
        settings = self.settings
        if not settings.whole_frame:
            draw = plain(self.inpainter, self.pipeline, self.embed, settings.inpainter_steps, tiles=settings.tiles)
            return draw(asked)
        return np.where(mask[..., None], full_frame(self.inpainter, self.pipeline, self.embed, asked), image)


def with_steps(masker: SmartMask, steps: int, weight: float) -> SmartMask:
    """The same masker with so many steps, and each guidance term of that weight."""
    other = copy.copy(masker)
    weights = GuidanceWeights(layout=weight, object=weight, context=weight)
    changed = {"solver_steps": steps, "weights": weights, "free_weights": weights, "composition": "chained"}
    other.config = masker.config.model_copy(update={"sampling": masker.config.sampling.model_copy(update=changed)})
    return other


def plain_planner(composer: Composer) -> LlavaPlanner:
    """The same weights in float32, without a cache between steps, and with nothing left out of answers."""
    models = composer.models
    assert isinstance(models.planner, LlavaPlanner)
    whole = models.planner.config.model_copy(update={"write_boxes": True})
    adapter = Path(composer.config.planner.adapter) if composer.config.planner.adapter else None
    folder = room_weights(composer.config, "planner")
    planner = LlavaPlanner.from_pretrained(folder, adapter, whole, models.vocabulary, half=False)
    planner.prefix = FreshPrompt(planner.llava)
    return planner


@contextmanager
def plain_models(composer: Composer, settings: PlainSettings) -> Iterator[Models]:
    """The three roles of a plain loop, on loaded models, while the body runs."""
    models = composer.models
    masker, inpainter = models.masker, models.inpainter
    assert isinstance(masker, SmartMask) and isinstance(inpainter, ControlNetInpainter)
    fresh = plain_planner(composer)
    plain_parts: dict[str, Any] = {
        "planner": fresh,
        "masker": with_steps(masker, settings.masker_steps, settings.masker_weight),
        "inpainter": PlainInpainter(inpainter, settings),
    }
    kept = sampling.sample_latents
    sampling.sample_latents = plain_latents
    try:
        yield replace(models, **plain_parts)
    finally:
        sampling.sample_latents = kept


def masker_quality(
    masker: SmartMask, corpus: Corpus, limit: int, tried: Sequence[int]
) -> dict[float, dict[int, float]]:
    """Mean IoU over the forms of guidance, by weight and steps.

    Drawn by the quick sampler: what the plain one gives differs in the last bits only.
    """
    cases = choose_cases(corpus, "val", limit, SEED)
    quality: dict[float, dict[int, float]] = {}
    for weight in WEIGHTS:
        quality[weight] = {}
        for steps in tried:
            scores, _ = measure(with_steps(masker, steps, weight), corpus, cases)
            quality[weight][steps] = round(float(np.mean(list(scores.values()))), 4)
            print(f"masker, weight {weight}, {steps} steps: IoU {quality[weight][steps]}", file=sys.stderr, flush=True)
    return quality


def deserved(quality: dict[float, dict[int, float]]) -> tuple[int, float]:
    """The fewest steps, and their weight, within 5 % of the best IoU of all; of equal steps the better weight."""
    best = max(max(row.values()) for row in quality.values())
    good = [
        (steps, -value, weight)
        for weight, row in quality.items()
        for steps, value in row.items()
        if value >= (1 - TOLERANCE) * best
    ]
    steps, _, weight = min(good)
    return steps, weight


def main() -> None:
    """Prints one JSON document: the settings, and the quality by steps that they follow from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="home")
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--limit", type=int, default=8, help="held-out objects of the masker; the inpainter has 5 times as many"
    )
    parser.add_argument("--masker-steps", type=int, nargs="+", default=MASKER_STEPS)
    parser.add_argument("--inpainter-steps", type=int, nargs="+", default=INPAINTER_STEPS)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    composer = Composer.from_preset(arguments.preset, overrides=[f"threads={arguments.threads}"])
    corpus = Corpus.open(arguments.data or Path("runs/data") / composer.config.world)
    masker, inpainter = composer.models.masker, composer.models.inpainter
    assert isinstance(masker, SmartMask) and isinstance(inpainter, ControlNetInpainter)
    ious = masker_quality(masker, corpus, arguments.limit, arguments.masker_steps)
    _, reports, distance, _ = compared(inpainter, corpus, arguments.inpainter_steps, 5 * arguments.limit)
    distances = {steps: float(reports[str(steps)][distance]) for steps in arguments.inpainter_steps}
    steps, weight = deserved(ious)
    report: dict[str, Any] = {
        "preset": arguments.preset,
        "settings": {
            "masker_steps": steps,
            "masker_weight": weight,
            "inpainter_steps": fewest_steps(distances),
        },
        "masker_iou": ious,
        "inpainter_distance": {"name": distance, "plain": distances, "ours": float(reports["ours"][distance])},
        "inpainter_reports": reports,
        "objects": {"masker": arguments.limit, "inpainter": 5 * arguments.limit},
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
