"""A tiny world for tests of the builder: a wall, a lawn and a ball. Run as a script to be killed in the middle."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scene.corpus.assets import encode_asset
from scene.corpus.attribution import Credit
from scene.corpus.build import Draft, DraftLayer, SceneSource, Skipped, build_corpus
from scene.corpus.icons.build import visible_fracs
from scene.corpus.records import LayerFacts
from scene.geometry import Size
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary

LABELS: dict[str, dict[str, Any]] = {"wall": {"kind": "surface"}, "lawn": {"kind": "surface"}, "ball": {"kind": "toy"}}
BROKEN_SCENE = 4


class ToySource(SceneSource):
    """Scene n: a ball somewhere, another to its right."""

    def __init__(self, seed: int, delay_s: float) -> None:
        self.name, self.licence, self.size, self.vocabulary = "toy", "CC0", Size(256, 256), Vocabulary("toy", LABELS)
        self.seed, self.delay_s = seed, delay_s

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"seed": self.seed}

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"held_out": {"sources": ["ball-3"], "recipes": ["attic"]}}

    @property
    def unusable(self) -> Sequence[str]:
        """See `SceneSource`."""
        return ("ball-7: 0 m wide",)

    def credits(self, sources: Iterable[str]) -> list[Credit]:
        return [Credit(source, source.title(), "A. Maker", "CC0", "toys") for source in sources if "ball" in source]

    def draft(self, number: int) -> Draft | Skipped:
        time.sleep(self.delay_s)
        if number == BROKEN_SCENE:
            return Skipped("nothing fits", (("model skipped", "ball-9: no faces"),))
        rng = np.random.default_rng(derive_seed(self.seed, number))
        split = {8: "val", 9: "test"}.get(number % 10, "train")
        x, y = int(rng.integers(5, 60)), int(rng.integers(140, 200))
        parts = [
            ("wall", np.ones((256, 256), bool), 0, 0),
            ("lawn", np.ones((100, 256), bool), 0, 156),
            ("ball", _disc(30), x, y),
            ("ball", _disc(24), x + 60, y),
        ]
        shown = visible_fracs([mask for _, mask, *_ in parts], [(x, y) for *_, x, y in parts], self.size)
        layers = []
        for (label, mask, left, top), frac in zip(parts, shown, strict=True):
            rgba = np.dstack([rng.integers(0, 255, (*mask.shape, 3), np.uint8), 255 * mask.astype(np.uint8)])
            words = {
                "label": label,
                "description": f"a {label}",
                "source": f"ball-{3 if split != 'train' else 1}" if label == "ball" else f"surface:{label}",
            }
            effect = None
            if label == "ball":
                effect = encode_asset(np.full((6, 30), 90, np.uint8), **words, encoding="shadow"), left, top + 24
            layers.append(
                DraftLayer(encode_asset(rgba, **words, encoding="webp"), left, top, LayerFacts(round(frac, 4)), effect)
            )
        prompts = ("two balls on a lawn",)
        return Draft(f"toy-{number}", number, split, "yard", tuple(layers), prompts, {"number": number})


def _disc(side: int) -> np.ndarray:
    rows, columns = np.mgrid[0:side, 0:side]
    middle = (side - 1) / 2
    return np.asarray((rows - middle) ** 2 + (columns - middle) ** 2 <= (side / 2) ** 2)


def opener(seed: int = 1, delay_s: float = 0.0) -> partial[ToySource]:
    return partial(ToySource, seed, delay_s)


if __name__ == "__main__":
    build_corpus(opener(delay_s=0.1), Path(sys.argv[1]), int(sys.argv[2]))
