"""What waits on the page's side of each run: the proposal, the job, what went wrong; and what a click makes of them."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator import edits, products
from orchestrator.history import History
from orchestrator.run_folder import RunFolder
from orchestrator.studio.hub import Hub
from orchestrator.studio.jobs import WORKER_COMMAND, Event, Job, Jobs
from orchestrator.studio.library import Library, NotFound, changed
from orchestrator.studio.uploads import Uploads
from orchestrator.studio.views import Views, holder_of, read_flags, write_flags
from scene.errors import UserError

WATCH_S = 0.5
MAX_QUEUED = 64
DECIDING = ("accept", "reject", "skip")  # after these the planner is asked for more


class Busy(UserError):
    """The run is being worked on."""


class Locked(UserError):
    """The layer may not be changed."""


@dataclass(eq=False)
class Desk:
    """One run on the page's side.

    Attributes:
        starting: what was asked for, until its folder exists.
        proposal: the proposal that waits, as the worker told it, with `candidates` and `chosen`.
        masks: one-bit PNGs of its candidates; `draw` counts how often they changed.
        base, since: what it was built on; the worker makes it again of these.
        auto: run to the end by itself.
        error: what went wrong last, until the next job.
        flags: layers hidden and locked; None = as the run folder says.
        turn: held while something is done to the run here, so that two clicks do not meet.
    """

    starting: dict[str, Any] | None = None
    proposal: dict[str, Any] | None = None
    masks: list[bytes] = field(default_factory=list)
    draw: int = 0
    base: list[int] | None = None
    since: list[Event] = field(default_factory=list)
    auto: bool = False
    finished: bool = False
    error: dict[str, str] | None = None
    flags: dict[str, list[int]] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def drop(self) -> None:
        """Nothing waits any more."""
        self.proposal, self.masks, self.base, self.since = None, [], None, []


class Studio:
    """All that the API does.

    Args:
        root: folder of runs.
        command: how the worker is started.
    """

    def __init__(self, root: Path, command: tuple[str, ...] = WORKER_COMMAND) -> None:
        self.library, self.views, self.uploads, self.hub = Library(root), Views(), Uploads(), Hub()
        self.jobs = Jobs(self._on_event, self._on_status, command)
        self._desks: dict[str, Desk] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._seen: dict[str, int] = {}

    def open(self) -> None:
        """Starts the worker and the watch for changes that other programs make."""
        self.jobs.open()
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Ends both, and all event streams."""
        if self._watcher:
            self._watcher.cancel()
        self.hub.close()
        await self.jobs.close()
        self.uploads.close()

    # what there is

    async def state(self, name: str) -> dict[str, Any]:
        """Everything the page shows of a run; see `answers.RunState`."""
        desk = self._desks.get(name, Desk())
        if desk.starting and not (self.library.root / name / "run.json").is_file():
            view = dict(desk.starting)
            path = None
        else:
            path = self.library.path(name)
            view = dict(await asyncio.to_thread(self.views.look, name, path))
        job = self.jobs.of(name)
        waits_for = [view["tree"]["head"], view.pop("next_id", 0)]
        if desk.proposal and job is None and desk.base != waits_for:
            desk.drop()  # another program moved the run on
        own = {self.jobs.pid}
        flags = desk.flags or (read_flags(path) if path else {"hidden": [], "locked": []})
        return view | {
            **flags,
            "proposal": self._proposal(name, desk),
            "job": self._job(job),
            "worker": self.worker(),
            "auto": desk.auto,
            "error": desk.error,
            "problem": public(view.get("problem", "")),
            "holder": public(holder_of(path, own)) if path and job is None else "",
        }

    def worker(self) -> dict[str, Any]:
        """See `answers.WorkerOut`."""
        jobs = self.jobs
        current = jobs.current
        return {
            "status": jobs.status,
            "restarts": jobs.restarts,
            "queued": jobs.queued,
            "running": current.run if current else None,
        }

    def _job(self, job: Job | None) -> dict[str, Any] | None:
        if job is None:
            return None
        elapsed = round(time.monotonic() - job.since, 2)
        told = {name: getattr(job, name) for name in ("number", "kind", "phase", "expected_s", "tries")}
        if job.cancelled:
            told |= {"phase": "stopping", "expected_s": None}
        return told | {"elapsed_s": elapsed, "ahead": self.jobs.position(job)}

    def _proposal(self, name: str, desk: Desk) -> dict[str, Any] | None:
        if desk.proposal is None:
            return None
        masks = f"/api/runs/{name}/candidates"
        candidates = [
            {
                "number": facts["number"],
                "score": facts["score"],
                "mask": f"{masks}/{facts['number']}.png?v={desk.draw}",
                "details": {k: v for k, v in facts.items() if k not in ("number", "score")},
            }
            for facts in desk.proposal.get("candidates", ())
        ]
        return desk.proposal | {"candidates": candidates}

    def mask(self, name: str, number: int) -> bytes:
        """One-bit PNG of a candidate."""
        desk = self._desks.get(name)
        if desk is None or not 1 <= number <= len(desk.masks):
            raise NotFound("there is no such candidate")
        return desk.masks[number - 1]

    # what a person does

    def reserve(self, words: str) -> str:
        """A name like `words` for a new run, taken from now on."""
        begun = {name for name, desk in self._desks.items() if desk.starting is not None}
        name = self.library.new(words, begun)
        self._check_free(name)
        self._desks[name] = Desk(starting={})
        return name

    def release(self, name: str) -> None:
        """The run will not begin after all."""
        del self._desks[name]

    def start(self, name: str, view: dict[str, Any], auto: bool, body: Mapping[str, Any]) -> int:
        """Lets the worker make a reserved run; the job's number."""
        self._desks[name] = Desk(starting=view, auto=auto)
        return self._queue(name, "start", body)

    async def decide(self, name: str, event: Event) -> int | None:
        """A decision on the proposal, or a change to it; gives the job's number, None where none is needed."""
        path, desk = self.library.path(name), self._desk(name)
        do = event["do"]
        if do == "pick":
            self._pick(name, desk, event["candidate"])
            return None
        async with desk.turn:
            if do == "add":
                await self._interrupt(name)
            self._check_free(name)
            return self._decided(name, desk, {"run": str(path)}, event)

    def _decided(self, name: str, desk: Desk, body: dict[str, Any], event: Event) -> int:
        do = event["do"]
        if do == "propose":
            return self._queue(name, "propose", body)
        if event.get("scribble"):
            event = {**event, "scribble": str(self.uploads.get(event["scribble"]).path)}
        if do == "add" or (do == "stop" and desk.proposal is None):
            return self._queue(name, "do", {**body, "event": event, "base": None, "since": []})
        if desk.proposal is None:
            raise UserError("no proposal waits here; ask for one first")
        if do == "accept" and not desk.proposal["stop"]:
            event = {**event, "pick": desk.proposal["chosen"]}
        return self._queue(name, "do", {**body, "event": event, "base": desk.base, "since": desk.since})

    def _pick(self, name: str, desk: Desk, number: int) -> None:
        if desk.proposal is None or not 1 <= number <= len(desk.masks):
            raise UserError(f"candidate {number} is not one of {len(desk.masks)}")
        desk.proposal = {**desk.proposal, "chosen": number}
        self._tell(name)

    async def drive(self, name: str, do: str) -> int | None:
        """Runs by itself, pauses after the step under way, or stops that step."""
        path, desk = self.library.path(name), self._desk(name)
        job = self.jobs.of(name)
        if do == "run":
            async with desk.turn:
                desk.auto = True
                if self.jobs.of(name) is None:
                    return self._on(name, desk, path)
        else:
            desk.auto = False
            if do == "cancel" and job is not None:
                await self.jobs.cancel(job)
        self._tell(name)
        return None

    async def move(self, name: str, move: Callable[[History], History]) -> None:
        """Moves the head: undo, redo, branch. No model is needed."""
        path = self.library.path(name)

        def go() -> None:
            folder = RunFolder.open(path)
            try:
                products.go(folder, move(folder.history), folder.vocabulary())
            finally:
                folder.close()

        await self._at_once(name, go)

    async def order(self, name: str, layer: int, to: int) -> None:
        """Moves a layer to another depth."""
        path = self.library.path(name)
        self._check_unlocked(path, layer)

        def go() -> None:
            folder = RunFolder.open(path)
            try:
                scene = folder.scene()
                order, reason = edits.moved(scene, str(layer), to=to)
                edits.reorder(folder, scene, order, reason, folder.vocabulary())
            finally:
                folder.close()

        await self._at_once(name, go)

    async def edit(self, name: str, layer: int, change: Mapping[str, Any]) -> int:
        """Changes one layer; what was drawn on top of its place is drawn again."""
        path = self.library.path(name)
        async with self._desk(name).turn:
            self._check_unlocked(path, layer)
            self._check_free(name)
            return self._queue(name, "edit", {"run": str(path), "layer": layer, "change": dict(change)})

    async def flag(self, name: str, flags: Mapping[str, list[int]]) -> None:
        """Hides and locks layers."""
        path, desk = self.library.path(name), self._desk(name)
        desk.flags = dict(flags)
        self._tell(name)  # the page need not wait for the disk
        async with desk.turn:
            await asyncio.to_thread(write_flags, path, desk.flags)

    async def _at_once(self, name: str, go: Callable[[], None]) -> None:
        desk = self._desk(name)
        async with desk.turn:
            await self._interrupt(name)
            self._check_free(name)
            desk.error, desk.auto = None, False
            await asyncio.to_thread(go)
            desk.drop()
        self._tell(name)

    async def _interrupt(self, name: str) -> None:
        """A proposal that is being made gives way to what a person wants instead."""
        job = self.jobs.of(name)
        if job is not None and job.kind == "propose" and not self._desk(name).auto:
            await self.jobs.cancel(job)
            await job.done.wait()

    def _desk(self, name: str) -> Desk:
        return self._desks.setdefault(name, Desk())

    def _check_free(self, name: str) -> None:
        if self.jobs.of(name):
            raise Busy("a step of this run is under way; wait for it, or stop it")
        if self.jobs.queued >= MAX_QUEUED:
            raise Busy(f"{MAX_QUEUED} steps wait already; stop some, or wait")

    def _check_unlocked(self, path: Path, layer: int) -> None:
        if layer in (self._desk(path.name).flags or read_flags(path))["locked"]:
            raise Locked(f"layer {layer} is locked; unlock it first")

    def _queue(self, name: str, kind: Any, body: Mapping[str, Any]) -> int:
        self._desk(name).error = None
        job = self.jobs.add(name, kind, body)
        self._tell(name)
        return job.number

    # what the worker tells

    def _on_event(self, job: Job, event: Event) -> None:
        desk, kind = self._desk(job.run), event["event"]
        if kind == "proposal":
            keys = ("step", "by", "label", "description", "box", "stop", "reason", "notes", "confidence", "relation")
            told = {key: event.get(key) for key in keys}
            more: dict[str, Any] = {"candidates": [], "chosen": 1, "guidance": None, "behind": [], "violated": []}
            desk.proposal, desk.masks, desk.finished = told | more, [], False
        elif kind == "candidates" and desk.proposal is not None:
            violated = [words for attempt in event["attempts"] if attempt["taken"] for words in attempt["violated"]]
            told = {key: event[key] for key in ("candidates", "chosen", "guidance", "behind")}
            desk.proposal |= told | {"violated": violated}
            if "masks" in event:
                desk.masks, desk.draw = [base64.b64decode(mask) for mask in event["masks"]], desk.draw + 1
        elif kind == "pending":
            desk.base, desk.since = event["base"], event["since"]
        elif kind in ("step", "finished"):
            desk.drop()
            desk.finished = kind == "finished"
        elif kind == "ended":
            self._on_ended(job, desk, event)
        self._tell(job.run, progress=kind == "phase")

    def _on_ended(self, job: Job, desk: Desk, event: Event) -> None:
        if job.kind == "start":
            desk.starting = None
        done = event["ok"] or (event["kind"] == "stale" and job.tries > 1)  # it died after the step was written
        if not done:
            desk.auto = False
            if event["kind"] == "stale":
                desk.drop()
            if event["kind"] != "cancelled":
                desk.error = {"kind": event["kind"], "message": public(event["message"])}
            return
        try:
            path = self.library.path(job.run)
        except NotFound:
            return
        decided = job.kind in ("start", "advance") or (job.kind == "do" and job.body["event"]["do"] in DECIDING)
        if desk.auto and not desk.finished:
            self._on(job.run, desk, path)
        elif decided and not desk.finished and not (path / "photo").is_dir():  # into a photo, a person puts things
            self._queue(job.run, "propose", {"run": str(path)})
        elif desk.finished:
            desk.auto = False

    def _on(self, name: str, desk: Desk, path: Path) -> int:
        """The next step of a run that goes by itself."""
        if desk.proposal is None:
            return self._queue(name, "advance", {"run": str(path)})
        event = {"do": "accept"} if desk.proposal["stop"] else {"do": "accept", "pick": desk.proposal["chosen"]}
        return self._queue(name, "do", {"run": str(path), "event": event, "base": desk.base, "since": desk.since})

    def _on_status(self) -> None:
        self.hub.publish(None, {"type": "changed", "worker": self.worker()})

    def _tell(self, name: str, progress: bool = False) -> None:
        message = {"type": "progress" if progress else "changed", "run": name, "job": self._job(self.jobs.of(name))}
        self.hub.publish(name, message)

    async def _watch(self) -> None:
        """Tells the pages when another program changed a run that they show."""
        while True:
            await asyncio.sleep(WATCH_S)
            watched = self.hub.watched()
            for name in self._seen.keys() - watched:
                del self._seen[name]
            for name in watched:
                stamp = changed(self.library.root / name)
                if self._seen.get(name) != stamp:
                    self._tell(name)
                self._seen[name] = stamp

    def listen(self, name: str) -> AsyncIterator[dict[str, Any] | None]:
        """Messages for a page that shows run `name`; it hears of every change from now on. "" = of all runs."""
        if name and not self._desks.get(name, Desk()).starting:
            self.library.path(name)  # or it is not there
        if name:
            self._seen.setdefault(name, changed(self.library.root / name))
        return self.hub.listen(name)


_PATH = re.compile(r"(?<![\w.])/(?:[^\s/'\":;,()]+/)*([^\s/'\":;,()]+)")


def public(message: str) -> str:
    """A message without the folders of this machine: of each absolute path only the last part is left."""
    return _PATH.sub(lambda match: match[1], " ".join(message.split()))
