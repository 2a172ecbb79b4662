"""IoU of the masker under guides for several sampler settings: the table in docs/experiments/masker.md.

Usage: .venv/bin/python benchmarks/masker_sampling.py [--masker DIR] [--data runs/data/park] [--limit 24]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from masker.cases import choose_cases, true_guide
from masker.config import GuidanceWeights
from masker.metrics import iou
from masker.smartmask import SmartMask
from runtime.seeding import set_threads
from scene.corpus.store import Corpus
from scene.errors import ModelError
from scene.seeds import StepSeed

SEED = 5
# solver steps, temperature, weight of T_obj and T_context
SETTINGS = ((1, 0.4, 1.0), (2, 0.4, 1.0), (4, 0.4, 1.0), (8, 0.4, 1.0), (4, 0.2, 1.0), (4, 0.7, 1.0), (4, 1.0, 1.0),
            (4, 0.4, 1.5), (8, 0.7, 1.5), (6, 0.5, 1.0))  # fmt: skip


def main() -> None:
    """Prints one JSON line a setting; one candidate an object, an empty mask counts 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masker", type=Path, default=Path("pretrained/park/masker"))
    parser.add_argument("--data", type=Path, default=Path("runs/data/park"))
    parser.add_argument("--limit", type=int, default=24)
    arguments = parser.parse_args()
    set_threads(1)
    corpus, model = Corpus.open(arguments.data), SmartMask.from_pretrained(arguments.masker)
    cases = choose_cases(corpus, "val", arguments.limit, SEED)
    scenes = [corpus.scene(case.record, case.k) for case in cases]
    trained = model.config
    for steps, temperature, weight in SETTINGS:
        changed = {"solver_steps": steps, "temperature": temperature,
                   "weights": GuidanceWeights(object=weight, context=weight)}  # fmt: skip
        model.config = trained.model_copy(update={"sampling": trained.sampling.model_copy(update=changed)})
        scores: dict[str, list[float]] = {"box": [], "blob": [], "scribble": []}
        for number, (case, scene) in enumerate(zip(cases, scenes, strict=True)):
            layer = case.record.layers[case.k]
            for form, values in scores.items():
                try:
                    found = model.predict(
                        scene, layer.label, layer.description, scene.prompt,
                        guidance=true_guide(case, form, corpus.size, SEED),  # type: ignore[arg-type]
                        count=1, seed=StepSeed(SEED, number),
                    )  # fmt: skip
                    values.append(iou(found[0].mask, case.truth))
                except ModelError:
                    values.append(0.0)
        means = {form: round(float(np.mean(values)), 3) for form, values in scores.items()}
        print(json.dumps({"steps": steps, "temperature": temperature, "weight": weight, "n": len(cases), "iou": means}))


if __name__ == "__main__":
    main()
