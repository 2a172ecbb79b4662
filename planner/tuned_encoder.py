"""The sentence encoder (all-MiniLM-L6-v2) with upper layers that learn, as its users share it: the prompt parser
(`planner.parser`) and the reverse dictionary (`planner.descriptions`).

Every matrix W of these layers becomes W + B A with B, A of low rank; only B and A learn, and only they are in the
weight files.

Source: LoRA (Hu et al., arXiv 2106.09685).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from perception.text import Below, TextEncoder, padding_mask
from runtime.weights import read_weights
from scene.errors import UserError

WIDTH = 384
_LEARNS = ".parametrizations.weight.0."


class _LowRank(nn.Module):
    """W + B A."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(rank, weight.shape[1]) / weight.shape[1] ** 0.5)
        self.b = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


class TunedEncoder(nn.Module):
    """See the module.

    Args:
        layers: how many of the encoder's layers learn, from the top.
        rank: of their updates.
    """

    def __init__(self, layers: int, rank: int) -> None:
        super().__init__()
        encoder = TextEncoder.load()
        self._encoder = [encoder]  # in a list: no part of this module
        upper = encoder.layers[len(encoder.layers) - layers :]
        self.layers = copy.deepcopy(nn.ModuleList(upper)).requires_grad_(False)
        for module in list(self.layers.modules()):
            if isinstance(module, nn.Linear):
                register_parametrization(module, "weight", _LowRank(module.weight, rank))

    def below(self, texts: Sequence[str | tuple[str, str]], max_tokens: int) -> list[Below]:
        """Texts as the layers that do not learn leave them, read together; see `TextEncoder.below`."""
        return self._encoder[0].below(texts, len(self.layers), max_tokens)

    def states(self, lower: Tensor, lengths: Tensor) -> Tensor:
        """(N, T, 384) of `below`, padded, with their lengths (N,) -> (N, T, 384)."""
        padding = padding_mask(lengths, lower.shape[1])
        for layer in self.layers:
            lower = layer(lower, padding)
        return lower

    def learned(self) -> dict[str, Tensor]:
        """What is not the encoder's own."""
        return {name: tensor for name, tensor in self.state_dict().items() if _is_learned(name)}

    def frozen(self) -> None:
        """From here on for reading alone: W + B A are added up once."""
        for module in list(self.layers.modules()):
            if isinstance(module, nn.Linear):
                remove_parametrizations(module, "weight")
        self.eval().requires_grad_(False)


Tuned = TypeVar("Tuned", bound=TunedEncoder)


def load_tuned(folder: Path, name: str, build: Callable[[dict[str, Any]], Tuned]) -> Tuned | None:
    """A model of a weight folder, for reading alone: `name`.json and `name`.safetensors.

    Args:
        build: makes it of the json's values.

    Returns:
        None where the folder has none.

    Raises:
        UserError: its two files do not fit each other.
    """
    card, weights = folder / f"{name}.json", folder / f"{name}.safetensors"
    if not card.is_file():
        return None
    try:
        model = build(json.loads(card.read_text(encoding="utf-8")))
        found = model.load_state_dict(read_weights(weights), strict=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        raise UserError(f"{card} and its weights do not fit this version; reinstall them") from None
    if found.unexpected_keys or any(_is_learned(name) for name in found.missing_keys):
        raise UserError(f"{weights} lacks parts of the model; reinstall it")
    model.frozen()
    return model


def _is_learned(name: str) -> bool:
    return not name.startswith("layers.") or _LEARNS in name
