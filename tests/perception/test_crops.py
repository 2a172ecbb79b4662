"""The crop judge: folded weights, crops, features, training on a tiny drawn world, round trip, evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from perception.config import CropHeadConfig, CropJudgeConfig
from perception.convert_efficientnet import EPSILON, convert
from perception.crop_evaluate import evaluate
from perception.crop_train import CropTask, real_crops, train
from perception.crops import CropHead, CropJudge, pooled, square_crop
from perception.efficientnet import BLOCKS, STEM, EfficientNetTrunk, SameConv, feature_maps, mean_and_std
from runtime.assets import asset_dir
from runtime.config import load_config
from scene.corpus.records import LayerFacts, LayerRecord
from scene.corpus.store import Corpus, CorpusWriter
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.vocabulary import Vocabulary

SIZE = Size(256, 256)
COLOURS = {"apple": (220, 30, 30), "plum": (60, 40, 160)}
SETTINGS = """
head: {hidden: 16, dropout: 0.1}
fewest: 4
most: 8
fit: {batch_size: 8, total_samples: 1200, learning_rate: 5.0e-3, warmup_samples: 50, ema_decay: 0.9, threads: 1}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Twelve scenes of a wall, an apple and a plum; in every fourth the plum is mostly hidden."""
    labels: dict[str, dict[str, object]] = {
        "wall": {"kind": "surface"},
        "apple": {"kind": "food"},
        "plum": {"kind": "food"},
    }
    writer = CorpusWriter(
        tmp_path_factory.mktemp("fruit"), name="fruit", licence="CC0", size=SIZE, vocabulary=Vocabulary("fruit", labels)
    )
    wall = writer.add_asset(
        np.full((256, 256, 4), (200, 200, 190, 255), np.uint8), label="wall", description="a wall", source="wall"
    )
    rows, columns = np.mgrid[0:48, 0:48] - 23.5
    round_ = np.hypot(rows, columns) < 24
    fruit = {
        label: writer.add_asset(
            np.dstack([np.full((48, 48, 3), colour, np.uint8), round_.astype(np.uint8) * 255]),
            label=label, description=label, source=label,
        )
        for label, colour in COLOURS.items()
    }  # fmt: skip
    for number in range(12):
        shown = LayerFacts(0.3 if number % 4 == 0 else 1.0)
        layers = [
            LayerRecord("wall", "a wall", wall, 0, 0),
            LayerRecord("plum", "plum", fruit["plum"], 20 + 12 * number, 60, None, shown),
            LayerRecord("apple", "apple", fruit["apple"], 200 - 12 * number, 150),
        ]
        writer.add_scene(f"s{number}", number, "val" if number % 3 == 2 else "train", layers, ["fruit"])
    return writer.finish()


@pytest.fixture(scope="module")
def trunk() -> EfficientNetTrunk:
    return EfficientNetTrunk.load()


def test_folding_a_batch_norm_changes_nothing() -> None:
    torch.manual_seed(0)
    fresh = EfficientNetTrunk().state_dict()
    state: dict[str, torch.Tensor] = {}

    def put(convolution: str, norm: str, name: str) -> None:
        channels = len(fresh[f"{name}.weight"])
        state[f"{convolution}.weight"] = fresh[f"{name}.weight"]
        for part in ("weight", "bias", "running_mean"):
            state[f"{norm}.{part}"] = torch.randn(channels)
        state[f"{norm}.running_var"] = torch.rand(channels) + 0.1

    put("_conv_stem", "_bn0", "stem")
    for number, (expansion, *_) in enumerate(BLOCKS):
        old, new = f"_blocks.{number}", f"blocks.{number}"
        if expansion > 1:
            put(f"{old}._expand_conv", f"{old}._bn0", f"{new}.expand")
        put(f"{old}._depthwise_conv", f"{old}._bn1", f"{new}.depthwise")
        put(f"{old}._project_conv", f"{old}._bn2", f"{new}.project")
    trunk = EfficientNetTrunk()
    trunk.load_state_dict(convert(state), strict=True)
    x = torch.randn(2, 3, 9, 9)
    plain = SameConv(3, STEM, 3, 2, bias=False)
    plain.weight.data = state["_conv_stem.weight"]
    norm = [state[f"_bn0.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    assert torch.allclose(trunk.stem(x), F.batch_norm(plain(x), *norm, eps=EPSILON), atol=1e-4)


def test_same_padding_puts_the_odd_pixel_right_and_below() -> None:
    convolution = SameConv(1, 1, 3, 2, bias=False)
    convolution.weight.data.fill_(1)
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    assert convolution(ramp).shape == (1, 1, 2, 2)
    assert convolution(ramp)[0, 0, 0, 0] == ramp[0, 0, :3, :3].sum()


def test_crop_is_centred_and_repeats_the_canvas_edge() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    image[:20, :20] = (255, 0, 0)
    crop = square_crop(image, Box(0, 0, 20, 20), context=2.0)
    assert crop.shape == (128, 128, 3) and (crop[:80, :80] == (255, 0, 0)).all()
    assert not crop[112:, 112:].any()


def test_features_do_not_depend_on_their_batch(trunk: EfficientNetTrunk) -> None:
    crops = list(np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8))
    together = feature_maps(trunk, crops)
    assert together.shape == (3, 112, 8, 8)
    assert np.array_equal(together[2], feature_maps(trunk, crops[2:])[0])
    assert pooled(together).shape == (3, 672) and mean_and_std(together).shape == (3, 224)
    assert feature_maps(trunk, []).shape == (0, 112, 8, 8)


def test_real_crops_leave_out_surfaces_and_hidden_objects(corpus: Corpus) -> None:
    records = corpus.records("all")
    crops = list(real_crops(corpus, records, corpus.labels, 0.6))
    assert [sum(c.label == label for c in crops) for label in ("wall", "apple", "plum")] == [0, 12, 9]
    apple = next(c for c in crops if c.label == "apple")
    assert np.abs(apple.pixels[64, 64].astype(int) - COLOURS["apple"]).max() < 5
    assert len(list(real_crops(corpus, records, ["apple"], 0.6, most=3))) == 3


def test_training_learns_and_the_folder_says_the_same(corpus: Corpus, tmp_path: Path) -> None:
    config = tmp_path / "crops.yaml"
    config.write_text(SETTINGS)
    train(config, data=[corpus.path], out=tmp_path / "run")
    report = evaluate(tmp_path / "run/export", data=[corpus.path], split="val")
    assert report["top1"] == 1 and report["labels_seen"] == 2
    assert report["baselines"]["commonest_label"]["top1"] < 0.7
    judge = CropJudge.from_pretrained(tmp_path / "run/export")
    assert judge.world == "fruit" and judge.labels == ("apple", "plum")


def test_batches_depend_on_the_sample_numbers_alone(corpus: Corpus, tmp_path: Path, trunk: EfficientNetTrunk) -> None:
    config = tmp_path / "crops.yaml"
    config.write_text(SETTINGS)
    task = CropTask(load_config(CropJudgeConfig, config), corpus, trunk)
    first, again = task.batch([3, 4]), task.batch([3, 4])
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1]) and first[2] == again[2]
    assert torch.equal(task.batch([4])[0][0], first[0][1])


def test_missing_judge_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"crops\.json"):
        CropJudge.from_pretrained(tmp_path)


def test_shipped_config_parses() -> None:
    assert load_config(CropJudgeConfig, asset_dir("configs") / "judge" / "crops.yaml").most >= 1
    assert CropHead(CropHeadConfig(), 5)(torch.zeros(2, 672)).shape == (2, 5)


def test_the_shipped_config_parses() -> None:
    load_config(CropJudgeConfig, asset_dir("configs") / "judge" / "crops.yaml")
