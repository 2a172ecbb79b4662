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
from masker.memory import ShapeMemory, place_of
from masker.model import Conditions, Kept, MaskModel
from masker.shape_code import sampled_at
from masker.shape_prior import ShapePrior

SOLID_SIGMA, THIN_SIGMA = 1.2, 0.6  # cells of a remembered silhouette
THIN_GAIN = 1.6  # a line one cell wide stays one cell wide
SHOWN_CELLS = 256  # along a view's side: what is recalled may be finer than what the networks draw


@dataclass(frozen=True)
class CodeDraw:
    """Where one view's code comes from.

    Attributes:
        form: Of its guide. A scribble says the shape by itself: nothing is recalled.
        noise: (draws, C), of the diffusion over codes.
        chances: (K,), uniform in 0 to 1, of what is recalled.
        likeliest: Of all that is recalled, take what is most like the likeliest shape; else the first. A blob leaves so
            much open that the likeliest shape itself is the safest (IoU 0.48 against 0.45 on models never seen).
    """

    form: str
    noise: Tensor
    chances: Tensor
    likeliest: bool

    @property
    def is_drawn(self) -> bool:
        """It is the diffusion's own code that is shown, whatever a memory recalls."""
        return self.form == "scribble" or (self.form == "blob" and self.likeliest)


@torch.no_grad()
def with_codes(
    model: MaskModel, conditions: Conditions, draws: Sequence[CodeDraw], memory: ShapeMemory | None, embedding: Tensor
) -> tuple[Conditions, list[np.ndarray | None]]:
    """Conditions of B views with their codes, unchanged for a model without codes, and the silhouettes they recall.

    Args:
        model: In evaluation mode.
        conditions: B views.
        draws: One a view.
        memory: None = all codes are drawn. A model without codes shows what it recalls under boxes, and draws the rest.
        embedding: Pooled embedding of T_obj, (D,).

    Returns:
        the conditions, and for every view the recalled silhouette as the view shows it, float32 (F, F) in [0, 1], or
        None where none was recalled, or one that fits its guide only when it is drawn (blobs).
    """
    noise = torch.stack([draw.noise for draw in draws])
    if memory is None:
        return model.draw_codes(conditions, noise), [None] * len(draws)
    if model.shape_prior is None or model.shape_prior.code is None:
        return conditions, _recalled(model, conditions, draws, memory, embedding)
    prior, code, every = model.shape_prior, model.shape_prior.code, torch.ones(len(draws), dtype=torch.bool)
    facts, guide, frame = model.known(conditions, Kept(every, every, every))
    # What no view needs is not drawn; what is, for all of them, so that a row does not depend on its company.
    drawn = likeliest = noise[:, 0]
    if any(draw.is_drawn for draw in draws):
        drawn = prior.draw_codes(noise, facts, guide, frame)
    if any(draw.likeliest or draw.form == "blob" for draw in draws):
        likeliest = prior.maps(facts, prior.draw_codes(torch.zeros_like(noise[:, :1]), facts, guide, frame)).sigmoid()
    places = place_of(frame, conditions.geometry)
    codes: list[Tensor] = []
    shown: list[np.ndarray | None] = []
    for row, draw in enumerate(draws):
        if draw.is_drawn:
            codes.append(drawn[row])
            shown.append(None)
            continue
        shapes = memory.recall(embedding, places[row : row + 1], draw.chances[None])[0][:, None]
        found = code.read(framed(prior, shapes))
        if draw.form == "blob":  # remembered shapes fill boxes; how much of a blob is filled, the likeliest shape shows
            found = _fitted(prior, found, likeliest[row : row + 1])
        chosen = _most_like(prior, found, facts[row], likeliest[row]) if draw.likeliest else 0
        codes.append(found[chosen])
        shown.append(in_view(shapes[chosen, 0].numpy(), frame.row(row)) if draw.form != "blob" else None)
    return replace(conditions, code=torch.stack(codes)), shown


def _recalled(
    model: MaskModel, conditions: Conditions, draws: Sequence[CodeDraw], memory: ShapeMemory, embedding: Tensor
) -> list[np.ndarray | None]:
    """Silhouettes under boxes as the views show them; None under other guides, and where nothing guides."""
    frame = GuideFrame.of(conditions.guide)
    places = place_of(frame, conditions.geometry)
    shown: list[np.ndarray | None] = []
    for row, draw in enumerate(draws):
        if draw.form != "box":
            shown.append(None)
            continue
        shape = memory.recall(embedding, places[row : row + 1], draw.chances[None, :1])[0, 0]
        shown.append(in_view(shape.numpy(), frame.row(row)))
    return shown


def framed(prior: ShapePrior, shapes: Tensor) -> Tensor:
    """Silhouettes in their boxes, (K, 1, S, S), as far as the prior's frame reaches: (K, 1, side, side)."""
    unit = (cell_centers(prior.config.side, shapes.device) * prior.config.reach).expand(len(shapes), -1)
    return sampled_at(shapes, unit, unit)


def in_view(shape: np.ndarray, frame: GuideFrame) -> np.ndarray:
    """A silhouette in its box, (S, S), 0 or 1, in the view of a frame: float32, `SHOWN_CELLS` square, in [0, 1]."""
    smooth = torch.from_numpy(smoothed(shape > 0.5))
    seen: np.ndarray = sampled_at(smooth[None, None], *frame.cells(SHOWN_CELLS))[0, 0].numpy()
    return seen


def smoothed(shape: np.ndarray) -> np.ndarray:
    """A silhouette, bool (S, S), without the stairs of its cells: 0.5 runs along a smooth outline, thin parts stay.

    Returns:
        float32 (S, S) in [0, 1].
    """
    solid = binary_opening(np.pad(shape, 2, mode="edge"), structure=np.ones((3, 3), dtype=bool))[2:-2, 2:-2]
    thin = gaussian_filter((shape & ~solid).astype(np.float32), THIN_SIGMA, mode="nearest") * THIN_GAIN
    body = gaussian_filter(solid.astype(np.float32), SOLID_SIGMA, mode="nearest")
    return np.asarray(np.maximum(body, thin).clip(0, 1), dtype=np.float32)


def _most_like(prior: ShapePrior, codes: Tensor, facts: Tensor, wanted: Tensor) -> int:
    """Of codes (K, C) the one whose shape is nearest to a soft map (1, side, side)."""
    shapes = prior.maps(facts.expand(len(codes), -1), codes).sigmoid()
    return int((shapes - wanted).square().sum((1, 2, 3)).argmin())


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
