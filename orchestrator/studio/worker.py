"""The process that does all model work for the studio: jobs in, events out, one JSON document a line.

In: `{"job": 7, "kind": KIND, "run": PATH, ...}` and `{"cancel": 7}`. End of input ends the process at once; a run
survives that at any moment. Out: the events of `orchestrator.session`, and besides them `phase` (a model begins to
work), `pending` (what a proposal is built on) and `ended` (one for each job), each with its `job`.

A proposal that waits lives here only as a cache. It is rebuilt from the run and the person's changes to it (`since`),
for every draw is seeded: so a new process goes on where one that died left off.
"""

from __future__ import annotations

import base64
import io
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orchestrator.compose import Composer
from orchestrator.config import ComposeConfig
from orchestrator.layer_edits import Edit
from orchestrator.ports import Models
from orchestrator.run import Run
from orchestrator.run_folder import RunFolder
from orchestrator.session import Event, Pending, Session
from orchestrator.starting import prepare
from orchestrator.studio.progress import Cancelled, Phase, Progress
from runtime.config import validate
from scene.errors import ModelError, UserError

MAX_LOADED, MAX_KEPT = 2, 8
NICENESS = 3  # the page answers first
_NOT_WEIGHTS = {"width", "height", "style", "mode", "corrections", "max_rejections", "preset", "notice"}
Job = Mapping[str, Any]
Say = Callable[[Event], None]


class Stale(Exception):
    """The proposal that a decision is about is no longer there."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A proposal that waits, with what it was built on: [head, next step id], and the changes since."""

    base: list[int]
    since: list[Event]
    pending: Pending


class Worker:
    """Does one job after another.

    Args:
        load: makes the models of a configuration.
        say: takes each event.
    """

    def __init__(self, load: Callable[[ComposeConfig], Models], say: Say) -> None:
        self._load, self._out = load, say
        self._models: OrderedDict[str, Models] = OrderedDict()
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._job = 0
        self.cancelled: set[int] = set()
        self._progress = Progress(self._phase, lambda: self._job in self.cancelled)

    def handle(self, job: Job) -> None:
        """Does a job; everything that can go wrong is told in its `ended` event."""
        self._job = int(job["job"])
        ended: Event = {"event": "ended", "ok": False, "kind": "", "message": ""}
        try:
            self._progress.check()
            _KINDS[job["kind"]](self, job)
            ended["ok"] = True
        except Cancelled:
            ended |= {"kind": "cancelled", "message": "stopped; nothing was changed"}
        except Stale as error:
            ended |= {"kind": "stale", "message": str(error)}
        except (UserError, ModelError) as error:
            ended |= {"kind": "refused", "message": str(error)}
        except Exception:
            traceback.print_exc()
            ended |= {"kind": "bug", "message": "the worker made a mistake of its own; its terminal says more"}
        self._say(ended)
        self.cancelled.discard(self._job)

    def _say(self, event: Event) -> None:
        self._out({"job": self._job, **event})

    def _phase(self, phase: Phase, expected_s: float | None) -> None:
        self._say({"event": "phase", "phase": phase, "expected_s": expected_s})

    def _loaded(self, config: ComposeConfig) -> Models:
        key = config.model_dump_json(exclude=_NOT_WEIGHTS)
        if key not in self._models:
            with self._progress.phase("load"):
                self._models[key] = self._load(config)
            while len(self._models) > MAX_LOADED:
                self._models.popitem(last=False)
        self._models.move_to_end(key)
        return self._progress.watched(self._models[key])

    def _open(self, job: Job) -> Run:
        path = Path(job["run"])
        facts = RunFolder.open(path, write=False).facts
        models = self._loaded(validate(ComposeConfig, facts["config"], "run.json"))
        run = Composer.for_run(path, models=models)[1]
        for step in reversed(run.folder.history.path()):
            self._progress.learn(step.timings)
        return run

    def _start(self, job: Job) -> None:
        if "photo" in job:
            from orchestrator.cli_photo import order_photo

            order = order_photo(Path(job["photo"]), out=Path(job["run"]), config=None, overrides=(), **job["settings"])
            order.begin(self._loaded(order.config)).close()
            return
        beginning = prepare(out=Path(job["run"]), **job["settings"])
        beginning.start(self._loaded(beginning.config)).close()

    def _propose(self, job: Job) -> None:
        run = self._open(job)
        try:
            self._tell(Session(run, ahead=False), lambda session: session.propose(), job, [])
        finally:
            run.close()

    def _do(self, job: Job) -> None:
        """A decision on the proposal that waits, or a change to it."""
        run = self._open(job)
        try:
            session = self._session(run, job)
            event = job["event"]
            self._tell(session, lambda session: session.handle(event), job, [*job["since"], event])
        finally:
            run.close()

    def _advance(self, job: Job) -> None:
        run = self._open(job)
        try:
            if not run.finished:
                self._say(Session(run, ahead=False).advance())
            if run.finished:
                run.finish()
                self._say({"event": "finished"})
        finally:
            run.close()

    def _edit(self, job: Job) -> None:
        run = self._open(job)
        try:
            change = dict(job["change"])
            if change.get("move") is not None:
                change["move"] = tuple(change["move"])
            Edit(**change).checked()
            step = run.edit(job["layer"], **change)
            self._say({"event": "step", **step.to_json()})
        finally:
            run.close()

    def _session(self, run: Run, job: Job) -> Session:
        """A session with the proposal that the job speaks of, from the cache or made again."""
        session = Session(run, ahead=False)
        since, kept = list(job["since"]), self._kept.get(job["run"])
        if job["base"] is not None and list(job["base"]) != _base(run):
            raise Stale("the run was changed elsewhere in the meantime; ask for a new proposal")
        if kept is not None and kept.base == _base(run) and kept.since == since:
            session.pending = kept.pending
            return session
        if job["base"] is None:
            return session
        if not since or since[0]["do"] != "add":
            self._check(session.propose())
        for event in since:
            self._check(session.handle(event))
        return session

    def _check(self, events: Iterable[Event]) -> None:
        for event in events:
            if event["event"] == "error":
                raise UserError(event["message"])

    def _tell(self, session: Session, act: Callable[[Session], Iterable[Event]], job: Job, since: list[Event]) -> None:
        """Passes a session's events on, masks included, and remembers the proposal that waits after them."""
        told: Any = None
        for event in act(session):
            if event["event"] == "error":
                raise UserError(event["message"])
            choice = session.pending.choice if session.pending else None
            if event["event"] == "candidates" and choice is not None and choice.candidates is not told:
                told = choice.candidates
                event = {**event, "masks": [packed(candidate.mask) for candidate in told]}
            self._say(event)
        self._kept.pop(job["run"], None)
        if session.pending is not None:
            self._kept[job["run"]] = Kept(_base(session.run), since, session.pending)
            self._say({"event": "pending", "base": _base(session.run), "since": since})
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


