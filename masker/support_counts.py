"""Counting over training scenes, out of which `masker.support` makes its tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from masker.contact import EDGE, NOTHING, contact_label, height_on, lower_contact, overlaps, upper_contact
from scene.geometry import Box
from scene.layout import SemanticLayout

ANY = "<any>"  # all labels or kinds together
SURFACE = "surface"
FEW_CHANCES = 20  # a label met less often beside a surface says nothing about that surface
CARRIER_COUNT, CARRIER_SHARE = 10, 0.02  # what carried so many things, and such a share of those placed beside it
HANGING_SHARE, HANGING_LIFT, HANGING_LEAST, STANDING_SHARE = 0.8, 4.0, 0.05, 0.3  # see `_hangers`
ON_QUANTILE, ON_MARGIN = 0.95, 0.1  # how far down its supporter's side a base may lie
OVERLAP_QUANTILE, OVERLAP_MARGIN = 0.997, 0.1
OVERLAP_BINS = 20
MIN_PAIRS = 150  # a pair of labels met less often is judged by its kinds
SIZE_PRIOR_OBJECTS = 4.0
SIGMA_FLOOR = 0.05


class SupportCounts:
    """Everything counted over the training scenes."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self.kinds = kinds
        self.lower: dict[str, Counter[str]] = defaultdict(Counter)
        self.upper: dict[str, Counter[str]] = defaultdict(Counter)
        self.depth_on: dict[str, list[float]] = defaultdict(list)
        self.sizes: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        self.pairs: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros((2, OVERLAP_BINS), dtype=np.int64))
        self.chances: dict[str, Counter[str]] = defaultdict(Counter)  # supporter -> label -> placed beside it
        self.ends: dict[str, list[tuple[float, float, float]]] = defaultdict(list)

    def add_surface(self, label: str, mask: np.ndarray) -> None:
        """Notes where a surface lies."""
        self.ends[label].append(ends(mask))

    def add(self, label: str, mask: np.ndarray, layout: SemanticLayout) -> None:
        """Counts one object placed on `layout`."""
        box, lower, upper = tight_box(mask), lower_contact(mask, layout), upper_contact(mask, layout)
        position = next(iter(lower), None)
        supporter = EDGE if position is None else contact_label(position, layout)
        self.lower[label][supporter] += 1
        self.upper[label][contact_label(next(iter(upper)), layout) if upper else EDGE] += 1
        if position is not None and self._movable(supporter):
            self.depth_on[supporter].append(height_on(position, box.y1, layout))
        if not is_cut(box, mask):
            self.sizes[label].append(size_of(box, mask))
        found = {overlap.position: (overlap.buried, overlap.covered) for overlap in overlaps(mask, layout)}
        for other in set(layout.labels):
            self.chances[other][label] += 1
        for other_position, other in enumerate(layout.labels):
            if self._movable(other):
                for row, value in enumerate(found.get(other_position, (0.0, 0.0))):
                    bin = min(int(np.ceil(value * OVERLAP_BINS)), OVERLAP_BINS - 1) if value else 0
                    self.pairs[label, other][row, bin] += 1

    def _movable(self, label: str) -> bool:
        return self.kinds.get(label, SURFACE) != SURFACE

    def facts(self) -> dict[str, Any]:
        """The tables of `SupportStatistics`."""
        by_kind: dict[str, list[str]] = defaultdict(list)
        for label, kind in sorted(self.kinds.items()):
            by_kind[kind].append(label)
        grounds = self._grounds()
        return {
            "kinds": by_kind,
            "surfaces": {label: label in grounds for label in sorted(self.ends)},
            "carriers": self._carriers(),
            "met_surfaces": self._met_surfaces(),
            "supports": {label: self._supporters([label], 0.005) for label in self.lower},
            "kind_supports": self._kind_supporters(),
            "hangers": self._hangers(grounds),
            "depth_on": self._depths(),
            "sizes": self._size_habits(),
            "overlap_limits": self._overlap_limits(),
        }

    def _supporters(self, labels: Sequence[str], least: float) -> dict[str, list[int]]:
        """Supporter -> [things of `labels` that rest on it, things of `labels` placed while it was there].

        Those that carry a share below `least` are kept in sum under `ANY`.
        """
        counts: Counter[str] = Counter()
        for label in labels:
            counts += self.lower[label]
        total, table, rest = sum(counts.values()), {}, 0
        for supporter, count in counts.items():
            if count < least * total:
                rest += count
            elif supporter in (EDGE, NOTHING):
                table[supporter] = [count, total]
            else:
                table[supporter] = [count, sum(self.chances[supporter][label] for label in labels)]
        return {**table, ANY: [rest, total]} if rest else table

    def _kind_supporters(self) -> dict[str, dict[str, list[int]]]:
        """The same by kind, and for all things together."""
        groups: dict[str, list[str]] = {ANY: list(self.lower)}
        for label in self.lower:
            groups.setdefault(self.kinds[label], []).append(label)
        return {kind: self._supporters(labels, 0.001) for kind, labels in groups.items()}

    def _grounds(self) -> frozenset[str]:
        """Surfaces that things stand on."""
        return frozenset(label for label, ends in self.ends.items() if lies_low(ends))

    def _carriers(self) -> list[str]:
        """Movable things that others rest on now and then."""
        carried: Counter[str] = Counter()
        for counts in self.lower.values():
            carried += counts
        return sorted(
            label
            for label, count in carried.items()
            if self._movable(label)
            and count >= CARRIER_COUNT
            and count >= CARRIER_SHARE * sum(self.chances[label].values())
        )

    def _met_surfaces(self) -> dict[str, list[str]]:
        """Label -> surfaces that it was often placed beside, whether or not it ever rested on them."""
        met: dict[str, list[str]] = defaultdict(list)
        for surface in sorted(self.ends):
            for label, count in self.chances[surface].items():
                if count >= FEW_CHANCES:
                    met[label].append(surface)
        return met

    def _hangers(self, grounds: frozenset[str]) -> dict[str, list[str]]:
        """Labels whose upper end nearly always touches one surface (or is cut off) that other things rarely touch.

        A label that stands on grounds, or on the very surface that its upper end touches, does not hang.
        """
        everything: Counter[str] = Counter()
        for counts in self.upper.values():
            everything += counts
        usual = {
            surface: everything[surface] / sum(self.chances[surface].values())
            for surface in everything
            if surface in self.ends
        }
        found = {}
        for label, counts in self.upper.items():
            own, lower = sum(counts.values()), self.lower[label]
            ends = max(sum(lower.values()) - lower[EDGE], 1)
            if sum(count for supporter, count in lower.items() if supporter in grounds) > STANDING_SHARE * ends:
                continue
            overheads = [
                surface
                for surface, share in usual.items()
                if surface not in grounds
                and counts[surface] >= max(HANGING_LIFT * share * self.chances[surface][label], HANGING_LEAST * own)
                and lower[surface] <= STANDING_SHARE * ends
            ]
            if overheads and sum(counts[other] for other in [*overheads, EDGE]) >= HANGING_SHARE * own:
                found[label] = sorted(overheads)
        return found

    def _depths(self) -> dict[str, float]:
        every = [value for values in self.depth_on.values() for value in values]
        tables = {label: values for label, values in self.depth_on.items() if len(values) >= 20}
        return {
            key: rounded(float(np.quantile(values, ON_QUANTILE)) + ON_MARGIN) if values else 1.0
            for key, values in {**tables, ANY: every}.items()
        }

    def _size_habits(self) -> dict[str, list[float]]:
        pooled: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        for label, values in self.sizes.items():
            pooled[f"<{self.kinds[label]}>"] += values
            pooled[ANY] += values
        if not pooled:
            return {ANY: [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]}
        slopes = {key: fit_lines(values, (0.0, 0.0)) for key, values in pooled.items()}
        habits = dict(slopes)
        for label, values in self.sizes.items():
            kind = slopes[f"<{self.kinds[label]}>"]
            habits[label] = fit_lines(values, (kind[1], kind[3]), (kind[4], kind[5]))
        return {key: [rounded(value) for value in values] for key, values in habits.items()}

    def _overlap_limits(self) -> dict[str, dict[str, list[float]]]:
        pooled: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros((2, OVERLAP_BINS), dtype=np.int64))
        for (label, other), bins in self.pairs.items():
            pooled[f"<{self.kinds[label]}>", f"<{self.kinds[other]}>"] += bins
            pooled[ANY, ANY] += bins
        limits: dict[str, dict[str, list[float]]] = defaultdict(dict)
        for pairs in (self.pairs, pooled):
            for (label, other), bins in pairs.items():
                if bins[0].sum() >= MIN_PAIRS or label == ANY:
                    limits[label][other] = [rounded(overlap_limit(row)) for row in bins]
        return limits


