"""Does an object stand where such things stand, as large as they are, through nothing solid: learned from corpora.

`SupportStatistics` counts, over the training scenes, what things of each label rest on, how large they are at each
height of the picture, and how much they overlap what was there before. It judges a mask by the layout alone, so it
serves both for measuring samples and for ranking them.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from masker.contact import EDGE, NOTHING, contact_label, height_on, lower_contact, overlaps, upper_contact
from masker.examples import MIN_AREA_PX
from runtime.files import sha256_of, write_bytes
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.geometry import Box
from scene.layout import EMPTY, SemanticLayout

SCHEMA_VERSION = 1
ANY = "<any>"  # all labels or kinds together
SURFACE = "surface"

RARE_PROBABILITY = 0.03  # what carries things of the label more rarely than this, where it is there, is wrong
RARE_EDGE = 0.015  # the same for things cut off at the bottom
RARE_KIND_PROBABILITY = 0.05  # the same for the kinds of movable things that carry it
GROUND_SHARE, NEW_SURFACE_SHARE = 0.03, 0.3  # see `_usual`, `_usual_here`
FEW_CHANCES = 20  # a label met less often beside a surface says nothing about that surface
CARRIED_SHARE = 0.2  # of a label that must rest on movable things for it to rest on any carrier
CARRIER_COUNT, CARRIER_SHARE = 10, 0.02  # what carried so many things, and such a share of those placed beside it
PRIOR_OBJECTS = 2.0  # the kind's habits count like so many objects of the label
HANGING_SHARE, HANGING_LIFT, HANGING_LEAST, STANDING_SHARE = 0.8, 4.0, 0.05, 0.3  # see `_hangers`
ON_QUANTILE, ON_MARGIN = 0.95, 0.1  # how far down its supporter's side a base may lie
OVERLAP_QUANTILE, OVERLAP_MARGIN = 0.997, 0.1
OVERLAP_BINS = 20
MIN_PAIRS = 150  # a pair of labels met less often is judged by its kinds
SIZE_PRIOR_OBJECTS = 4.0
SIGMA_FLOOR = 0.05


@dataclass(frozen=True)
class Support:
    """What an object rests on.

    Attributes:
        relation: "on" (standing on, hung on, or flying before the supporter), "from" (hanging from it), "edge" (the
            canvas cuts the contact off).
        supporter: its label; `contact.EDGE` where it is cut off.
        share: of the contact that lies on it, 0 to 1.
    """

    relation: str
    supporter: str
    share: float


@dataclass(frozen=True)
class SizeHabit:
    """log(height / H) and log(width / W) of things of a label: straight lines in the base's height, and their spread.

    Attributes:
        height, width: (value at the picture's top, slope down to its bottom).
        sigma: standard deviation round the lines, of log height and log width.
    """

    height: tuple[float, float]
    width: tuple[float, float]
    sigma: tuple[float, float]


class SupportStatistics:
    """What `from_corpora` learned, or `load` read.

    Args:
        facts: The JSON document, see `to_json`.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        if facts.get("schema_version") != SCHEMA_VERSION:
            raise UserError(
                f"the support statistics have schema {facts.get('schema_version')}, this version reads "
                f"{SCHEMA_VERSION}; make them again from the corpora"
            )
        self.facts = facts
        self.kinds: Mapping[str, str] = {label: kind for kind, labels in facts["kinds"].items() for label in labels}
        # supporter -> (things that rest on it, things placed while it was there)
        self._supports: Mapping[str, Mapping[str, list[int]]] = facts["supports"]
        self._kind_supports: Mapping[str, Mapping[str, list[int]]] = facts["kind_supports"]
        self._hangers: Mapping[str, list[str]] = facts["hangers"]
        self._is_ground: Mapping[str, bool] = facts["surfaces"]
        self._carriers = frozenset(facts["carriers"])
        self._met: Mapping[str, list[str]] = facts["met_surfaces"]
        self._depth_on: Mapping[str, float] = facts["depth_on"]
        self._sizes: Mapping[str, list[float]] = facts["sizes"]
        self._limits: Mapping[str, Mapping[str, list[float]]] = facts["overlap_limits"]

    @classmethod
    def from_corpora(
        cls, corpora: Sequence[Corpus], *, scenes: int | None = None, progress: bool = False
    ) -> SupportStatistics:
        """Learns from split train.

        Args:
            corpora: Their vocabularies are merged; a label's kind is that of the first that knows it.
            scenes: At most so many of each corpus, spread evenly; None = all.
            progress: Draw a bar on stderr.
        """
        counts = _Counts(
            {label: corpus.vocabulary.kind(label) for corpus in reversed(corpora) for label in corpus.labels}
        )
        for corpus in corpora:
            records = corpus.records("train")
            picked = records if scenes is None else records[:: max(1, -(-len(records) // scenes))]
            for record in tqdm(picked, unit="scene", desc=f"support, {corpus.name}", disable=not progress):
                index = np.full(corpus.size.shape, -1, dtype=np.int16)
                labels: list[str] = []
                for position, layer in enumerate(record.layers):
                    mask = corpus.mask(layer)
                    if corpus.vocabulary.kind(layer.label) == SURFACE:
                        counts.add_surface(layer.label, mask)
                    elif int(mask.sum()) >= MIN_AREA_PX:
                        counts.add(layer.label, mask, SemanticLayout(tuple(labels), index))
                    index[mask] = position
                    labels.append(layer.label)
        return cls({"schema_version": SCHEMA_VERSION, "corpora": _signature(corpora, scenes), **counts.facts()})

    @classmethod
    def load(cls, path: Path) -> SupportStatistics:
        """Reads what `save` wrote.

        Raises:
            UserError: it is missing, not readable, or of another schema version.
        """
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"cannot read the support statistics {path} ({error}); make them again") from None

    def are_of(self, corpora: Sequence[Corpus], scenes: int | None = None) -> bool:
        """Whether they were learned from exactly these corpora (and as many scenes)."""
        return bool(self.facts["corpora"] == _signature(corpora, scenes))

    def save(self, path: Path) -> None:
        """Writes compact JSON."""
        write_bytes(path, self.to_json().encode())

    def to_json(self) -> str:
        """Compact JSON; equal corpora give equal text."""
        return json.dumps(self.facts, ensure_ascii=False, separators=(",", ":"), sort_keys=True)

    def support(self, label: str, mask: np.ndarray, layout: SemanticLayout) -> Support:
        """What an object rests on: by its upper end where such things hang, else by its lower contact."""
        relation, contact = self._contact(label, mask, layout)
        if not contact:
            return Support("edge", EDGE, 1.0)
        shares: Counter[str] = Counter()
        for position, share in contact.items():
            shares[contact_label(position, layout)] += share  # type: ignore[assignment]
        supporter, share = shares.most_common(1)[0]
        return Support(relation, supporter, share)

    def is_right(self, label: str, mask: np.ndarray, layout: SemanticLayout) -> bool:
        """Whether most of the contact lies on what such things rest on in training.

        Args:
            label: Category; one that training never met is judged by its kind, an unknown one by all things.
            mask: Amodal, bool (H, W), not empty.
            layout: Of the layers placed before it.
        """
        relation, contact = self._contact(label, mask, layout)
        if not contact:
            return relation == "from" or self._usual(label, EDGE)
        base = Box.from_mask(mask)
        assert base is not None
        good = 0.0
        for position, share in contact.items():
            supporter = contact_label(position, layout)
            if relation == "from":
                good += share * (supporter in self._hangers[label])
            elif self._usual_here(label, position, layout):
                sunk = self._movable(supporter) and height_on(position, base.y1, layout) > self._deepest(supporter)
                good += share * (not sunk)
        return good >= 0.5

    def _contact(self, label: str, mask: np.ndarray, layout: SemanticLayout) -> tuple[str, dict[int, float]]:
        if label in self._hangers:
            return "from", upper_contact(mask, layout)
        return "on", lower_contact(mask, layout)

    def probability(self, label: str, supporter: str) -> float:
        """How often things of `label` rest on `supporter` where there is one, smoothed by the habits of the kind."""
        kind = self._kind_supports[self._kind_key(label)]
        kind_count, kind_chances = kind.get(supporter, (0, 0))
        own = self._supports.get(label, {})
        # Where nothing was kept of the pair, they met as often as the kind and the supporter do, on average.
        met = kind_chances * sum(count for count, _ in own.values()) / max(sum(count for count, _ in kind.values()), 1)
        unknown = (0, max(met, FEW_CHANCES) if supporter in self._met.get(label, ()) else met)
        count, chances = own.get(supporter, unknown)
        return (count + PRIOR_OBJECTS * kind_count / max(kind_chances, 1)) / (chances + PRIOR_OBJECTS)

    def _usual(self, label: str, supporter: str) -> bool:
        """Whether things of a label rest on a supporter in training, or would by what else they rest on there."""
        if self.probability(label, supporter) >= (RARE_EDGE if supporter == EDGE else RARE_PROBABILITY):
            return True
        own = self._habits(label)
        if self._movable(supporter):
            kind = self.kinds[supporter]
            alike = sum(share for other, share in own.items() if self.kinds.get(other) == kind)
            carried = sum(share for other, share in own.items() if other in self._carriers)
            return alike >= RARE_KIND_PROBABILITY or (supporter in self._carriers and carried >= CARRIED_SHARE)
        # Who was never seen near snow, but stands on lawns and on paths, may stand on snow.
        grounds = [other for other, share in own.items() if self._is_ground.get(other) and share >= GROUND_SHARE]
        met = supporter in self._met.get(label, ())
        return self._is_ground.get(supporter, False) and not met and len(grounds) >= 2

    def _usual_here(self, label: str, position: int, layout: SemanticLayout) -> bool:
        """As `_usual`; a surface that no training scene has is taken for ground or backdrop by where it lies."""
        supporter = contact_label(position, layout)
        if position == EMPTY or self._movable(supporter) or supporter in self._is_ground:
            return self._usual(label, supporter)
        ground = _lies_low([_ends(layout.visible(position))])
        own = self._habits(label)
        return sum(share for other, share in own.items() if self._is_ground.get(other) == ground) >= NEW_SURFACE_SHARE

    def _habits(self, label: str) -> dict[str, float]:
        """Shares of a label's supporters, without smoothing; its kind's where it is unknown."""
        own = self._supports.get(label) or self._kind_supports[self._kind_key(label)]
        total = max(sum(count for count, _ in own.values()), 1)
        return {supporter: count / total for supporter, (count, _) in own.items()}

    def _movable(self, label: str) -> bool:
        return self.kinds.get(label, SURFACE) != SURFACE

    def _kind_key(self, label: str) -> str:
        kind = self.kinds.get(label, ANY)
        return kind if kind in self._kind_supports else ANY

    def _deepest(self, supporter: str) -> float:
        return self._depth_on.get(supporter, self._depth_on[ANY])

    def size_habit(self, label: str) -> SizeHabit:
        """How large things of a label are; by kind, then by all things, where it is unknown."""
        key = next(key for key in (label, f"<{self.kinds.get(label, ANY)}>", ANY) if key in self._sizes)
        values = self._sizes[key]
        return SizeHabit((values[0], values[1]), (values[2], values[3]), (values[4], values[5]))

    def size_ratio(self, label: str, mask: np.ndarray) -> float:
        """Size (root of the box's area) over the usual one for its label and the height of its base; 1 = usual."""
        height, width = self._size_residuals(label, mask)
        return float(np.exp((height + width) / 2))

    def size_deviation(self, label: str, mask: np.ndarray) -> float:
        """How unusual a size is: root mean square of both sides' deviations in standard deviations; 0 = usual.

        What the canvas cuts may be larger than it shows, so it is never too small.
        """
        height, width = self._size_residuals(label, mask)
        if _is_cut(_box(mask), mask):
            height, width = max(height, 0.0), max(width, 0.0)
        sigma = self.size_habit(label).sigma
        return float(np.sqrt(((height / sigma[0]) ** 2 + (width / sigma[1]) ** 2) / 2))

    def _size_residuals(self, label: str, mask: np.ndarray) -> tuple[float, float]:
        base, log_height, log_width = _size_of(_box(mask), mask)
        habit = self.size_habit(label)
        return (
            log_height - habit.height[0] - habit.height[1] * base,
            log_width - habit.width[0] - habit.width[1] * base,
        )

    def impossible_overlap(self, label: str, mask: np.ndarray, layout: SemanticLayout) -> float:
        """By how much an overlap with a movable thing exceeds all that training shows; 0 = it can be.

        Two overlaps count: `Overlap.buried` (in front of something that stands nearer) and `Overlap.covered`.

        Returns:
            The largest excess over the pair's limit, 0 to 1.
        """
        excess = 0.0
        for overlap in overlaps(mask, layout):
            other = layout.labels[overlap.position]
            if self._movable(other):
                buried, covered = self._overlap_limit(label, other)
                excess = max(excess, overlap.buried - buried, overlap.covered - covered)
        return excess

    def _overlap_limit(self, label: str, other: str) -> tuple[float, float]:
        kind, other_kind = f"<{self.kinds.get(label, ANY)}>", f"<{self.kinds.get(other, ANY)}>"
        for first, second in ((label, other), (kind, other_kind), (ANY, ANY)):
            found = self._limits.get(first, {}).get(second)
            if found is not None:
                return found[0], found[1]
        return 1.0, 1.0


class _Counts:
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
        self.ends[label].append(_ends(mask))

    def add(self, label: str, mask: np.ndarray, layout: SemanticLayout) -> None:
        """Counts one object placed on `layout`."""
        box, lower, upper = _box(mask), lower_contact(mask, layout), upper_contact(mask, layout)
        position = next(iter(lower), None)
        supporter = EDGE if position is None else contact_label(position, layout)
        self.lower[label][supporter] += 1
        self.upper[label][contact_label(next(iter(upper)), layout) if upper else EDGE] += 1
        if position is not None and self._movable(supporter):
            self.depth_on[supporter].append(height_on(position, box.y1, layout))
        if not _is_cut(box, mask):
            self.sizes[label].append(_size_of(box, mask))
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
        return frozenset(label for label, ends in self.ends.items() if _lies_low(ends))

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
            key: _rounded(float(np.quantile(values, ON_QUANTILE)) + ON_MARGIN) if values else 1.0
            for key, values in {**tables, ANY: every}.items()
        }

    def _size_habits(self) -> dict[str, list[float]]:
        pooled: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        for label, values in self.sizes.items():
            pooled[f"<{self.kinds[label]}>"] += values
            pooled[ANY] += values
        if not pooled:
            return {ANY: [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]}
        slopes = {key: _fit(values, (0.0, 0.0)) for key, values in pooled.items()}
        habits = dict(slopes)
        for label, values in self.sizes.items():
            kind = slopes[f"<{self.kinds[label]}>"]
            habits[label] = _fit(values, (kind[1], kind[3]), (kind[4], kind[5]))
        return {key: [_rounded(value) for value in values] for key, values in habits.items()}

    def _overlap_limits(self) -> dict[str, dict[str, list[float]]]:
        pooled: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros((2, OVERLAP_BINS), dtype=np.int64))
        for (label, other), bins in self.pairs.items():
            pooled[f"<{self.kinds[label]}>", f"<{self.kinds[other]}>"] += bins
            pooled[ANY, ANY] += bins
        limits: dict[str, dict[str, list[float]]] = defaultdict(dict)
        for pairs in (self.pairs, pooled):
            for (label, other), bins in pairs.items():
                if bins[0].sum() >= MIN_PAIRS or label == ANY:
                    limits[label][other] = [_rounded(_limit(row)) for row in bins]
        return limits


def _signature(corpora: Sequence[Corpus], scenes: int | None) -> dict[str, Any]:
    """Which corpora, by the contents of their scene files."""
    return {
        corpus.name: {"scenes": scenes, "sha256": sha256_of(corpus.path / "scenes.jsonl")[:16]} for corpus in corpora
    }


def _ends(mask: np.ndarray) -> tuple[float, float, float]:
    """Shares of the canvas's top and bottom edge that a surface takes, and its mean height: 0 at the top, 1 below."""
    rows = mask.sum(axis=1)
    middle = float((rows * np.arange(len(rows))).sum() / max(rows.sum(), 1) / len(rows))
    return float(mask[0].mean()), float(mask[-1].mean()), middle


def _lies_low(ends: Sequence[tuple[float, float, float]]) -> bool:
    """Whether a surface is ground: it takes more of the canvas's bottom edge than of its top edge, on average."""
    top, bottom, middle = np.mean(ends, axis=0)
    return bool(bottom > top or (bottom == top == 0 and middle > 0.5))


def _limit(bins: np.ndarray) -> float:
    """Upper edge of the bin at `OVERLAP_QUANTILE`, plus a margin; at most 1."""
    reached = np.cumsum(bins) / bins.sum()
    bin = int(np.searchsorted(reached, OVERLAP_QUANTILE))
    return min(min(bin, OVERLAP_BINS - 1) / OVERLAP_BINS + OVERLAP_MARGIN, 1.0)


def _fit(
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


def _size_of(box: Box, mask: np.ndarray) -> tuple[float, float, float]:
    """Base over H, log(height / H), log(width / W)."""
    height, width = mask.shape
    return box.y1 / height, float(np.log(box.height / height)), float(np.log(box.width / width))


def _box(mask: np.ndarray) -> Box:
    box = Box.from_mask(mask)
    if box is None:
        raise ValueError("the mask is empty")
    return box


def _is_cut(box: Box, mask: np.ndarray) -> bool:
    height, width = mask.shape
    return box.x0 == 0 or box.y0 == 0 or box.x1 == width or box.y1 == height


def _rounded(value: float) -> float:
    return round(value, 3)
