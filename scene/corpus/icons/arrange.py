"""Where things of the icons world stand: layouts, sizes by depth, and what must not hide what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scene.corpus.icons.drawings import Drawing
from scene.corpus.icons.world import UNSCALED, IconWorld, Layout, Zone
from scene.geometry import Box, Size

LONGEST_PX = (28, 0.62)  # least in pixels, most as a share of the canvas height
MAX_OVERLAP = 0.45  # of the smaller of two boxes
OFF_CANVAS_FRAC = 0.12  # of a thing's width may lie off the canvas
TRIES = 12
SAME_AGAIN = 0.25  # chance that the next thing is one more of the last
HELD_OUT_PREFERENCE = 0.7  # in val and test: chance that a label with held-out drawings is preferred


@dataclass(frozen=True)
class Standing:
    """A thing with its place.

    Attributes:
        label, drawing: what it is and which picture shows it.
        longest_px: its longer side.
        x: canvas column of its middle; foot_px: row of its lowest point.
        depth: sort key, larger = farther; metres where the layout is to scale.
        mirrored: flipped left to right.
        grounded: casts a contact shadow.
    """

    label: str
    drawing: Drawing
    longest_px: int
    x: int
    foot_px: int
    depth: float
    mirrored: bool
    grounded: bool


@dataclass(frozen=True)
class View:
    """Canvas and perspective of one scene: a thing of s metres with its foot d rows below the horizon is
    s * d / camera_m pixels large."""

    size: Size
    horizon_px: int
    camera_m: float

    def row(self, share: float) -> float:
        """Row of a share between the horizon (0) and the bottom (1)."""
        return self.horizon_px + share * (self.size.height - self.horizon_px)


class Arranger:
    """Draws the things of one scene.

    Args:
        world: labels and layouts.
        drawings: label -> drawings that this split may show.
        preferred: labels that have held-out drawings of this split; empty in training.
    """

    def __init__(
        self, world: IconWorld, drawings: Mapping[str, Sequence[Drawing]], preferred: frozenset[str]
    ) -> None:  # fmt: skip
        self.world, self.drawings, self.preferred = world, drawings, preferred
        self._by_habitat: dict[str, list[str]] = {}
        for label, entry in world.labels.items():
            for habitat in entry.habitat:
                if drawings.get(label):
                    self._by_habitat.setdefault(habitat, []).append(label)

    def arrange(self, layout: Layout, view: View, rng: np.random.Generator) -> list[Standing]:
        """Things of all zones, far to near."""
        placed: list[tuple[Standing, Box]] = []
        for zone in layout.zones:
            label = ""
            for _ in range(int(rng.integers(zone.count[0], zone.count[1] + 1))):
                label = label if label and rng.random() < SAME_AGAIN else self._pick(zone, rng)
                for _ in range(TRIES):
                    standing = self._stand(label, zone, view, rng)
                    if standing is not None and _fits(box := _box(standing), placed):
                        placed.append((standing, box))
                        break
        return [standing for standing, _ in sorted(placed, key=lambda pair: -pair[0].depth)]

    def _pick(self, zone: Zone, rng: np.random.Generator) -> str:
        labels = self._by_habitat[zone.habitat]
        preferred = [label for label in labels if label in self.preferred]
        if preferred and rng.random() < HELD_OUT_PREFERENCE:
            labels = preferred
        fitting = [label for label in labels if (self.world.labels[label].size_m or 0) <= zone.max_size_m]
        return fitting[int(rng.integers(len(fitting)))]

    def _stand(self, label: str, zone: Zone, view: View, rng: np.random.Generator) -> Standing | None:
        entry, choices = self.world.labels[label], self.drawings[label]
        drawing = choices[int(rng.integers(len(choices)))]
        mirrored = bool(entry.mirror and rng.random() < 0.5)
        half = 0.5 * zone.inside * view.size.width
        x = round(view.size.width / 2 + rng.uniform(-half, half))
        if zone.habitat in UNSCALED:
            assert entry.span_frac is not None
            longest = round(rng.uniform(*entry.span_frac) * view.size.width)
            if zone.habitat == "horizon":
                return Standing(label, drawing, longest, x, view.horizon_px + 2, 1e6 - longest, mirrored, False)
            foot = round(rng.uniform(longest + 4, max(longest + 5, view.horizon_px * 0.9)))
            return Standing(label, drawing, longest, x, foot, 2e6 - longest, mirrored, False)
        assert entry.size_m is not None
        most = LONGEST_PX[1] * view.size.height
        per_row = entry.size_m / view.camera_m  # pixels a row below the horizon
        rows = (zone.from_, zone.to) if zone.habitat != "underwater" else (0.0, 3.0)  # a swimmer may be very near
        low = max(view.row(rows[0]) - view.horizon_px, LONGEST_PX[0] / per_row)
        high = min(view.row(rows[1]) - view.horizon_px, most / per_row)
        if low > high:
            return None
        below = float(rng.uniform(low, high))
        depth = 1000.0 / below
        longest = max(1, round(per_row * below))
        foot_px = view.horizon_px + below
        if zone.habitat == "underwater":  # swims at any height
            foot_px = rng.uniform(min(longest + 2, view.row(zone.to) - 1), view.row(zone.to))
        grounded = zone.habitat not in ("water", "underwater")
        return Standing(label, drawing, longest, x, round(foot_px), depth, mirrored, grounded)


def _box(standing: Standing) -> Box:
    """A square that surely holds the thing, its middle on the thing's column and its bottom on its foot."""
    half = standing.longest_px // 2
    return Box(standing.x - half, standing.foot_px - standing.longest_px, standing.x + half + 1, standing.foot_px)


def _fits(box: Box, placed: Sequence[tuple[Standing, Box]]) -> bool:
    return all(
        box.intersection(other).area <= MAX_OVERLAP * max(1, min(box.area, other.area)) for _, other in placed
    )  # fmt: skip


def pull_in(x: int, width: int, size: Size) -> int:
    """Left edge nearest to `x` of which at most `OFF_CANVAS_FRAC` of the width lies off the canvas."""
    slack = round(OFF_CANVAS_FRAC * width)
    return int(np.clip(x, -slack, max(-slack, size.width - width + slack)))
