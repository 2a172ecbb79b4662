"""SmartMask: the façade. A layout, an object and a scene description go in, ranked amodal masks come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from masker.codec import KLCodec, MaskVAE
from masker.examples import guide_distance
from masker.layout_encoder import GuideFrame, palette_table
from masker.likeliest import soft_iou
from masker.memory import Cue, ShapeMemory
from masker.model import Conditions, MaskModel
from masker.outlining import Outliner
from masker.passes import Pass, PassMaker, Request, View
from masker.placement import PlacementInputs, PlacementPrior
from masker.placing import LikelyBoxes, guide_box
from masker.ranking import box_fit, confidence, habits, iou, ranked
from masker.readout import read_mask, read_surface
from masker.recall import in_view, remembered_like, with_codes
from masker.sampling import sample_masks
from masker.stable_diffusion import clip_texts
from masker.stage_config import MaskerConfig
from masker.support import SupportStatistics
from masker.texts import TextBook
from masker.tracer import ScribbleTracer, trace
from masker.weights import (
    load_masker,
    load_memory,
    load_placement,
    load_statistics,
    load_surfaces,
    load_tracer,
)
from masker.windows import (
    Window,
    geometry_channels,
    inside_view,
    sample_cells,
    sample_coverage,
    to_canvas,
    window_round,
)
from perception.boxes import Places
from runtime.seeding import torch_generator
from scene.candidates import MaskCandidate
from scene.errors import ModelError
from scene.geometry import Box, Size
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.seeds import StepSeed

MIN_MASK_PX = 12
SHARP_CELL_PX = 1.5
BATCH = 4


class SmartMask:
    """Predicts masks of the object to add; make one with `from_pretrained`.

    Args:
        config: As trained; `sampling` may be overridden.
        codec, model: In evaluation mode.
        texts: Text features.
        surfaces: Labels that are surfaces (sky, grass): read out whole, never zoomed.
        placement: Says where mask-free objects go; without one, the mask model has to know by itself.
        statistics: What training scenes show of each label; a part of the score.
        outliner: Draws surfaces that a box or nothing guides; without one, the mask model does.
        memory: Shapes to recall; without one, all codes are drawn by diffusion.
        tracer: Reads the first candidate off a scribble; without one, the mask model draws it.
    """

    def __init__(
        self,
        config: MaskerConfig,
        codec: MaskVAE | KLCodec,
        model: MaskModel,
        texts: TextBook,
        surfaces: Sequence[str] = (),
        placement: PlacementPrior | None = None,
        statistics: SupportStatistics | None = None,
        outliner: Outliner | None = None,
        memory: ShapeMemory | None = None,
        tracer: ScribbleTracer | None = None,
    ) -> None:
        self.tracer = tracer
        self.statistics, self.outliner, self.memory = statistics, outliner, memory
        self.config, self.codec, self.model, self.texts = config, codec, model, texts
        self.placement = placement
        self.surfaces = frozenset(surfaces)

    @classmethod
    def from_pretrained(cls, path: Path | str, texts: TextBook | None = None) -> SmartMask:
        """Loads an exported masker folder.

        Args:
            path: Folder with `masker.yaml`, `codec.yaml`, `labels.json` and two safetensors files.
            texts: Text features; by default the shared MiniLM is loaded.

        Raises:
            UserError: the folder or the text encoder's package is missing or does not fit.
        """
        folder = Path(path)
        config, codec, model, facts = load_masker(folder)
        surfaces = [str(label) for label in facts["surfaces"]]  # type: ignore[attr-defined]
        texts = texts or (clip_texts(folder, config.text) if config.public else TextBook.load(config.text))
        prior = load_surfaces(folder)
        return cls(
            config,
            codec,
            model,
            texts,
            surfaces,
            placement=load_placement(folder),
            statistics=load_statistics(folder),
            outliner=None if prior is None else Outliner(prior, texts, surfaces),
            memory=load_memory(folder),
            tracer=load_tracer(folder),
        )

    @property
    def passes(self) -> PassMaker:
        """What says where to look and what to be guided by."""
        codec = self.codec
        latent = (codec.latent_channels, codec.latent_size, codec.latent_size)
        return PassMaker(self.config, self.model.fine, latent, self.model.code_width)

    def to(self, device: torch.device) -> None:
        """Moves the mask model and its codec; everything else, candidates included, stays on the CPU."""
        self.model.to(device)
        self.codec.to(device)

    def predict(
        self,
        scene: LayeredScene,
        label: str,
        description: str,
        context: str,
        *,
        guidance: Guidance | None,
        count: int,
        seed: StepSeed,
    ) -> list[MaskCandidate]:
        """Amodal masks of the next object, best first.

        Candidate i depends on (scene, texts, guidance, seed, i), not on `count`, to the bit.

        Args:
            scene: What is there already; its layout is all that is looked at.
            label: Category of the object.
            description: T_obj; empty = the label.
            context: T_context, the caption of the whole scene; empty = none.
            guidance: Box, blob or scribble, or None for mask-free.
            count: Candidates wanted, at least 1.
            seed: Source of all randomness.

        Returns:
            `count` candidates at most (one that stayed empty is left out), by falling score.

        Raises:
            ModelError: every candidate stayed empty.
            ValueError: `count` below 1, or a guide of another size than the canvas.
        """
        if count < 1:
            raise ValueError(f"count is {count}; ask for at least 1 candidate")
        if self.outliner is not None and label in self.surfaces and (guidance is None or guidance.kind == "box"):
            return self.outliner.predict(
                scene, description or label, context, guidance=guidance, count=count, seed=seed
            )
        request = self._request(scene, label, description or label, context, guidance)
        found = [
            candidate
            for start in range(0, count, BATCH)
            for candidate in self._batch(request, seed, range(start, min(start + BATCH, count)))
        ]
        candidates = [candidate for candidate in found if candidate is not None]
        if not candidates:
            raise ModelError(
                f"no mask for {label!r}: {count} candidates stayed empty in "
                f"{self.config.sampling.attempts} draws each; give a box or another seed"
            )
        return ranked(candidates, guidance is not None)

    def _request(
        self, scene: LayeredScene, label: str, description: str, context: str, guidance: Guidance | None
    ) -> Request:
        if guidance is not None and guidance.map.shape != scene.size.shape:
            raise ValueError(f"the guide is {guidance.map.shape}; the canvas is {scene.size.shape}")
        layout = scene.layout
        index = (layout.index + 1).astype(np.int16)
        names = ("", *layout.labels)
        labels = self.texts.label_table(names)
        texts = self.texts.batch([description], [context])
        surface = label in self.surfaces and guidance is None
        blob = guidance.blob if guidance is not None and self.memory is not None else None
        loose = guidance is None or guidance.tightness < 1 or blob is not None
        places = self._places(scene.size, index, labels, texts) if loose and not surface else None
        shown = palette_table(names) if self.config.layout_encoder.labels == "palette" else labels
        embedding = self.texts.pooled(description)
        boxes = self._likely_boxes(blob, places, label, embedding, scene.size) if blob and places else None
        return Request(scene.size, label, layout, index, shown, texts, embedding, surface, guidance, places, boxes)

    def _likely_boxes(
        self, blob: Sequence[float], places: Places, label: str, embedding: torch.Tensor, size: Size
    ) -> LikelyBoxes | None:
        """What a blob stands for, with the centre of mass of shapes that fill the box which it stands for at first."""
        config = self.config.examples
        first = LikelyBoxes.of_blob(blob, places, (0.5, 0.5), size, config)
        guide = first.guide(size, 1.0)
        if guide is None or self.memory is None:
            return None
        cue, _, _ = self._cue(guide, label, embedding, size)
        return LikelyBoxes.of_blob(blob, places, self.memory.center(cue), size, config)

    def _cue(self, guide: Guidance, label: str, embedding: torch.Tensor, size: Size) -> tuple[Cue, Window, GuideFrame]:
        """What shapes in a box are recalled by, the view round it, and the box's frame there."""
        window = window_round(guide_box(guide), self.config.examples.window["box"], size)
        seen = torch.from_numpy(sample_coverage(guide.map, window, self.model.fine, supersample=2))
        geometry = torch.from_numpy(geometry_channels(window, size, self.codec.resolution))
        frame = GuideFrame.of(seen[None, None])
        return Cue.of(label, embedding, frame, geometry[None]), window, frame

    def _places(
        self, size: Size, layout: np.ndarray, labels: torch.Tensor, texts: dict[str, torch.Tensor]
    ) -> Places | None:
        if self.placement is None:
            return None
        resolution = self.placement.config.resolution
        return self.placement.places(PlacementInputs.of_canvas(layout, labels, texts, size, resolution))

    def _batch(self, request: Request, seed: StepSeed, numbers: range) -> list[MaskCandidate | None]:
        """Up to `BATCH` candidates, every step of the sampler one call for all of them; None where one stayed empty."""
        found: list[MaskCandidate | None] = [None] * len(numbers)
        for attempt in range(self.config.sampling.attempts):
            if all(found):
                break
            generators = [torch_generator(seed.derive("mask", number, attempt)) for number in numbers]
            likeliest = [number == 0 and attempt == 0 for number in numbers]
            guides = [self.passes.guidance(request, *row) for row in zip(generators, likeliest, strict=True)]
            rows = zip(guides, generators, likeliest, strict=True)
            first = self._look(request, [self.passes.first(request, *row) for row in rows])
            numbered = numbers if attempt == 0 else [None] * len(numbers)
            different = {id(guide): guide for guide in guides}  # all of them the same, unless they are loose
            traced = {key: self._trace(request, guide) for key, guide in different.items()}
            first = [
                self._told_by_scribble(request, view, traced[id(guide)], number)
                for guide, view, number in zip(guides, first, numbered, strict=True)
            ]
            masks = [self._read(view, request) for view in first]
            again = self._refined(request, masks, generators)
            for slot, number in enumerate(numbers):
                if found[slot] is None and int(masks[slot].sum()) >= MIN_MASK_PX:
                    facts = {"candidate": float(number), "attempt": float(attempt)}
                    found[slot] = self._candidate(request, guides[slot], masks[slot], first[slot], again[slot], facts)
        return found

    def _candidate(
        self,
        request: Request,
        guidance: Guidance | None,
        mask: np.ndarray,
        first: View,
        again: View | None,
        facts: dict[str, float],
    ) -> MaskCandidate:
        last, first_mask = first, None
        if again is not None:
            refined = self._read(again, request)
            # A zoom pass that loses the object is worth less than the first pass.
            if int(refined.sum()) >= MIN_MASK_PX:
                last, first_mask, mask = again, mask, refined
        quality = self._quality(request, last, mask, first_mask, guidance)
        facts = {**facts, "passes": 1.0 if first_mask is None else 2.0}
        return MaskCandidate(mask, float(np.prod(list(quality.values()))), {**quality, **facts})

    def _trace(self, request: Request, guidance: Guidance | None) -> View | None:
        """What is read off a scribble; None of other guides, and without a tracer."""
        if self.tracer is None or guidance is None or guidance.kind != "scribble":
            return None
        window, soft = trace(self.tracer, guidance.map, guide_box(guidance), request.size)
        return View(window, soft, None, None)

    def _told_by_scribble(self, request: Request, view: View, traced: View | None, number: int | None) -> View:
        """Under a scribble, candidate 0 is what is read off it, candidate 1 the thing as it is remembered, brought in
        line with that; the others, and all of them, are compared with it."""
        if traced is None:
            return view
        read = to_canvas(traced.soft, traced.window, request.size)
        if number == 0:
            view = traced
        elif number == 1:
            view = self._remembered_like(request, read > self.config.sampling.threshold) or view
        mask = torch.from_numpy(self._read(view, request)).float()
        return replace(view, likely=float(soft_iou(mask, torch.from_numpy(read))))

    def _remembered_like(self, request: Request, mask: np.ndarray) -> View | None:
        """The thing that was asked for as it is remembered, as like a mask (H, W) as it can be; None of surfaces."""
        box = Box.from_mask(mask)
        if box is None or self.memory is None or request.label in self.surfaces:
            return None
        guide = Guidance.from_box(box, request.size)
        cue, window, frame = self._cue(guide, request.label, request.embedding, request.size)
        held = torch.from_numpy(mask[box.y0 : box.y1, box.x0 : box.x1].astype(np.float32))
        shown = in_view(remembered_like(self.memory, cue, held, self.config.sampling.recalled), frame)
        return View(window, shown, shown, None)

    def _refined(
        self, request: Request, masks: Sequence[np.ndarray], generators: Sequence[torch.Generator]
    ) -> list[View | None]:
        """Zoom refinement: the same model on windows round the first masks, which serve as scribbles."""
        refine = self.config.sampling.refine
        free = request.guidance is None and request.places is None
        none: list[View | None] = [None] * len(masks)
        if request.surface or refine == "none" or (refine == "free" and not free):
            return none
        passes = [self.passes.zoom(request, *row) for row in zip(masks, generators, strict=True)]
        wanted = next((row for row in passes if row is not None), None)
        if wanted is None:
            return none
        views = self._look(request, [row or wanted for row in passes])
        return [view if row is not None else None for view, row in zip(views, passes, strict=True)]

    def _look(self, request: Request, passes: Sequence[Pass]) -> list[View]:
        """Sampled soft masks, one a pass.

        torch's CPU kernels differ in the last bits between batch sizes, so the network always sees `BATCH` rows, the
        first one standing in for those that are not there: a row is the same whatever keeps it company.
        """
        resolution, config = self.codec.resolution, self.config
        rows = [*passes, *[passes[0]] * (BATCH - len(passes))]

        def stack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
            return torch.from_numpy(np.stack(arrays))

        canvas = [inside_view(row.window, request.size, self.model.fine) for row in rows]
        conditions = Conditions(
            index=stack([sample_cells(request.layout, row.window, resolution) for row in rows]).long(),
            labels=request.labels,
            guide=stack([row.guide for row in rows])[:, None],
            distance=stack(
                [
                    guide_distance(row.guide, inside, resolution, row.form)
                    for row, inside in zip(rows, canvas, strict=True)
                ]
            )[:, None],
            geometry=stack([geometry_channels(row.window, request.size, resolution) for row in rows]),
            code=torch.zeros(BATCH, self.model.code_width),
            **{name: values.expand(BATCH, *values.shape[1:]) for name, values in request.texts.items()},
        )
        codes = [row.code for row in rows]
        memory = None if request.label in self.surfaces else self.memory  # nothing of them is remembered
        conditions, recalled = with_codes(self.model, conditions, codes, memory, request.label, request.embedding)
        free = request.guidance is None and request.places is None
        weights = config.sampling.free_weights if free else config.sampling.weights
        noise = torch.stack([row.noise for row in rows])
        # Cells of about a pixel have nothing left to show, and what is recalled is sharp.
        sharp = [
            row.window.side > SHARP_CELL_PX * 2 * resolution and (known is None or known.shown is None)
            for row, known in zip(passes, recalled, strict=False)
        ]
        soft = sample_masks(self.model, conditions, noise, weights, config.diffusion, config.sampling, sharp)
        return [
            View(row.window, drawn.numpy(), known.shown if known else None, known.likely if known else None)
            for row, drawn, known in zip(passes, soft, recalled, strict=False)
        ]

    def _read(self, view: View, request: Request) -> np.ndarray:
        sampling = self.config.sampling
        if view.shown is not None:  # a shape as it is: rain is no specks
            return to_canvas(view.shown, view.window, request.size) > sampling.threshold
        if request.surface:
            return read_surface(view.soft, view.window, request.size, sampling.threshold)
        return read_mask(view.soft, view.window, request.size, sampling.threshold, sampling.speck_share)

    def _quality(
        self, request: Request, view: View, mask: np.ndarray, first_mask: np.ndarray | None, guidance: Guidance | None
    ) -> dict[str, float]:
        """What the score is the product of, each 0 to 1; see `masker.ranking`.

        stability: IoU of the first and the refined mask (only where there was a second pass).
        guide_fit: IoU of the mask's box with the guide's box, or with the likeliest that a blob stands for (only where
            a person gave a guide).
        likely: Soft IoU with what is likely in the box, or with what was read off the scribble (likewise).
        """
        quality = {"confidence": confidence(view.soft)}
        if view.likely is not None:
            quality["likely"] = view.likely
        if first_mask is not None:
            quality["stability"] = iou(first_mask, mask)
        if guidance is not None and request.guidance is not None:
            meant = request.boxes.guide(request.size, 1.0) if request.boxes else None
            quality["guide_fit"] = box_fit(mask, guide_box(meant or guidance))
        if self.statistics is not None and not request.surface:
            quality |= habits(self.statistics, request.label, mask, request.seen)
        return quality
