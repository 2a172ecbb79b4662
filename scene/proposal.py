"""What a planner proposes: the next object, or to stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from scene.geometry import Box


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
    """

    label: str = ""
    description: str = ""
    box: Box | None = None
    stop: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.stop and not (self.label and self.description):
            raise ValueError("a proposal needs a label and a description, or stop=True")

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; box as [x0, y0, x1, y1] or null."""
        data = asdict(self)
        data["box"] = list(self.box) if self.box else None
        data["notes"] = list(self.notes)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Proposal:
        """Inverse of `to_json`."""
        box = Box(*data["box"]) if data.get("box") else None
        return cls(**{**data, "box": box, "notes": tuple(data.get("notes", ()))})
