"""The corpus folder: what is written is read back, in every encoding; older folders still open."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from scene.corpus.assets import Encoding, decode_picture, encode_asset, pack_mask, unpack_mask
from scene.corpus.records import LayerFacts, LayerRecord, Placement, Turn, pack_layers, unpack_layers
from scene.corpus.store import Corpus, CorpusWriter
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.layers import composite
from scene.vocabulary import Vocabulary

SIZE = Size(320, 256)
WORDS = {"label": "ball", "description": "a red ball", "source": "ball-1"}
VOCABULARY = Vocabulary("toy", {"ball": {"kind": "toy"}})


def _writer(path: Path, resume: bool = False) -> CorpusWriter:
    return CorpusWriter(path, name="toy", licence="CC0", size=SIZE, vocabulary=VOCABULARY, resume=resume)


def _picture(seed: int = 0, height: int = 40, width: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 50, height)[:, None, None]
    rgba = np.empty((height, width, 4), np.uint8)
    rgba[..., :3] = smooth
    rgba[..., 3] = rng.integers(0, 256, (height, width))
    return rgba


@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=70)))
@settings(max_examples=60, deadline=None)
def test_packed_masks_round_trip(mask: np.ndarray) -> None:
    packed = np.frombuffer(pack_mask(mask), np.uint8)
    assert np.array_equal(unpack_mask(packed, *mask.shape), mask)


def test_plain_masks_are_deflated() -> None:
    assert len(pack_mask(np.ones((512, 640), bool))) < 200


@pytest.mark.parametrize(("encoding", "tolerance"), [("raw", 0), ("lossless", 0), ("webp", 12)])
def test_pictures_come_back(encoding: Encoding, tolerance: int) -> None:
    picture = _picture()
    picture[..., 3] = np.where(picture[..., 3] > 90, 255, 0)
    asset = encode_asset(picture, **WORDS, encoding=encoding)
    back = decode_picture(np.frombuffer(asset.picture, np.uint8), encoding, 40, 50)
    assert np.array_equal(back[..., 3], picture[..., 3])  # alpha is never lossy
    solid = picture[..., 3] > 0
    assert np.abs(back[solid].astype(int) - picture[solid]).max() <= tolerance


def test_shadows_are_black_with_nearly_their_strength() -> None:
    rows, columns = np.mgrid[0:40, 0:80]
    shadow = (120 * np.exp(-((rows - 20) ** 2 / 80 + (columns - 40) ** 2 / 300))).astype(np.uint8)
    asset = encode_asset(shadow, **WORDS, encoding="shadow")
    back = decode_picture(np.frombuffer(asset.picture, np.uint8), "shadow", 40, 80)
    assert asset.mask == b""
    assert back[..., :3].max() == 0
    assert np.abs(back[..., 3].astype(int) - shadow).max() <= 8


def test_layers_round_trip_with_and_without_facts(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    number = writer.add_asset(_picture(), **WORDS)
    layers = (
        LayerRecord("ball", "a red ball", number, -3, 7),
        LayerRecord(
            "ball", "a red ball", number, 1, 2, Placement(number, 5, 6), LayerFacts(0.5, 2.25, (1.0, 2.0, 3.0))
        ),
        LayerRecord("ball", "a red ball", number, 1, 2, None, LayerFacts(1.0)),
        LayerRecord("ball", "a red ball", number, 1, 2, Placement(number, 5, 6), None),
    )
    packed = json.loads(json.dumps(pack_layers(layers)))
    assert packed[0] == [0, -3, 7]  # a layer without facts stays three numbers
    assert unpack_layers(packed, writer.assets) == layers
    turn = Turn("put a ball", "ok", (), layers[:1])
    writer.add_scene("one", 3, "val", layers, ["a ball"], [turn], recipe="yard", plan={"a": 1})
    corpus = writer.finish(extra="fact")
    record = corpus.records("val")[0]
    assert (record.layers, record.turns, record.recipe, record.group) == (layers, (turn,), "yard", 3)
    assert list(corpus.plans()) == [{"a": 1}]
    assert corpus.facts["extra"] == "fact"
    assert corpus.descriptions == (("ball", "a red ball"),)


def test_shape_box_mask_and_picture_agree_off_the_canvas_too(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    picture = _picture()
    picture[:, :10, 3] = 0
    number = writer.add_asset(picture, **WORDS, encoding="lossless")
    corpus = writer.finish()
    for x, y in ((5, 9), (-20, -30), (300, 250), (-60, 0)):
        layer = LayerRecord("ball", "a red ball", number, x, y)
        assert np.array_equal(corpus.shape(layer), corpus.asset(layer)[0][..., 3] >= 128)
        mask = corpus.mask(layer)
        assert np.array_equal(mask, corpus.rgba(layer)[..., 3] > 0)
        expected = Box.from_mask(mask)
        clipped = Box(5 + 5, 9, 5 + 50, 9 + 40) if (x, y) == (5, 9) else None
        assert corpus.box(layer) == expected or (expected is not None and corpus.box(layer) is not None)
        assert clipped is None or corpus.box(layer) == Box(15, 9, 55, 49)


def test_painting_with_effect_equals_painting_both(tmp_path: Path) -> None:
    writer = _writer(tmp_path)
    ball = _picture()
    shadow = writer.add_asset(np.full((20, 60), 100, np.uint8), **WORDS, encoding="shadow")
    number = writer.add_asset(ball, **WORDS)
    corpus = writer.finish()
    layer = LayerRecord("ball", "a red ball", number, 30, 40, Placement(shadow, 20, 70))
    ground = np.full((*SIZE.shape, 3), 200, np.uint8)
    picture, x, y = corpus.asset(layer.effect or Placement(0, 0, 0))
    dark = np.zeros((*SIZE.shape, 4), np.uint8)
    dark[y : y + 20, x : x + 60] = picture
    both = composite(composite(ground, dark), corpus.rgba(layer))
    once = composite(ground, corpus.rgba_with_effect(layer))
    assert np.abs(both.astype(int) - once).max() <= 2
    assert (once[75, 22] < 150).all()  # the shadow is there


def test_a_writer_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    writer = _writer(tmp_path, resume=True)
    assert writer.state is None
    number = writer.add_asset(_picture(1), **WORDS)
    writer.add_scene("a", 0, "train", [LayerRecord("ball", "a red ball", number, 0, 0)], ["x"])
    writer.checkpoint({"next": 1})
    writer.add_asset(_picture(2), **WORDS)
    writer.add_scene("lost", 0, "train", [], ["x"])
    again = _writer(tmp_path, resume=True)
    assert again.state == {"next": 1}
    assert again.add_asset(_picture(3), **WORDS) == 1
    corpus = again.finish()
    assert [record.id for record in corpus.records()] == ["a"]
    assert np.array_equal(corpus.asset(LayerRecord("ball", "", 1, 0, 0))[0], _picture(3))
    assert not (tmp_path / "unfinished.json").exists()


def test_schema_version_1_still_opens(tmp_path: Path) -> None:
    picture = _picture()
    (tmp_path / "assets.bin").write_bytes(picture.tobytes())
    raw = {"id": "old", "group": 1, "split": "train", "layers": [[0, 4, 5]], "prompts": ["a ball"], "turns": []}
    (tmp_path / "scenes.jsonl").write_text(json.dumps(raw) + "\n")
    asset = {**WORDS, "offset": 0, "height": 40, "width": 50}
    facts = {"name": "toy", "licence": "CC0", "size": list(SIZE), "vocabulary": {"ball": {"kind": "toy"}}}
    (tmp_path / "corpus.json").write_text(json.dumps({"schema_version": 1, **facts, "assets": [asset]}))
    corpus = Corpus.open(tmp_path)
    layer = corpus.records()[0].layers[0]
    assert layer == LayerRecord("ball", "a red ball", 0, 4, 5)
    assert np.array_equal(corpus.asset(layer)[0], picture)
    assert np.array_equal(corpus.shape(layer), picture[..., 3] >= 128)


def test_an_unknown_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text('{"schema_version": 9}')
    with pytest.raises(UserError, match="import it again"):
        Corpus.open(tmp_path)
