"""A tiny world, corpus, tokenizer and LLaVA: everything the planner's tests need, without real weights or data."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlavaForConditionalGeneration

from planner.language_train import PlannerTrainConfig
from planner.llava import LoraSettings, VisionConfig, build_llava
from planner.prompt import PromptEncoder
from runtime.training import FitConfig
from scene.corpus.records import LayerRecord
from scene.corpus.store import Corpus, CorpusWriter
from scene.geometry import Size
from scene.vocabulary import Vocabulary

TINY_VISION = VisionConfig(image_size_px=32, patch_size_px=16, hidden=16, layers=1, heads=2)
TINY_LORA = LoraSettings(rank=2, alpha=4)
SIZE = Size(320, 256)
ENTRIES = {
    "sky": {"kind": "surface", "mass": True},
    "grass": {"kind": "surface", "mass": True},
    "boy": {"kind": "person"},
    "apple tree": {"kind": "large"},
    "soccer ball": {"kind": "toy", "synonyms": ["ball"]},
    "dog": {"kind": "animal"},
}


def make_tokenizer() -> Tokenizer:
    """Byte-level characters, 17 reserved ids as in SmolLM2, and a space merges with the letter or bar that follows."""
    special = [f"<s{index}>" for index in range(17)]
    vocab = {token: index for index, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    merges = [("Ġ", char) for char in "|" + string.ascii_letters]
    vocab |= {first + second: len(vocab) + index for index, (first, second) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def make_llava(seed: int = 0) -> LlavaForConditionalGeneration:
    """A random LLaVA with two narrow layers."""
    text = LlamaConfig(
        vocab_size=make_tokenizer().get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=True,
        pad_token_id=2,
    )
    torch.manual_seed(seed)
    return build_llava(text, TINY_VISION).eval()


@pytest.fixture
def tokenizer() -> Tokenizer:
    return make_tokenizer()


@pytest.fixture
def encoder(tokenizer: Tokenizer) -> PromptEncoder:
    return PromptEncoder(tokenizer, TINY_VISION.image_tokens)


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary("tiny", ENTRIES)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Six scenes of rectangles: sky, grass and two to four objects."""
    folder: Path = tmp_path_factory.mktemp("corpus")
    vocabulary = Vocabulary("tiny", ENTRIES)
    writer = CorpusWriter(folder, name="tiny", licence="CC0-1.0", size=SIZE, vocabulary=vocabulary)

    def asset(label: str, description: str, width: int, height: int) -> int:
        picture = np.full((height, width, 4), 255, dtype=np.uint8)
        picture[0, :, 3] = 0  # a transparent row, so that the mask's box is smaller than the picture
        return writer.add_asset(picture, label=label, description=description, source=label)

    sky, grass = asset("sky", "blue sky", 320, 257), asset("grass", "green grass", 320, 129)
    things = [
        asset("boy", "a smiling boy kicking", 40, 80),
        asset("boy", "a sad boy sitting", 40, 60),
        asset("apple tree", "a round apple tree", 100, 150),
        asset("soccer ball", "a soccer ball", 24, 24),
        asset("dog", "a brown dog", 50, 40),
    ]
    rng = np.random.default_rng(0)
    for number in range(6):
        layers = [LayerRecord("sky", "blue sky", sky, 0, -1), LayerRecord("grass", "green grass", grass, 0, 127)]
        for choice in rng.choice(len(things), size=2 + number % 3, replace=False):
            info = writer.assets[things[choice]]
            x, y = int(rng.integers(-10, 280)), int(rng.integers(20, 200))
            layers.append(LayerRecord(info.label, info.description, things[choice], x, y))
        names = " and ".join(layer.label for layer in layers[2:])
        split = "val" if number == 5 else "train"
        writer.add_scene(f"scene_{number}", number, split, layers, (f"a {names}", names), ())
    return writer.finish()


def tiny_config(**fit: object) -> PlannerTrainConfig:
    """A training config of the tiny model."""
    defaults: dict[str, object] = {
        "batch_size": 2,
        "total_samples": 8,
        "warmup_samples": 0,
        "ema_decay": None,
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
        "schedule": "constant",
    }
    settings = FitConfig.model_validate(defaults | fit)
    return PlannerTrainConfig(vision=TINY_VISION, lora=TINY_LORA, branches=2, common_tokens=0, fit=settings)
