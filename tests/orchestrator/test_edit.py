"""Edits of one layer: what is kept, reused and drawn again, with models that count their work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator import assemble, versions
from orchestrator.cli import run_cli
from orchestrator.compose import Composer
from orchestrator.ports import Models
from orchestrator.run_folder import RunFolder
from scene.geometry import Box
from scene.guidance import Guidance
from scene.layers import LayeredScene
from tests.orchestrator.fakes import FakeInpainter, FakeMasker, FakePlanner, fake_models


class SeeingInpainter(FakeInpainter):
    """Draws what it sees: its pixels depend on the picture in the window, as a real one's do."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[str] = []

    def render(self, image: np.ndarray, mask: np.ndarray, label: str, *words: str, **rest: Any) -> np.ndarray:
        self.drawn.append(label)
        box = Box.from_mask(mask)
        assert box is not None
        seen = image[box.y0 : box.y1, box.x0 : box.x1].mean(axis=(0, 1)) / 2
        rng = np.random.default_rng(rest["seed"].derive("see"))
        colour = (seen + rng.integers(0, 120, 3)).astype(np.uint8)
        return np.where(mask[..., None], colour, image)


def footprint(mask: np.ndarray) -> Box:
    return Box.from_mask(mask) or Box(0, 0, 1, 1)


@pytest.fixture
def inpainter(monkeypatch: pytest.MonkeyPatch) -> SeeingInpainter:
    plain = fake_models()
    models = Models(
        FakePlanner(("sky", "grass")), FakeMasker(), SeeingInpainter(), plain.vocabulary, footprint=footprint
    )
    monkeypatch.setattr(assemble, "assemble", lambda config: models)
    monkeypatch.setattr(versions, "versions", dict)
    return models.inpainter  # type: ignore[return-value]


@pytest.fixture
def path(tmp_path: Path, inpainter: SeeingInpainter) -> Path:
    """1 sky, 2 grass, 4 bear on the left, 5 cat over the bear's right half, 6 balloons far off."""
    composer = Composer.from_preset("park", overrides=["width=256", "height=256", "masker.candidates=1"])
    run = composer.start("a park", seed=7, out=tmp_path / "run")
    list(run.steps())
    for words, box in (
        ("a brown bear", (10, 150, 90, 230)),
        ("a cat", (50, 160, 120, 220)),
        ("a red balloon", (180, 10, 220, 60)),
    ):
        run.insert(words, guidance=Guidance.from_box(Box(*box), run.scene.size), count=1)
    run.close()
    inpainter.drawn.clear()
    return tmp_path / "run"


