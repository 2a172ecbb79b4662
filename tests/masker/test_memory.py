"""Remembered shapes: what comes to mind, how it is kept, and which views are told of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import label

from masker.config import MemoryConfig
from masker.layout_encoder import GuideFrame
from masker.likeliest import likeliest_shape, likely_map, overlap_with_likely, seen_through, soft_iou
from masker.memory import Cue, ShapeMemory, touched_edges
from masker.model import Conditions, Kept, Prepared
from masker.placement import PlacementPrior
from masker.recall import framed, smoothed
from masker.remember import remember
from masker.smartmask import SmartMask
from masker.stage_config import MemoryStageConfig
from masker.texts import TextBook
from masker.weights import MEMORY_FILES, build_model, export_masker, load_codec, load_memory
from masker.windows import geometry_channels, sample_coverage, window_round
from runtime.config import validate
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.geometry import Box
from scene.guidance import Guidance
from scene.seeds import StepSeed

from .conftest import SIZE, TEXT, masker_config
from .test_placement import CONFIG as PLACEMENT
from .test_shape_code import CODED

WIDE, TALL = (0.0, -1.0), (-1.0, 0.0)  # log half-sides
WHOLE = (False, False, False, False)
LABELS = ("ball", "post")


def _memory(shapes: list[np.ndarray] | None = None, **config: float) -> ShapeMemory:
    """Four objects of two words, each once wide and once tall; object n fills n + 1 of 8 columns."""
    shapes = shapes or [np.broadcast_to(np.arange(8) <= n, (8, 8)).copy() for n in range(4)]
    places = torch.tensor([[*sides, 0.0, 0.0, -2.0] for sides in (WIDE, TALL, WIDE, TALL)])
    words = torch.eye(2, 8)
    return ShapeMemory.of(MemoryConfig(side=8, **config), shapes, places, torch.tensor([0, 0, 1, 1]), LABELS, words)


def _number(shape: torch.Tensor) -> torch.Tensor:
    """Which object silhouettes (..., 8, 8) are of."""
    return shape[..., 0, :].sum(-1) - 1


def _cue(word: int, sides: tuple[float, float], edges: tuple[bool, ...] = WHOLE, label: str = "thing") -> Cue:
    """What asks for one of `_memory`'s words; by its label only if one is named."""
    return Cue(label, torch.eye(2, 8)[word], torch.tensor([*sides, 0.0, 0.0, -2.0]), torch.tensor(edges))


@pytest.mark.parametrize(("word", "sides", "wanted"), [(0, WIDE, 0), (0, TALL, 1), (1, WIDE, 2), (1, TALL, 3)])
def test_words_and_proportions_decide_what_comes_to_mind(word: int, sides: tuple[float, float], wanted: int) -> None:
    memory, cue = _memory(), _cue(word, sides)
    assert memory.likeness(cue)[wanted] > 0.99
    found = memory.recall(cue, torch.tensor([0.0, 0.5, 1.0]))
    assert found.shape == (3, 8, 8) and int(_number(found[1])) == wanted


def test_what_is_equally_like_comes_to_mind_equally_often() -> None:
    memory = _memory(proportion_scale=1e3)
    found = _number(memory.recall(_cue(0, WIDE), torch.linspace(0.01, 0.99, 100)))
    assert int((found == 0).sum()) == pytest.approx(50, abs=2) and float(found.max()) == 1


def test_where_the_centre_of_mass_comes_to_lie() -> None:
    memory = _memory()
    x, y = memory.center(_cue(1, WIDE))  # object 2 fills three of eight columns
    assert (x, y) == pytest.approx((3 / 16, 0.5), abs=0.01)
    x, _ = _memory(proportion_scale=1e3).center(_cue(0, WIDE))  # objects 0 and 1 alike
    assert x == pytest.approx((1 / 16 + 2 / 16) / 2, abs=0.01)


def test_unknown_words_recall_what_is_most_like_them() -> None:
    embedding = torch.zeros(8)
    embedding[0], embedding[1] = 0.2, 0.1
    assert _memory().likeness(replace(_cue(0, WIDE), embedding=embedding)).argmax() == 0


def test_a_label_weighs_more_than_words() -> None:
    """A peach tree has a tree's shape, although "a peach tree" is worded more like a peach."""
    memory = _memory(word_scale=0.5)
    assert memory.likeness(_cue(0, WIDE)).argmax() == 0
    assert memory.likeness(_cue(0, WIDE, label="ball")).argmax() == 0
    assert memory.likeness(_cue(0, WIDE, label="post")).argmax() == 2


