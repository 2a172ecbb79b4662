"""Speed of the shipped sampler against a plain diffusion loop, at the figures that both reach, in one run.

The plain loop is what the method's equations say when written down: 50 DPM-Solver++ steps; at every step the layout
encoder and the texts are computed anew, the four branches of chained guidance are evaluated one after the other, and
candidates are drawn one after the other. Both read masks the same way (codec, refiner, threshold).

Usage: .venv/bin/python benchmarks/masker_speed.py [--masker DIR] [--data DIR] [--limit 8] [--threads 2]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from masker import sampling
from masker.cases import Case, choose_cases, true_guide
from masker.config import DiffusionConfig, GuidanceWeights, SamplingConfig
from masker.diffusion import ALL, LAYOUT, NOTHING, OBJECT
from masker.model import Conditions, Kept, MaskModel, Prepared
from masker.ranking import iou
from masker.smartmask import SmartMask
from perception.diffusion import make_solver
from runtime.seeding import set_threads
from scene.corpus.store import Corpus
from scene.errors import ModelError

SEED, CANDIDATES, PLAIN_STEPS, PLAIN_WEIGHT = 5, 4, 50, 1.5
FORMS = ("box", "blob", "scribble")


def one_row(conditions: Conditions, row: int) -> Conditions:
    """The conditions of one view."""
    picked = {name: values[row : row + 1] for name, values in vars(conditions).items() if name != "labels"}
    return Conditions(labels=conditions.labels, **picked)


@torch.no_grad()
def plain_latents(
    model: MaskModel,
    conditions: Conditions,
    noise: torch.Tensor,
    weights: GuidanceWeights,
    diffusion: DiffusionConfig,
    settings: SamplingConfig,
) -> tuple[torch.Tensor, Prepared]:
    """What `masker.sampling.sample_latents` computes, without any of its savings."""
    w = (1.0, weights.layout, weights.object, weights.context)
    rows, ready, chain = [], [], (NOTHING, LAYOUT, OBJECT, ALL)
    for row in range(len(noise)):
        view, latents = one_row(conditions, row), noise[row : row + 1]
        solver = make_solver(diffusion, settings.solver_steps)
        latents = latents * solver.init_noise_sigma
        for step in solver.timesteps:
            time_step = torch.full((1,), int(step), dtype=torch.long)
            seen = solver.scale_model_input(latents, step)
            outputs = []
            for kept in chain:
                output, prepared = model(seen, time_step, view, Kept(*(torch.tensor([flag]) for flag in kept)))
                outputs.append(output)
            total = outputs[0]
            for number in range(1, len(chain)):
                total = total + w[number] * (outputs[number] - outputs[number - 1])
            latents = solver.step(total, step, latents, return_dict=False)[0]
        rows.append(latents)
        ready.append(prepared)
    joined = {name: torch.cat([getattr(part, name) for part in ready]) for name in vars(ready[0])}
    return torch.cat(rows), Prepared(**joined)


def measure(model: SmartMask, corpus: Corpus, cases: list[Case]) -> tuple[dict[str, float], float]:
    """Mean IoU of the best-ranked candidate by form of guidance, and seconds a candidate."""
    scores: dict[str, list[float]] = {form: [] for form in FORMS}
    spent = 0.0
    for case in cases:
        scene = case.scene(corpus)
        for form in FORMS:
            guidance = true_guide(case, form, corpus.size, SEED)  # type: ignore[arg-type]
            begun = time.perf_counter()
            try:
                found = model.predict(
                    scene, case.label, case.description, scene.prompt, guidance=guidance, count=CANDIDATES,
                    seed=case.step(SEED),
                )  # fmt: skip
                scores[form].append(iou(found[0].mask, case.truth))
            except ModelError:
                scores[form].append(0.0)
            spent += time.perf_counter() - begun
    count = len(cases) * len(FORMS) * CANDIDATES
    return {form: float(np.mean(values)) for form, values in scores.items()}, spent / count


def main() -> None:
    """Prints a table: what, IoU by form, seconds a mask, ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masker", type=Path, default=Path("pretrained/home/masker"))
    parser.add_argument("--data", type=Path, default=Path("runs/data/home"))
    parser.add_argument("--limit", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    corpus, model = Corpus.open(arguments.data), SmartMask.from_pretrained(arguments.masker)
    cases = choose_cases(corpus, "val", arguments.limit, SEED)
    shipped = model.config
    measure(model, corpus, cases[:1])  # warm-up
    rows = [("shipped", *measure(model, corpus, cases))]
    quick = sampling.sample_latents
    try:
        sampling.sample_latents = plain_latents
        for temperature in (1.0, shipped.sampling.temperature):
            weights = GuidanceWeights(layout=PLAIN_WEIGHT, object=PLAIN_WEIGHT, context=PLAIN_WEIGHT)
            changed = {"solver_steps": PLAIN_STEPS, "temperature": temperature, "weights": weights}
            model.config = shipped.model_copy(update={"sampling": shipped.sampling.model_copy(update=changed)})
            name = f"plain loop, {PLAIN_STEPS} steps, weights {PLAIN_WEIGHT}, temperature {temperature}"
            rows.append((name, *measure(model, corpus, cases)))
    finally:
        sampling.sample_latents = quick
    base = rows[0][2]
    print(f"{len(cases)} objects of {corpus.name} val, {CANDIDATES} candidates each, {arguments.threads} threads")
    for name, scores, seconds in rows:
        figures = "  ".join(f"{form} {score:.3f}" for form, score in scores.items())
        print(f"{name:52} {figures}  {seconds:6.3f} s a mask  x{seconds / base:.1f}")


if __name__ == "__main__":
    main()
