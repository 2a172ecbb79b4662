"""Surfaces as ranked mask candidates, drawn by the surface prior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from masker.placement import mean_tokens
from masker.placing import guide_box
from masker.ranking import box_fit, iou, ranked
from masker.surfaces import SurfaceInputs, SurfacePrior, box_hint, column_places, draw_outline, runs, sampled_rows
from masker.texts import TextBook
from runtime.seeding import torch_generator
from scene.candidates import MaskCandidate
from scene.errors import ModelError
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.seeds import StepSeed

BATCH = 4  # rows that the network always sees, so that a candidate is the same whatever keeps it company
TEMPERATURE = 0.7
MIN_SURFACE_PX = 64


class Outliner:
    """Draws a surface from the texts, the layout and a box, if one is given.

    Args:
        prior: In evaluation mode.
        texts: Text features.
        surfaces: Labels that are surfaces: outlines are joined to theirs.
    """

    def __init__(self, prior: SurfacePrior, texts: TextBook, surfaces: Sequence[str]) -> None:
        self.prior, self.texts, self.surfaces = prior, texts, frozenset(surfaces)

    def predict(
        self,
        scene: LayeredScene,
        description: str,
        context: str,
        *,
        guidance: Guidance | None,
        count: int,
        seed: StepSeed,
    ) -> list[MaskCandidate]:
        """See `masker.smartmask.SmartMask.predict`; the first candidate drawn is the likeliest outline.

        Raises:
            ModelError: no candidate shows on the canvas.
        """
        inputs = self._inputs(scene, description, context, guidance)
        joined = [layer.mask for layer in scene.layers if layer.label in self.surfaces]
        noise = torch.stack(
            [torch.zeros(self.prior.config.code)]
            + [self._noise(torch_generator(seed.derive("surface", number))) for number in range(1, count)]
        )
        outlines = np.concatenate(
            [self._draw(inputs, noise[start : start + BATCH]) for start in range(0, count, BATCH)]
        )
        masks = [draw_outline(outline, scene.size, joined) for outline in outlines]
        found = [
            self._candidate(mask, masks[0], guidance, number)
            for number, mask in enumerate(masks)
            if int(mask.sum()) >= MIN_SURFACE_PX
        ]
        if not found:
            raise ModelError(
                f"no surface for {description!r}: {count} outlines stayed empty; give a box or another seed"
            )
        return ranked(found, guidance is not None)

    def _noise(self, generator: torch.Generator) -> torch.Tensor:
        return TEMPERATURE * torch.randn(self.prior.config.code, generator=generator)

    def _inputs(self, scene: LayeredScene, description: str, context: str, guidance: Guidance | None) -> SurfaceInputs:
        layout, width = scene.layout, scene.size.width
        seen = (layout.index + 1).astype(np.int16)[:, column_places(self.prior.config.columns, width)]
        texts = self.texts.batch([description], [context])
        box = None if guidance is None else guide_box(guidance)
        return SurfaceInputs(
            columns=torch.from_numpy(np.ascontiguousarray(sampled_rows(seen))).long()[None].expand(BATCH, -1, -1),
            runs=torch.from_numpy(runs(seen))[None].expand(BATCH, -1),
            labels=self.texts.label_table(("", *layout.labels)),
            object=mean_tokens(texts["object_tokens"], texts["object_mask"]).expand(BATCH, -1),
            context=mean_tokens(texts["context_tokens"], texts["context_mask"]).expand(BATCH, -1),
            box=torch.from_numpy(box_hint(box, scene.size))[None].expand(BATCH, -1),
        )

    def _draw(self, inputs: SurfaceInputs, noise: torch.Tensor) -> np.ndarray:
        padded = torch.cat([noise, noise[:1].expand(BATCH - len(noise), -1)])
        return self.prior.draw(inputs, padded).numpy()[: len(noise)]

    def _candidate(
        self, mask: np.ndarray, likeliest: np.ndarray, guidance: Guidance | None, number: int
    ) -> MaskCandidate:
        quality = {"confidence": iou(mask, likeliest)}
        if guidance is not None:
            quality["guide_fit"] = box_fit(mask, guide_box(guidance))
        facts = {"candidate": float(number), "attempt": 0.0, "passes": 1.0}
        return MaskCandidate(mask, float(np.prod(list(quality.values()))), {**quality, **facts})
