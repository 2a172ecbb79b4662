"""Photographs as starting scenes: bit-identical outside what is new, at their own size, and open to every command."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator import photograph
from orchestrator.cli import run_cli
from orchestrator.compose import Composer, Run
from orchestrator.photograph import StartingPhoto, canvas_size
from orchestrator.ports import Models
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.guidance import Guidance
from scene.panoptic import PanopticMap, rgb_of_ids
from scene.photo import Photo
from tests.orchestrator.fakes import fake_models
from tests.perception.tiny_segmenters import save_mask2former

DOCUMENT = {
    "image_id": 1,
    "file_name": "map.png",
    "segments_info": [{"id": 300, "category_id": 1}, {"id": 7, "category_id": 2}, {"id": 9, "category_id": 3}],
    "categories": [
        {"id": 1, "name": "sky-other-merged", "isthing": 0},
        {"id": 2, "name": "grass-merged", "isthing": 0},
        {"id": 3, "name": "tree", "isthing": 1},
    ],
}


def picture(size: Size, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (*size.shape, channels), dtype=np.uint8)


def ids_for(size: Size) -> np.ndarray:
    """Sky over grass, a tree in the middle, a strip that is not labelled."""
    width, height = size
    ids = np.full(size.shape, 300, dtype=np.int32)
    ids[height // 2 :] = 7
    ids[height // 4 : 3 * height // 4, 3 * width // 8 : 5 * width // 8] = 9
    ids[:, : width // 16] = 0
    return ids


def files(folder: Path, size: Size, channels: int = 3) -> tuple[Path, str]:
    Image.fromarray(picture(size, channels)).save(folder / "photo.png")
    Image.fromarray(rgb_of_ids(ids_for(size))).save(folder / "map.png")
    (folder / "map.json").write_text(json.dumps(DOCUMENT))
    return folder / "photo.png", f"{folder / 'map.png'},{folder / 'map.json'}"


def started(folder: Path, size: Size, channels: int = 3) -> Run:
    photo, _ = files(folder, size, channels)
    start = StartingPhoto.read(photo, (folder / "map.png", folder / "map.json"))
    composer = Composer.from_preset("park", models=fake_models())
    return composer.start(start.caption(), seed=5, out=folder / "run", photo=start)


def full(run: Run) -> np.ndarray:
    return np.asarray(Image.open(run.folder.path / "full.png"))


def read(path: Path, mode: str = "RGB") -> np.ndarray:
    return np.asarray(Image.open(path).convert(mode))


@pytest.mark.parametrize(
    ("photo", "canvas"),
    [
        ((640, 427), (640, 427)), ((6000, 4000), (1024, 683)), ((3000, 4000), (768, 1024)), ((100, 70), (100, 70)),
        ((12000, 2000), (1536, 256)), ((2000, 100), (2000, 100)), ((16000, 300), (4096, 77)),
    ],
)  # fmt: skip
def test_canvases_keep_proportions_and_stay_small(photo: tuple[int, int], canvas: tuple[int, int]) -> None:
    assert canvas_size(Size(*photo)) == canvas


def test_a_run_starts_with_the_photo_and_its_parts(tmp_path: Path) -> None:
    run = started(tmp_path, Size(161, 98))
    assert [(layer.id, layer.label) for layer in run.scene.layers] == [
        (1, "grass"),
        (2, "sky"),
        (3, "oak tree"),
    ]  # in park's words
    assert run.prompt == "a photo with tree, sky, grass"
    assert np.array_equal(run.scene.image, picture(Size(161, 98)))  # the unlabelled strip as well
    assert (run.scene.layout.index[:, :10] == -1).all()
    assert np.array_equal(full(run), picture(Size(161, 98)))
    step = run.insert("a dog")
    assert step.index == 4  # ids of parts and steps never meet
    run.close()


@pytest.fixture
def small_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos of 128 pixels stand for those of 1024."""
    monkeypatch.setattr(photograph, "LONG_SIDE_PX", 128)
    monkeypatch.setattr(photograph, "SHORT_SIDE_PX", 32)


