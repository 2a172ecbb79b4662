"""Inserting objects into a run and reordering its layers, with fake models: guides, depth, history, errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator import assemble
from orchestrator.cli import run_cli
from orchestrator.compose import Composer, Run
from orchestrator.ports import Models
from orchestrator.run_folder import RunFolder
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.guidance import Guidance
from scene.layers import LayeredScene, composite
from tests.orchestrator.fakes import FakeInpainter, FakeMasker, fake_models

SIZE = Size(320, 256)
OLD_RUN = Path(__file__).parent / "old_runs" / "schema1"


class WatchedMasker(FakeMasker):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def predict(self, scene: LayeredScene, label: str, description: str, context: str, **rest: Any) -> Any:
        self.calls.append({"scene": scene, "label": label, "description": description, "context": context, **rest})
        return super().predict(scene, label, description, context, **rest)


class WatchedInpainter(FakeInpainter):
    """Remembers the picture and the mask that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[np.ndarray, np.ndarray]] = []

    def render(self, image: np.ndarray, mask: np.ndarray, *words: str, **rest: Any) -> np.ndarray:
        self.given.append((image, mask))
        return super().render(image, mask, *words, **rest)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    plain = fake_models()
    watched = Models(plain.planner, WatchedMasker(), WatchedInpainter(), plain.vocabulary)
    monkeypatch.setattr(assemble, "assemble", lambda config: watched)
    return watched


@pytest.fixture
def path(tmp_path: Path, models: Models) -> Path:
    """A finished run of four layers: 1 sky, 2 grass, 3 boy, 4 dog."""
    composer = Composer.from_preset("park", overrides=[f"width={SIZE.width}", f"height={SIZE.height}"], models=models)
    run = composer.start("a boy and a dog", seed=7, out=tmp_path / "run")
    list(run.steps())
    run.close()
    models.masker.calls.clear()  # type: ignore[attr-defined]
    models.inpainter.given.clear()  # type: ignore[attr-defined]
    return tmp_path / "run"


def opened(path: Path, models: Models) -> Run:
    return Composer.for_run(path, models=models)[1]


def contents(path: Path, *, but: str = "nothing") -> Mapping[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(path)): file.read_bytes() for file in files if but not in str(file)}


def draw(path: Path, pixels: np.ndarray) -> str:
    Image.fromarray(pixels).save(path)
    return str(path)


def strokes() -> np.ndarray:
    drawn = np.zeros(SIZE.shape, dtype=bool)
    drawn[40:90, 60:140] = True
    return drawn