@pytest.mark.parametrize(("aspect", "center", "touched"), [(1.25, (0.0, 0.0), ()), (1.25, (-0.5, 0.0), (0,)),
                         (1.25, (0.5, 0.375), (2, 3)), (0.8, (0.0, -0.5), (1,)), (1.0, (0.0, 0.4), ())])  # fmt: skip
def test_edges_that_a_box_touches(aspect: float, center: tuple[float, float], touched: tuple[int, ...]) -> None:
    """Half of the longer side wide and high, in a view of the whole canvas."""
    place = torch.tensor([[np.log(0.5), np.log(0.5), *center, 0.0]], dtype=torch.float32)
    assert torch.nonzero(touched_edges(place, aspect)[0]).flatten().tolist() == list(touched)


def test_what_an_edge_cut_off_comes_to_mind_only_there() -> None:
    memory = _memory(proportion_scale=1e3)
    memory.places[0, 2], memory.places[:, 4] = -0.9, -3.0  # object 0 reaches the left edge, object 1 none
    cut = (True, False, False, False)
    place = torch.tensor([0.0, -1.0, -0.9, 0.0, -3.0])
    for edges, wanted in ((WHOLE, 1), (cut, 0)):
        assert memory.likeness(replace(_cue(0, WIDE, edges), place=place)).argmax() == wanted


def test_edges_are_read_off_the_view(corpus: Corpus) -> None:
    for box, wanted in ((Box(0, 60, 80, 150), [0]), (Box(60, 60, 150, 150), []), (Box(60, 0, *SIZE), [1, 2, 3])):
        window = window_round(box, 1.5, SIZE)
        guide = torch.from_numpy(sample_coverage(Guidance.from_box(box, SIZE).map, window, 64, supersample=2))
        geometry = torch.from_numpy(geometry_channels(window, SIZE, 16))[None]
        cue = Cue.of("ball", torch.eye(1, 8)[0], GuideFrame.of(guide[None, None]), geometry)
        assert torch.nonzero(cue.edges).flatten().tolist() == wanted


