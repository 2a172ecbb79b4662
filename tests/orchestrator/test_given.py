"""Runs that start from a layout of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.assemble import load_vocabulary
from orchestrator.compose import Composer, Run
from orchestrator.given import GivenObject, from_run_lengths, read_layout, run_lengths
from scene.errors import UserError
from scene.geometry import Size
from tests.orchestrator.fakes import fake_models

SIZE = Size(320, 256)
VOCABULARY = load_vocabulary("park")


def files(folder: Path, segments: list[dict[str, object]] | None = None) -> str:
    """A sky above grass with a tree, ids 1, 2 and 70000."""
    ids = np.ones((256, 320), np.int32)
    ids[120:] = 2
    ids[60:180, 40:100] = 70000
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(folder / "layout.png")
    listed = segments or [
        {"id": 1, "words": "a blue sky"},
        {"id": 2, "words": "green grass"},
        {"id": 70000, "words": "a tall pine tree"},
    ]
    (folder / "layout.json").write_text(json.dumps({"segments": listed}))
    return f"{folder / 'layout.png'},{folder / 'layout.json'}"


def read(folder: Path, **more: object) -> tuple[GivenObject, ...]:
    return read_layout(files(folder, **more), SIZE, VOCABULARY, "park")  # type: ignore[arg-type]


def started(folder: Path, given: tuple[GivenObject, ...]) -> Run:
    composer = Composer.from_preset("park", overrides=["width=320", "height=256"], models=fake_models())
    return composer.start("a boy and a dog", seed=7, out=folder / "run", layout=given)


def test_the_scene_starts_with_the_masks_as_given_and_goes_on(tmp_path: Path) -> None:
    given = read(tmp_path)
    run = started(tmp_path, given)
    list(run.steps())
    assert [layer.description for layer in run.scene.layers] == [
        "a blue sky", "green grass", "a tall pine tree", "a boy", "a dog",
    ]  # fmt: skip
    for item, layer in zip(given, run.scene.layers, strict=False):
        assert np.array_equal(item.mask, layer.mask)
    first = run.folder.history.path()[0]
    assert first.candidates[0] == {"score": 1.0, "given": 1.0}
    run.close()


def test_a_run_goes_on_without_the_files(tmp_path: Path) -> None:
    run = started(tmp_path, read(tmp_path))
    run.advance()
    run.close()
    (tmp_path / "layout.png").unlink()
    _, resumed = Composer.for_run(tmp_path / "run", models=fake_models())
    list(resumed.steps())
    assert len(resumed.scene.layers) == 5 and resumed.scene.layers[2].mask[100, 60]
    resumed.close()


def test_another_layout_is_another_run(tmp_path: Path) -> None:
    given = read(tmp_path)
    started(tmp_path, given).close()
    with pytest.raises(UserError, match="holds another run"):
        started(tmp_path, given[:2])


@pytest.mark.parametrize("corner", [False, True])
def test_run_lengths_bring_the_mask_back(corner: bool) -> None:
    mask = np.random.default_rng(0).random((256, 320)) < 0.3
    mask[0, 0] = corner
    counts = run_lengths(mask)
    assert np.array_equal(from_run_lengths(counts, SIZE), mask)
    with pytest.raises(ValueError, match="cover"):
        from_run_lengths(counts[:-1], SIZE)


def test_mistakes_name_the_segment(tmp_path: Path) -> None:
    for segments, message in (
        ([{"id": 1, "words": "a blue sky"}, {"id": 9, "words": "grass"}], r"segment 2: no pixel .* has the id 9"),
        ([{"id": 1}], "segment 1 lacks id or words"),
        ([{"id": 1, "words": "a nuclear reactor"}], r"segment 1: 'a nuclear reactor' names nothing"),
    ):
        with pytest.raises(UserError, match=message):
            read(tmp_path, segments=segments)
    with pytest.raises(UserError, match="is not PNG,JSON"):
        read_layout("one.png", SIZE, VOCABULARY, "park")
    text = files(tmp_path)
    with pytest.raises(UserError, match=r"the canvas \(640, 512\)"):
        read_layout(text, Size(640, 512), VOCABULARY, "park")
    (tmp_path / "layout.json").write_text("[]")
    with pytest.raises(UserError, match="does not hold 1 to 64 segments"):
        read_layout(text, SIZE, VOCABULARY, "park")
    (tmp_path / "layout.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="as PNG"):
        read_layout(text, SIZE, VOCABULARY, "park")
