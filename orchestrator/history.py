"""The history of a run: a tree of steps with a head. Not the scene graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from scene.errors import UserError
from scene.proposal import Proposal

Outcome = Literal["placed", "rejected", "stopped", "reordered"]
ROOT = 0  # the empty canvas; step ids count up from 1 and are never reused


@dataclass(frozen=True)
class StepRecord:
    """One step, as `step.json` holds it.

    Attributes:
        index: step id.
        parent: id of the step before, 0 = the empty canvas.
        outcome: "placed" (a layer was added), "rejected" (nothing changed), "stopped" (the scene is finished),
            "reordered" (the layers changed their order).
        proposal: what was proposed, as used (a person's edits included); None if the planner's answer was unusable.
        guidance: `Guidance.to_json` and "by" (who gave it), or None.
        candidates: score and details of each mask, best first.
        chosen: which candidate was taken.
        reason: why it was rejected or stopped; what was moved where.
        timings: seconds per part.
        by: "person" where a person changed the scene outside the loop (insert, order), else "planner".
        behind: ids of the layers that the new one was put behind; it lies right under the rearmost of them.
        order: of a reordered step: all layer ids, back to front.
        context: caption that mask and rendering were given; "" = the run's prompt.
        seed: root of the step's random numbers; None = the run's.
    """

    index: int
    parent: int
    outcome: Outcome
    proposal: Proposal | None = None
    guidance: Mapping[str, Any] | None = None
    candidates: tuple[Mapping[str, Any], ...] = ()
    chosen: int | None = None
    reason: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    by: Literal["planner", "person"] = "planner"
    behind: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    context: str = ""
    seed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready form, without schema version."""
        return {
            "index": self.index,
            "parent": self.parent,
            "outcome": self.outcome,
            "proposal": self.proposal.to_json() if self.proposal else None,
            "guidance": dict(self.guidance) if self.guidance else None,
            "candidates": [dict(candidate) for candidate in self.candidates],
            "chosen": self.chosen,
            "reason": self.reason,
            "timings": dict(self.timings),
            "by": self.by,
            "behind": list(self.behind),
            "order": list(self.order),
            "context": self.context,
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepRecord:
        """Inverse of `to_json`; unknown keys are errors, and what schema version 1 lacked has its default."""
        proposal = Proposal.from_json(data["proposal"]) if data["proposal"] else None
        lists = {name: tuple(data.get(name, ())) for name in ("candidates", "behind", "order")}
        return cls(**{**data, **lists, "proposal": proposal})


@dataclass(frozen=True)
class History:
    """All steps and the head. Frozen: each change gives a new history.

    Attributes:
        steps: by id.
        head: id of the current step, 0 = the empty canvas.
    """

    steps: Mapping[int, StepRecord] = field(default_factory=dict)
    head: int = ROOT

    @property
    def next_id(self) -> int:
        """The id of the next step."""
        return max(self.steps, default=ROOT) + 1

    def path(self, to: int | None = None) -> list[StepRecord]:
        """Steps from the empty canvas to `to` (default: the head).

        Raises:
            UserError: the tree is broken.
        """
        path: list[StepRecord] = []
        index = self.head if to is None else to
        while index != ROOT:
            if index not in self.steps or len(path) > len(self.steps):
                raise UserError(f"step {index} is missing from the run's history; restore steps/{index:04d}")
            path.append(self.steps[index])
            index = self.steps[index].parent
        return path[::-1]

    def add(self, step: StepRecord) -> History:
        """Appends a step to the head and moves the head there."""
        if step.index in self.steps or step.parent != self.head:
            raise ValueError(f"step {step.index} does not follow head {self.head}")
        return replace(self, steps={**self.steps, step.index: step}, head=step.index)

    @property
    def finished(self) -> bool:
        """The head is a stop, or what a person changed after one: the loop has nothing left to do."""
        path = self.path()
        while path and path[-1].by == "person" and path[-1].outcome in ("placed", "reordered"):
            path.pop()
        return bool(path) and path[-1].outcome == "stopped"

    def rejected_since_placed(self) -> list[StepRecord]:
        """Rejected steps at the end of the path to the head."""
        tail: list[StepRecord] = []
        for step in reversed(self.path()):
            if step.outcome != "rejected":
                break
            tail.append(step)
        return tail[::-1]
