"""What a person does on the page, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

PATIENCE_MS = 300_000  # models load, on a machine that may be busy
READY = ".card [data-key=accept]:not([disabled])"


def compose(page: Page, prompt: str, seed: int = 7, size: str | None = "256x256", most: int = 8) -> str:
    """Begins a scene of the park, whose words the stand-ins know; its name."""
    page.locator(".start").get_by_label("Preset").select_option("park")
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Seed").fill(str(seed))
    if size:
        page.locator(".start").get_by_label("Canvas").select_option(size)
    page.get_by_label("Objects, at most").fill(str(most))
    page.get_by_role("button", name="Compose").click()
    page.wait_for_selector(READY, timeout=PATIENCE_MS)
    return page.url.rpartition("/")[2]


def layers(page: Page) -> list[str]:
    """Words of all layers, nearest first."""
    return list(page.evaluate("[...document.querySelectorAll('#layers .name span')].map((one) => one.textContent)"))


def wait_for_layers(page: Page, count: int, timeout: float = 60_000) -> None:
    page.wait_for_function(
        "(count) => document.querySelectorAll('#layers .layer').length === count", arg=count, timeout=timeout
    )


def accept(page: Page, timeout: float = PATIENCE_MS) -> None:
    """Accepts the proposal and waits for the next."""
    count = page.locator("#layers .layer").count()
    page.locator(READY).click()
    wait_for_layers(page, count + 1, timeout)
    page.wait_for_selector(READY, timeout=timeout)


def tab(page: Page, name: str) -> None:
    """Shows a panel; on a wide page all of them are shown."""
    there = page.locator(f"[data-key=tab-{name}]")
    if there.is_visible():
        there.click()


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drags over the canvas, from and to shares of the picture."""
    box = picture(page)

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return box["x"] + point[0] * box["width"], box["y"] + point[1] * box["height"]

    page.mouse.move(*at(start))
    page.mouse.down()
    middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    page.mouse.move(*at(middle), steps=3)
    page.mouse.move(*at(end), steps=3)
    page.mouse.up()


def picture(page: Page) -> dict[str, Any]:
    """Where the picture lies on the screen."""
    return dict(
        page.evaluate(
            """async () => {
                const { pictureBox } = await import('/static/canvas.js');
                return pictureBox();
            }"""
        )
    )
