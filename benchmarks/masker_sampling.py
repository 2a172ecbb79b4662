"""IoU of a masker under guides for several sampler settings, on the same objects: tables in docs/experiments/masker.md.

    python -m benchmarks.masker_sampling --masker pretrained/home/masker --data runs/data/home --limit 40 \\
        recalled=24 recalled=96 detail_cells=6

Each setting changes fields of the stored sampling (`masker.config.SamplingConfig`). A JSON line a setting and group of
validation objects (known and held-out models apart); one candidate an object, an empty mask counts 0.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from masker.cases import choose_groups, true_guide
from masker.ranking import iou
from masker.smartmask import SmartMask
from runtime.config import changed
from runtime.seeding import set_threads
from scene.corpus.store import Corpus
from scene.errors import ModelError
from scene.seeds import StepSeed

SEED = 5


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--masker", type=Path, default=Path("pretrained/park/masker"))
    parser.add_argument("--data", type=Path, default=Path("runs/data/park"))
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--forms", nargs="+", choices=("box", "blob", "scribble"), default=("box", "blob", "scribble"))
    arguments = parser.parse_args()
    set_threads(1)
    model = SmartMask.from_pretrained(arguments.masker)
    trained = model.config
    for group in choose_groups([Corpus.open(arguments.data)], "val", arguments.limit, SEED):
        scenes = [group.corpus.scene(case.record, case.k) for case in group.cases]
        for setting in arguments.settings:
            sampling = changed(trained.sampling, [part for part in setting.split(",") if part])
            model.config = trained.model_copy(update={"sampling": sampling})
            scores: dict[str, list[float]] = {form: [] for form in arguments.forms}
            for number, (case, scene) in enumerate(zip(group.cases, scenes, strict=True)):
                layer = case.record.layers[case.k]
                for form, values in scores.items():
                    try:
                        found = model.predict(
                            scene, layer.label, layer.description, scene.prompt,
                            guidance=true_guide(case, form, group.corpus.size, SEED),  # type: ignore[arg-type]
                            count=1, seed=StepSeed(SEED, number),
                        )  # fmt: skip
                        values.append(iou(found[0].mask, case.truth))
                    except ModelError:
                        values.append(0.0)
            means = {form: round(float(np.mean(values)), 3) for form, values in scores.items()}
            print(json.dumps({"setting": setting, "group": group.name, "n": len(scenes), "iou": means}), flush=True)


if __name__ == "__main__":
    main()
