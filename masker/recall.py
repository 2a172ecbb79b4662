"""Which code every view of a batch shows: recalled where a memory can say, else drawn by diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from masker.layout_encoder import cell_centers
from masker.memory import ShapeMemory, place_of
from masker.model import Conditions, Kept, MaskModel
from masker.shape_code import sampled_at
from masker.shape_prior import ShapePrior


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
) -> Conditions:
    """Conditions of B views with their codes; unchanged for a model without codes.

    Args:
        model: In evaluation mode.
        conditions: B views.
        draws: One a view.
        memory: None = all codes are drawn.
        embedding: Pooled embedding of T_obj, (D,).
    """
    noise = torch.stack([draw.noise for draw in draws])
    if memory is None or model.shape_prior is None or model.shape_prior.code is None:
        return model.draw_codes(conditions, noise)
    prior, every = model.shape_prior, torch.ones(len(draws), dtype=torch.bool)
    facts, guide, frame = model.known(conditions, Kept(every, every, every))
    # What no view needs is not drawn; what is, for all of them, so that a row does not depend on its company.
    drawn = likeliest = noise[:, 0]
    if any(draw.is_drawn for draw in draws):
        drawn = prior.draw_codes(noise, facts, guide, frame)
    if any(draw.likeliest or draw.form == "blob" for draw in draws):
        likeliest = prior.maps(facts, prior.draw_codes(torch.zeros_like(noise[:, :1]), facts, guide, frame)).sigmoid()
    chances = torch.stack([draw.chances for draw in draws])
    recalled = memory.recall(embedding, place_of(frame, conditions.geometry), chances)
    codes = []
    for row, draw in enumerate(draws):
        if draw.is_drawn:
            codes.append(drawn[row])
            continue
        found = recalled[row]
        if draw.form == "blob":  # remembered shapes fill boxes; how much of a blob is filled, the likeliest shape shows
            found = _fitted(prior, found, likeliest[row : row + 1])
        codes.append(_most_like(prior, found, facts[row], likeliest[row]) if draw.likeliest else found[0])
    return replace(conditions, code=torch.stack(codes))


def _most_like(prior: ShapePrior, codes: Tensor, facts: Tensor, wanted: Tensor) -> Tensor:
    """Of codes (K, C) the one whose shape is nearest to a soft map (1, side, side); (C,)."""
    shapes = prior.maps(facts.expand(len(codes), -1), codes).sigmoid()
    return codes[int((shapes - wanted).square().sum((1, 2, 3)).argmin())]


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
