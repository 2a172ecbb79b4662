"""Which code every view of a batch shows: recalled where a memory can say, else drawn by diffusion.

A code is short, and the networks that draw it are coarser than a bicycle's spokes. Where a silhouette was recalled, the
view therefore shows the silhouette itself; what the networks drew of its code says how well it fits in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import binary_opening, gaussian_filter
from torch import Tensor

from masker.layout_encoder import GuideFrame, cell_centers
from masker.likeliest import likeliest_shape, likely_map, overlap_with_likely, resized, seen_through
from masker.memory import Cue, ShapeMemory
from masker.model import Conditions, Kept, MaskModel
from masker.shape_code import sampled_at
from masker.shape_prior import ShapePrior

SOLID_SIGMA, THIN_SIGMA = 1.2, 0.6  # cells of a remembered silhouette
THIN_GAIN = 1.6  # a line one cell wide stays one cell wide
FINE = 2  # a silhouette seen from elsewhere has so many cells for one, lest thin parts suffer
FAR_FETCHED = 0.0025  # what comes to mind so much less readily than the first is another thing
SHOWN_CELLS = 256  # along a view's side: what is recalled may be finer than what the networks draw


@dataclass(frozen=True)
class CodeDraw:
    """Where one view's code comes from.

    Attributes:
        form: Of its guide. A scribble says the shape by itself: its code is drawn, nothing is recalled.
        noise: (draws, C), of the diffusion over codes.
        chances: (1,), uniform in 0 to 1, of what is recalled.
        compared: With how many shapes that come to mind the recalled one is compared; 0 = with none.
        likeliest: Show the likeliest of these instead of what `chances` says.
    """

    form: str
    noise: Tensor
    chances: Tensor
    compared: int
    likeliest: bool


@dataclass(frozen=True)
class Recalled:
    """A silhouette that was recalled.

    Attributes:
        shape: In its box, in [0, 1], (R, R).
        likely: Soft IoU with what is likely there; None where it was compared with nothing.
        shown: As its view shows it, float32 (F, F) in [0, 1]; None where it fits its guide only when it is drawn (a
            blob that no box stands for).
    """

    shape: Tensor
    likely: float | None
    shown: np.ndarray | None


@torch.no_grad()
def with_codes(
    model: MaskModel,
    conditions: Conditions,
    draws: Sequence[CodeDraw],
    memory: ShapeMemory | None,
    label: str,
    embedding: Tensor,
) -> tuple[Conditions, list[Recalled | None]]:
    """Conditions of B views with their codes, unchanged for a model without codes, and the silhouettes they recall.

    Args:
        model: In evaluation mode.
        conditions: B views.
        draws: One a view.
        memory: None = all codes are drawn. A model without codes shows what it recalls under boxes, and draws the rest.
        label, embedding: Category of the object, and its T_obj's pooled embedding, (D,).

    Returns:
        the conditions, and what every view recalled, None = nothing.
    """
    noise = torch.stack([draw.noise for draw in draws])
    if memory is None:
        return model.draw_codes(conditions, noise), [None] * len(draws)
    frame = GuideFrame.of(conditions.guide)
    cues = [Cue.of(label, embedding, frame.row(row), conditions.geometry[row, None]) for row in range(len(draws))]
    if model.shape_prior is None or model.shape_prior.code is None:
        return conditions, [
            _recalled(memory, cue, draw, None, frame.row(row)) if draw.form == "box" else None
            for row, (cue, draw) in enumerate(zip(cues, draws, strict=True))
        ]
    prior, code, every = model.shape_prior, model.shape_prior.code, torch.ones(len(draws), dtype=torch.bool)
    facts, guide, frame = model.known(conditions, Kept(every, every, every))
    # What no view needs is not drawn; what is, for all of them, so that a row does not depend on its company.
    drawn = likeliest = noise[:, 0]
    if any(draw.form == "scribble" for draw in draws):
        drawn = prior.draw_codes(noise, facts, guide, frame)
    if any(draw.compared or draw.form == "blob" for draw in draws):
        likeliest = prior.maps(facts, prior.draw_codes(torch.zeros_like(noise[:, :1]), facts, guide, frame)).sigmoid()
    codes: list[Tensor] = []
    recalled: list[Recalled | None] = []
    for row, draw in enumerate(draws):
        if draw.form == "scribble":
            codes.append(drawn[row])
            recalled.append(None)
            continue
        held = _in_box(prior, likeliest[row, None]) if draw.compared else None
        found = _recalled(memory, cues[row], draw, held, frame.row(row))
        fitting = code.read(framed(prior, found.shape[None, None]))
        if draw.form == "blob":  # remembered shapes fill boxes; how much of a blob is filled, the likeliest shape shows
            fitting = _fitted(prior, fitting, likeliest[row, None])
        codes.append(fitting[0])
        recalled.append(found)
    return replace(conditions, code=torch.stack(codes)), recalled


def _recalled(memory: ShapeMemory, cue: Cue, draw: CodeDraw, drawn: Tensor | None, frame: GuideFrame) -> Recalled:
    """The shape that chance brings to mind, or the likeliest of all that come.

    Where no network holds anything for likely, what comes to mind most readily is: its words and its place tell more
    of its pose than the mean of all shapes does.

    Args:
        memory, cue, draw: What is recalled.
        drawn: What a network holds for likely in the box, (R, R), if there is one.
        frame: Of the view's guide, B = 1.
    """
    likely = None
    if draw.compared:
        chances, shapes = memory.readiest(cue, 1 if drawn is None else draw.compared)
        likely = likely_map(chances, shapes, drawn)
    if likely is None or not draw.likeliest:
        shape = smoothed(memory.recall(cue, draw.chances)[0])
    elif drawn is None:
        shape = smoothed(shapes[0])
    else:
        shape = _in_line(chances, shapes, likely)
    fit = None if likely is None else overlap_with_likely(shape, likely)
    return Recalled(shape, fit, in_view(shape, frame) if draw.form == "box" else None)


def remembered_like(memory: ShapeMemory, cue: Cue, wanted: Tensor, count: int) -> Tensor:
    """Of the silhouettes that come to mind, the one that overlaps most with a mask, brought in line with it.

    Args:
        memory, cue: What is recalled.
        wanted: The mask in its box, in [0, 1], (H, W).
        count: With how many it is compared.

    Returns:
        float32 (S, S) in [0, 1], in the same box.
    """
    return _in_line(*memory.readiest(cue, count), resized(wanted[None])[0])


def _in_line(chances: Tensor, shapes: Tensor, likely: Tensor) -> Tensor:
    """The likeliest of silhouettes (K, S, S), the readiest first, as its homography shows it."""
    shapes = shapes[chances >= FAR_FETCHED * chances[0]]  # a lamp may overlap more, and is no bamboo
    number, homography = likeliest_shape(shapes, likely)
    return seen_through(homography, smoothed(shapes[number]), FINE * shapes.shape[-1])


def framed(prior: ShapePrior, shapes: Tensor) -> Tensor:
    """Silhouettes in their boxes, (K, 1, S, S), as far as the prior's frame reaches: (K, 1, side, side)."""
    unit = (cell_centers(prior.config.side, shapes.device) * prior.config.reach).expand(len(shapes), -1)
    return sampled_at(shapes, unit, unit)


