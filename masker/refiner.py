"""The refiner: from the codec's soft mask to one in finer cells, by what the guide shows and the text names.

The latents carry a mask of `resolution` cells a side, and of a scribble only what fits into them. The refiner sees the
guide in cells of half the size, and how far each lies from its outline, and draws outline and thin parts anew. A
quarter of its result is again a mask of `resolution` cells a side, so the same network refines it once more, tile by
tile. It learns on the denoiser's own estimates, with the true mask as target.

Source: ours, after the super-resolution stage of cascaded diffusion (Ho et al., arXiv 2106.15282), in one step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.config import RefinerConfig
from perception.modulated import ModulatedUNet

LOGIT_LIMIT = 8.0
STEEPEST = 32.0  # logits per unit of distance, at most
FIRST_GAIN, FIRST_RADIUS = 0.5, 0.24  # training erodes scribbles by that much on average
FIRST_SHARE = 0.3  # of the silhouette in the mask
CALM = 0.05  # numbers that move every cell would drown all other gradients
HINTS = 3


class Refiner(nn.Module):
    """Coarse logits and what the guide shows, to fine logits.

    Args:
        config: Sizes.
        text_width: Width of the summary of T_obj.
        planes: Further channels at view resolution: geometry.
    """

    def __init__(self, config: RefinerConfig, text_width: int, planes: int) -> None:
        super().__init__()
        self.config = config
        folded = config.fold**2
        self.net = ModulatedUNet((1 + HINTS) * folded + planes, folded, config.widths, config.blocks, text_width)
        leave = self.net.leave[-1]
        assert isinstance(leave, nn.Conv2d) and leave.bias is not None
        nn.init.zeros_(leave.weight)  # at first the coarse mask passes unchanged
        nn.init.zeros_(leave.bias)
        # How far a scribble was drawn from its object is one number for the whole view: gain * (distance - radius),
        # which has half of the say from the start.
        # And how much the silhouette is to be believed is another.
        last = nn.Linear(config.widths[-1] + text_width, 3)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([FIRST_GAIN, FIRST_RADIUS, FIRST_SHARE]).atanh() / CALM)
        self.settle = nn.Sequential(nn.LayerNorm(last.in_features), last)

    def forward(self, coarse: Tensor, hints: Tensor, planes: Tensor, text: Tensor) -> Tensor:
        """Fine logits, (B, 1, 2R, 2R).

        Args:
            coarse: Logits of a mask, (B, 1, R, R).
            hints: (B, HINTS, 2R, 2R), see `stack_hints`.
            planes: (B, P, ...) of any size: where the view lies.
            text: Summary of T_obj, (B, D).
        """
        logits = resized(coarse, hints.shape[-1]).clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        folded = F.pixel_unshuffle(torch.cat([logits / LOGIT_LIMIT, hints], dim=1), self.config.fold)
        frame = F.adaptive_avg_pool2d(planes, folded.shape[-1])
        change, deepest = self.net(torch.cat([folded, frame], dim=1), text)
        said = (CALM * self.settle(torch.cat([deepest, text], dim=1))).tanh()
        gain, radius, share = said[:, :, None, None].chunk(3, dim=1)
        prior, distance = LOGIT_LIMIT * hints[:, :1], hints[:, 2:3]
        known, drawn = ((plane != 0).amax(dim=(2, 3), keepdim=True) for plane in (prior, distance))
        base = torch.where(known, torch.lerp(logits, prior, share), logits)
        eroded = 0.5 * base + STEEPEST * gain * (distance - radius)
        return torch.where(drawn, eroded, base) + LOGIT_LIMIT * F.pixel_shuffle(change, self.config.fold)


def resized(values: Tensor, side: int) -> Tensor:
    """(B, C, S, S) at another resolution, bilinear."""
    return F.interpolate(values, size=(side, side), mode="bilinear", align_corners=False)


def stack_hints(silhouette: Tensor, guide: Tensor, distance: Tensor, side: int) -> Tensor:
    """What the refiner sees besides the mask, (B, HINTS, side, side).

    Args:
        silhouette: Logits of the shape prior, (B, 1, ...) of any size; 0 where it means nothing.
        guide: G_obj, (B, 1, ...) of any size.
        distance: Signed distance to a scribble's outline, (B, 1, ...) of any size; 0 where nobody drew one.
        side: Cells along one side.
    """
    prior = resized(silhouette, side).clamp(-LOGIT_LIMIT, LOGIT_LIMIT) / LOGIT_LIMIT
    return torch.cat([prior, resized(guide, side), resized(distance, side)], dim=1)


def tile_of(values: Tensor, x: int, y: int, parts: int) -> Tensor:
    """The half-size tile of (B, C, S, S) whose corner lies `x`, `y` of `parts` along the axes."""
    side = values.shape[-1]
    left, top, half = x * side // parts, y * side // parts, side // 2
    return values[..., top : top + half, left : left + half]


def zoomed_geometry(geometry: Tensor, x: int, y: int, parts: int) -> Tensor:
    """Geometry channels (B, 4, S, S) of a half-size tile, (B, 4, S / 2, S / 2); its scale is one octave finer."""
    tile = tile_of(geometry, x, y, parts)
    return torch.cat([tile[:, :3], tile[:, 3:] - 1], dim=1)


def tile_hints(guide: Tensor, side: int) -> Tensor:
    """`stack_hints` of tiles (B, 1, ...): the first level has made of silhouette and distance what there is to make."""
    nothing = torch.zeros_like(guide)
    return stack_hints(nothing, guide, nothing, side)


def refine_tiles(refiner: Refiner, logits: Tensor, guide: Tensor, geometry: Tensor, text: Tensor) -> Tensor:
    """The second level: nine half-size tiles that overlap by half, blended by distance from their edges.

    Args:
        refiner: The network.
        logits: Refined logits of one view, (1, 1, 2R, 2R).
        guide: (1, 1, 4R, 4R).
        geometry: (1, 4, R, R).
        text: (1, D).

    Returns:
        (1, 1, 4R, 4R).
    """
    corners = [(x, y) for y in range(3) for x in range(3)]

    def tiles(values: Tensor) -> Tensor:
        return torch.cat([tile_of(values, x, y, 4) for x, y in corners])

    planes = torch.cat([zoomed_geometry(geometry, x, y, 4) for x, y in corners])
    hints = tile_hints(tiles(guide), guide.shape[-1] // 2)
    refined = refiner(tiles(logits), hints, planes, text.expand(len(corners), -1))
    side = refined.shape[-1]
    ramp = 1 - (2 * (torch.arange(side) + 0.5) / side - 1).abs()
    weight = (ramp[:, None] * ramp).clamp_min(1e-4)
    total, weights = torch.zeros_like(guide), torch.zeros_like(guide)
    for (x, y), tile in zip(corners, refined, strict=True):
        tile_of(total, x, y, 4).add_(tile * weight)
        tile_of(weights, x, y, 4).add_(weight)
    return total / weights
