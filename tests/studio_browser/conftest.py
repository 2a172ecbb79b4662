"""Debian's chromium, driven by Playwright, on studios served for the tests. `make test-studio` runs these."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.orchestrator.studio.client import FAKE_WORKER, Client, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP, TABLET = {"width": 1280, "height": 720}, {"width": 820, "height": 1180}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "no chromium: apt-get install chromium, or set CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage", "--enable-precise-memory-info"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A studio whose models are stand-ins that draw at once."""
    with served(tmp_path_factory.mktemp("fast") / "runs", STUDIO_FAKE_SECONDS="0.05") as client:
        client.settled(client.begin(seed=999))  # its worker has read the environment and is warm
        yield client


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory, fast: Client) -> Iterator[Client]:
    """A studio whose stand-ins take five seconds to draw."""
    with served(tmp_path_factory.mktemp("slow") / "runs", STUDIO_FAKE_SECONDS="5") as client:
        client.settled(client.begin(seed=999))
        yield client


@pytest.fixture(scope="session")
def own_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A studio in a process of its own, whose memory can be read."""
    runs = tmp_path_factory.mktemp("own") / "runs"
    code = (
        "import sys; from pathlib import Path; from orchestrator.studio.server import serve\n"
        "serve(Path(sys.argv[1]), port=0, say=lambda said: print(said, flush=True), command=tuple(sys.argv[2:]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STUDIO_FAKE_SECONDS": "0"}
    command = [sys.executable, "-c", code, str(runs), *FAKE_WORKER]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    assert process.stdout is not None
    address, token = process.stdout.readline().strip().split("/?token=")
    yield Client(int(address.rpartition(":")[2]), token, runs, process.pid)
    process.terminate()
    process.wait(timeout=15)


class Complaints(list[str]):
    """What the page's console complained about."""


@pytest.fixture
def pages(browser: Browser) -> Iterator[Any]:
    """Makes pages; at the end none of them may have had an error of its own."""
    complaints = Complaints()
    contexts = []

    def new(client: Client, size: dict[str, int], hash: str = "", *, context: Any = None, **options: Any) -> Page:
        if context is None:
            context = browser.new_context(viewport=size, accept_downloads=True, **options)
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on(
            "response", lambda answer: complaints.append(f"{answer.status} {answer.url}") if answer.status >= 400 else 0
        )
        page.goto(client.url)
        if hash:
            page.goto(f"http://127.0.0.1:{client.port}/{hash}")
            page.wait_for_selector("#canvas")
        return page

    new.complaints = complaints  # type: ignore[attr-defined]
    yield new
    for context in contexts:
        context.close()
    assert not complaints, complaints
