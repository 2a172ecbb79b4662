"""What an object of a text looks like: a silhouette that text and shape code draw in the guide's own frame.

Without it the transformer has to make shapes out of words and places by multiplying the two inside its layers: after
35 k samples a box still gave a box, whatever stood in it (docs/experiments/masker.md). Here a small network draws the
silhouette outright and is trained on the masks themselves, so it knows the mean shape of a label within minutes. The
frozen mask codec hands it to the denoiser, in the very latents that it works in; the denoiser decides what to make of
it. Mask-free views have no frame, and see nothing of this.

Source: ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.config import ShapePriorConfig
from masker.layout_encoder import GuideFrame
from masker.shape_code import ShapeCode, in_frame, sampled_at

OUTSIDE_LOGIT = -6.0  # nothing of the object lies beyond the map


class ShapePrior(nn.Module):
    """T_obj and a guide's frame to a soft silhouette.

    Args:
        config: Sizes.
        text_width: Width of the summary of T_obj.
        painted_channels: Of the painted layout.
    """

    def __init__(self, config: ShapePriorConfig, text_width: int, painted_channels: int) -> None:
        super().__init__()
        self.config = config
        # Besides the words: the frame's proportions, which tell a pose or a side of the object from another; where on
        # the canvas it is, which tells how far and from how high it is seen; how full the guide is, which tells a box,
        # whose edges can be trusted, from a blob; what lies around it.
        facts = text_width + 2 + 4 * config.place + painted_channels * config.layout_cells**2
        self.draw = self._network(facts + config.code)
        self.average, self.code = None, None
        if config.code:
            self.average, self.code = self._network(facts), ShapeCode(config, facts)
            last = self.draw[-1]  # at first a code's own sketch stands as it is
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def _network(self, facts: int) -> nn.Sequential:
        config, layers = self.config, []
        for number in range(config.layers):
            layers += [nn.Linear(config.hidden if number else facts, config.hidden), nn.SiLU()]
        return nn.Sequential(*layers, nn.Linear(config.hidden, config.side**2))

    def forward(self, facts: Tensor, code: Tensor, frame: GuideFrame, resolution: int) -> Tensor:
        """Logits of the silhouette in a view, (B, 1, resolution, resolution).

        Args:
            facts: What `facts` gave.
            code: Which shape, (B, code).
            frame: Where the object will lie; where there is none, the result means nothing.
            resolution: Cells along one side of the view that is asked for.
        """
        return self.in_view(self.maps(facts, code), frame, resolution)

    def in_view(self, maps: Tensor, frame: GuideFrame, resolution: int) -> Tensor:
        """Maps of logits (B, 1, side, side) in a frame as a view shows them, (B, 1, resolution, resolution)."""
        u, v = (unit / self.config.reach for unit in frame.cells(resolution))
        return sampled_at(maps - OUTSIDE_LOGIT, u, v) + OUTSIDE_LOGIT

    def maps(self, facts: Tensor, code: Tensor) -> Tensor:
        """Logits in the object's frame, (B, 1, side, side)."""
        maps: Tensor = self.draw(torch.cat([facts, code], dim=1)).view(-1, 1, self.config.side, self.config.side)
        return maps if self.code is None else maps + self.code.sketch(code)

    def mean_maps(self, facts: Tensor) -> Tensor:
        """Logits in the object's frame of the mean over all shapes, (B, 1, side, side)."""
        assert self.average is not None
        maps: Tensor = self.average(facts).view(-1, 1, self.config.side, self.config.side)
        return maps

    def hints(self, facts: Tensor, guide: Tensor, frame: GuideFrame) -> Tensor:
        """What codes are drawn from besides facts: what is seen of guides (B, 1, R, R), and the mean shape; (B, G)."""
        assert self.code is not None
        seen = self.code.look(self.seen_in_frame(guide, frame))
        return torch.cat([seen, self.code.read(self.mean_maps(facts).detach().sigmoid())], dim=1)

    def seen_in_frame(self, values: Tensor, frame: GuideFrame) -> Tensor:
        """What lies where the map lies, of (B, 1, R, R) in a view: (B, 1, side, side)."""
        return in_frame(values, frame.center, frame.half * self.config.reach, self.config.side)

    def read_codes(self, masks: Tensor, frame: GuideFrame) -> Tensor:
        """Codes (B, code) of true masks (B, 1, R, R)."""
        assert self.code is not None
        return self.code.read(self.seen_in_frame(masks, frame))

    def draw_codes(self, noise: Tensor, facts: Tensor, guide: Tensor, frame: GuideFrame) -> Tensor:
        """Codes (B, code) from noise (B, draws, code): of so many shapes each, the one most like the others.

        Args:
            noise: Standard normal, scaled down where less variety is wanted.
            facts: What `facts` gave.
            guide: G_obj, (B, 1, R, R).
            frame: Its frame.
        """
        assert self.code is not None
        batch, draws, width = noise.shape
        hints = self.hints(facts, guide, frame)
        many = [values.repeat_interleave(draws, dim=0) for values in (facts, hints)]
        codes = self.code.draw(noise.flatten(0, 1), torch.cat(many, dim=1))
        if draws == 1:
            return codes
        shapes = self.maps(many[0], codes).sigmoid().view(batch, draws, -1)
        apart = torch.cdist(shapes, shapes).square().sum(2)
        chosen = apart.argmin(1)
        return codes.view(batch, draws, width)[torch.arange(batch), chosen]

    def facts(self, text: Tensor, frame: GuideFrame, geometry: Tensor, painted: Tensor) -> Tensor:
        """Everything that is known before a shape is chosen, (B, F).

        Args:
            text: Summary of T_obj, (B, D).
            frame: Where the object will lie.
            geometry: (B, 4, R, R), see `masker.windows.geometry_channels`.
            painted: S, (B, C, R, R).
        """
        facts = [text, frame.half.log()]
        if self.config.place:
            facts += [place_on_canvas(frame, geometry), frame.fill[:, None]]
        if self.config.layout_cells:
            facts.append(F.adaptive_avg_pool2d(painted, self.config.layout_cells).flatten(1))
        return torch.cat(facts, dim=1)


def place_on_canvas(frame: GuideFrame, geometry: Tensor) -> Tensor:
    """(B, 3): canvas x and y of a frame's centre, -1 to 1 across the canvas, and log2 of the view's share of it."""
    across, down = geometry[:, 1, 0, :], geometry[:, 2, :, 0]
    inner = 1 - 1 / across.shape[1]  # cell centres do not reach the view's edges
    places = [
        (line[:, 0] + line[:, -1]) / 2 + frame.center[:, axis] * (line[:, -1] - line[:, 0]) / (2 * inner)
        for axis, line in enumerate((across, down))
    ]
    return torch.stack([*places, geometry[:, 3, 0, 0]], dim=1)
