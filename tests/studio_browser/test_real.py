"""The story with the real models of preset park; how fast the page answers meanwhile; the pictures of the docs.

`STUDIO_PICTURES=docs/images` renews those pictures.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from orchestrator.run_folder import RunFolder
from orchestrator.studio.jobs import WORKER_COMMAND
from tests.orchestrator.studio.client import Client, served
from tests.studio_browser.conftest import DESKTOP, TABLET
from tests.studio_browser.steps import PATIENCE_MS, READY, accept, compose, drag, tab, wait_for_layers

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.studio
PROMPT = "a boy kicking a soccer ball next to an apple tree on a sunny day"
MAX_CLICK_MS, MAX_PAINT_MS, MAX_PICTURE_BYTES = 100, 1000, 300_000
CLICK = """async (key) => {
    const button = document.querySelector(`[data-key="${key}"]`);
    const begun = performance.now();
    button.click();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return performance.now() - begun;
}"""
ANSWER = """async (run) => {
    const { store } = await import('/static/store.js');
    const begun = performance.now();
    const body = JSON.stringify({ hidden: store.state.hidden, locked: store.state.locked });
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(`/api/runs/${run}/flags`, { method: 'PUT', headers, body });
    await answer.json();
    return answer.ok ? performance.now() - begun : Infinity;
}"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("real") / "runs", WORKER_COMMAND) as client:
        yield client


def keep(page: Page, name: str) -> None:
    """Renews a picture of the docs, in at most 300 kB."""
    folder = os.environ.get("STUDIO_PICTURES")
    if not folder:
        return
    page.wait_for_timeout(700)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(255, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    assert len(buffer.getvalue()) < MAX_PICTURE_BYTES
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"studio-{name}.png").write_bytes(buffer.getvalue())


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def test_the_story_with_real_models(real: Client, pages: Any, record_property: Any) -> None:
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # by how much other programs slow everything down
    page = pages(real, DESKTOP, color_scheme="light")
    page.wait_for_selector("#prompt")
    paints = page.evaluate("performance.getEntriesByType('paint').map(({name, startTime}) => [name, startTime])")
    first = dict(paints)["first-contentful-paint"]
    run = compose(page, PROMPT, seed=7, size=None, most=4)
    accept(page)
    accept(page)  # two accepted
    page.keyboard.press("e")
    page.get_by_label("Words for this object").fill("a sun with a smile")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="a sun with a smile").wait_for(timeout=PATIENCE_MS)
    page.wait_for_selector(READY, timeout=PATIENCE_MS)
    keep(page, "plan")
    accept(page)  # one edited
    page.keyboard.press("b")
    drag(page, (0.55, 0.2), (0.95, 0.85))
    keep(page, "guide")
    page.get_by_role("button", name="Use it").click()
    page.get_by_text("Guided by your box").wait_for(timeout=PATIENCE_MS)
    page.wait_for_selector(READY, timeout=PATIENCE_MS)

    count = page.locator("#layers .layer").count()
    page.locator(READY).click()  # one guided by a drawn box; while it is drawn the page must answer
    page.locator(".hud strong", has_text="Drawing").wait_for(timeout=PATIENCE_MS)
    key = page.evaluate("document.querySelector('#layers [data-key^=eye]').dataset.key")
    clicks, answers = [], []
    while page.locator(".hud strong", has_text="Drawing").count() and len(clicks) < 12:
        clicks.append(page.evaluate(CLICK, key))
        answers.append(page.evaluate(ANSWER, run))
    wait_for_layers(page, count + 1, PATIENCE_MS)
    page.wait_for_selector(READY, timeout=PATIENCE_MS)
    measured = {
        "first_paint_ms": first,
        "click_ms": middle(clicks),
        "answer_ms": middle(answers),
        "clicks": len(clicks),
    }
    measured |= {"click_ms_worst": max(clicks), "answer_ms_worst": max(answers)}
    for name, value in measured.items():
        record_property(name, round(value, 1))
    print(measured)

    page.get_by_role("button", name="Undo", exact=True).click()
    wait_for_layers(page, count)
    page.get_by_role("button", name="New branch at step 2").click()
    wait_for_layers(page, 2)
    page.get_by_role("button", name="Run to the end").click()
    page.get_by_text("This scene is finished").wait_for(timeout=2 * PATIENCE_MS)
    folder = RunFolder.open(real.runs / run, write=False)
    assert folder.history.finished and folder.history.branch == "from-2"
    page.keyboard.press("t")
    page.locator("#layers .name").first.click()
    keep(page, "branches")
    page.keyboard.press("x")
    with page.expect_download() as download:
        page.locator("[data-kind=psd]").click()
    assert Path(download.value.path()).read_bytes()[:4] == b"8BPS"
    page.keyboard.press("Escape")
    page.set_viewport_size(TABLET)
    tab(page, "history")
    keep(page, "tablet")
    page.get_by_role("link", name="All scenes").click()
    page.set_viewport_size(DESKTOP)
    page.locator(".run-card").wait_for()
    keep(page, "start")

    assert len(clicks) >= 3, "the rendering was over before three clicks"
    assert middle(clicks) < MAX_CLICK_MS * busy and middle(answers) < MAX_CLICK_MS * busy, measured
    assert first < MAX_PAINT_MS * busy, measured
