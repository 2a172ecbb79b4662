"""Exports read back by the libraries of each format."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from PIL import Image

from orchestrator import versions
from orchestrator.asked import live_graph
from orchestrator.cli import run_cli
from orchestrator.compose import Composer
from orchestrator.graph_picture import BROKEN, HOLDS
from orchestrator.run_folder import RunFolder
from scene.graph import graph_from_json
from scene.layout import label_colour
from tests.orchestrator.fakes import fake_models


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "versions", dict)
        composer = Composer.from_preset("park", overrides=["width=320", "height=256"], models=fake_models())
        run = composer.start("a dog next to a boy", seed=7, out=tmp_path_factory.mktemp("export") / "run")
        list(run.steps())
        run.close()
    return run.folder.path


def exported(path: Path, kind: str) -> Path:
    target = path.parent / f"scene.{kind}"
    assert run_cli(["export", str(path), str(target), "--to", kind]) == 0
    first = target.read_bytes()
    assert run_cli(["export", str(path), str(target), "--to", kind]) == 0
    assert target.read_bytes() == first  # same scene, same bytes
    return target


def final(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path / "final.png").convert("RGB"))


def test_openraster_holds_the_layers_and_adds_up_to_the_picture(path: Path) -> None:
    with zipfile.ZipFile(exported(path, "ora")) as archive:
        first = archive.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
        assert archive.read("mimetype") == b"image/openraster"
        root = ET.fromstring(archive.read("stack.xml"))
        assert (root.get("w"), root.get("h")) == ("320", "256")
        canvas = Image.new("RGBA", (320, 256))
        layers = list(root.iter("layer"))
        assert [layer.get("name") for layer in layers] == ["4 a dog", "3 a boy", "2 a grass", "1 a sky", "canvas"]
        for layer in reversed(layers):
            picture = Image.open(io.BytesIO(archive.read(layer.get("src", "")))).convert("RGBA")
            canvas.alpha_composite(picture, (int(layer.get("x", "0")), int(layer.get("y", "0"))))
        merged = np.asarray(Image.open(io.BytesIO(archive.read("mergedimage.png"))).convert("RGB"))
    assert np.array_equal(np.asarray(canvas.convert("RGB")), final(path))
    assert np.array_equal(merged, final(path))


def test_photoshop_holds_the_layers_and_adds_up_to_the_picture(path: Path) -> None:
    psd_tools = pytest.importorskip("psd_tools")
    document = psd_tools.PSDImage.open(exported(path, "psd"))
    assert [layer.name for layer in document] == ["1 a sky", "2 a grass", "3 a boy", "4 a dog"]
    assert np.array_equal(np.asarray(document.topil().convert("RGB")), final(path))  # what viewers without layers show
    canvas = Image.new("RGBA", (320, 256), "white")
    for layer in document:
        canvas.alpha_composite(layer.topil().convert("RGBA"), (layer.left, layer.top))
    assert np.array_equal(np.asarray(canvas.convert("RGB")), final(path))


def test_coco_masks_are_amodal_and_visible_parts_tile(path: Path) -> None:
    rle = pytest.importorskip("pycocotools.mask")
    data = json.loads(exported(path, "coco").read_text())
    scene = RunFolder.open(path, write=False).scene()
    names = {category["id"]: category["name"] for category in data["categories"]}
    total = np.zeros(scene.size.shape, int)
    for annotation, layer in zip(data["annotations"], scene.layers, strict=True):
        assert names[annotation["category_id"]] == layer.label
        assert np.array_equal(rle.decode(annotation["segmentation"]).astype(bool), layer.mask)
        total += rle.decode(annotation["visible_mask"])
        x, y, width, height = annotation["bbox"]
        assert layer.mask[y : y + height, x : x + width].sum() == annotation["area"]
    assert (total == 1).all()  # sky covers all
    assert data["annotations"][0]["occlude_rate"] > 0.4


def test_webp_shows_every_step(path: Path) -> None:
    with Image.open(exported(path, "webp")) as film:
        assert film.n_frames == 4
        film.seek(3)
        assert np.array_equal(np.asarray(film.convert("RGB")), final(path))


def test_graphs_say_what_was_asked_and_whether_it_holds(path: Path) -> None:
    graph = graph_from_json(json.loads(exported(path, "json").read_text()))
    asked = [data for _, _, data in graph.edges(data=True) if data.get("origin") == "prompt"]
    assert [(data["relation"], data["words"]) for data in asked] == [("next to", "dog next to a boy")]
    assert asked[0]["holds"] == graph.has_edge(4, 3, key="next to")
    ml = nx.parse_graphml(exported(path, "graphml").read_text())
    assert {data["label"] for _, data in ml.nodes(data=True)} == {"sky", "grass", "boy", "dog"}
    assert ml.number_of_edges() == graph.number_of_edges()
    dot = exported(path, "dot").read_text()
    assert dot.startswith("digraph scene {")
    assert dot.count(" -> ") == graph.number_of_edges()
    assert ('"4" -> "3" [label="next to", style=bold, color=darkgreen]' in dot) == asked[0]["holds"]


@pytest.mark.parametrize(("file", "kind"), [("nowhere/x.ora", "ora"), ("run", "ora")])
def test_files_that_cannot_be_written(path: Path, capsys: pytest.CaptureFixture[str], file: str, kind: str) -> None:
    assert run_cli(["export", str(path), str(path.parent / file), "--to", kind]) == 2
    assert "in a folder that exists" in capsys.readouterr().err


def test_the_graph_picture_shows_every_object_and_what_was_asked(path: Path) -> None:
    with Image.open(exported(path, "graph")) as picture:
        assert picture.format == "PNG" and picture.width == 320 and picture.height > 256
        shown = np.asarray(picture.convert("RGB")).astype(int)
    folder = RunFolder.open(path, write=False)
    scene = folder.scene()
    for layer in scene.layers:
        colour = np.array(label_colour(layer.label))
        assert (np.abs(shown - colour).sum(axis=2) == 0).sum() > 100, layer.label
    listed = shown[256:]
    holds = live_graph(scene, folder.vocabulary()).get_edge_data(4, 3)["asked: next to"]["holds"]
    expected = HOLDS if holds else BROKEN
    assert (np.abs(listed - np.array(expected)).sum(axis=2) == 0).sum() > 20
