"""A tiny drawn world and tiny configs: no data, no weights, no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from masker.codec import MaskVAE
from masker.config import MaskVAEConfig, TextConfig
from masker.stage_config import CodecConfig, MaskerConfig
from masker.texts import TextBook
from masker.weights import export_codec
from perception.text import TextFeatures
from runtime.config import validate
from scene.corpus.records import LayerRecord
from scene.corpus.store import Corpus, CorpusWriter
from scene.geometry import Size
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary

SIZE = Size(320, 256)
LABELS = {
    "sky": {"kind": "surface", "mass": True},
    "grass": {"kind": "surface", "mass": True},
    "ball": {"kind": "toy"},
    "post": {"kind": "large"},
}


def _rgba(mask: np.ndarray) -> np.ndarray:
    picture = np.full((*mask.shape, 4), 120, dtype=np.uint8)
    picture[..., 3] = mask * 255
    return picture


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Sky, grass, one post and two balls a scene; 24 scenes."""
    path = tmp_path_factory.mktemp("corpus")
    writer = CorpusWriter(path, name="tiny", licence="CC0", size=SIZE, vocabulary=Vocabulary("tiny", LABELS))
    rows, columns = np.mgrid[0:40, 0:40]
    disc = (rows - 19.5) ** 2 + (columns - 19.5) ** 2 <= 19.5**2
    numbers = {
        "sky": writer.add_asset(_rgba(np.ones(SIZE.shape, bool)), label="sky", description="blue sky", source="sky"),
        "grass": writer.add_asset(
            _rgba(np.ones((128, SIZE.width), bool)), label="grass", description="green grass", source="grass"
        ),
        "ball": writer.add_asset(_rgba(disc), label="ball", description="a red ball", source="ball"),
        "post": writer.add_asset(_rgba(np.ones((90, 14), bool)), label="post", description="a post", source="post"),
    }
    words = {"sky": "blue sky", "grass": "green grass", "ball": "a red ball", "post": "a post"}

    def layer(label: str, x: int, y: int) -> LayerRecord:
        return LayerRecord(label, words[label], numbers[label], x, y)

    rng = np.random.default_rng(0)
    for i in range(24):
        things = [layer("post", int(rng.integers(0, 300)), 110)]
        things += [layer("ball", int(rng.integers(-10, 290)), int(rng.integers(20, 210))) for _ in range(2)]
        layers = [layer("sky", 0, 0), layer("grass", 0, 128), *things]
        prompts = [f"a red ball left of post {i}", "a ball"]
        writer.add_scene(f"s{i}", i, "val" if i % 6 == 5 else "train", layers, prompts, [])
    return writer.finish()


TEXT = TextConfig(width=16, object_tokens=4, context_tokens=6, summary_channels=5)


def fake_encode(text: str, max_tokens: int) -> TextFeatures:
    """Token features by hash of the word; as in the real encoder, padding is zero and "" is nothing."""
    words = text.split()[:max_tokens]
    tokens = torch.zeros(max_tokens, TEXT.width)
    for row, word in enumerate(words):
        generator = torch.Generator().manual_seed(derive_seed("word", word))
        tokens[row] = torch.randn(TEXT.width, generator=generator)
    mask = torch.arange(max_tokens) < len(words)
    pooled = torch.nn.functional.normalize(tokens.sum(0), dim=0)
    return TextFeatures(tokens, mask, pooled)


@pytest.fixture
def texts() -> TextBook:
    return TextBook(TEXT, fake_encode)


CODEC = MaskVAEConfig(resolution=16, latent_channels=4, channels=(16, 16), encoder_blocks=1, decoder_blocks=1)


@pytest.fixture
def codec_folder(tmp_path: Path) -> Path:
    """An untrained but complete codec folder."""
    torch.manual_seed(0)
    folder = tmp_path / "codec"
    fit = {"batch_size": 4, "total_samples": 8, "threads": torch.get_num_threads()}
    export_codec(MaskVAE(CODEC), validate(CodecConfig, {"codec": CODEC.model_dump(), "fit": fit}, "test"), folder)
    return folder


def masker_config(codec: Path, kind: str = "transformer", **more: object) -> MaskerConfig:
    """A tiny denoiser config that fits `CODEC`."""
    denoisers = {
        "transformer": {"kind": "transformer", "width": 32, "head_width": 16, "layers": 2},
        "unet": {"kind": "unet", "channels": [16, 32], "blocks": 1, "head_width": 8, "groups": 8},
    }
    return validate(
        MaskerConfig,
        {
            "codec": str(codec),
            "layout_encoder": {"painted_channels": 6, "widths": [16, 16]},
            "denoiser": denoisers[kind],
            "text": TEXT.model_dump(),
            "sampling": {"solver_steps": 3},
            "fit": {
                "batch_size": 4,
                "total_samples": 16,
                "warmup_samples": 0,
                "sheet_every": 10**6,
                "snapshot_minutes": 60,
                "threads": torch.get_num_threads(),
            },
            **more,
        },
        "test",
    )