@pytest.mark.parametrize("size", [Size(121, 98), Size(300, 200)])
@pytest.mark.parametrize("behind", [(), ("tree",)])
def test_only_what_is_new_changes(tmp_path: Path, size: Size, behind: tuple[str, ...], small_canvas: None) -> None:
    run = started(tmp_path, size)
    canvas = run.scene.size
    box = Box(canvas.width // 4, canvas.height // 3, canvas.width // 2, 9 * canvas.height // 10)
    run.insert("a dog", guidance=Guidance.from_box(box, canvas), behind=behind)
    changed = (full(run) != picture(size)).any(axis=2)
    scale = size.width / canvas.width
    y, x = np.nonzero(changed)
    found = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
    assert np.abs(found - np.array(box) * scale).max() <= 2
    tree = ids_for(size) == 9
    assert changed[~tree].mean() > 0.1
    assert changed[tree].any() == (not behind)
    if canvas == size:
        assert np.array_equal(full(run), read(run.folder.path / "final.png"))
        assert not changed[~(read(run.folder.step_dir(4) / "mask.png", "L") > 0)].any()
    run.close()


def test_transparency_and_profile_go_through(tmp_path: Path) -> None:
    size = Size(120, 80)
    rgba = picture(size, 4)
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "PNG", icc_profile=b"colours")
    start = StartingPhoto.read(buffer.getvalue(), name="glass")
    composer = Composer.from_preset("park", models=fake_models())
    run = composer.start("glass", out=tmp_path / "run", photo=start)
    assert np.array_equal(full(run), rgba)
    run.insert("a dog", guidance=Guidance.from_box(Box(30, 20, 60, 70), run.scene.size))
    with Image.open(tmp_path / "run" / "full.png") as result:
        assert result.info["icc_profile"] == b"colours"
        pixels = np.asarray(result)
    inside = np.zeros(size.shape, bool)
    inside[20:70, 30:60] = True
    assert np.array_equal(pixels[~inside], rgba[~inside]) and (pixels[inside][:, 3] == 255).all()
    run.close()