_KINDS: Mapping[str, Callable[[Worker, Job], None]] = {
    "start": Worker._start,
    "propose": Worker._propose,
    "do": Worker._do,
    "advance": Worker._advance,
    "edit": Worker._edit,
}


def _base(run: Run) -> list[int]:
    return [run.folder.history.head, run.folder.history.next_id]


def packed(mask: np.ndarray) -> str:
    """A mask, bool (H, W), as base64 of a one-bit PNG."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def problems() -> dict[str, str]:
    """Of each preset that cannot run on this machine, why."""
    from orchestrator.checkup import examine, look_at_machine
    from orchestrator.config import load_preset, presets

    machine = look_at_machine()
    reports = [examine(load_preset(name), machine) for name in presets()]
    return {report.preset: "; ".join(what for what, _ in report.problems) for report in reports if not report.can_run}


def serve(load: Callable[[ComposeConfig], Models], examine: Callable[[], Mapping[str, str]] = dict) -> None:
    """Reads jobs from stdin until it ends; writes events to what stdout was, and all other output to stderr.

    Args:
        load: makes the models of a configuration.
        examine: says which presets cannot run here, and why.
    """
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the studio, which ends this process
    os.nice(NICENESS)
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()

    def say(event: Event) -> None:
        out.write(json.dumps(event) + "\n")
        out.flush()

    worker = Worker(load, say)

    def read() -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if "cancel" in message:
                worker.cancelled.add(int(message["cancel"]))
            else:
                jobs.put(message)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    say({"job": 0, "event": "ready", "problems": dict(examine())})
    while True:
        worker.handle(jobs.get())


if __name__ == "__main__":
    from orchestrator.assemble import assemble

    serve(assemble, problems)
