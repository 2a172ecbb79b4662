"""The queue of model work and the worker process that does it: started, watched, and started again when it dies."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Event = dict[str, Any]
Kind = Literal["start", "propose", "do", "advance", "edit"]
Status = Literal["starting", "ready", "restarting", "stopped"]
WORKER_COMMAND = (sys.executable, "-m", "orchestrator.studio.worker")
MAX_LINE_BYTES = 32 << 20
# A cancelled job that has not ended by then is ended with its process; most models pause sooner than they load again.
GRACE_S = 4.0
TRIES = 2
BUG = "the worker died twice over this; its terminal says more. Nothing is lost: try again, or something else"

STOPPED: Event = {"event": "ended", "ok": False, "kind": "cancelled", "message": "stopped"}


@dataclass(eq=False)
class Job:
    """One piece of model work.

    Attributes:
        number: counts up.
        run: name of the run.
        kind: what to do; see `worker`.
        body: what the worker needs besides.
        phase, expected_s, since: model at work, seconds it should take, and when it began (`time.monotonic`).
        tries: how often it was given to a worker.
        cancelled: a person wants it stopped.
        done: set once it has ended, however it did.
    """

    number: int
    run: str
    kind: Kind
    body: Mapping[str, Any]
    phase: str = "queued"
    expected_s: float | None = None
    since: float = field(default_factory=time.monotonic)
    tries: int = 0
    cancelled: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def entered(self, phase: str, expected_s: float | None = None) -> None:
        """Notes that another phase began."""
        self.phase, self.expected_s, self.since = phase, expected_s, time.monotonic()


class Jobs:
    """Feeds one worker, first come first served; at most one job a run.

    Args:
        on_event: called with a job and each of its events, `ended` included.
        on_status: called when the worker's status changes.
        command: how the worker is started.
    """

    def __init__(
        self,
        on_event: Callable[[Job, Event], None],
        on_status: Callable[[], None],
        command: Sequence[str] = WORKER_COMMAND,
    ) -> None:
        self._on_event, self._on_status, self._command = on_event, on_status, tuple(command)
        self._waiting: deque[Job] = deque()
        self._next = 1
        self.current: Job | None = None
        self.status: Status = "stopped"
        self.restarts = 0
        self.problems: dict[str, str] = {}
        """Why presets cannot run here, as the worker found when it started."""
        self._process: asyncio.subprocess.Process | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._late: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Starts to work; needs a running event loop."""
        self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Ends the worker and the queue."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._kill()

    @property
    def pid(self) -> int | None:
        """Process number of the worker."""
        return self._process.pid if self._process else None

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def of(self, run: str) -> Job | None:
        """The job of a run, waiting or under way."""
        if self.current and self.current.run == run:
            return self.current
        return next((job for job in self._waiting if job.run == run), None)

    def position(self, job: Job) -> int:
        """How many jobs come before it; 0 = it is under way, or next."""
        if job is self.current or job not in self._waiting:
            return 0
        return self._waiting.index(job) + (self.current is not None)

    def add(self, run: str, kind: Kind, body: Mapping[str, Any]) -> Job:
        """Puts a job at the end of the queue."""
        job = Job(self._next, run, kind, body)
        self._next += 1
        self._waiting.append(job)
        self._wake.set()
        return job

    async def cancel(self, job: Job) -> None:
        """Stops a job: at the next pause between two models, or by ending the worker if that takes too long."""
        job.cancelled = True
        if job in self._waiting:
            self._waiting.remove(job)
            self._end(job, STOPPED)
            return
        await self._send({"cancel": job.number})
        self._late = asyncio.create_task(self._kill_if_stuck(job))

    async def _kill_if_stuck(self, job: Job) -> None:
        await asyncio.sleep(GRACE_S)
        if job is self.current:
            await self._kill()

    def _end(self, job: Job, event: Event) -> None:
        self._on_event(job, event)
        job.done.set()

    async def _work(self) -> None:
        while True:
            await self._ensure_worker()
            while not self._waiting:
                self._wake.clear()
                waits = [asyncio.create_task(self._wake.wait()), asyncio.create_task(self._died())]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
                if self._process is None or self._process.returncode is not None:
                    break
            if not self._waiting or self._process is None or self._process.returncode is not None:
                continue
            self.current = job = self._waiting.popleft()
            await self._do(job)

    async def _died(self) -> None:
        if self._process:
            await self._process.wait()

    async def _do(self, job: Job) -> None:
        job.tries += 1
        job.entered("sent")
        await self._send({"job": job.number, "kind": job.kind, **job.body})
        while (event := await self._read()) is not None:
            if event.get("job") != job.number:
                continue
            if event["event"] == "phase":
                job.entered(event["phase"], event["expected_s"])
            if event["event"] == "ended":
                self.current = None
                self._end(job, event)
                return
            self._on_event(job, event)
        self.current = None
        if job.cancelled:
            self._end(job, STOPPED)
        elif job.tries < TRIES:
            job.entered("restarting")
            self._waiting.appendleft(job)
            self._on_event(job, {"event": "crashed"})
        else:
            self._end(job, {"event": "ended", "ok": False, "kind": "crashed", "message": BUG})

    async def _ensure_worker(self) -> None:
        """A living worker that said it is ready; waits longer after each one that died at once."""
        failures = 0
        while self._process is None or self._process.returncode is not None:
            if self._process is not None:
                self.restarts += 1
            self._set("starting" if self._process is None else "restarting")
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_LINE_BYTES,
                start_new_session=True,
            )
            event = await self._read()
            if event is not None:
                self.problems = dict(event.get("problems", {}))
            else:
                failures += 1
                await asyncio.sleep(min(30, 2**failures))
        self._set("ready")

    def _set(self, status: Status) -> None:
        if status != self.status:
            self.status = status
            self._on_status()

    async def _send(self, message: Mapping[str, Any]) -> None:
        if self._process and self._process.stdin and self._process.returncode is None:
            try:
                self._process.stdin.write(json.dumps(message).encode() + b"\n")
                await self._process.stdin.drain()
            except (BrokenPipeError, ConnectionResetError):
                pass  # it died; whoever reads from it sees that

    async def _read(self) -> Event | None:
        """The worker's next event; None = it died."""
        assert self._process and self._process.stdout
        line = await self._process.stdout.readline()
        if line.endswith(b"\n"):
            return dict(json.loads(line))
        await self._process.wait()
        return None

    async def _kill(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
