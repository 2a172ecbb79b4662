"""A toy corpus that needs no real data, and networks small enough to train within a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inpainter.config import InpainterTraining, SamplerConfig
from inpainter.controlnet_inpaint import ControlNetInpainter
from inpainter.denoiser_task import DenoiserTask
from inpainter.models import build_vae, save_component
from scene.corpus.records import LayerRecord
from scene.corpus.store import Corpus, CorpusWriter
from scene.geometry import Size
from scene.vocabulary import Vocabulary

SIZE = Size(256, 256)
SAMPLER = SamplerConfig(steps=2, guidance_scale=2.0, max_tokens=4)


def disc(side: int, colour: tuple[int, int, int]) -> np.ndarray:
    """RGBA (side, side, 4) with a dark rim and an antialiased edge."""
    rows, columns = np.mgrid[0:side, 0:side] - (side - 1) / 2
    radius = np.hypot(rows, columns)
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[..., :3] = np.where((radius > side * 0.4)[..., None], np.uint8(20), np.uint8(colour))
    rgba[..., 3] = (np.clip(side / 2 - radius, 0, 1) * 255).astype(np.uint8)
    return rgba


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Twelve scenes of a sky, a red ball and a blue ball."""
    vocabulary = Vocabulary(
        "toy", {"sky": {"kind": "surface"}, "red ball": {"kind": "toy"}, "blue ball": {"kind": "toy"}}
    )
    writer = CorpusWriter(
        tmp_path_factory.mktemp("toy"), name="toy", licence="CC0-1.0", size=SIZE, vocabulary=vocabulary
    )
    sky = np.full((256, 256, 4), (120, 200, 240, 255), np.uint8)
    sky_id = writer.add_asset(sky, label="sky", description="a blue sky", source="sky")
    red = writer.add_asset(disc(60, (220, 30, 30)), label="red ball", description="a round red ball", source="red")
    blue = writer.add_asset(disc(40, (30, 30, 220)), label="blue ball", description="a round blue ball", source="blue")
    for number in range(12):
        layers = [
            LayerRecord("sky", "a blue sky", sky_id, 0, 0),
            LayerRecord("red ball", "a round red ball", red, 20 + 10 * number, 60),
            LayerRecord("blue ball", "a round blue ball", blue, 230 - 15 * number, 120),
        ]
        split = ("train", "train", "val")[number % 3]
        writer.add_scene(f"toy_{number}", number, split, layers, ["two balls"], [])
    return writer.finish()


def embed(text: str) -> torch.Tensor:
    """(4, 64) tokens that differ between texts; zero for the empty one."""
    if not text:
        return torch.zeros(4, 64)
    rng = np.random.default_rng(list(text.encode()))
    return torch.from_numpy(rng.normal(size=(4, 64)).astype(np.float32))


@pytest.fixture(scope="session")
def tiny_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random VAE with factor 4."""
    folder = tmp_path_factory.mktemp("vae") / "vae"
    config = tiny_config("vae", folder)
    torch.manual_seed(3)
    save_component(build_vae(config.vae), folder)
    return folder


def tiny_config(stage: str, vae: Path, **fit: object) -> InpainterTraining:
    """32-pixel windows, factor 4, a few thousand parameters."""
    return InpainterTraining.model_validate(
        {
            "stage": stage,
            "fit": {
                "seed": 5,
                "batch_size": 2,
                "total_samples": 8,
                "learning_rate": 2e-3,
                "warmup_samples": 0,
                "snapshot_minutes": 60,
                "sheet_every": 1000,
                "log_every": 2,
                **fit,
            },
            "vae": {"block_channels": [8, 8, 8], "norm_groups": 4},
            "vae_training": {"crop_px": 16},
            "denoiser": {
                "block_channels": [8, 16],
                "attention": [False, True],
                "head_channels": 8,
                "norm_groups": 4,
                "text_channels": 64,
                "control_channels": [8, 8, 8],
            },
            "window": {"resolution_px": 32, "min_side_px": 16, "dilate_px": 2},
            "sampler": {"steps": 2, "max_tokens": 4},
            "denoiser_training": {"vae": str(vae)},
        }
    )


@pytest.fixture(scope="session")
def task(toy_corpus: Corpus, tiny_vae: Path) -> DenoiserTask:
    return DenoiserTask(tiny_config("denoiser", tiny_vae), toy_corpus, embed)


@pytest.fixture(scope="session")
def inpainter(task: DenoiserTask) -> ControlNetInpainter:
    return ControlNetInpainter(task.pipeline(task.model), embed, task.config.window, SAMPLER)