def ends(mask: np.ndarray) -> tuple[float, float, float]:
    """Shares of the canvas's top and bottom edge that a surface takes, and its mean height: 0 at the top, 1 below."""
    rows = mask.sum(axis=1)
    middle = float((rows * np.arange(len(rows))).sum() / max(rows.sum(), 1) / len(rows))
    return float(mask[0].mean()), float(mask[-1].mean()), middle


def lies_low(ends: Sequence[tuple[float, float, float]]) -> bool:
    """Whether a surface is ground: it takes more of the canvas's bottom edge than of its top edge, on average."""
    top, bottom, middle = np.mean(ends, axis=0)
    return bool(bottom > top or (bottom == top == 0 and middle > 0.5))


def overlap_limit(bins: np.ndarray) -> float:
    """Upper edge of the bin at `OVERLAP_QUANTILE`, plus a margin; at most 1."""
    reached = np.cumsum(bins) / bins.sum()
    bin = int(np.searchsorted(reached, OVERLAP_QUANTILE))
    return min(min(bin, OVERLAP_BINS - 1) / OVERLAP_BINS + OVERLAP_MARGIN, 1.0)


def fit_lines(
    values: Iterable[tuple[float, float, float]],
    slopes: tuple[float, float],
    sigmas: tuple[float, float] | None = None,
) -> list[float]:
    """Lines of log height and log width over the base's height: slopes drawn towards `slopes` where data are few."""
    table = np.array(list(values))
    x = table[:, 0]
    lines, spreads = [], []
    for column, (slope, sigma) in enumerate(zip(slopes, sigmas or (None, None), strict=True)):
        y = table[:, column + 1]
        centred = x - x.mean()
        # The prior weighs as much as `SIZE_PRIOR_OBJECTS` objects a tenth of the picture from the middle.
        weight = SIZE_PRIOR_OBJECTS * 0.01
        slope = float(((centred * (y - y.mean())).sum() + weight * slope) / ((centred**2).sum() + weight))
        residuals = y - y.mean() - slope * centred
        squares, number = float((residuals**2).sum()), float(len(y))
        if sigma is not None:
            squares, number = squares + SIZE_PRIOR_OBJECTS * sigma**2, number + SIZE_PRIOR_OBJECTS
        lines += [float(y.mean() - slope * x.mean()), slope]
        spreads.append(max(float(np.sqrt(squares / number)), SIGMA_FLOOR))
    return [*lines, *spreads]


def size_of(box: Box, mask: np.ndarray) -> tuple[float, float, float]:
    """Base over H, log(height / H), log(width / W)."""
    height, width = mask.shape
    return box.y1 / height, float(np.log(box.height / height)), float(np.log(box.width / width))


def tight_box(mask: np.ndarray) -> Box:
    box = Box.from_mask(mask)
    if box is None:
        raise ValueError("the mask is empty")
    return box


def is_cut(box: Box, mask: np.ndarray) -> bool:
    height, width = mask.shape
    return box.x0 == 0 or box.y0 == 0 or box.x1 == width or box.y1 == height


def rounded(value: float) -> float:
    return round(value, 3)
