"""The step dialogue as events in and events out; the terminal and the pipe are two fronts of it. See docs/step.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.correct import Choice, choose
from orchestrator.disk import save_png, told_clearly
from orchestrator.edits import MAX_CANDIDATES, hidden_by_front, with_visible
from orchestrator.guides import parse_guide
from orchestrator.history import StepRecord
from orchestrator.outlook import Draft
from orchestrator.pictures import candidate_sheet
from orchestrator.request import By, Request, name_object
from orchestrator.run import Run
from orchestrator.tree import tree_json
from scene.candidates import MaskCandidate
from scene.errors import ModelError, UserError
from scene.guidance import Guidance
from scene.proposal import Proposal

Event = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Pending:
    """A proposal that waits for a person.

    Attributes:
        draft: what the planner gave.
        proposal: as it stands now, edits included.
        guidance: a person's guide; None = the planner's box, or free.
        free: a person wants no guide at all.
        behind: ids of layers it goes behind.
        by: whose object it is.
        count: candidate masks wanted.
        choice: candidates and the one taken; None where the proposal is to stop.
        seconds: how long the masks took.
    """

    draft: Draft
    proposal: Proposal
    count: int
    guidance: Guidance | None = None
    free: bool = False
    behind: tuple[int, ...] = ()
    by: By = "planner"
    choice: Choice | None = None
    seconds: float = 0.0


class Session:
    """One dialogue over one run.

    Args:
        run: open for writing; the caller closes it.
        ahead: ask for the next proposal as soon as a decision is taken; else only when `propose` is called.
    """

    def __init__(self, run: Run, *, ahead: bool = True) -> None:
        self.run, self.ahead = run, ahead
        self.pending: Pending | None = None
        self.ended = False
        self._do: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Event]]] = {
            name: getattr(self, f"_on_{name}")
            for name in (
                "accept", "words", "reject", "skip", "another", "pick", "more", "guide", "behind", "add", "undo",
                "redo", "branch", "tree", "finish", "stop", "quit",
            )
        }  # fmt: skip

    def start(self) -> Iterator[Event]:
        """What the run is, then the first proposal."""
        run = self.run
        yield {
            "event": "hello",
            "run": str(run.folder.path),
            "prompt": run.prompt,
            "seed": run.folder.facts["seed"],
            "size": list(run.scene.size),
            "do": sorted(self._do),
            **self._where(),
        }
        yield from self.propose()

    def handle(self, event: Any) -> Iterator[Event]:
        """Does what an event asks; a mistake gives an "error" event and changes nothing."""
        head = self.run.folder.history.head
        try:
            if not isinstance(event, dict) or event.get("do") not in self._do:
                raise UserError(f'an event is {{"do": NAME, ...}} with NAME one of {", ".join(sorted(self._do))}')
            yield from self._do[event["do"]](event)
        except (UserError, ModelError) as error:
            yield {"event": "error", "message": " ".join(str(error).split())}
            if self.run.folder.history.head != head:  # the step was kept, but what follows it could not be written
                self.run.scene = self.run.folder.scene()
                yield from self._next()

    def _where(self) -> Event:
        history, layers = self.run.folder.history, self.run.scene.layers
        listed = [{"id": layer.id, "label": layer.label, "description": layer.description} for layer in layers]
        return {"head": history.head, "branch": history.branch, "finished": history.finished, "layers": listed}

    def _next(self) -> Iterator[Event]:
        """What follows a decision."""
        if self.ahead or self.run.finished:
            yield from self.propose()
            return
        self._drop_sheet()
        self.pending = None
        self.run.finish()

    def propose(self) -> Iterator[Event]:
        """The next proposal with its candidates, or that the scene is finished."""
        self._drop_sheet()
        self.pending = None
        while not self.run.finished:
            limit = self.run.outlook.limit()
            if self.run.drawing or limit:
                yield self._told(self.run.advance())
                continue
            draft = self.run.propose()
            if draft.proposal is None:
                yield self._told(self.run.reject(draft, draft.error))
                continue
            self.pending = Pending(draft, draft.proposal, self.run.config.masker.candidates)
            try:
                yield from self._propose(self.pending)
            except ModelError as error:
                yield self._told(self.run.reject(draft, f"masker: {error}"))
                continue
            return
        self.run.finish()
        yield {"event": "finished", "picture": str(self.run.folder.path / "final.png"), **self._where()}

    def advance(self) -> Event:
        """One step without asking: places what is pending, else does what the models decide."""
        pending, self.pending = self.pending, None
        return self._told(self.run.advance() if pending is None else self._placed(pending))

    def _propose(self, pending: Pending) -> Iterator[Event]:
        """Predicts masks for what is pending, keeps them, and tells."""
        proposal = pending.proposal
        if not proposal.stop:
            started = time.monotonic()
            pending = replace(pending, choice=self._choice(pending), seconds=time.monotonic() - started)
        self.pending = pending
        yield {"event": "proposal", "step": pending.draft.seed.step, "by": pending.by, **proposal.to_json()}
        if pending.choice is not None:
            yield self._candidates(pending)

    def _choice(self, pending: Pending) -> Choice:
        run, outlook = self.run, self.run.outlook
        guidance, guide_by = (None, "person") if pending.free else outlook.guided(pending.proposal, pending.guidance)
        seed = pending.draft.seed
        for _ in range((pending.count - 1) // MAX_CANDIDATES):  # more than one call can give: another draw
            seed = seed.retry()
        request = Request(seed, pending.proposal, guidance, guide_by, pending.behind, by=pending.by)
        count = (pending.count - 1) % MAX_CANDIDATES + 1
        candidates = outlook.masks(request, count)
        if pending.guidance is None and not pending.behind:
            return choose(outlook, request, candidates, run.config.corrections)
        hidden = hidden_by_front(run.scene, pending.behind)
        if pending.behind:
            candidates = [with_visible(candidate, hidden) for candidate in candidates]
            if all(candidate.details["visible_frac"] == 0 for candidate in candidates):
                raise UserError("every candidate would be hidden there; give a box that reaches out, or another layer")
        seen = [candidate.details.get("visible_frac", 1.0) > 0 for candidate in candidates]
        return Choice(request, tuple(candidates), seen.index(True))

    def _sheet_path(self) -> Path:
        return self.run.folder.path / f"candidates-{self.run.folder.history.next_id:04d}.png"

    def _drop_sheet(self) -> None:
        self._sheet_path().unlink(missing_ok=True)

    def _sheet(self, pending: Pending) -> np.ndarray:
        choice, run = pending.choice, self.run
        assert choice is not None
        title = f"step {pending.draft.seed.step}   ·   {pending.proposal.description}  ({pending.proposal.label})"
        hidden = hidden_by_front(run.scene, pending.behind)
        return candidate_sheet(
            run.scene, choice.candidates, choice.chosen, pending.proposal.label, hidden, choice.request.guidance, title
        )

    def _candidates(self, pending: Pending) -> Event:
        choice = pending.choice
        assert choice is not None
        with told_clearly(self.run.folder.path):
            save_png(self._sheet_path(), self._sheet(pending))
        guidance = choice.request.guidance_json()
        return {
            "event": "candidates",
            "step": pending.draft.seed.step,
            "candidates": [_facts(number, c) for number, c in enumerate(choice.candidates, start=1)],
            "chosen": choice.chosen + 1,
            "guidance": guidance,
            "behind": list(pending.behind),
            "attempts": [dict(attempt) for attempt in choice.attempts],
            "sheet": str(self._sheet_path()),
        }

    def _told(self, step: StepRecord) -> Event:
        folder = self.run.folder.step_dir(step.index)
        picture = str(folder / "image.png") if "image" in step.files else None
        return {"event": "step", "picture": picture, **step.to_json()}

    def _waiting(self) -> Pending:
        if self.pending is None:
            raise UserError("the scene is finished; undo, branch, add an object, or quit")
        return self.pending

    def _with_object(self) -> tuple[Pending, Choice]:
        pending = self._waiting()
        if pending.choice is None:
            raise UserError("the planner would stop here; accept, or give words or add an object")
        return pending, pending.choice

    def _on_accept(self, event: Mapping[str, Any]) -> Iterator[Event]:
        pending = self._waiting()
        if event.get("pick") is not None:
            pending = self._picked(event["pick"])
        yield self._told(self._placed(pending))
        yield from self._next()

    def _placed(self, pending: Pending) -> StepRecord:
        choice = pending.choice
        if choice is None:
            return self.run.conclude(pending.proposal, pending.draft)
        timings = {"propose_s": round(pending.draft.seconds, 3), "mask_s": round(pending.seconds, 3)}
        sheet = self._sheet_path()
        pictures = {"candidates": self._sheet(pending)}
        step = self.run.render(
            choice.request, choice.candidates, choice.chosen, timings, pictures, attempts=choice.attempts
        )
        sheet.unlink(missing_ok=True)
        return step

    def _on_words(self, event: Mapping[str, Any]) -> Iterator[Event]:
        pending, proposal = self._waiting(), self._named(event.get("words"))
        proposal = replace(proposal, box=pending.proposal.box, reason="edited by a person")
        yield from self._propose(replace(pending, proposal=proposal))

    def _named(self, words: Any) -> Proposal:
        return name_object(str(words or ""), self.run.models.vocabulary, self.run.config.preset)

    def _on_add(self, event: Mapping[str, Any]) -> Iterator[Event]:
        proposal = self._named(event.get("words"))
        history = self.run.folder.history
        draft = self.pending.draft if self.pending else self.run.draft_seed(history.next_id)
        guidance = self._guide(event)
        behind = self._layers(event.get("behind", ()))
        pending = Pending(
            draft, proposal, self.run.config.masker.candidates, guidance, guidance is None, behind, "person"
        )
        yield from self._propose(pending)

    def _on_reject(self, event: Mapping[str, Any]) -> Iterator[Event]:
        pending = self._waiting()
        reason = " ".join(str(event.get("reason") or "not wanted").split())[:200]
        yield self._told(self.run.reject(pending.draft, reason, pending.proposal, by="person"))
        yield from self._next()

    def _on_skip(self, event: Mapping[str, Any]) -> Iterator[Event]:
        yield self._told(self.run.skip(self._waiting().draft))
        yield from self._next()

    def _picked(self, number: Any) -> Pending:
        pending, choice = self._with_object()
        if not isinstance(number, int) or not 1 <= number <= len(choice.candidates):
            raise UserError(f"candidate {number} is not one of 1 to {len(choice.candidates)}")
        if choice.candidates[number - 1].details.get("visible_frac", 1.0) == 0:
            raise UserError(f"candidate {number} would be hidden entirely; pick another")
        return replace(pending, choice=replace(choice, chosen=number - 1))

    def _on_pick(self, event: Mapping[str, Any]) -> Iterator[Event]:
        self.pending = self._picked(event.get("candidate"))
        yield self._candidates(self.pending)

    def _on_another(self, event: Mapping[str, Any]) -> Iterator[Event]:
        pending, choice = self._with_object()
        if len(choice.candidates) == 1:
            yield from self._on_more({"count": 1})
            return
        chosen = (choice.chosen + 1) % len(choice.candidates)
        self.pending = replace(pending, choice=replace(choice, chosen=chosen))
        yield self._candidates(self.pending)

    def _on_more(self, event: Mapping[str, Any]) -> Iterator[Event]:
        pending, _ = self._with_object()
        count = event.get("count", 4)
        if not isinstance(count, int) or not 1 <= count <= MAX_CANDIDATES:
            raise UserError(f"count is {count!r}; ask for 1 to {MAX_CANDIDATES} more candidates")
        yield from self._propose(replace(pending, count=pending.count + count))

    def _guide(self, event: Mapping[str, Any]) -> Guidance | None:
        box, blob = (_numbers(event.get(name), name) for name in ("box", "blob"))
        scribble = Path(str(event["scribble"])) if event.get("scribble") else None
        tightness = event.get("tightness")
        if tightness is not None and not isinstance(tightness, int | float):
            raise UserError(f"tightness is {tightness!r}; need a number from 0 to 1")
        return parse_guide(self.run.scene.size, box, blob, scribble, tightness)

    def _on_guide(self, event: Mapping[str, Any]) -> Iterator[Event]:
        pending, _ = self._with_object()
        guidance = self._guide(event)
        yield from self._propose(replace(pending, guidance=guidance, free=guidance is None))

    def _layers(self, names: Any) -> tuple[int, ...]:
        names = [names] if isinstance(names, str | int) else names
        if not isinstance(names, list | tuple):
            raise UserError(f"behind is {names!r}; give a list of layer ids or words")
        return tuple(dict.fromkeys(self.run.scene.find(str(name)).id for name in names))

    def _on_behind(self, event: Mapping[str, Any]) -> Iterator[Event]:
        pending, _ = self._with_object()
        yield from self._propose(replace(pending, behind=self._layers(event.get("layers", ()))))

    def _on_undo(self, event: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._go(self.run.folder.history.undone(_count(event)))

    def _on_redo(self, event: Mapping[str, Any]) -> Iterator[Event]:
        yield from self._go(self.run.folder.history.redone(_count(event)))

    def _on_branch(self, event: Mapping[str, Any]) -> Iterator[Event]:
        history, start, name = self.run.folder.history, str(event.get("at", "")), event.get("name")
        if start in history.branches and name is None:
            yield from self._go(history.switched(start))
            return
        at = history.locate(start) if start else history.head
        yield from self._go(history.branched(at, str(name) if name is not None else None))

    def _go(self, history: Any) -> Iterator[Event]:
        self._drop_sheet()
        self.run.go(history)
        yield {"event": "head", "picture": str(self.run.folder.path / "final.png"), **self._where()}
        yield from self._next()

    def _on_tree(self, event: Mapping[str, Any]) -> Iterator[Event]:
        yield {"event": "tree", **tree_json(self.run.folder.history)}

    def _on_finish(self, event: Mapping[str, Any]) -> Iterator[Event]:
        while self.pending is not None or not self.run.finished:
            yield self.advance()
        yield from self._next()

    def _on_stop(self, event: Mapping[str, Any]) -> Iterator[Event]:
        draft = self._waiting().draft if self.run.finished or self.pending else None
        yield self._told(self.run.conclude(Proposal(stop=True, reason="stopped by a person"), draft))
        yield from self._next()

    def _on_quit(self, event: Mapping[str, Any]) -> Iterator[Event]:
        self._drop_sheet()
        self.run.finish()
        self.ended = True
        yield {"event": "bye", "go_on": f"smartscene step {self.run.folder.path}", **self._where()}


def _facts(number: int, candidate: MaskCandidate) -> Event:
    return {"number": number, "score": round(candidate.score, 6), **candidate.details}


def _numbers(value: Any, name: str) -> str | None:
    """Numbers as a list or as text, in the form that the command line takes."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, int | float) for part in value):
        return ",".join(map(str, value))
    raise UserError(f"{name} is {value!r}; give four numbers")


def _count(event: Mapping[str, Any]) -> int:
    count = event.get("count", 1)
    if not isinstance(count, int) or count < 1:
        raise UserError(f"count is {count!r}; give a whole number from 1")
    return count