def test_every_command_goes_on_with_it(tmp_path: Path, load: Models, capsys: pytest.CaptureFixture[str]) -> None:
    photo, panoptic = files(tmp_path, Size(320, 256))
    out = str(tmp_path / "out")
    command = ["insert", str(photo), "a dog", "--panoptic", panoptic, "--preset", "park", "--out", out]
    assert run_cli([*command, "--box", "0.1,0.2,0.4,0.9", "--behind", "tree", "-n", "2"]) == 0
    assert "full.png" in capsys.readouterr().out
    assert run_cli(["show", out]) == 0 and "behind 3" in capsys.readouterr().out
    assert run_cli(["insert", out, "a red balloon", "--blob", "200,80,20,20"]) == 0
    changed = (read(Path(out) / "full.png") != picture(Size(320, 256))).any()
    assert changed
    assert run_cli(["order", out, "dog", "--in-front-of", "tree"]) == 0
    assert run_cli(["edit", out, "a red balloon", "--move", "5,0"]) == 0
    for kind in ("ora", "webp", "coco"):
        assert run_cli(["export", out, str(tmp_path / f"scene.{kind}"), "--to", kind]) == 0
    assert run_cli(["show", out, "--tree", str(tmp_path / "tree.png")]) == 0
    assert run_cli(["undo", out, "4"]) == 0
    assert np.array_equal(read(Path(out) / "full.png"), picture(Size(320, 256)))
    assert run_cli(["redo", out, "4"]) == 0
    capsys.readouterr()
    assert run_cli(["edit", out, "tree", "--delete"]) == 2
    assert "is a part of the photo" in capsys.readouterr().err
    assert run_cli(["resume", out]) == 0  # the planner goes on from there
    assert run_cli([*command]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_boxes_are_in_pixels_of_the_photo(tmp_path: Path, load: Models, small_canvas: None) -> None:
    photo, panoptic = files(tmp_path, Size(512, 256))
    out = tmp_path / "out"
    command = ["insert", str(photo), "a dog", "--panoptic", panoptic, "--preset", "park", "--out", str(out)]
    assert run_cli([*command, "--box", "250,50,450,225"]) == 0
    changed = (read(out / "full.png") != picture(Size(512, 256))).any(axis=2)
    assert changed[53:222, 253:447].mean() > 0.95
    changed[48:228, 248:452] = False
    assert not changed.any()
    scribble = np.full((256, 512), 255, np.uint8)
    scribble[100:150, 100:102] = 0
    Image.fromarray(scribble).save(tmp_path / "scribble.png")
    assert run_cli(["insert", str(out), "a red balloon", "--scribble", str(tmp_path / "scribble.png")]) == 0


def test_what_a_killed_start_leaves_is_no_obstacle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run" / "photo").mkdir(parents=True)
    (tmp_path / "run" / "photo" / "photo.png").write_bytes(b"half")
    (tmp_path / "run" / ".lock").touch()
    run = started(tmp_path, Size(161, 98))
    run.insert("a dog")
    run.close()
    assert run_cli(["branch", str(tmp_path / "run"), "2"]) == 2
    assert "there is no step 2; steps are 0 (the photo), then 4 to 4" in capsys.readouterr().err


def test_a_lost_or_changed_photo_is_named(tmp_path: Path) -> None:
    run = started(tmp_path, Size(161, 98))
    run.close()
    target = tmp_path / "run" / "photo" / "canvas.png"
    target.write_bytes(target.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"photo/canvas.png is not what was written"):
        Composer.for_run(tmp_path / "run", models=fake_models())
    target.unlink()
    with pytest.raises(UserError, match=r"canvas\.png"):
        Composer.for_run(tmp_path / "run", models=fake_models())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a dog"], "nothing tells what .*photo.png shows: give --panoptic PNG,JSON"),
        (["a dog", "--panoptic", "one.png"], "is not PNG,JSON"),
        (["a nuclear reactor", "--panoptic", "none"], "names nothing that preset park knows"),
        (["a dog", "--panoptic", "none", "--behind", "tree"], "no layer 'tree'"),
        (["a dog", "--panoptic", "none", "--box", "0,0,161,98"], "off the 160x96 canvas"),
        (["a dog", "--panoptic", "none", "-n", "17"], "-n must be 1 to 16"),
        (["a dog", "--set", "segmenter.path=owner/none"], "owner/none is not on this machine; fetch it once"),
        (["a dog", "--set", "segmenter.path=/no/such/folder"], "segmenter.path is '/no/such/folder': no such folder"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, _ = files(tmp_path, Size(160, 96))
    out = tmp_path / "out"
    assert run_cli(["insert", str(photo), *options, "--preset", "park", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert re.search(message, said)
    assert not out.exists()


def test_a_segmentation_model_makes_the_map(tmp_path: Path, load: Models) -> None:
    photo, _ = files(tmp_path, Size(160, 96))
    model, out = save_mask2former(tmp_path / "model"), tmp_path / "out"
    settings = ["--set", f"segmenter.path={model}", "--set", "segmenter.threshold=0.2"]
    assert run_cli(["insert", str(photo), "a dog", *settings, "--preset", "park", "--out", str(out)]) == 0
    facts = json.loads((out / "run.json").read_text())
    assert {entry["description"] for entry in facts["photo"]["segments"]} <= {"person", "dog", "sky", "grass"}
    assert facts["photo"]["segments"] and facts["config"]["segmenter"]["path"] == str(model)


def test_options_for_photos_are_refused_for_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started(tmp_path, Size(161, 98)).close()
    assert run_cli(["insert", str(tmp_path / "run"), "a dog", "--preset", "park", "--panoptic", "none"]) == 2
    assert "--panoptic --preset is for photos" in capsys.readouterr().err
    assert run_cli(["insert", str(tmp_path / "none.jpg"), "a dog", "--panoptic", "none"]) == 2
    assert "is neither a run folder nor a picture" in capsys.readouterr().err


def test_at_most_64_segments_become_layers_the_largest(tmp_path: Path) -> None:
    from scene.panoptic import Category, Segment

    ids = np.zeros((256, 256), np.int32)
    for number in range(100):
        y, x = divmod(number, 10)
        ids[25 * y : 25 * y + 5 + number // 10, 25 * x : 25 * x + 20] = number + 1
    listed = tuple(Segment(number, Category(1, "chair", True)) for number in range(1, 101))
    start = StartingPhoto(Photo("chairs", picture(Size(256, 256))), PanopticMap(ids, listed))
    assert sorted(segment.id for segment in start.segments) == [31, 32, 33, 34, *range(41, 101)]  # four of row 3


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Models:
    """The command line gets the stand-ins in place of real models."""
    models = fake_models()
    loader: Callable[[object], Models] = lambda config: models  # noqa: E731
    monkeypatch.setattr("orchestrator.assemble.assemble", loader)
    return models
