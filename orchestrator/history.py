"""The history of a run: a tree of steps with a head. Not the scene graph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from scene.errors import UserError
from scene.proposal import Proposal

Outcome = Literal["placed", "rejected", "skipped", "stopped", "reordered", "edited", "drawn"]
ROOT = 0  # the empty canvas; step ids count up from 1 and are never reused
MAIN = "main"  # the branch that every run starts on
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,39}")


@dataclass(frozen=True)
class StepRecord:
    """One step, as `step.json` holds it.

    Attributes:
        index: step id.
        parent: id of the step before, 0 = the empty canvas.
        outcome: "placed" (a layer was added), "rejected" (nothing changed), "skipped" (a person wants it not now),
            "stopped" (the scene is finished), "reordered" (the layers changed their order), "edited" (layers changed
            or went), "drawn" (layout-first: a layer got its pixels; `proposal` says why no more objects come).
        proposal: what was proposed, as used (a person's edits included); None if the planner's answer was unusable.
        guidance: `Guidance.to_json` and "by" (who gave it), or None.
        candidates: score and details of each mask, best first.
        chosen: which candidate was taken.
        reason: why it was rejected or stopped; what was moved where.
        timings: seconds per part.
        by: "person" where a person rejected, or changed the scene outside the loop (insert, order, edit), else
            "planner".
        behind: ids of the layers that the new one was put behind; it lies right under the rearmost of them.
        order: of a reordered step: all layer ids, back to front.
        context: caption that mask and rendering were given; "" = the run's prompt.
        seed: root of the step's random numbers; None = the run's.
        attempt: which draw of that seed it is; 0 = the first.
        attempts: self-correction: each try's `how`, `violated` (relations asked for that it broke) and `taken`.
        changes: of an edited or drawn step: `layer`, `label`, `description`, `how` ("edited", "recomputed", "reused")
            and `key` of each layer that is not what it was; its pictures are amodal-ID.png and layer-ID.png.
        removed: of an edited step: ids of the layers that went.
        key: of a placed step: what the rendering depended on, hashed; equal keys, equal pixels. "" = not known.
        files: sha256 of each picture of the step, by name.
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
    attempt: int = 0
    attempts: tuple[Mapping[str, Any], ...] = ()
    changes: tuple[Mapping[str, Any], ...] = ()
    removed: tuple[int, ...] = ()
    key: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

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
            "attempt": self.attempt,
            "attempts": [dict(attempt) for attempt in self.attempts],
            "changes": [dict(change) for change in self.changes],
            "removed": list(self.removed),
            "key": self.key,
            "files": dict(self.files),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepRecord:
        """Inverse of `to_json`; unknown keys are errors."""
        proposal = Proposal.from_json(data["proposal"]) if data["proposal"] else None
        lists = {
            name: tuple(data[name]) for name in ("candidates", "behind", "order", "attempts", "changes", "removed")
        }
        return cls(**{**data, **lists, "proposal": proposal})

    @property
    def words(self) -> str:
        """What it is about, in a few words."""
        return self.proposal.description if self.proposal and self.outcome == "placed" else self.reason


@dataclass(frozen=True)
class History:
    """All steps, the head, and names for places in the tree. Frozen: each change gives a new history.

    Attributes:
        steps: by id.
        head: id of the current step, 0 = the empty canvas. Only a pointer: moving it changes no step.
        branches: name -> step id; the current one moves with the head.
        branch: name of the current branch.
        trail: heads that undo left, the last one first to be redone.
        reserved: so many ids are taken by the layers that the run starts with (the parts of a photo); steps come after.
    """

    steps: Mapping[int, StepRecord] = field(default_factory=dict)
    head: int = ROOT
    branches: Mapping[str, int] = field(default_factory=lambda: {MAIN: ROOT})
    branch: str = MAIN
    trail: tuple[int, ...] = ()
    reserved: int = 0

    @property
    def next_id(self) -> int:
        """The id of the next step."""
        return max(self.steps, default=self.reserved) + 1

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

    def children(self, index: int) -> list[StepRecord]:
        """Steps that follow step `index`, oldest first."""
        return [step for _, step in sorted(self.steps.items()) if step.parent == index]

    def add(self, step: StepRecord) -> History:
        """Appends a step to the head and moves the head there."""
        if step.index in self.steps or step.parent != self.head:
            raise ValueError(f"step {step.index} does not follow head {self.head}")
        return replace(self, steps={**self.steps, step.index: step})._at(step.index)

    def _at(self, head: int, trail: tuple[int, ...] = ()) -> History:
        return replace(self, head=head, branches={**self.branches, self.branch: head}, trail=trail)

    def undone(self, count: int = 1) -> History:
        """The head `count` changes back. What only failed (rejected, skipped) does not count as a change.

        Raises:
            UserError: fewer changes lie behind.
        """
        history = self
        for done in range(count):
            path = history.path()
            while path and path[-1].outcome in ("rejected", "skipped"):
                path.pop()
            if not path:
                raise UserError(f"{done} steps can be undone, not {count}; the canvas is empty then")
            history = history._at(path[-1].parent, (*history.trail, history.head))
        return history

    def redone(self, count: int = 1) -> History:
        """The head where undo left it; a new step or a branch ends what can be redone.

        Raises:
            UserError: fewer steps were undone.
        """
        if count > len(self.trail):
            raise UserError(f"{len(self.trail)} undone steps can be redone here, not {count}; see smartscene show RUN")
        return self._at(self.trail[-count], self.trail[:-count])

    def visited(self, index: int) -> History:
        """The head at any step, as a person means who points at it in the tree.

        Back along the way to the head it is an undo (which `redone` takes back), forward along what was undone a redo,
        at the end of a branch a switch; anywhere else a new branch begins there.

        Raises:
            UserError: no such step.
        """
        self._check(index)
        if index == self.head:
            return self
        if index in self.trail:
            return self.redone(self.trail[::-1].index(index) + 1)
        if index == ROOT or index in {step.index for step in self.path()}:
            return self._at(index, (*self.trail, self.head))
        for name, tip in self.branches.items():
            if tip == index:
                return self.switched(name)
        return self.branched(index)

    def branched(self, start: int, name: str | None = None) -> History:
        """A new branch at step `start`, made the current one.

        Args:
            start: any step, or 0 = the empty canvas.
            name: None = "from-START", numbered where that is taken.

        Raises:
            UserError: no such step, name taken or not usable.
        """
        self._check(start)
        if name is None:
            free = (f"from-{start}{suffix}" for suffix in ("", *(f"-{n}" for n in range(2, len(self.branches) + 3))))
            name = next(candidate for candidate in free if candidate not in self.branches)
        if name in self.branches:
            raise UserError(f"branch {name!r} exists; choose another --name, or go there: smartscene branch RUN {name}")
        if not _NAME.fullmatch(name):
            raise UserError(f"branch name {name[:40]!r} is not usable; up to 40 letters, digits, . _ -, a letter first")
        return replace(self, branch=name)._at(start)

    def switched(self, name: str) -> History:
        """The head at the end of branch `name`."""
        return replace(self, branch=name)._at(self.branches[name])

    def locate(self, text: str) -> int:
        """The step that a person names by id or branch.

        Raises:
            UserError: neither.
        """
        if text in self.branches:
            return self.branches[text]
        if not (text.isascii() and text.isdigit()):
            raise UserError(f"{text[:40]!r} is no step and no branch; branches: {', '.join(sorted(self.branches))}")
        self._check(int(text))
        return int(text)

    def _check(self, index: int) -> None:
        if index != ROOT and index not in self.steps:
            start = f"0 (the photo), then {self.reserved + 1}" if self.reserved else "0 (empty canvas)"
            raise UserError(f"there is no step {index}; steps are {start} to {self.next_id - 1}")

    @property
    def finished(self) -> bool:
        """The head is a stop, or what a person changed after one: the loop has nothing left to do."""
        path = self.path()
        while path and path[-1].by == "person" and path[-1].outcome in ("placed", "reordered", "edited"):
            path.pop()
        return bool(path) and path[-1].outcome == "stopped"

    def rejected_since_placed(self) -> list[StepRecord]:
        """Rejected and skipped steps at the end of the path to the head."""
        tail: list[StepRecord] = []
        for step in reversed(self.path()):
            if step.outcome not in ("rejected", "skipped"):
                break
            tail.append(step)
        return tail[::-1]

    def refused(self) -> list[str]:
        """Labels not to be proposed now: refused since the last object was placed, or ever rejected by a person."""
        steps = [step for step in self.path() if step.outcome == "rejected" and step.by == "person"]
        steps += self.rejected_since_placed()
        return list(dict.fromkeys(step.proposal.label for step in steps if step.proposal and step.proposal.label))

    def said(self) -> str:
        """What persons gave as reasons since the last object was placed, for the planner; "" = nothing."""
        return "; ".join(
            step.reason for step in self.rejected_since_placed() if step.by == "person" and step.outcome == "rejected"
        )
