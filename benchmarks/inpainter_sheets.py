"""Pictures of the inpainter on held-out layouts, as PNG: nothing is picked by hand.

python -m benchmarks.inpainter_sheets --weights pretrained/home/inpainter --data runs/data/home --out docs/images

inpainter-scenes.png: 12 validation scenes, drawn back to front from their real masks and words, beside the real ones
inpainter-steps.png: 20 objects drawn one after the other into one picture
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from inpainter.compare import sketch
from inpainter.controlnet_inpaint import ControlNetInpainter
from inpainter.scenes import render_layers
from inpainter.sheets import grid, save_sheet
from runtime.seeding import set_threads
from scene.corpus.store import Corpus
from scene.seeds import StepSeed

SEED = 4
SCENES, COLUMNS = 12, 4
STEPS, STEP_COLUMNS = 20, 5
WIDTH = 256


def small(picture: np.ndarray) -> np.ndarray:
    """A picture `WIDTH` pixels wide."""
    height = round(picture.shape[0] * WIDTH / picture.shape[1])
    return np.asarray(Image.fromarray(picture).resize((WIDTH, height), Image.Resampling.LANCZOS))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("pretrained/home/inpainter"))
    parser.add_argument("--data", type=Path, default=Path("runs/data/home"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    set_threads(1)
    corpus = Corpus.open(arguments.data)
    inpainter = ControlNetInpainter.from_pretrained(arguments.weights)
    records = corpus.records("val")
    order = np.random.default_rng(SEED).permutation(len(records))
    drawn, real = [], []
    for number in order[:SCENES]:
        scene = sketch(corpus, records[int(number)])
        seed = int(number)
        drawn.append(small(render_layers(inpainter, scene, lambda layer, seed=seed: StepSeed(seed, layer.id)).image))
        real.append(small(corpus.painted(records[int(number)].layers)))
    rows = [one for at in range(0, SCENES, COLUMNS) for one in (*drawn[at : at + COLUMNS], *real[at : at + COLUMNS])]
    title = "held-out layouts, drawn / the real scenes below each row"
    save_sheet(grid(np.stack(rows), columns=COLUMNS), arguments.out / "inpainter-scenes.png", title)
    scenes = sorted((sketch(corpus, records[int(number)]) for number in order), key=lambda s: -len(s.layers))
    things = [
        layer for scene in scenes[1:] for layer in scene.layers if corpus.vocabulary.kind(layer.label) != "surface"
    ]
    chosen = [*scenes[0].layers, *things][:STEPS]
    image, steps = np.full((*corpus.size.shape, 3), 255, np.uint8), []
    for number, layer in enumerate(chosen, 1):
        image = inpainter.render(
            image, layer.mask, layer.label, layer.description, scenes[0].prompt, seed=StepSeed(SEED, number)
        )
        steps.append(small(image))
    title = f"{STEPS} steps: {', '.join(layer.label for layer in chosen)}"
    save_sheet(grid(np.stack(steps), columns=STEP_COLUMNS), arguments.out / "inpainter-steps.png", title)


if __name__ == "__main__":
    main()