def test_insert_adds_a_step_like_any_other(path: Path, models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(path / "steps")
    assert run_cli(["insert", str(path), "a red balloon", "--box", "20,30,120,110", "-n", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (call,) = models.masker.calls  # type: ignore[attr-defined]  # one call for all candidates
    assert (call["label"], call["description"], call["count"]) == ("balloons", "a red balloon", 3)
    assert call["context"] == "a boy and a dog"
    assert [layer.label for layer in call["scene"].layers] == ["sky", "grass", "boy", "dog"]
    step = json.loads((path / "steps/0006/step.json").read_text())
    assert told["step"] == {key: value for key, value in step.items() if key != "schema_version"}
    assert (step["outcome"], step["by"], step["parent"], step["chosen"], len(step["candidates"])) == (
        "placed", "person", 5, 0, 3,
    )  # fmt: skip
    assert step["guidance"] == {"kind": "box", "box": [20, 30, 120, 110], "tightness": 1.0, "by": "person"}
    with Image.open(told["sheet"]) as sheet:
        assert sheet.width > 3 * 300
    scene = json.loads((path / "scene.json").read_text())
    assert [layer["label"] for layer in scene["layers"]] == ["sky", "grass", "boy", "dog", "balloons"]
    assert scene["head"] == 6
    assert (path / "layers/05-balloons.png").exists()
    after = contents(path / "steps")
    assert {name: after[name] for name in before} == before  # nothing overwritten


@pytest.mark.parametrize("finish_first", [True, False])
def test_what_a_run_was_it_stays(tmp_path: Path, models: Models, finish_first: bool) -> None:
    composer = Composer.from_preset("park", overrides=["width=320", "height=256"], models=models)
    run = composer.start("a boy and a dog", seed=7, out=tmp_path / "run")
    for _ in range(5 if finish_first else 2):
        run.advance()
    run.insert("a brown bear")
    assert run.finished is finish_first
    run.close()
    assert run_cli(["resume", str(tmp_path / "run")]) == 0
    folder = RunFolder.open(tmp_path / "run", write=False)
    assert folder.history.finished
    labels = [layer.label for layer in folder.scene().layers]
    assert labels == (
        ["sky", "grass", "boy", "dog", "bear"] if finish_first else ["sky", "grass", "bear", "boy", "dog"]
    )
    assert run_cli(["show", str(tmp_path / "run")]) == 0


def test_resume_after_insert_gives_the_same_bytes(path: Path, models: Models) -> None:
    twin = path.parent / "twin"
    shutil.copytree(path, twin)
    command = ["a red balloon", "--blob", "0.5,0.5,0.1,0.1", "--behind", "boy"]
    assert run_cli(["insert", str(path), *command]) == 0
    whole = contents(path, but="step.json")  # it holds seconds
    assert run_cli(["resume", str(path)]) == 0
    assert contents(path, but="step.json") == whole

    (twin / "steps/0006").mkdir()
    (twin / "steps/0006/amodal.png").write_bytes(b"half")  # killed inside the step
    assert run_cli(["insert", str(twin), *command]) == 0
    assert contents(twin, but="step.json") == whole

    shutil.rmtree(twin / "layers")  # killed right after step.json
    (twin / "final.png").write_bytes(b"stale")
    history = json.loads((twin / "history.json").read_text())
    history["head"], history["steps"] = 5, history["steps"][:-1]
    (twin / "history.json").write_text(json.dumps(history))
    assert run_cli(["resume", str(twin)]) == 0
    for product in ("final.png", "scene.json", "strip.png"):
        assert (twin / product).read_bytes() == (path / product).read_bytes()
    assert {file.name for file in (twin / "layers").iterdir()} == {file.name for file in (path / "layers").iterdir()}


@pytest.mark.parametrize(
    ("options", "kind", "expected"),
    [
        ([], None, None),
        (["--box", "32,64,96,128"], "box", Guidance.from_box(Box(32, 64, 96, 128), SIZE)),
        (["--box", "0.1,0.25,0.3,0.5"], "box", Guidance.from_box(Box(32, 64, 96, 128), SIZE)),
        (["--blob", "160,128,32,16"], "blob", Guidance.from_blob(160, 128, 32, 16, SIZE)),
        (["--blob", "0.5,0.5,0.1,0.0625"], "blob", Guidance.from_blob(160, 128, 32, 16, SIZE)),
        (["--scribble", "drawn.png"], "scribble", Guidance.from_scribble(strokes())),
    ],
)
def test_each_guide_reaches_the_masker_and_is_restored(
    path: Path,
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    kind: str | None,
    expected: Guidance | None,
) -> None:
    monkeypatch.chdir(path.parent)
    draw(path.parent / "drawn.png", np.where(strokes()[..., None], (200, 30, 30), (255, 255, 255)).astype(np.uint8))
    tightness = ["--tightness", "0.25"] if kind else []
    assert run_cli(["insert", str(path), "a brown bear", *options, *tightness]) == 0
    guidance = models.masker.calls[0]["guidance"]  # type: ignore[attr-defined]
    folder = RunFolder.open(path, write=False)
    restored = folder.guidance(folder.history.steps[6])
    if expected is None:
        assert guidance is None and restored is None
        return
    for guide in (guidance, restored):
        assert guide is not None and (guide.kind, guide.tightness) == (kind, 0.25)
        assert np.array_equal(guide.map, expected.map)


@pytest.mark.parametrize("mode", ["white", "transparent", "mask", "palette", "grey16", "la"])
def test_scribbles_on_any_plain_ground(path: Path, models: Models, mode: str) -> None:
    drawn, file = strokes(), path.parent / "drawn.png"
    if mode == "white":
        picture = Image.fromarray(np.where(drawn, 0, 255).astype(np.uint8)).convert("RGB")
    elif mode == "transparent":  # the same colour everywhere: only alpha tells
        picture = Image.fromarray(np.dstack([np.full((*SIZE.shape, 3), 255), drawn * 255]).astype(np.uint8))
    elif mode == "mask":
        picture = Image.fromarray((drawn * 255).astype(np.uint8))
    elif mode == "palette":
        picture = Image.fromarray(np.where(drawn, 0, 255).astype(np.uint8)).convert("P")
    elif mode == "grey16":
        picture = Image.fromarray(np.where(drawn, 3000, 60000).astype(np.uint16))
    else:
        picture = Image.fromarray(np.dstack([np.zeros(SIZE.shape), drawn * 255]).astype(np.uint8), "LA")
    picture.save(file)
    assert run_cli(["insert", str(path), "a brown bear", "--scribble", str(file), "--dry-run"]) == 0
    assert np.array_equal(models.masker.calls[0]["guidance"].map > 0, drawn)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a red lamp"], "names nothing that preset park knows"),
        (["a red ballon"], "did you mean balloons?"),
        (["   "], "OBJECT is empty"),
        (["x" * 300], "300 characters"),
        (["two dogs"], "asks for 2 of dog; insert one at a time"),
        (["a bear", "--box", "1,2,3"], "is not x0,y0,x1,y1"),
        (["a bear", "--box", "nan,0,9,9"], "is not x0,y0,x1,y1"),
        (["a bear", "--box", "0,0,inf,9"], "is not x0,y0,x1,y1"),
        (["a bear", "--box", "10.5,0,90,90"], "parts of pixels"),
        (["a bear", "--box", "10,10,10,90"], "empty or off the 320x256 canvas"),
        (["a bear", "--box", "0.5,0.5,0.5,0.9"], "empty or off the 320x256 canvas"),
        (["a bear", "--box", "-5,10,60,90"], "empty or off the 320x256 canvas"),
        (["a bear", "--box", "10,10,321,90"], "0 <= x0 < x1 <= 320"),
        (["a bear", "--blob", "10,10,nan,5"], "is not cx,cy,rx,ry"),
        (["a bear", "--blob", "400,10,5,5"], "centre off the 320x256 canvas"),
        (["a bear", "--blob", "100,10,0,5"], "radii 0,5 pixels"),
        (["a bear", "--blob", "100,10,500,5"], "at most 320,256"),
        (["a bear", "--scribble", "missing.png"], "no readable PNG"),
        (["a bear", "--scribble", "small.png"], "is 64x64; the canvas is 320x256"),
        (["a bear", "--scribble", "blank.png"], "is empty; draw dark or coloured strokes"),
        (["a bear", "--scribble", "clear.png"], "is empty; draw dark or coloured strokes"),
        (["a bear", "--scribble", "broken.png"], "no readable PNG"),
        (["a bear", "--scribble", "huge.png"], "bytes; at most 16,777,216 are read"),
        (["a bear", "--box", "1,1,9,9", "--blob", "9,9,5,5"], "--box and --blob were given; choose one guide"),
        (["a bear", "--box", "1,1,9,9", "--tightness", "1.5"], "tightness is 1.5"),
        (["a bear", "--box", "1,1,9,9", "--tightness", "nan"], "tightness is nan"),
        (["a bear", "--tightness", "0.5"], "--tightness needs a guide"),
        (["a bear", "-n", "0"], "-n must be 1 to 16"),
        (["a bear", "-n", "17"], "-n must be 1 to 16"),
        (["a bear", "--pick", "5"], "pick 1 to 4"),
        (["a bear", "--pick", "0"], "pick 1 to 4"),
        (["a bear", "--seed", "-1"], "seed -1"),
        (["a bear", "--behind", "unicorn"], "no layer 'unicorn'; there are (id and words): 1 a sky"),
        (["a bear", "--behind", "sky"], "every candidate would be hidden behind 1 a sky"),
        (["a bear", "--behind", "sky", "--pick", "1"], "candidate 1 would be hidden entirely behind 1 a sky"),
        (["a bear", "--sheet", "x.png"], "--sheet is for --dry-run"),
        (["a bear", "--dry-run", "--sheet", "nowhere/x.png"], "in a folder that exists"),
        (["a bear", "--dry-run", "--sheet", "x.jpg"], "name a .png file"),
        (["a bear", "--context", "x" * 3000], "3,000 characters"),
    ],
)
def test_each_mistake_is_one_line_and_changes_nothing(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(path.parent)
    draw(path.parent / "small.png", np.zeros((64, 64), np.uint8))
    draw(path.parent / "blank.png", np.full((*SIZE.shape, 3), 250, np.uint8))
    draw(path.parent / "clear.png", np.zeros((*SIZE.shape, 4), np.uint8))
    (path.parent / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    with (path.parent / "huge.png").open("wb") as file:
        file.truncate((16 << 20) + 1)
    before = contents(path)
    assert run_cli(["insert", str(path), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error
    assert error.startswith("smartscene: ") and "\n" not in error
    assert contents(path) == before


def test_no_mask_is_the_persons_business(tmp_path: Path, models: Models) -> None:
    composer = Composer.from_preset("park", overrides=["width=320", "height=256"], models=models)
    object.__setattr__(models, "vocabulary", type(models.vocabulary)("toy", {"ghost": {"kind": "toy"}}))
    run = composer.start("a ghost", seed=7, out=tmp_path / "run")
    with pytest.raises(UserError, match=r"empty mask; nothing was changed"):
        run.insert("a ghost")
    assert run.folder.history.steps == {}


def test_same_seed_same_candidates_and_pick_takes_the_shown_one(
    path: Path, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(path)
    command = ["insert", str(path), "a brown bear", "--seed", "11", "--json"]
    assert run_cli([*command, "--dry-run"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert dry["step"] is None and Path(dry["sheet"]).name == "candidates-0006.png"
    assert contents(path, but="candidates-") == before  # a dry run leaves only its sheet
    assert run_cli([*command, "--pick", "3"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["candidates"] == dry["candidates"]
    assert (done["step"]["chosen"], done["step"]["seed"]) == (2, 11)
    shown = FakeMasker().predict(**{**models.masker.calls[0]})[2]  # type: ignore[attr-defined]
    assert np.array_equal(RunFolder.open(path, write=False).picture(6, "amodal", "L") > 0, shown.mask)


def test_context_replaces_the_prompt_and_is_kept(path: Path, models: Models) -> None:
    assert run_cli(["insert", str(path), "a brown bear", "--context", "a circus"]) == 0
    assert models.masker.calls[0]["context"] == "a circus"  # type: ignore[attr-defined]
    assert json.loads((path / "steps/0006/step.json").read_text())["context"] == "a circus"


def test_behind_leaves_all_other_pixels_alone(path: Path, models: Models) -> None:
    folder = RunFolder.open(path, write=False)
    old = folder.scene()
    assert (
        run_cli(["insert", str(path), "a brown bear", "--box", "60,120,260,250", "--behind", "4", "--behind", "boy"])
        == 0
    )
    (call,) = models.masker.calls  # type: ignore[attr-defined]
    assert [layer.label for layer in call["scene"].layers] == ["sky", "grass"]
    ((picture, mask),) = models.inpainter.given  # type: ignore[attr-defined]
    assert np.array_equal(picture, old.beneath((3,)).image)
    folder = RunFolder.open(path, write=False)
    scene = folder.scene()
    assert [layer.id for layer in scene.layers] == [1, 2, 6, 3, 4]
    assert folder.history.steps[6].behind == (4, 3)
    bear = scene.layers[2]
    assert np.array_equal(bear.mask, mask) and bear.mask.sum() == 200 * 130  # whole, hidden parts too
    assert bear.rgba is not None and (bear.rgba[..., 3] == 255).sum() == 200 * 130
    in_front = old.layers[2].mask | old.layers[3].mask
    visible = bear.mask & ~in_front
    assert (bear.mask & in_front).any() and visible.any()
    final = np.asarray(Image.open(path / "final.png"))
    assert np.array_equal(final[~visible], old.image[~visible])
    assert not np.array_equal(final[visible], old.image[visible])
    assert np.array_equal(final, folder.picture(6, "image", "RGB"))
    assert np.array_equal(folder.picture(6, "mask", "L") > 0, visible)
    assert np.array_equal(folder.picture(6, "amodal", "L") > 0, bear.mask)
    graph = json.loads((path / "scene.json").read_text())["graph"]
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert (nodes[6]["order"], nodes[6]["visible_px"]) == (2, int(visible.sum()))
    edges = {(edge["source"], edge["target"], edge["relation"]): edge for edge in graph["edges"]}
    share = (bear.mask & old.layers[3].mask).sum() / bear.mask.sum()
    assert edges[4, 6, "in front of"]["hidden_frac"] == edges[6, 4, "behind"]["hidden_frac"] == round(float(share), 4)
    assert (6, 4, "in front of") not in edges


def test_the_best_candidate_that_can_be_seen_is_taken(path: Path, models: Models) -> None:
    assert run_cli(["insert", str(path), "a brown bear", "--behind", "grass", "-n", "8"]) == 0
    step = RunFolder.open(path, write=False).history.steps[6]
    seen = [candidate["visible_frac"] for candidate in step.candidates]
    assert step.chosen == next(i for i, share in enumerate(seen) if share >= 0.1)
    assert min(seen) < 0.1  # else this seed tests nothing


def order_of(path: Path) -> list[int]:
    return [layer["id"] for layer in json.loads((path / "scene.json").read_text())["layers"]]


def test_reorder_is_a_step_that_renders_nothing(path: Path, models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["insert", str(path), "a brown bear", "--box", "60,120,260,250"]) == 0
    before, old = contents(path / "steps"), RunFolder.open(path, write=False).scene()
    models.inpainter.given.clear()  # type: ignore[attr-defined]
    assert run_cli(["order", str(path), "bear", "--behind", "boy"]) == 0
    assert order_of(path) == [1, 2, 6, 3, 4]
    expected = np.full((*SIZE.shape, 3), 255, np.uint8)
    for position in (0, 1, 4, 2, 3):
        expected = composite(expected, old.layers[position].rgba)  # type: ignore[arg-type]
    final = np.asarray(Image.open(path / "final.png"))
    assert np.array_equal(final, expected)
    assert not np.array_equal(final, old.image)
    step = json.loads((path / "steps/0007/step.json").read_text())
    assert (step["outcome"], step["order"], step["by"]) == ("reordered", [1, 2, 6, 3, 4], "person")
    changed = np.asarray(Image.open(path / "steps/0007/mask.png")) > 0
    assert np.array_equal(changed, (final != old.image).any(axis=2))
    assert models.inpainter.given == []  # type: ignore[attr-defined]
    after = contents(path / "steps")
    assert {name: after[name] for name in before} == before  # nothing overwritten: undo is a matter of the head
    assert np.array_equal(opened(path, models).scene.image, final)
    capsys.readouterr()
    assert run_cli(["show", str(path)]) == 0
    assert "reordered" in capsys.readouterr().out

    for arguments, expected_order in (
        (["6", "--in-front-of", "a boy"], [1, 2, 3, 6, 4]),
        (["dog", "--to", "1"], [4, 1, 2, 3, 6]),
        (["4", "--to", "5"], [1, 2, 3, 6, 4]),
    ):
        assert run_cli(["order", str(path), *arguments, "--json"]) == 0
        assert [layer["id"] for layer in json.loads(capsys.readouterr().out)["layers"]] == expected_order
        assert order_of(path) == expected_order
    assert run_cli(["resume", str(path)]) == 0
    assert order_of(path) == [1, 2, 3, 6, 4]
    assert RunFolder.open(path, write=False).history.finished


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["boy"], "one of --behind LAYER, --in-front-of LAYER, --to POSITION"),
        (["boy", "--to", "1", "--behind", "dog"], "one of --behind LAYER"),
        (["unicorn", "--to", "1"], "no layer 'unicorn'"),
        (["boy", "--behind", "unicorn"], "no layer 'unicorn'"),
        (["boy", "--behind", "boy"], "that is the same layer"),
        (["boy", "--behind", "dog"], "a boy is behind a dog already"),
        (["dog", "--in-front-of", "sky"], "a dog is in front of a sky already"),
        (["boy", "--to", "0"], "position 0 is not 1 (rearmost) to 4 (nearest)"),
        (["boy", "--to", "5"], "position 5 is not"),
        (["boy", "--to", "3"], "a boy is at position 3 already"),
    ],
)
def test_each_wrong_order_is_one_line_and_changes_nothing(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    before = contents(path)
    assert run_cli(["order", str(path), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error
    assert contents(path) == before


def test_two_layers_of_one_name_need_an_id(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["insert", str(path), "a dog", "--box", "0.1,0.1,0.3,0.3"]) == 0
    assert run_cli(["insert", str(path), "a bear", "--behind", "dog"]) == 2
    assert "2 layers answer to 'dog'; give an id: 4 a dog, 6 a dog" in capsys.readouterr().err
    assert run_cli(["order", str(path), "6", "--behind", "4"]) == 0
    assert order_of(path) == [1, 2, 3, 6, 4]


def test_a_history_that_names_missing_layers_is_refused(path: Path, models: Models) -> None:
    assert run_cli(["order", str(path), "boy", "--to", "1"]) == 0
    file = path / "steps/0006/step.json"
    file.write_text(file.read_text().replace('"order": [\n  3', '"order": [\n  9'))
    with pytest.raises(UserError, match=r"step.json is broken .*does not name each"):
        opened(path, models)


def test_runs_of_schema_version_1_open_and_can_be_changed(
    tmp_path: Path, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old"
    shutil.copytree(OLD_RUN, path)
    assert "by" not in json.loads((path / "steps/0003/step.json").read_text())
    folder = RunFolder.open(path, write=False)
    assert folder.history.finished
    assert np.array_equal(folder.scene().image, np.asarray(Image.open(path / "final.png")))
    guidance = folder.guidance(folder.history.steps[3])
    assert guidance is not None and guidance.tightness == 1.0
    assert run_cli(["show", str(path)]) == 0
    assert run_cli(["insert", str(path), "a red balloon", "--behind", "dog"]) == 0
    assert run_cli(["order", str(path), "boy", "--to", "1"]) == 0
    final = (path / "final.png").read_bytes()
    assert run_cli(["resume", str(path)]) == 0
    assert (path / "final.png").read_bytes() == final
