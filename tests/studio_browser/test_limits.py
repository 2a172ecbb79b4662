"""Long use, names for screen readers, themes, and random requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.orchestrator.studio.client import Client
from tests.studio_browser.conftest import DESKTOP, TABLET
from tests.studio_browser.steps import READY, accept, compose, tab

pytestmark = pytest.mark.studio
STEPS, WARM_STEPS = 200, 60
MAX_GROWTH_MB = {"studio": 24.0, "worker": 24.0, "page": 12.0}
NAMELESS = """() => [...document.querySelectorAll(
        'button, a, input, select, textarea, canvas, [role=img], [role=progressbar]')]
    .filter((one) => one.offsetParent !== null && !one.closest('[aria-hidden=true]'))
    .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length))
    .map((one) => one.outerHTML.slice(0, 120))"""
CONTRASTS = """() => {
    const light = (colour) => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
        const linear = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const probe = document.body.appendChild(document.createElement('i'));
    const style = getComputedStyle(probe);
    const ratio = (ink, ground) => {
        [probe.style.color, probe.style.backgroundColor] = [`var(--${ink})`, `var(--${ground})`];
        const [a, b] = [light(style.color), light(style.backgroundColor)].sort((x, y) => y - x);
        return [`${ink} on ${ground}`, (a + 0.05) / (b + 0.05)];
    };
    const pairs = ['ink', 'soft', 'faint', 'accent', 'good', 'bad'].map((ink) => ratio(ink, 'surface'));
    pairs.push(ratio('accent-ink', 'accent'), ratio('soft', 'raised'));
    pairs.push(ratio('good', 'good-soft'), ratio('bad', 'bad-soft'));
    probe.remove();
    return pairs;
}"""


def resident_mb(pid: int) -> float:
    """Memory of a process that is its own."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no Private_Dirty")


def worker_pid(client: Client, run: str) -> int:
    """The process that holds a run while it is worked on."""
    while True:
        text = (client.runs / run / ".lock").read_text()
        if text:
            return int(json.loads(text)["pid"])


def test_memory_stays_flat_over_two_hundred_steps(own_process: Client, pages: Any, record_property: Any) -> None:
    page = pages(own_process, DESKTOP)
    run = compose(page, "a boy and a dog next to an oak tree", seed=51)
    devtools = page.context.new_cdp_session(page)
    worker = None

    def memory() -> dict[str, float]:
        devtools.send("HeapProfiler.collectGarbage")
        heap = devtools.send("Runtime.getHeapUsage")["usedSize"] / 2**20
        assert worker is not None
        return {"studio": resident_mb(own_process.pid), "worker": resident_mb(worker), "page": heap}

    first: dict[str, float] = {}
    while True:
        page.get_by_role("button", name="Run to the end").click()
        worker = worker or worker_pid(own_process, run)
        page.locator(".step.head", has_text="plan done").wait_for(timeout=60_000)
        page.get_by_text("This scene is finished").wait_for()
        steps = page.locator(".step").count() - 1
        if steps >= WARM_STEPS and not first:
            first = memory()
        if steps >= STEPS + WARM_STEPS:
            break
        page.locator('.step[data-step="0"] .go').click()
        page.get_by_role("button", name="Suggest the next object").wait_for()
    last = memory()
    growth = {name: round(last[name] - first[name], 1) for name in last}
    print(f"{steps} steps: {last} MB, growth over the last {steps - WARM_STEPS}: {growth} MB")
    record_property("growth_mb", json.dumps(growth))
    assert all(growth[name] < MAX_GROWTH_MB[name] for name in growth), (first, last)


@pytest.mark.parametrize("size", [DESKTOP, TABLET], ids=["desktop", "tablet"])
def test_every_control_has_a_name(fast: Client, pages: Any, size: dict[str, int]) -> None:
    page = pages(fast, size)
    page.wait_for_selector("#prompt")
    assert page.evaluate(NAMELESS) == []
    compose(page, "a boy and a dog", seed=52)
    accept(page)
    accept(page)
    accept(page)
    page.keyboard.press("b")
    for name in ("plan", "layers", "graph", "history"):
        tab(page, name)
        if name == "layers":
            page.locator("#layers .name").first.click()
        assert page.evaluate(NAMELESS) == [], name
    page.keyboard.press("?")
    assert page.evaluate(NAMELESS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_and_can_be_read(fast: Client, pages: Any, scheme: str) -> None:
    page = pages(fast, DESKTOP, color_scheme=scheme)
    page.wait_for_selector("#prompt")
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    for pair, ratio in page.evaluate(CONTRASTS):
        assert ratio >= 4.5, f"{pair}: {ratio:.2f}"  # WCAG 2.2, 1.4.3
    page.locator("h1").click()
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") != scheme


def test_nothing_overflows_at_any_size(fast: Client, pages: Any) -> None:
    page = pages(fast, DESKTOP)
    compose(page, "a boy and a dog", seed=53)
    page.wait_for_selector(READY)
    for width, height in ((1280, 720), (1024, 768), (820, 1180), (768, 1024), (1920, 1080), (600, 900)):
        page.set_viewport_size({"width": width, "height": height})
        size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        assert size == [width, height]
        box = page.locator(READY).bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
