"""Remembered appearances: what comes to mind, how drafts use it, what is kept of their detail, broken files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inpainter.appearance import Appearance, load_appearance, save_appearance
from inpainter.config import InpainterTraining, MemoryConfig
from inpainter.memory import AppearanceMemory, keep_detail, load_memory
from inpainter.remember import remember
from inpainter.train import train
from runtime.config import save_config
from runtime.weights import read_weights, save_weights
from scene.corpus.store import Corpus
from scene.errors import UserError
from tests.inpainter.conftest import embed, tiny_config
from tests.inpainter.test_appearance import SIZES

TEXTS = torch.eye(3, 8)  # three unlike texts
LEFT = np.zeros((4, 4), np.float32)
LEFT[:, :2] = 1
FULL = np.ones((4, 4), np.float32)
RED, GREEN, BLUE, GREY = (
    np.full((16, 16, 3), colour, np.uint8) for colour in ((220, 20, 20), (20, 220, 20), (20, 20, 220), (128,) * 3)
)


@pytest.fixture(scope="module")
def memory() -> AppearanceMemory:
    """Of the first text a full red thing and a green one, full on the left; a blue one, and a wide grey one."""
    green = GREEN.copy()
    green[:, 8:] = 0
    shapes, proportions = np.stack([FULL, LEFT, FULL, FULL]), np.array([0.0, 0.0, 0.0, 2.0])
    return AppearanceMemory.of(MemoryConfig(), [RED, green, BLUE, GREY], shapes, proportions, [0, 0, 1, 2], TEXTS)


def tokens(row: int) -> torch.Tensor:
    return TEXTS[row : row + 1]


def colour(picture: np.ndarray) -> np.ndarray:
    return picture.reshape(-1, 3).astype(int).mean(axis=0)


def test_words_decide_first_then_the_shape(memory: AppearanceMemory) -> None:
    for chance in (0.01, 0.45, 0.99):
        told = {"chance": chance, "temperature": 0.3}
        assert np.allclose(colour(memory.recall(tokens(1), FULL, 0.0, **told)), (20, 20, 220), atol=12)
        assert np.allclose(colour(memory.recall(tokens(0), FULL, 0.0, **told)), (220, 20, 20), atol=12)
        assert memory.recall(tokens(0), LEFT, 0.0, **told)[:, :6, 1].mean() > 180


def test_a_shape_the_other_way_round_recalls_the_mirror_image(memory: AppearanceMemory) -> None:
    mirrored = memory.recall(tokens(0), LEFT[:, ::-1], 0.0, chance=0.45, temperature=0.3)
    assert mirrored[:, 10:, 1].mean() > 180 and mirrored[:, :6, 1].mean() < 40


def test_chance_reaches_everything_alike_and_repeats_itself(memory: AppearanceMemory) -> None:
    nothing = torch.zeros(1, 8)  # any words will do
    seen = {
        tuple(colour(memory.recall(nothing, FULL, 0.0, chance=chance, temperature=50.0)).round() // 20)
        for chance in np.linspace(0, 1, 41)
    }
    assert len(seen) == 4
    once, again = (memory.recall(nothing, FULL, 0.0, chance=0.37, temperature=50.0) for _ in range(2))
    assert np.array_equal(once, again)


def test_what_is_kept_on_disk_recalls_the_same(memory: AppearanceMemory, tmp_path: Path) -> None:
    memory.save(tmp_path)
    loaded = load_memory(tmp_path)
    assert loaded is not None and len(loaded) == 4
    for number in range(4):
        assert np.array_equal(loaded.picture(number), memory.picture(number))
    assert torch.allclose(loaded.logits(tokens(0), LEFT, 0.1), memory.logits(tokens(0), LEFT, 0.1), atol=0.05)
    assert load_memory(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("harm", ["lacks", "short"])
def test_a_broken_memory_is_told_in_one_line(memory: AppearanceMemory, tmp_path: Path, harm: str) -> None:
    memory.save(tmp_path)
    state = read_weights(tmp_path / "memory.safetensors")
    if harm == "lacks":
        del state["text"]
    else:
        state["pictures"] = state["pictures"][:-9]
    save_weights(state, tmp_path / "memory.safetensors")
    with pytest.raises(UserError, match=r"memory\.safetensors"):
        load_memory(tmp_path)


def test_detail_is_the_drafts_and_the_large_is_the_drawings() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), bool)
    mask[8:56, 8:56] = True
    draft = rng.integers(60, 140, (64, 64, 3)).astype(np.uint8)
    decoded = np.full((64, 64, 3), 100, np.uint8)
    drawn = np.full((64, 64, 3), 130, np.uint8)  # the denoiser made all of it 30 brighter
    kept = keep_detail(drawn, draft, decoded, mask, 4.0)
    assert np.abs(kept[mask].astype(int) - (draft[mask].astype(int) + 30)).max() <= 1
    far = np.zeros((64, 64), bool)
    far[:4] = True
    assert np.array_equal(kept[far], drawn[far])
    assert np.array_equal(keep_detail(drawn, draft, decoded, mask, 0.0), drawn)
    assert np.array_equal(keep_detail(drawn, draft, decoded, ~(mask | ~mask), 4.0), drawn)


def memory_config(appearance: Path, objects: int = 20, per_text: int = 4) -> InpainterTraining:
    raw = tiny_config("memory", appearance).model_dump()
    raw["appearance"] = SIZES
    raw["examples"].update(rough=0.0, bare=True, drop_text=0.3)
    raw["memory_training"] = {"appearance": str(appearance), "objects": objects, "per_text": per_text, "side": 16}
    return InpainterTraining.model_validate(raw)


def test_the_stage_remembers_and_drafts_are_recalled_by_seed(toy_corpus: Corpus, tmp_path: Path) -> None:
    bare = Appearance(InpainterTraining.model_validate(memory_config(tmp_path).model_dump()).appearance, 8)
    folder = tmp_path / "appearance"
    folder.mkdir()
    save_appearance(bare, folder)
    looks = remember(memory_config(folder), toy_corpus, tmp_path / "run", embed_eight)
    assert looks.memory is not None and 4 <= len(looks.memory) <= 20
    assert max(np.bincount(looks.memory.text.numpy())) <= 4
    loaded = load_appearance(tmp_path / "run/export/appearance")
    mask = np.zeros((32, 32), bool)
    mask[6:26, 4:28] = True
    image = np.full((32, 32, 3), 250, np.uint8)
    told = embed_eight("a red ball")
    drafts = [loaded.draft(image, mask, told, seed=seed, temperature=0.5) for seed in (1, 1, 2, 3, 4, 5)]
    assert np.array_equal(drafts[0], drafts[1])
    assert any(not np.array_equal(drafts[0], other) for other in drafts[2:])
    assert all(np.array_equal(draft[~mask], image[~mask]) for draft in drafts)
    calm = [loaded.draft(image, mask, told, seed=seed, temperature=0.0) for seed in (1, 2)]
    assert np.array_equal(*calm)


def test_the_stage_wants_an_appearance_folder(toy_corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="appearance"):
        remember(tiny_config("memory", tmp_path), toy_corpus, tmp_path / "run", embed_eight)
    file = tmp_path / "memory.yaml"
    save_config(memory_config(tmp_path / "none"), file)
    with pytest.raises(UserError, match="train stage appearance"):
        train(file, data=[toy_corpus.path], out=tmp_path / "run")


def embed_eight(text: str) -> torch.Tensor:
    return embed(text)[:, :8]