def _slab(*columns: tuple[int, int]) -> torch.Tensor:
    """Rows that each fill columns a to b of 48, 48 rows a part."""
    side = torch.zeros(96, 96)
    for number, (a, b) in enumerate(columns):
        side[number * 96 // len(columns) : (number + 1) * 96 // len(columns), a:b] = 1
    return side


def test_the_likeliest_shape_overlaps_most_and_leans_towards_the_mean() -> None:
    left, right, upright = _slab((0, 40)), _slab((56, 96)), _slab((30, 66))
    shapes, chances = torch.stack([left, upright, right]), torch.tensor([0.2, 0.5, 0.3])
    assert likeliest_shape(shapes, likely_map(chances, shapes, None))[0] == 1
    held = likely_map(chances, shapes, right)
    assert likeliest_shape(shapes, held)[0] == 2, "what a network holds for likely counts as much"
    assert overlap_with_likely(right, held) > overlap_with_likely(upright, held) > overlap_with_likely(left, held)
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    leaning = ((x - 48 - (y - 48) * 0.3).abs() < 18).float()
    shapes = torch.stack([upright, left])
    number, homography = likeliest_shape(shapes, likely_map(torch.tensor([0.99, 0.01]), shapes, leaning))
    seen = seen_through(homography, upright, 96)
    assert number == 0 and soft_iou(seen, leaning) > soft_iou(upright, leaning) + 0.05
    rows = (seen > 0.5).float()
    middles = (rows * x).sum(1) / rows.sum(1)
    assert middles[90] > middles[5] + 4, "it leans"
    line = np.polynomial.Polynomial.fit(np.arange(5, 91), middles[5:91].numpy(), 1)
    assert np.abs(line(np.arange(5, 91)) - middles[5:91].numpy()).max() < 0.8, "its edges stay straight"


def test_a_shape_that_is_right_stays_as_it_is() -> None:
    chair = _slab((0, 24), (0, 96), (0, 20))
    _, homography = likeliest_shape(chair[None], likely_map(torch.ones(1), chair[None], chair))
    assert soft_iou((seen_through(homography, chair, 96) > 0.5).float(), chair) > 0.97


@pytest.fixture
def coded(corpus: Corpus, codec_folder: Path, texts: TextBook, tmp_path: Path) -> Path:
    """A masker folder with shape codes, untrained but for its components, and its memory."""
    out = tmp_path / "coded"
    config = masker_config(codec_folder, shape_prior=CODED)
    codec = load_codec(codec_folder)
    torch.manual_seed(2)
    model = build_model(config, codec)
    assert model.shape_prior is not None and model.shape_prior.code is not None
    masks = (torch.rand(40, 1, CODED["side"], CODED["side"]) > 0.5).float()
    model.shape_prior.code.learn_components(masks)
    export_masker(model, codec, config, [corpus], out)
    stage = validate(MemoryStageConfig, {"masker": str(out), "objects": 20}, "test")
    remember(stage, [corpus], out / "made", texts)
    for name in MEMORY_FILES:
        (out / name).write_bytes((out / "made" / "export" / name).read_bytes())
    return out


def test_the_memory_stage_remembers_training_objects(coded: Path) -> None:
    memory = load_memory(coded)
    assert memory is not None and len(memory.text) == 20
    assert len(memory.words) == 4, "ball, a red ball, post, a post; surfaces have no silhouettes to remember"
    for number in range(20):
        shape = memory.shape(number)
        assert shape.shape == (96, 96) and 0.2 < shape.mean() < 1.01
        assert all(side.any() for side in (shape[:9], shape[-9:], shape[:, :9], shape[:, -9:])), "it fills its box"


def test_silhouettes_are_kept_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    shapes = [rng.random((96, 96)) < share for share in (0.0, 0.1, 0.5, 1.1)]
    memory = ShapeMemory.of(MemoryConfig(), shapes, torch.zeros(4, 5), torch.zeros(4), ["ball"], torch.eye(1, 8))
    assert all(np.array_equal(memory.shape(n), shape) for n, shape in enumerate(shapes))


def test_stairs_go_and_thin_parts_stay() -> None:
    rows, columns = np.mgrid[0:96, 0:96]
    disc = np.hypot(rows - 47.5, columns - 47.5) < 30
    assert abs(int((smoothed(torch.from_numpy(disc)) > 0.5).sum()) - int(disc.sum())) < 0.02 * disc.sum()
    line = np.zeros((96, 96), bool)
    line[10:90, 40] = True
    kept = smoothed(torch.from_numpy(line)) > 0.5
    assert kept[12:88, 40].all() and kept[12:88].sum(1).max() <= 2
    assert smoothed(torch.ones(96, 96)).min() > 0.99, "what fills its box reaches its edge"


def test_a_masker_without_codes_shows_what_it_recalls_under_boxes_only(
    corpus: Corpus, codec_folder: Path, texts: TextBook, tmp_path: Path
) -> None:
    codec = load_codec(codec_folder)
    config = masker_config(codec_folder, shape_prior=None)
    export_masker(build_model(config, codec), codec, config, [corpus], tmp_path)
    remember(validate(MemoryStageConfig, {"masker": str(tmp_path), "objects": 12}, "test"), [corpus], tmp_path, texts)
    for name in MEMORY_FILES:
        (tmp_path / name).write_bytes((tmp_path / "export" / name).read_bytes())
    model, scene = SmartMask.from_pretrained(tmp_path, texts), corpus.scene(corpus.records("val")[0], 2)
    assert model.memory is not None
    box = Box(60, 50, 220, 200)
    for guide, sharp in ((Guidance.from_box(box, SIZE), True), (Guidance.from_blob(140, 125, 80, 75, SIZE), False)):
        request = model._request(scene, "ball", "a red ball", "", guide)
        passes = [model.passes.first(request, guide, torch.Generator().manual_seed(1), True)]
        view = model._look(request, passes)[0]
        assert (view.shown is not None) == sharp
        if view.shown is not None:
            assert view.likely is not None and view.likely > 0.9, "what comes to mind first is what is likely"
            inside = (view.shown > 0.5).mean()
            assert inside > 0.05
            view.shown[:] = 0
            view.shown[100:120, 100:120], view.shown[150:152, 150:152] = 1, 1
            drops = label(model._read(view, request))[1]
            assert drops == 2, "what is recalled keeps its smallest parts"


def test_a_spoilt_memory_is_refused(coded: Path, tmp_path: Path) -> None:
    for name in MEMORY_FILES:
        (tmp_path / name).write_bytes((coded / name).read_bytes())
    (tmp_path / "memory.safetensors").write_bytes((coded / "codec.safetensors").read_bytes())
    with pytest.raises(UserError, match="holds no remembered shapes"):
        load_memory(tmp_path)


@pytest.mark.parametrize("kind", ["box", "blob", "scribble"])
def test_boxes_and_blobs_recall_and_scribbles_do_not(
    coded: Path, texts: TextBook, corpus: Corpus, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = corpus.scene(corpus.records("val")[0], 2)
    scribble = np.zeros(SIZE.shape, dtype=bool)
    scribble[90:170, 100:180] = True
    guides = {
        "box": Guidance.from_box(Box(100, 90, 180, 170), SIZE),
        "blob": Guidance.from_blob(140, 130, 40, 40, SIZE),
        "scribble": Guidance.from_scribble(scribble),
    }
    seen: list[Conditions] = []
    model = SmartMask.from_pretrained(coded, texts)
    real = model.model.prepare

    def spy(conditions: Conditions, kept: Kept) -> Prepared:
        seen.append(conditions)
        return real(conditions, kept)

    monkeypatch.setattr(model.model, "prepare", spy)

    def codes(memory: ShapeMemory | None) -> torch.Tensor:
        model.memory = memory
        seen.clear()
        model._batch(model._request(scene, "ball", "a red ball", "", guides[kind]), StepSeed(7, 3), range(2))
        return seen[0].code[:2].clone()

    memory = load_memory(coded)
    told, untold = codes(memory), codes(None)
    assert [torch.equal(*rows) for rows in zip(told, untold, strict=True)] == {
        "box": [False, False],
        "blob": [False, False],
        "scribble": [True, True],
    }[kind]
    if kind == "box":
        assert memory is not None
        assert model.model.shape_prior is not None and model.model.shape_prior.code is not None
        shapes = torch.stack([smoothed(torch.tensor(memory.shape(n))) for n in range(20)])[:, None]
        kept = model.model.shape_prior.code.read(framed(model.model.shape_prior, shapes))
        assert torch.cdist(codes(memory)[1:], kept).min() < 1e-3, "a code that comes to mind is one that is kept"


def test_a_blob_is_read_by_the_placement_prior(coded: Path, texts: TextBook, corpus: Corpus) -> None:
    scene = corpus.scene(corpus.records("val")[0], 2)
    model, blob = SmartMask.from_pretrained(coded, texts), Guidance.from_blob(140, 130, 30, 30, SIZE)
    model.memory = load_memory(coded)
    request = ("ball", "a red ball", "", blob)
    assert model._request(scene, *request).boxes is None, "no prior, no box"
    torch.manual_seed(0)
    model.placement = PlacementPrior(PLACEMENT, TEXT.width).eval()
    told = model._request(scene, *request)
    assert told.boxes is not None
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
    first = [model.passes.guidance(told, generator, True) for generator in generators]
    others = [model.passes.guidance(told, generator, False) for generator in generators]
    assert all(one is not None and one.kind == "box" for one in (*first, *others))
    assert len({Box.from_mask(one.map > 0.5) for one in first if one}) == 1
    assert len({Box.from_mask(one.map > 0.5) for one in others if one}) == 3
    alone, among = (
        model.predict(scene, "ball", "a red ball", "", guidance=blob, count=count, seed=StepSeed(7, 3))
        for count in (1, 3)
    )
    assert any((alone[0].mask == other.mask).all() for other in among)


def test_a_box_shows_a_recalled_silhouette_as_it_was(coded: Path, texts: TextBook, corpus: Corpus) -> None:
    scene, box = corpus.scene(corpus.records("val")[0], 2), Box(60, 50, 220, 200)
    model, memory = SmartMask.from_pretrained(coded, texts), load_memory(coded)
    assert memory is not None
    model.memory = memory
    found = model.predict(
        scene, "ball", "a red ball", "", guidance=Guidance.from_box(box, SIZE), count=1, seed=StepSeed(7, 3)
    )
    inside = found[0].mask[box.y0 : box.y1, box.x0 : box.x1]
    assert inside.sum() > 0.95 * found[0].mask.sum()
    known = [
        np.asarray(Image.fromarray(memory.shape(n)).resize((box.width, box.height), Image.Resampling.NEAREST))
        for n in range(20)
    ]
    assert max((inside & one).sum() / (inside | one).sum() for one in known) > 0.9


def test_candidates_under_a_box_are_compared_with_what_is_likely(coded: Path, texts: TextBook, corpus: Corpus) -> None:
    scene, model = corpus.scene(corpus.records("val")[0], 2), SmartMask.from_pretrained(coded, texts)
    model.memory = load_memory(coded)
    scribble = np.zeros(SIZE.shape, dtype=bool)
    scribble[90:170, 100:180] = True
    for guide, compared in (
        (Guidance.from_box(Box(60, 50, 220, 200), SIZE), True),
        (Guidance.from_scribble(scribble), False),
        (None, False),
    ):
        found = model.predict(scene, "ball", "a red ball", "", guidance=guide, count=3, seed=StepSeed(7, 3))
        assert all(("likely" in one.details) == compared for one in found)
        if compared:
            best = max(found, key=lambda one: one.details["likely"])
            assert best.details["candidate"] == 0, "the likeliest is drawn first"
