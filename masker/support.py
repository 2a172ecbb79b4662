"""Does an object stand where such things stand, as large as they are, through nothing solid: learned from corpora.

`SupportStatistics` counts, over the training scenes, what things of each label rest on, how large they are at each
height of the picture, and how much they overlap what was there before. It judges a mask by the layout alone, so it
serves both for measuring samples and for ranking them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from masker.contact import EDGE, contact_label, height_on, lower_contact, overlaps, upper_contact
from masker.examples import MIN_AREA_PX
from masker.support_counts import ANY, FEW_CHANCES, SURFACE, SupportCounts, ends, is_cut, lies_low, size_of, tight_box
from runtime.files import write_bytes
from scene.corpus.shards import AnyCorpus
from scene.errors import UserError
from scene.geometry import Box
from scene.layout import EMPTY, SemanticLayout

SCHEMA_VERSION = 1
RARE_PROBABILITY = 0.03  # what carries things of the label more rarely than this, where it is there, is wrong
RARE_EDGE = 0.015  # the same for things cut off at the bottom
RARE_KIND_PROBABILITY = 0.05  # the same for the kinds of movable things that carry it
GROUND_SHARE, NEW_SURFACE_SHARE = 0.03, 0.3  # see `_usual`, `_usual_here`
CARRIED_SHARE = 0.2  # of a label that must rest on movable things for it to rest on any carrier
PRIOR_OBJECTS = 2.0  # the kind's habits count like so many objects of the label


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
        cls, corpora: Sequence[AnyCorpus], *, scenes: int | None = None, progress: bool = False
    ) -> SupportStatistics:
        """Learns from split train.

        Args:
            corpora: Their vocabularies are merged; a label's kind is that of the first that knows it.
            scenes: At most so many of each corpus or shard, spread evenly; None = all.
            progress: Draw a bar on stderr.
        """
        counts = SupportCounts(
            {label: corpus.vocabulary.kind(label) for corpus in reversed(corpora) for label in corpus.labels}
        )
        for corpus in chain.from_iterable(whole.parts("train") for whole in corpora):
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

    def are_of(self, corpora: Sequence[AnyCorpus], scenes: int | None = None) -> bool:
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
        ground = lies_low([ends(layout.visible(position))])
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
        if is_cut(tight_box(mask), mask):
            height, width = max(height, 0.0), max(width, 0.0)
        sigma = self.size_habit(label).sigma
        return float(np.sqrt(((height / sigma[0]) ** 2 + (width / sigma[1]) ** 2) / 2))

    def _size_residuals(self, label: str, mask: np.ndarray) -> tuple[float, float]:
        base, log_height, log_width = size_of(tight_box(mask), mask)
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


def _signature(corpora: Sequence[AnyCorpus], scenes: int | None) -> dict[str, Any]:
    """Which corpora, by the contents of their scene files."""
    return {corpus.name: {"scenes": scenes, "sha256": corpus.fingerprint} for corpus in corpora}
