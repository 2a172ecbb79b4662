"""LLaVA built of SmolLM2 and a small vision tower, with LoRA adapters on the language model only.

The tower (a `CLIPVisionModel`) sees the layout picture; a two-layer projector maps its patch tokens into SmolLM2's
embedding space, where they replace the `<image>` placeholders. What we train (tower, projector, LoRA) is stored apart
from the base weights, which stay in their own cache (`planner.language_model`).

Source: Liu et al., "Visual Instruction Tuning", arXiv 2304.08485, Fig. 1; the two-layer projector is LLaVA-1.5's.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from planner.language_model import load_config, load_state, prepare
from runtime.config import Config
from scene.errors import UserError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import LlamaConfig, LlavaForConditionalGeneration

IMAGE_TOKEN_ID = 16  # "<empty_output>": reserved in SmolLM2, inside the embedding table, never part of ordinary text
IMAGE_MEAN = 0.5
IMAGE_STD = 0.5
LORA_TARGETS = {
    # A bare "q_proj" would also match the vision tower's attention.
    "attention": r".*language_model\..*self_attn\.(q_proj|k_proj|v_proj|o_proj)",
    "all": r".*language_model\..*(self_attn\.(q_proj|k_proj|v_proj|o_proj)|mlp\.(gate_proj|up_proj|down_proj))",
}


class VisionConfig(Config):
    """The tower's shape; image tokens = (image_size_px / patch_size_px)²."""

    image_size_px: int = Field(default=160, gt=0)
    """Side of the square picture that the tower sees; the layout picture is squeezed to it."""
    patch_size_px: int = Field(default=32, gt=0)
    """Side of a patch; one patch is one image token."""
    hidden: int = Field(default=192, gt=0)
    """Channels per patch token."""
    layers: int = Field(default=4, gt=0)
    """Transformer blocks."""
    heads: int = Field(default=3, gt=0)
    """Attention heads; must divide `hidden`."""

    @property
    def image_tokens(self) -> int:
        """Number of patch tokens (the class token is dropped)."""
        return (self.image_size_px // self.patch_size_px) ** 2


class LoraSettings(Config):
    """Low-rank adapters on the language model (Hu et al., arXiv 2106.09685)."""

    rank: int = Field(default=8, gt=0)
    """Rank r of the update B·A."""
    alpha: int = Field(default=16, gt=0)
    """The update is scaled by alpha / r."""
    targets: Literal["attention", "all"] = "all"
    """Which linear layers get adapters: attention only, or attention and feed-forward."""


def build_llava(text: LlamaConfig, vision: VisionConfig) -> LlavaForConditionalGeneration:
    """A LLaVA of these shapes with freshly initialised weights (draws from torch's global generator).

    Args:
        text: the language model's configuration.
        vision: the tower's shape.
    """
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    tower = CLIPVisionConfig(
        hidden_size=vision.hidden,
        intermediate_size=4 * vision.hidden,
        num_hidden_layers=vision.layers,
        num_attention_heads=vision.heads,
        image_size=vision.image_size_px,
        patch_size=vision.patch_size_px,
        projection_dim=vision.hidden,
    )
    config = LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_index=IMAGE_TOKEN_ID,
        image_seq_length=vision.image_tokens,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",  # drops the class token
        tie_word_embeddings=bool(text.tie_word_embeddings),
    )
    return LlavaForConditionalGeneration(config)


def llava_name(name: str) -> str:
    """A Llama parameter's name inside LLaVA ("model.norm.weight" -> "model.language_model.norm.weight")."""
    return "model.language_model." + name.removeprefix("model.")


def load_base(vision: VisionConfig, folder: Path | None = None, seed: int = 0) -> LlavaForConditionalGeneration:
    """LLaVA with SmolLM2's weights in float32 and an untrained tower and projector.

    Args:
        vision: the tower's shape.
        folder: converted language model; None = the cache, converting first where needed.
        seed: initialises tower and projector; the caller's global generator is left as it was.

    Raises:
        UserError: the weight package is missing.
    """
    import torch

    folder = folder or prepare()
    text = load_config(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with torch.device("meta"):
            model = build_llava(text, vision)
        # Only the small parts are allocated and initialised; the 135 M text weights are assigned from the file.
        small = build_llava(_tiny(text), vision)
    model.model.vision_tower = small.model.vision_tower
    projector = small.model.multi_modal_projector
    model.model.multi_modal_projector = projector
    state = {llava_name(name): weight.float() for name, weight in load_state(folder).items()}
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    left = [name for name in missing if ".language_model." in name]
    if unexpected or left:
        raise UserError(f"{folder} does not hold SmolLM2: missing {left[:3]}, unexpected {unexpected[:3]}")
    rotary = model.model.language_model.rotary_emb
    model.model.language_model.rotary_emb = type(rotary)(config=text)  # its buffers are computed, not stored
    model.tie_weights()
    return model.eval()


def build_projector(text: LlamaConfig, vision: VisionConfig, seed: int) -> torch.nn.Module:
    """A freshly initialised projector alone, as LLaVA builds it."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector: torch.nn.Module = build_llava(_tiny(text), vision).model.multi_modal_projector
    return projector


def _tiny(text: LlamaConfig) -> LlamaConfig:
    """The same width (the projector depends on it) with next to no other weights."""
    values = text.to_dict() | {"num_hidden_layers": 1, "vocab_size": 32, "intermediate_size": 8}
    return type(text)(**values)


def add_lora(model: LlavaForConditionalGeneration, lora: LoraSettings, seed: int = 0) -> PeftModel:
    """Wrap the model with fresh adapters: language model frozen, adapters, tower and projector trainable.

    Args:
        model: from `load_base`; it is changed in place, as peft does.
        lora: rank, scale and targets.
        seed: initialises the A matrices (B is zero, so the output is unchanged at first).
    """
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules=LORA_TARGETS[lora.targets], bias="none"
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks for an attribute that transformers has renamed
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, config)
    for name, parameter in wrapped.named_parameters():
        parameter.requires_grad = "lora_" in name or "vision_tower" in name or "multi_modal_projector" in name
    return wrapped


def pixel_values(picture: np.ndarray, vision: VisionConfig) -> torch.Tensor:
    """The tower's input for a layout picture: resized by PIL, scaled to [-1, 1].

    Args:
        picture: uint8 (H, W, 3).
        vision: gives the side.

    Returns:
        float32 (3, side, side).
    """
    import torch

    side = vision.image_size_px
    resized = Image.fromarray(picture).resize((side, side), Image.Resampling.BOX)
    values = np.asarray(resized, dtype=np.float32) / 255.0
    values = (values - IMAGE_MEAN) / IMAGE_STD
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def trained_state(model: Any) -> dict[str, torch.Tensor]:
    """Tower and projector weights of a LLaVA (plain or wrapped by peft), names as in `LlavaModel`."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner = base.model
    state = {f"vision_tower.{name}": value for name, value in inner.vision_tower.state_dict().items()}
    state |= {
        f"multi_modal_projector.{name}": value for name, value in inner.multi_modal_projector.state_dict().items()
    }
    return state
