"""What a mask is asked for by, what every look at the scene is told, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from masker.guides import dilate_cells
from masker.placing import LikelyBoxes, guide_box, guide_from_prior, loosened
from masker.recall import CodeDraw
from masker.stage_config import MaskerConfig
from masker.windows import Window, canvas_window, inside_view, sample_coverage, window_round
from perception.boxes import Places
from scene.geometry import Box, Size
from scene.guidance import Guidance
from scene.layout import SemanticLayout

ZOOM_WORTHWHILE = 0.8  # a window nearly as large as the canvas adds nothing


@dataclass(frozen=True)
class Request:
    """What stays the same for all candidates of one call."""

    size: Size
    label: str
    seen: SemanticLayout
    layout: np.ndarray  # int16 (H, W), rows of `labels`, 0 = nothing
    labels: torch.Tensor  # (N, D) or (N, 3), as the layout encoder wants them
    texts: dict[str, torch.Tensor]
    embedding: torch.Tensor  # of T_obj, (D,)
    surface: bool
    guidance: Guidance | None
    places: Places | None  # where it may lie, when it is not all for the guide to say
    boxes: LikelyBoxes | None  # what a blob stands for


@dataclass(frozen=True)
class Pass:
    """What one row of a batch is told: where to look, the guide there (F, F), its first noise (C, h, w), and where its
    shape's code comes from."""

    window: Window
    form: str
    guide: np.ndarray
    noise: torch.Tensor
    code: CodeDraw


@dataclass(frozen=True)
class View:
    """What came of a pass.

    Attributes:
        window: Where it looked.
        soft: The soft mask that was drawn there, (F, F) or coarser.
        shown: The silhouette that was recalled, as it is to be shown, (`SHOWN_CELLS`, `SHOWN_CELLS`), if one was.
        likely: How well it fits what is likely under its guide, 0 to 1; None where nobody knows.
    """

    window: Window
    soft: np.ndarray
    shown: np.ndarray | None
    likely: float | None


@dataclass(frozen=True)
class PassMaker:
    """Says what every row of a batch is told.

    Attributes:
        config: Its `sampling`, and its `examples` for how far views reach beyond guides.
        fine: Cells along a view's side of guides, F.
        latent: Shape of the noise, (C, h, w).
        code_width: Numbers of a shape's code; 0 = none.
    """

    config: MaskerConfig
    fine: int
    latent: tuple[int, int, int]
    code_width: int

    def guidance(self, request: Request, generator: torch.Generator, likeliest: bool) -> Guidance | None:
        """What guides this candidate: the person's hint, one near it, or a box: that a blob stands for, or from the
        placement prior."""
        given, places = request.guidance, request.places
        if given is not None and request.boxes is not None:
            given = request.boxes.guide(request.size, given.tightness, None if likeliest else generator) or given
        if given is not None:
            return given if given.tightness == 1 else loosened(given, places, request.size, generator)
        return (
            guide_from_prior(places, request.size, generator, self.config.sampling.placement_top_p) if places else None
        )

    def first(self, request: Request, guidance: Guidance | None, generator: torch.Generator, likeliest: bool) -> Pass:
        """The whole canvas when nothing guides, else straight a window round the guide.

        Under a person's guide the first candidate shows the `likeliest` shape; the others are there for variety.
        """
        sampling, fine = self.config.sampling, self.fine
        if guidance is None:
            # Where a surface lies is no matter of taste: no diversity wanted.
            temperature = sampling.temperature if request.surface else sampling.free_temperature
            guide = np.zeros((fine, fine), dtype=np.float32)
            return Pass(canvas_window(request.size), "none", guide, *self._noise("none", temperature, generator))
        factor = self.config.examples.window[guidance.kind]
        window = window_round(guide_box(guidance), factor, request.size)
        guide = sample_coverage(guidance.map, window, fine, supersample=2)
        first = likeliest and sampling.likeliest_first
        told = (sampling.code_draws, sampling.recalled, first) if request.guidance is not None else ()
        return Pass(window, guidance.kind, guide, *self._noise(guidance.kind, sampling.temperature, generator, *told))

    def zoom(self, request: Request, mask: np.ndarray, generator: torch.Generator) -> Pass | None:
        """A window round a first mask, which serves as a scribble; None where it would be about the canvas."""
        sampling = self.config.sampling
        box = Box.from_mask(mask)
        if box is None:
            return None
        grown = round(sampling.refine_dilation * float(np.sqrt(mask.sum())))
        extent = Box(box.x0 - grown, box.y0 - grown, box.x1 + grown, box.y1 + grown).clip(request.size)
        window = window_round(extent, self.config.examples.window["scribble"], request.size)
        if window.side > ZOOM_WORTHWHILE * max(request.size):
            return None
        seen = sample_coverage(mask, window, self.fine, supersample=2)
        guide = dilate_cells(seen, sampling.refine_dilation) * inside_view(window, request.size, self.fine)
        return Pass(window, "scribble", guide, *self._noise("scribble", sampling.temperature, generator))

    def _noise(
        self,
        form: str,
        temperature: float,
        generator: torch.Generator,
        draws: int = 1,
        compared: int = 0,
        likeliest: bool = False,
    ) -> tuple[torch.Tensor, CodeDraw]:
        # Less noise to start from than the model was trained on: samples nearer to the mode. Measured on
        # validation objects: raggedness of a young model falls, IoU under guides rises.
        first = temperature * torch.randn(self.latent, generator=generator)
        code = self.config.sampling.code_temperature * torch.randn((draws, self.code_width), generator=generator)
        chances = torch.rand(1, generator=generator)
        noise = torch.zeros_like(code) if likeliest else code
        return first, CodeDraw(form, noise, chances, compared, likeliest)
