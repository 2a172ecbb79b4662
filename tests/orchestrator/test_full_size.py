"""Objects on large photos: drawn in windows at the photo's own pixels, shown scaled down on the canvas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator import photograph
from orchestrator.compose import Composer, Run
from orchestrator.full_size import detail_box, detail_view
from orchestrator.photograph import StartingPhoto
from scene.geometry import Box, Size
from scene.guidance import Guidance
from scene.photo import Photo
from scene.seeds import StepSeed
from tests.orchestrator.fakes import FakeInpainter, fake_models

PHOTO = Size(512, 256)
BOX = Box(30, 20, 60, 50)  # on a canvas of 128x64


class SeeingInpainter(FakeInpainter):
    """Remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []

    def render(
        self, image: np.ndarray, mask: np.ndarray, label: str, description: str, context: str, *, seed: StepSeed
    ) -> np.ndarray:
        self.seen.append((image, mask))
        return super().render(image, mask, label, description, context, seed=seed)


@pytest.fixture
def inpainter() -> SeeingInpainter:
    return SeeingInpainter()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inpainter: SeeingInpainter) -> Run:
    """A photo four times as large as its canvas."""
    monkeypatch.setattr(photograph, "LONG_SIDE_PX", 128)
    monkeypatch.setattr(photograph, "SHORT_SIDE_PX", 32)
    composer = Composer.from_preset("park", models=replace(fake_models(), inpainter=inpainter))
    started = composer.start("a wall", out=tmp_path / "run", photo=StartingPhoto(Photo("wall", pixels())))
    assert started.scene.size == Size(128, 64)
    return started


def pixels() -> np.ndarray:
    y, x = np.indices(PHOTO.shape)
    return np.stack([x % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8)


def full(run: Run) -> np.ndarray:
    return np.asarray(Image.open(run.folder.path / "full.png"))


def put(run: Run, words: str = "a dog", box: Box = BOX) -> int:
    return run.insert(words, guidance=Guidance.from_box(box, run.scene.size)).index


def test_an_object_is_drawn_in_a_window_of_the_photo(run: Run, inpainter: SeeingInpainter) -> None:
    put(run)
    image, mask = inpainter.seen[-1]
    assert image.shape == (192, 192, 3)  # 1.6 times 30 canvas pixels, four times as many
    window = detail_box(run.scene.layers[-1].mask, PHOTO)
    assert window is not None
    assert np.array_equal(image, pixels()[window.y0 : window.y1, window.x0 : window.x1])
    assert abs(int(mask.sum()) - 16 * BOX.area) < 0.03 * 16 * BOX.area
    noise = next((run.folder.path / "photo").glob("detail-*.png"))
    inside = (slice(BOX.y0 * 4 + 4, BOX.y1 * 4 - 4), slice(BOX.x0 * 4 + 4, BOX.x1 * 4 - 4))
    shifted = (
        slice(inside[0].start - window.y0, inside[0].stop - window.y0),
        slice(inside[1].start - window.x0, inside[1].stop - window.x0),
    )
    drawn = np.asarray(Image.open(noise))[shifted]
    assert drawn.std() > 60 and np.array_equal(full(run)[inside], drawn)  # pixel by pixel, nothing was enlarged


def test_the_canvas_shows_the_same_object_scaled_down(run: Run) -> None:
    put(run)
    small = np.asarray(Image.fromarray(full(run)).resize(run.scene.size, Image.Resampling.LANCZOS)).astype(int)
    inside = (slice(BOX.y0 + 2, BOX.y1 - 2), slice(BOX.x0 + 2, BOX.x1 - 2))
    assert np.abs(small - run.scene.image)[inside].mean() < 2
    assert np.array_equal(run.scene.image[:, :20], run.folder.start.image[:, :20])


def test_what_stands_there_already_is_seen_in_the_window(run: Run, inpainter: SeeingInpainter) -> None:
    put(run)
    put(run, "a red balloon", Box(50, 20, 70, 50))
    image, _ = inpainter.seen[-1]
    view = run.folder.photo and run.folder.photo.view(run.folder.start.image, run.scene.layers[-1].mask)
    assert view is not None
    bare = view.image
    changed = (image != bare).any(axis=2)
    assert changed.any() and not changed.all()
    assert np.array_equal(image[:, -40:], bare[:, -40:])  # right of the dog the photo's own pixels


def test_history_moves_and_edits_keep_the_pixels_they_had(run: Run, inpainter: SeeingInpainter) -> None:
    step = put(run)
    before = (run.folder.path / "full.png").read_bytes()
    run.go(run.folder.history.undone())
    assert np.array_equal(full(run), pixels())
    run.go(run.folder.history.redone())
    assert (run.folder.path / "full.png").read_bytes() == before
    run.edit(step, seed=9)  # drawn anew, in a window again
    assert len(inpainter.seen) == 2 and len(list((run.folder.path / "photo").glob("detail-*.png"))) == 2
    assert (run.folder.path / "full.png").read_bytes() != before
    run.edit(step, move=(10, 0))  # the canvas's pixels go along, enlarged
    changed = (full(run) != pixels()).any(axis=2)
    assert len(inpainter.seen) == 2 and not changed[:, : 4 * (BOX.x0 + 8)].any() and changed[120, 200:270].all()


def test_objects_that_fill_the_picture_need_no_window() -> None:
    mask = np.zeros((64, 128), dtype=bool)
    mask[2:62, 2:126] = True
    assert detail_box(mask, Size(128, 64)) is None
    assert detail_box(mask, Size(1280, 640)) is not None  # 1024 pixels for 128
    large = np.zeros((683, 1024), dtype=bool)
    large[10:600, 10:1000] = True
    assert detail_box(large, Size(6000, 4000)) is None
    with pytest.raises(ValueError, match="as good"):
        detail_view(pixels(), pixels(), pixels(), np.ones(PHOTO.shape, dtype=bool))
