"""The story, in a real browser: prompt, accept, edit, draw a guide, undo, branch, finish, export."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.cli import run_cli
from orchestrator.run_folder import RunFolder
from tests.orchestrator.studio.client import Client
from tests.orchestrator.studio.test_api import kill_worker
from tests.studio_browser.conftest import DESKTOP, TABLET
from tests.studio_browser.steps import READY, accept, compose, drag, layers, tab, wait_for_layers

pytestmark = pytest.mark.studio
PROMPT = "a boy and a dog next to an oak tree under the sun"


@pytest.mark.parametrize("size", [DESKTOP, TABLET], ids=["desktop", "tablet"])
def test_the_story(fast: Client, pages: Any, tmp_path: Path, size: dict[str, int]) -> None:
    page = pages(fast, size, has_touch=size is TABLET)
    run = compose(page, PROMPT, seed=size["width"])
    accept(page)
    accept(page)  # two accepted
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Words for this object").fill("a red balloon")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.card h3')?.textContent === 'a red balloon'")
    accept(page)  # one edited
    page.get_by_role("button", name="Draw a box").click()
    drag(page, (0.5, 0.5), (0.75, 0.9))
    page.get_by_label("Tightness").fill("60")
    page.get_by_role("button", name="Use it").click()
    page.get_by_text("Guided by your box, 60 % tight").wait_for()
    accept(page)  # one guided by a drawn box
    assert len(layers(page)) == 4

    folder = RunFolder.open(fast.runs / run, write=False)
    edited, guided = folder.history.steps[3], folder.history.steps[4]
    assert edited.proposal is not None and edited.proposal.description == "a red balloon"
    assert guided.guidance is not None and guided.guidance["by"] == "person" and guided.guidance["tightness"] == 0.6
    x0, y0, x1, y1 = guided.guidance["box"]
    assert abs(x0 - 128) < 5 and abs(y0 - 128) < 5 and abs(x1 - 192) < 5 and abs(y1 - 230) < 5

    page.get_by_role("button", name="Undo", exact=True).click()
    wait_for_layers(page, 3)
    tab(page, "history")
    page.locator('.step[data-step="2"]').hover()
    page.get_by_role("button", name="New branch at step 2").click()
    wait_for_layers(page, 2)
    page.get_by_role("button", name="Run to the end").click()
    page.locator(".step.head", has_text="plan done").wait_for(timeout=60_000)
    tab(page, "plan")
    page.get_by_text("This scene is finished").wait_for()
    history = RunFolder.open(fast.runs / run, write=False).history
    assert history.finished and history.branches["main"] == 3 and history.branch == "from-2"

    page.keyboard.press("x")
    with page.expect_download() as download:
        page.locator("[data-kind=ora]").click()
    download.value.save_as(tmp_path / "page.ora")
    assert run_cli(["export", str(fast.runs / run), "--to", "ora", str(tmp_path / "cli.ora")]) == 0
    assert (tmp_path / "page.ora").read_bytes() == (tmp_path / "cli.ora").read_bytes()


def test_with_the_keyboard_alone(fast: Client, pages: Any) -> None:
    page = pages(fast, DESKTOP)
    page.wait_for_selector("#prompt:focus")
    page.keyboard.type(PROMPT)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(READY)
    page.keyboard.press("2")
    page.locator("[data-key=candidate-2][aria-checked=true]").wait_for()
    page.keyboard.press("Enter")
    wait_for_layers(page, 1)
    page.wait_for_selector(READY)
    page.keyboard.press("e")
    page.wait_for_selector("[data-key=words]:focus")
    page.keyboard.press("Control+a")
    page.keyboard.type("green grass")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="green grass").wait_for()
    page.wait_for_selector(READY)
    page.keyboard.press("Enter")
    wait_for_layers(page, 2)
    page.wait_for_selector(READY)
    page.keyboard.press("r")
    page.get_by_text("sun: not wanted").wait_for()
    page.wait_for_selector(READY)
    page.keyboard.press("n")
    page.keyboard.type("a yellow cat")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="a yellow cat").wait_for()
    page.wait_for_selector(READY)
    page.keyboard.press("Enter")
    wait_for_layers(page, 3)
    page.wait_for_selector(READY)
    page.locator("[data-key^=layer-]").first.focus()
    page.keyboard.press("Alt+ArrowDown")
    page.wait_for_function("() => document.querySelector('#layers .name span').textContent === 'green grass'")
    page.keyboard.press("Control+z")
    page.wait_for_function("() => document.querySelector('#layers .name span').textContent === 'a yellow cat'")
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()


def test_a_scribble_with_undo_for_strokes(fast: Client, pages: Any) -> None:
    page = pages(fast, DESKTOP)
    run = compose(page, PROMPT, seed=31)
    page.keyboard.press("s")
    drag(page, (0.2, 0.3), (0.6, 0.3))
    drag(page, (0.2, 0.8), (0.6, 0.8))
    page.keyboard.press("z")  # the second stroke goes
    page.get_by_label("What goes there").fill("a brown dog")
    page.get_by_role("button", name="Use it").click()
    page.get_by_role("heading", name="a brown dog").wait_for()
    accept(page)
    step = RunFolder.open(fast.runs / run, write=False).history.steps[1]
    assert step.guidance is not None and step.guidance["kind"] == "scribble"
    assert step.guidance["box"][3] < 120  # only the upper stroke


def test_a_box_with_the_arrow_keys(fast: Client, pages: Any) -> None:
    page = pages(fast, DESKTOP)
    run = compose(page, PROMPT, seed=33)
    page.keyboard.press("b")
    for key in ("ArrowUp", "ArrowUp", "ArrowLeft", "Shift+ArrowDown", "Enter"):  # the first one makes the box
        page.keyboard.press(key)
    page.get_by_text("Guided by your box").wait_for()
    accept(page)
    step = RunFolder.open(fast.runs / run, write=False).history.steps[1]
    assert step.guidance is not None and step.guidance["box"] == [85, 85, 161, 166]


def test_a_photo_as_the_starting_scene(fast: Client, pages: Any, tmp_path: Path) -> None:
    photo = np.random.default_rng(5).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    page = pages(fast, DESKTOP)
    page.get_by_role("button", name="Open a photo").click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "photo.png")
    page.get_by_label("Caption").fill("a park")
    page.get_by_role("button", name="Open", exact=True).click()
    page.get_by_text("put into the photo").wait_for()
    page.keyboard.press("b")
    drag(page, (0.25, 0.25), (0.5, 0.75))
    page.get_by_label("What goes there").fill("a brown dog")
    page.get_by_role("button", name="Use it").click()
    page.locator(READY).click()
    wait_for_layers(page, 1)
    page.keyboard.press("x")
    with page.expect_download() as download:
        page.get_by_role("link", name="PNG at the photo's own size").click()
    full = np.asarray(Image.open(download.value.path()).convert("RGB"))
    changed = (full != photo).any(axis=2)
    assert changed[90:210, 110:190].mean() > 0.9
    changed[70:230, 95:205] = False
    assert not changed.any()


def test_layers_by_hand(fast: Client, pages: Any) -> None:
    page = pages(fast, DESKTOP)
    run = compose(page, PROMPT, seed=32)
    for _ in range(4):
        accept(page)
    page.get_by_role("button", name="Hide a sun").click()
    page.get_by_role("button", name="Show a sun").wait_for()
    grip = page.locator('[data-layer="4"] .grip').bounding_box()
    under = page.locator('[data-layer="2"]').bounding_box()
    assert grip is not None and under is not None
    page.mouse.move(grip["x"] + 8, grip["y"] + 10)
    page.mouse.down()
    page.mouse.move(grip["x"] + 8, under["y"] + under["height"] - 3, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "() => [...document.querySelectorAll('#layers .layer')].map((one) => one.dataset.layer).join() === '3,2,4,1'"
    )
    page.locator('[data-layer="3"] .name').click()
    x0, y0, x1, y1 = page.evaluate(
        "import('/static/store.js').then(({store}) => store.state.layers.find(({id}) => id === 3).box)"
    )
    at = ((x0 + x1) / 2 / 256, (y0 + y1) / 2 / 256)
    drag(page, at, (at[0] + 0.2, at[1] + 0.1))
    page.wait_for_selector("[data-step='6']")
    step = RunFolder.open(fast.runs / run, write=False).history.steps[6]
    assert step.outcome == "edited" and "move (5" in step.reason
    page.get_by_role("button", name="Lock a sun").click()
    page.get_by_text("Locked: unlock it to change it.").wait_for()


def test_a_refresh_in_the_middle_of_a_rendering(slow: Client, pages: Any) -> None:
    page = pages(slow, DESKTOP)
    compose(page, PROMPT, seed=41)
    page.locator(READY).click()
    page.locator(".hud strong", has_text="Drawing").wait_for()
    page.reload()
    page.locator(".hud strong", has_text="Drawing").wait_for(timeout=5000)  # it goes on, and is shown to
    wait_for_layers(page, 1)
    page.wait_for_selector(READY)


def test_a_killed_worker_is_shown_started_again_and_resumed(slow: Client, pages: Any) -> None:
    page = pages(slow, DESKTOP)
    compose(page, PROMPT, seed=42)
    page.locator(READY).click()
    page.locator(".hud strong", has_text="Drawing").wait_for()
    kill_worker(slow)
    page.locator(".banner", has_text="ended unexpectedly").wait_for()
    wait_for_layers(page, 1)
    page.wait_for_selector(READY)
    assert not page.locator(".banner").is_visible()


def test_two_tabs_stay_in_step(fast: Client, pages: Any) -> None:
    first = pages(fast, DESKTOP)
    run = compose(first, PROMPT, seed=43)
    second = pages(fast, TABLET, f"#/run/{run}", context=first.context)
    second.wait_for_selector(READY)
    accept(first)
    wait_for_layers(second, 1)
    second.wait_for_selector(READY)
    second.locator("[data-key=candidate-3]").click()
    first.locator("[data-key=candidate-3][aria-checked=true]").wait_for()
    second.locator(READY).click()
    wait_for_layers(first, 2)
    first.get_by_role("button", name="Hide a grass").click()
    second.wait_for_function("() => document.querySelector('[data-layer=\"2\"]').hasAttribute('data-hidden')")


def test_the_command_line_in_between(fast: Client, pages: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page = pages(fast, DESKTOP)
    run = compose(page, PROMPT, seed=44)
    accept(page)
    accept(page)
    assert run_cli(["undo", str(fast.runs / run)]) == 0
    wait_for_layers(page, 1)
    page.get_by_role("button", name="Suggest the next object").click()
    accept(page)
    held = RunFolder.open(fast.runs / run)
    page.locator(READY).click()
    page.locator(".banner", has_text=f"process {os.getpid()}").wait_for()
    held.close()
    accept(page)
    assert len(layers(page)) == 3


def test_the_studio_ends_and_comes_back(tmp_path: Path, pages: Any) -> None:
    """The page says that nobody answers."""
    import subprocess
    import sys

    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", "studio", str(tmp_path / "runs"), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[2]
    client = Client(int(address.split("/?")[0].rpartition(":")[2]), address.partition("token=")[2], tmp_path / "runs")
    page = pages(client, DESKTOP)
    page.wait_for_selector("#prompt")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=15) is not None
    page.get_by_label("Prompt", exact=True).fill("a boy")
    page.get_by_role("button", name="Compose").click()
    page.get_by_text("does not answer").wait_for()
    pages.complaints.clear()  # the browser itself complains that it cannot connect
