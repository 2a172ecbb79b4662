"""A studio served in a thread, and a plain HTTP client for it that sends exactly what it is told to."""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.studio import server

ROOT = Path(__file__).resolve().parents[3]
FAKE_WORKER = (sys.executable, "-m", "tests.orchestrator.studio.fake_worker")
NO_WORKER = (sys.executable, "-c", 'import sys; print(\'{"job": 0, "event": "ready"}\', flush=True); sys.stdin.read()')


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """One studio: its port, token and folder of runs."""

    port: int
    token: str
    runs: Path
    pid: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends a request with these headers only (and a Host, unless one is given)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(
                method, path, skip_host=bool(headers and "Host" in headers), skip_accept_encoding=True
            )
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None and not (headers and {"Content-Length", "Transfer-Encoding"} & headers.keys()):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def cookie(self) -> dict[str, str]:
        return {"Cookie": f"smartscene-{self.port}={self.token}"}

    def call(self, method: str, path: str, data: Any = None) -> Answer:
        """Sends JSON with the token."""
        body = None if data is None else json.dumps(data).encode()
        return self.send(method, path, body, {**self.bearer, "Content-Type": "application/json"})

    def state(self, run: str) -> dict[str, Any]:
        answer = self.call("GET", f"/api/runs/{run}")
        assert answer.status == 200, answer.body
        return dict(answer.json)

    def settled(self, run: str, seconds: float = 60) -> dict[str, Any]:
        """The state once no work is left."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.state(run)
            if state["job"] is None and not state["auto"]:
                return state
            time.sleep(0.03)
        raise AssertionError(f"still at work: {state['job']}")

    def begin(self, prompt: str = "a boy and a dog next to an oak tree", **more: Any) -> str:
        """Starts a small run; its name."""
        answer = self.call("POST", "/api/runs", {"prompt": prompt, "size": "256x256", "preset": "park", **more})
        assert answer.status == 202, answer.body
        return str(answer.json["run"])

    def do(self, run: str, **event: Any) -> dict[str, Any]:
        """A decision, and the state after it."""
        answer = self.call("POST", f"/api/runs/{run}/decision", event)
        assert answer.status == 202, answer.body
        return self.settled(run)


@contextmanager
def served(runs: Path, command: tuple[str, ...] = FAKE_WORKER, **environment: str) -> Iterator[Client]:
    """A studio over `runs`; it ends with this process."""
    os.environ.update({"PYTHONPATH": str(ROOT), **environment})
    said: list[str] = []
    thread = threading.Thread(target=lambda: server.serve(runs, port=0, say=said.append, command=command), daemon=True)
    thread.start()
    end = time.monotonic() + 20
    while not said and time.monotonic() < end:
        time.sleep(0.01)
    address, token = said[0].split("/?token=")
    client = Client(int(address.rpartition(":")[2]), token, runs)
    while time.monotonic() < end:
        try:
            client.call("GET", "/api/worker")
            break
        except OSError:
            time.sleep(0.02)
    yield client
