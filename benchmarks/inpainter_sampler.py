"""How to draw with given weights: sampler settings side by side, on the same objects and seeds.

    python -m benchmarks.inpainter_sampler --weights runs/inpainter/home/export --data runs/data/home --limit 60 \\
        steps=4,draft_steps=2 steps=8,draft_steps=2 steps=3,draft_steps=null draft

Each setting changes fields of the stored sampler (`inpainter.config.SamplerConfig`); `draft` shows drafts as they are,
which no denoiser has touched. Numbers are those of `smartscene evaluate inpainter`, on one random layer of each scene.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inpainter.controlnet_inpaint import ControlNetInpainter
from inpainter.evaluate import Case, Method, cases
from inpainter.judging import Judges, object_crop
from inpainter.sheets import save_sheet
from inpainter.window import crop, cut_out, place, resize_image, resize_mask
from perception.crops import CropJudge
from runtime.assets import asset_dir
from runtime.config import changed
from runtime.seeding import set_threads
from scene.corpus.store import Corpus
from scene.geometry import Size
from scene.layers import composite

SHOWN_PX = 96


def draft_alone(inpainter: ControlNetInpainter, case: Case) -> np.ndarray:
    """The object as its draft shows it, uint8 (H, W, 3)."""
    window, side = inpainter.window(case.mask), inpainter.window_config.resolution_px
    assert inpainter.appearance is not None
    draft = inpainter.appearance.draft(
        resize_image(crop(case.image, window), side),
        resize_mask(crop(case.mask, window), side),
        inpainter.embed(case.description),
        seed=case.seed.derive("draft"),
        temperature=inpainter.sampler.draft_temperature,
    )
    picture = place(draft, window, Size(*case.image.shape[1::-1]))
    return composite(case.image, cut_out(picture, case.mask))


def draw(name: str, stored: ControlNetInpainter, found: list[Case]) -> Method:
    """All cases with one setting."""
    method = Method()
    inpainter = stored
    if name != "draft":
        sampler = changed(stored.sampler, [part for part in name.split(",") if part])
        inpainter = ControlNetInpainter(
            stored.pipeline, stored.embed, stored.window_config, sampler, stored.appearance
        )  # fmt: skip
    for case in found:
        begun = time.monotonic()
        if name == "draft":
            output = draft_alone(inpainter, case)
        else:
            output = inpainter.render(
                case.image, case.mask, case.label, case.description, case.context, seed=case.seed
            )  # fmt: skip
        method.seconds += time.monotonic() - begun
        method.add(case, output)
    return method


def objects(corpus: Corpus, limit: int, seed: int) -> tuple[list[Case], Judges]:
    """Validation objects, and what judges their drawings against as many training objects."""
    judge = CropJudge.from_pretrained(asset_dir("pretrained") / "judge" / "crops")
    found = list(cases(corpus, corpus.records("val"), limit, seed))
    real = [object_crop(case.truth, case.mask) for case in found]
    other = [object_crop(c.truth, c.mask) for c in cases(corpus, corpus.records("train"), len(found), seed + 1)]
    judged = judge.labels if judge.world == corpus.name else ()
    return found, Judges(judge, judged, real, other, [case.label for case in found])


def figures(method: Method, judges: Judges) -> dict[str, Any]:
    """What is compared, named as in the report of `smartscene evaluate inpainter`."""
    report = judges.report(method.crops)
    for key in ("inside_feature_distance", "inside_psnr_db"):
        report[key] = round(float(np.mean([row[key] for row in method.rows])), 4)
    return report


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="A PNG of the first objects, a row per setting, the real ones last.")
    arguments = parser.parse_args()
    set_threads(1)
    corpus = Corpus.only([arguments.data])
    inpainter = ControlNetInpainter.from_pretrained(arguments.weights)
    found, judges = objects(corpus, arguments.limit, arguments.seed)
    real = [object_crop(case.truth, case.mask) for case in found]
    rows = []
    for name in arguments.settings:
        method = draw(name, inpainter, found)
        report = figures(method, judges)
        report["seconds_per_object"] = round(method.seconds / len(found), 3)
        print(json.dumps({"setting": name, **report}), flush=True)
        rows.append(method.crops)
    if arguments.sheet:
        shown = [
            np.concatenate([np.asarray(Image.fromarray(c).resize((SHOWN_PX, SHOWN_PX))) for c in row[:20]], axis=1)
            for row in (*rows, real)
        ]
        save_sheet(np.concatenate(shown), arguments.sheet, " / ".join([*arguments.settings, "real"]))


if __name__ == "__main__":
    main()