def told(capsys: pytest.CaptureFixture[str], path: Path, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run_cli(["edit", str(path), *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def scene(path: Path) -> LayeredScene:
    return RunFolder.open(path, write=False).scene()


KEPT = {"1": "kept", "2": "kept", "6": "kept"}


@pytest.mark.parametrize(
    ("arguments", "bear", "drawn"),
    [
        (["--delete"], "deleted", ["cat"]),
        (["--words", "a duck"], "edited", ["duck", "cat"]),
        (["--scale", "0.8"], "edited", ["bear", "cat"]),
        (["--move", "5,-8"], "edited", ["cat"]),
        (["--colour", "blue"], "edited", ["cat"]),
        (["--seed", "99"], "edited", ["bear", "cat"]),
    ],
)
def test_only_what_depends_on_the_layer_is_drawn_again(
    path: Path,
    inpainter: SeeingInpainter,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    bear: str,
    drawn: list[str],
) -> None:
    before, old = {str(f): f.read_bytes() for f in (path / "steps").rglob("*.*")}, scene(path)
    report = told(capsys, path, "4", *arguments)
    assert report["how"] == {**KEPT, "4": bear, "5": "recomputed"}
    assert inpainter.drawn == drawn
    assert {name: Path(name).read_bytes() for name in before} == before
    new = scene(path)
    assert np.array_equal(new.layers[-1].rgba, old.layers[-1].rgba)  # the balloon
    assert not np.array_equal(new.image, old.image)
    final = (path / "final.png").read_bytes()
    inpainter.drawn.clear()
    assert run_cli(["undo", str(path)]) == 0
    assert np.array_equal(scene(path).image, old.image)
    assert run_cli(["redo", str(path)]) == 0
    assert run_cli(["resume", str(path)]) == 0
    assert (path / "final.png").read_bytes() == final
    assert inpainter.drawn == []


def test_the_edited_scene_is_what_drawing_it_from_scratch_gives(path: Path, inpainter: SeeingInpainter) -> None:
    """The cat on a bear of another seed, found by edit, equals the cat drawn on that bear."""
    assert run_cli(["edit", str(path), "4", "--seed", "99"]) == 0
    after = scene(path)
    beneath = LayeredScene(after.size, after.prompt, after.layers[:3]).image
    cat = after.layers[3]
    from scene.seeds import StepSeed

    image = SeeingInpainter().render(beneath, cat.mask, cat.label, cat.description, "", seed=StepSeed(7, 5))
    assert np.array_equal(image[cat.mask], cat.rgba[cat.mask][:, :3])  # type: ignore[index]


def test_an_edit_taken_back_by_another_edit_comes_from_the_cache(
    path: Path, inpainter: SeeingInpainter, capsys: pytest.CaptureFixture[str]
) -> None:
    old = scene(path)
    told(capsys, path, "4", "--seed", "99")
    inpainter.drawn.clear()
    report = told(capsys, path, "4", "--seed", "7")
    assert inpainter.drawn == []
    assert report["how"] == {**KEPT, "4": "reused", "5": "reused"}
    assert np.array_equal(scene(path).image, old.image)


def test_move_and_scale_go_where_they_should(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, path, "4", "--move", "20,-30")
    assert scene(path).find("4").box == (30, 120, 110, 200)
    told(capsys, path, "4", "--scale", "0.5")
    assert scene(path).find("4").box == (50, 160, 90, 200)  # the middle of the foot stays


def test_colour_turns_hue_and_word_but_not_the_mask(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = scene(path).find("6")
    told(capsys, path, "6", "--colour", "blue")
    new = scene(path).find("6")
    assert new.description == "a blue balloon"
    assert np.array_equal(new.mask, old.mask)
    red, green, blue = new.rgba[new.mask][:, :3].mean(axis=0)  # type: ignore[index]
    assert blue > red and blue > green


def test_depth_is_the_same_as_order(path: Path, inpainter: SeeingInpainter, capsys: pytest.CaptureFixture[str]) -> None:
    assert [layer["id"] for layer in told(capsys, path, "5", "--z", "3")["layers"]] == [1, 2, 5, 4, 6]
    assert inpainter.drawn == []
    told(capsys, path, "bear", "--delete")
    assert [layer.id for layer in scene(path).layers] == [1, 2, 5, 6]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["4"], "nothing to do was given"),
        (["4", "--delete", "--seed", "3"], "--delete --seed were given; choose one"),
        (["4", "--z", "1", "--delete"], "--z goes alone"),
        (["unicorn", "--delete"], "no layer 'unicorn'"),
        (["4", "--move", "x"], "is not dx,dy"),
        (["4", "--move", "0,0"], "leaves nothing to do"),
        (["4", "--move", "999,0"], "nothing on the canvas"),
        (["4", "--scale", "0"], "--scale 0 is not usable"),
        (["4", "--scale", "nan"], "--scale nan is not usable"),
        (["4", "--colour", "loud"], "is no colour"),
        (["4", "--words", "a quasar"], "names nothing that preset park knows"),
        (["4", "--seed", "-1"], "seed -1"),
        (["4", "--z", "9"], "position 9 is not 1"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    before = {str(f): f.read_bytes() for f in path.rglob("*.*") if f.is_file()}
    assert run_cli(["edit", str(path), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error
    assert {str(f): f.read_bytes() for f in path.rglob("*.*") if f.is_file()} == before