def in_view(shape: Tensor, frame: GuideFrame) -> np.ndarray:
    """A silhouette in its box, in [0, 1], (S, S), in the view of a frame: float32, `SHOWN_CELLS` square, in [0, 1]."""
    seen: np.ndarray = sampled_at(shape[None, None], *frame.cells(SHOWN_CELLS))[0, 0].numpy()
    return seen


def smoothed(silhouette: Tensor) -> Tensor:
    """A silhouette, 0 or 1, (S, S), without the stairs of its cells: 0.5 runs along a smooth outline, thin parts stay.

    Returns:
        float32 (S, S) in [0, 1].
    """
    shape = silhouette.numpy() > 0.5
    solid = binary_opening(np.pad(shape, 2, mode="edge"), structure=np.ones((3, 3), dtype=bool))[2:-2, 2:-2]
    thin = gaussian_filter((shape & ~solid).astype(np.float32), THIN_SIGMA, mode="nearest") * THIN_GAIN
    body = gaussian_filter(solid.astype(np.float32), SOLID_SIGMA, mode="nearest")
    return torch.from_numpy(np.maximum(body, thin).clip(0, 1).astype(np.float32))


def _in_box(prior: ShapePrior, soft: Tensor) -> Tensor:
    """What lies in the box of a map in the prior's frame, (1, 1, side, side): (side, side)."""
    unit = cell_centers(prior.config.side, soft.device)[None] / prior.config.reach
    return sampled_at(soft, unit, unit)[0, 0]


def _fitted(prior: ShapePrior, codes: Tensor, wanted: Tensor) -> Tensor:
    """Codes (K, C) of shapes that fill their frame, moved and scaled to where a soft map (1, 1, side, side) is."""
    assert prior.code is not None
    side = prior.config.side
    unit = cell_centers(side, codes.device)
    source = []
    for axis in (2, 3):  # over rows: what columns it fills, then the other way round
        there = torch.nonzero(wanted[0, 0].amax(axis - 2) > 0.5).flatten()
        if not len(there):
            return codes
        first, last = unit[there[0]] - 1 / side, unit[there[-1]] + 1 / side
        source.append((unit - (first + last) / 2) / ((last - first) / 2) / prior.config.reach)
    shapes = prior.code.stand_for(codes).clamp(0, 1).view(-1, 1, side, side)
    x, y = (values.expand(len(codes), -1) for values in source)
    return prior.code.read(sampled_at(shapes, x, y))
