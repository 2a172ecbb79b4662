"""What a planner proposes: the next object, or to stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from scene.geometry import Box


@dataclass(frozen=True)
class PlannedRelation:
    """How a proposed object should stand to one that is there.

    Attributes:
        relation: "on", "left of", ...; see `scene.relations.Relation`, and "behind".
        label: category of the other.
        layer: its layer id; None where it is not in the scene.
    """

    relation: str
    label: str
    layer: int | None = None


@dataclass(frozen=True)
class Proposal:
    """Next object or stop.

    Attributes:
        label: category; empty when `stop`.
        description: `T_obj`; empty when `stop`.
        box: coarse place in canvas pixels, or None for "anywhere".
        stop: the scene is finished.
        reason: why, in words.
        notes: guards that fired, in order.
        attributes: what the description says besides the label ("yellow", "with rolled arms").
        relation: to an object in the scene, or None.
        confidence: probability of this label (or of stopping) among those allowed, 0 to 1; None where unknown.
    """

    label: str = ""
    description: str = ""
    box: Box | None = None
    stop: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    relation: PlannedRelation | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        if not self.stop and not (self.label and self.description):
            raise ValueError("a proposal needs a label and a description, or stop=True")

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; box as [x0, y0, x1, y1] or null."""
        data = asdict(self)
        data["box"] = list(self.box) if self.box else None
        data["notes"], data["attributes"] = list(self.notes), list(self.attributes)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Proposal:
        """Inverse of `to_json`."""
        box = Box(*data["box"]) if data.get("box") else None
        relation = PlannedRelation(**data["relation"]) if data.get("relation") else None
        lists = {name: tuple(data.get(name, ())) for name in ("notes", "attributes")}
        return cls(**{**data, "box": box, "relation": relation, **lists})
