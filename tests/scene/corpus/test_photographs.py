"""The importers of COCOA, COCO and COCO panoptic: conformance on the real samples, and broken files named."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scene.corpus.check import check_corpus
from scene.corpus.coco import import_coco, occlusion_order
from scene.corpus.coco_panoptic import import_coco_panoptic
from scene.corpus.cocoa import import_cocoa
from scene.corpus.outlines import from_counts, from_rle, polygon_mask, to_rle
from scene.corpus.photographs import CANVAS, clean_name, filled, split_of
from scene.corpus.records import SceneRecord
from scene.corpus.store import Corpus
from scene.errors import UserError

pytest.importorskip("pycocotools", reason="the extra `data` is not installed")


@pytest.fixture(scope="module")
def cocoa(cocoa_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return import_cocoa(cocoa_dir, tmp_path_factory.mktemp("corpora") / "cocoa")


@pytest.fixture(scope="module")
def coco(coco_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return import_coco(coco_dir, tmp_path_factory.mktemp("corpora") / "coco", limit=8)


@pytest.fixture(scope="module")
def panoptic(coco_panoptic_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return import_coco_panoptic(coco_panoptic_dir / "sample_data", tmp_path_factory.mktemp("corpora") / "panoptic")


def on_photo(corpus: Corpus, record: SceneRecord, k: int, shape: tuple[int, int]) -> np.ndarray:
    """The mask of layer k, cut out of the canvas where the photo lies."""
    top, left = (CANVAS.height - shape[0]) // 2, (CANVAS.width - shape[1]) // 2
    return corpus.mask(record.layers[k])[top : top + shape[0], left : left + shape[1]]


def test_cocoa_s_identities_hold(cocoa: Corpus, cocoa_dir: Path) -> None:
    for path in sorted(cocoa_dir.glob("*.json")):
        annotation = json.loads(path.read_text())
        record = next(r for r in cocoa.records() if r.group == annotation["image_id"])
        with Image.open(path.with_suffix(".jpg")) as photo:
            shape = (photo.height, photo.width)
        regions = sorted(annotation["regions"], key=lambda region: -region["order"])  # back to front
        assert [layer.label for layer in record.layers[1:]] == [clean_name(region["name"]) for region in regions]
        nearer = np.zeros(shape, dtype=bool)
        for k in range(len(regions), 0, -1):
            region, layer = regions[k - 1], record.layers[k]
            amodal = on_photo(cocoa, record, k, shape)
            assert amodal.sum() == region["area"]
            if "visible_mask" in region:
                visible, invisible = (from_rle(region[name]) for name in ("visible_mask", "invisible_mask"))
                assert np.array_equal(amodal, visible | invisible) and not (visible & invisible).any()
                assert np.array_equal(visible, amodal & ~nearer)
            assert layer.facts is not None
            assert layer.facts.visible_frac == pytest.approx(1 - region["occlude_rate"], abs=1e-4)
            nearer |= amodal


def test_panoptic_areas_are_exact(panoptic: Corpus, coco_panoptic_dir: Path) -> None:
    document = json.loads((coco_panoptic_dir / "sample_data" / "panoptic_examples.json").read_text())
    for annotation in document["annotations"]:
        record = next(r for r in panoptic.records() if r.group == annotation["image_id"])
        found = {
            panoptic.assets[layer.asset].source.split("/")[1]: int(panoptic.mask(layer).sum())
            for layer in record.layers
            if layer.label != "background"
        }
        assert found == {str(entry["id"]): entry["area"] for entry in annotation["segments_info"]}


def test_coco_s_masks_and_captions_come_along(coco: Corpus, coco_dir: Path) -> None:
    document = json.loads((coco_dir / "annotations" / "instances.json").read_text())
    captions = json.loads((coco_dir / "annotations" / "captions.json").read_text())["annotations"]
    images = {image["id"]: image for image in document["images"]}
    checked = 0
    for record in coco.records():
        shape = (images[record.group]["height"], images[record.group]["width"])
        own = {entry["id"]: entry for entry in document["annotations"] if entry["image_id"] == record.group}
        assert len(record.layers) - 1 == len(own)
        for k, layer in enumerate(record.layers[1:], start=1):
            entry = own[int(coco.assets[layer.asset].source.split("/")[1])]
            if max(shape) <= 640:
                mask = on_photo(coco, record, k, shape)
                assert abs(int(mask.sum()) - entry["area"]) <= 0.1 * entry["area"] + 60  # the polygon's, not pixels
                checked += 1
            if entry["iscrowd"]:
                assert layer.description.startswith("a group of")
        said = [" ".join(entry["caption"].split()) for entry in captions if entry["image_id"] == record.group]
        assert sorted(record.prompts[3:]) == sorted(said) and len(said) == 5
    assert checked > 50


@pytest.mark.parametrize("name", ["cocoa", "coco", "panoptic"])
def test_imported_corpora_pass_every_check(name: str, request: pytest.FixtureRequest) -> None:
    corpus: Corpus = request.getfixturevalue(name)
    report = check_corpus(corpus)
    assert not report.findings and report.checked["masks"] == sum(len(r.layers) for r in corpus.records())
    for record in corpus.records():
        assert record.split == split_of(record.group)
        shown = corpus.scene(record).image.astype(int)
        assert shown.shape == (640, 640, 3)
    assert (corpus.path / "ATTRIBUTION.md").is_file()


def test_a_scene_shows_its_photo(cocoa: Corpus, cocoa_dir: Path) -> None:
    for name in ("1", "2"):
        photo = np.asarray(Image.open(cocoa_dir / f"{name}.jpg")).astype(int)
        image_id = json.loads((cocoa_dir / f"{name}.json").read_text())["image_id"]
        record = next(r for r in cocoa.records() if r.group == image_id)
        height, width = photo.shape[:2]
        top, left = (640 - height) // 2, (640 - width) // 2
        shown = cocoa.scene(record).image[top : top + height, left : left + width].astype(int)
        assert np.abs(shown - photo).mean() < 4  # lossy WebP


def edited(folder: Path, source: Path, name: str, change: Callable[[Any], object]) -> Path:
    """A copy of a sample whose JSON `name` is changed."""
    shutil.copytree(source, folder, copy_function=shutil.copyfile)
    document = json.loads((source / name).read_text())
    change(document)
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755)
    (folder / name).write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["regions"][0]["segmentation"].pop(),
         r"2.json \(image 343254\): regions\[0\]: segmentation: a polygon has 61"),
        (lambda d: d["regions"][2]["visible_mask"].update(size=[640, 427]),
         r"regions\[2\]: visible_mask is of size \[640, 427\]; the picture's is \[427, 640\]"),
        (lambda d: d["regions"][2].update(order=2), r"regions\[2\]: order 2 occurs twice"),
        (lambda d: d["regions"][2].update(visible_mask=d["regions"][3]["visible_mask"]), "together differ"),
        (lambda d: [r.update(order=12 - r["order"]) for r in d["regions"]], "differs from segmentation less nearer"),
        (lambda d: d["regions"][4]["invisible_mask"].update(counts="0"), "invisible_mask: run lengths cover 0 pixels"),
        (lambda d: d["regions"][1].pop("name"), r"regions\[1\].*: name is missing"),
        (lambda d: d["regions"][1].update(name=" ?! "), "has no letters"),
    ],
)  # fmt: skip
def test_broken_cocoa_is_named(tmp_path: Path, cocoa_dir: Path, change: Any, message: str) -> None:
    folder = edited(tmp_path / "src", cocoa_dir, "2.json", change)
    with pytest.raises(UserError, match=message):
        import_cocoa(folder, tmp_path / "out")
    corpus = import_cocoa(folder, tmp_path / "out", skip_broken=True)
    assert len(corpus.records()) == 1
    skipped = json.loads((corpus.path / "build.json").read_text())["skipped"]
    assert len(skipped) == 1 and "343254" in skipped[0]


def test_the_full_form_of_cocoa_is_read(tmp_path: Path, cocoa_dir: Path) -> None:
    annotations = [json.loads((cocoa_dir / f"{name}.json").read_text()) for name in ("1", "2")]
    images = [{"id": a["image_id"], "file_name": f"{n}.jpg"} for n, a in enumerate(annotations, start=1)]
    second = copy.deepcopy(annotations[0])
    second["id"] += 1  # another annotator
    (tmp_path / "COCO_amodal_val2014.json").write_text(
        json.dumps({"images": images, "annotations": [*annotations, second]})
    )
    corpus = import_cocoa(tmp_path / "COCO_amodal_val2014.json", tmp_path / "out", images=cocoa_dir)
    assert [record.group for record in corpus.records()] == [188819, 343254, 188819]
    assert not check_corpus(corpus).findings
    with pytest.raises(UserError, match=r"\(image 188819\): file_name '1.jpg' is not in .*--images DIR"):
        import_cocoa(tmp_path / "COCO_amodal_val2014.json", tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][0].update(segmentation=[[1.0, 2.0, 3.0, 4.0]]),
         r"instances.json: annotations\[0\] \(image 408805\): segmentation: a polygon has 4 numbers"),
        (lambda d: d["annotations"][0].update(category_id=12), "category_id 12 is not among"),
        (lambda d: d["annotations"][0].update(image_id=1), r"\(image 1\): image_id is not among the 2 images"),
        (lambda d: d["annotations"][0].pop("id"), r"annotations\[0\] \(image 408805\): id is missing"),
        (lambda d: next(a for a in d["annotations"] if a["iscrowd"])["segmentation"]["counts"].pop(),
         "segmentation: run lengths cover"),
        (lambda d: d["annotations"][0].update(segmentation=[[-9.0, 0, 50, 50, 50, 0]]), "a polygon leaves"),
        (lambda d: [i.update(width=i["width"] + 1) for i in d["images"]], "its annotation|the picture's is"),
        (lambda d: [i.update(file_name="none.jpg") for i in d["images"]], "file_name 'none.jpg' is not in"),
    ],
)  # fmt: skip
def test_broken_coco_is_named(tmp_path: Path, coco_dir: Path, change: Any, message: str) -> None:
    document = json.loads((coco_dir / "annotations" / "instances.json").read_text())
    kept = {408805, next(a["image_id"] for a in document["annotations"] if a["iscrowd"])}  # two photos will do
    document["images"] = [image for image in document["images"] if image["id"] in kept]
    document["annotations"] = [entry for entry in document["annotations"] if entry["image_id"] in kept]
    change(document)
    (tmp_path / "instances.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=message):
        import_coco(tmp_path / "instances.json", tmp_path / "out", images=coco_dir / "images")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][1]["segments_info"][0].update(area=3513),
         r"panoptic_examples.json: image 439180: segment 3937500 claims area 3513, the PNG has 3512 pixels"),
        (lambda d: d["annotations"][1]["segments_info"].pop(), "segment id 10025880 .* that is not listed"),
        (lambda d: d["annotations"][1]["segments_info"][0].update(category_id=0),
         r"image 439180: segments_info\[0\]: category_id 0 is not among the 133"),
        (lambda d: d["annotations"][1].update(image_id=5), r"annotations\[1\]: image_id 5 is not among the 2 images"),
        (lambda d: d["annotations"][1].update(file_name="000000142238.png"), "image 439180: "),
    ],
)  # fmt: skip
def test_broken_panoptic_is_named(tmp_path: Path, coco_panoptic_dir: Path, change: Any, message: str) -> None:
    folder = edited(tmp_path / "src", coco_panoptic_dir / "sample_data", "panoptic_examples.json", change)
    with pytest.raises(UserError, match=message):
        import_coco_panoptic(folder, tmp_path / "out")


def test_nothing_there_is_said_plainly(tmp_path: Path) -> None:
    for importer, message in (
        (import_cocoa, "no COCOA JSON"), (import_coco, r"no instances\*.json"), (import_coco_panoptic, "no panoptic"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            importer(tmp_path, tmp_path / "out")
    (tmp_path / "instances.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        import_coco(tmp_path, tmp_path / "out")


def test_the_order_of_depth_follows_its_rule() -> None:
    def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        mask = np.zeros((100, 100), dtype=bool)
        mask[y0:y1, x0:x1] = True
        return mask

    person, tie, far, near = box(20, 10, 60, 90), box(35, 30, 45, 60), box(70, 10, 80, 50), box(70, 60, 90, 95)
    assert occlusion_order([tie, near, person, far]) == [3, 2, 0, 1]
    assert occlusion_order([person, person.copy()]) in ([0, 1], [1, 0]) and occlusion_order([]) == []


def test_run_lengths_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for density in (0.0, 0.02, 0.5, 1.0):
        mask = np.kron(rng.random((9, 7)) < density, np.ones((9, 11))).astype(bool)
        assert np.array_equal(from_counts(to_rle(mask)["counts"], mask.shape), mask)
    for broken, message in (("", "cover 0"), ("~", "character"), ("o", "break off"), ([3, -3], "whole numbers")):
        with pytest.raises(ValueError, match=message):
            from_counts(broken, (4, 5))
    assert polygon_mask([[1, 1, 9, 1, 9, 6, 1, 6]], (10, 12)).sum() == 40


def test_hidden_colours_come_from_the_nearest_seen_pixel() -> None:
    rgb = np.arange(5, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    known = np.array([[True, True, False, False, False]])
    assert filled(rgb, known, np.array([[False, False, True, True, False]]))[0, :, 0].tolist() == [0, 1, 1, 1, 4]


def test_the_masker_trains_on_an_imported_corpus(tmp_path: Path, cocoa_dir: Path) -> None:
    """A few samples of the codec stage, through the command line."""
    from orchestrator.cli import run_cli

    folder = edited(tmp_path / "src", cocoa_dir, "1.json", lambda d: d.update(image_id=188818))  # one photo for val
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    assert run_cli(["data", "import", "cocoa", str(folder), str(corpus)]) == 0
    settings = ["fit.total_samples=16", "fit.batch_size=8", "fit.warmup_samples=8", "fit.log_every=8",
                "fit.sheet_every=16", "codec.resolution=16", "codec.channels=[8, 8]", "fit.threads=1"]  # fmt: skip
    command = ["train", "masker", "--config", "configs/masker/codec_park.yaml", "--data", str(corpus)]
    assert run_cli([*command, *(part for s in settings for part in ("--set", s)), "--out", str(out)]) == 0
    assert list((out / "export").glob("*.safetensors"))
