"""A trained reverse dictionary: which thing a description means ("the gadget that shrieks when the toast burns"), or
that it means none.

A sentence encoder turns a text into a vector e of unit length; one linear layer turns it into a probability for every
label, and for "no thing at all", which is many different things and therefore has several rows:

    z = s W e + b,      p = softmax(z_1, ..., z_L, logsumexp(z_L+1, ..., z_L+K)),      s = 20

Trained by `planner.descriptions_train`.

Source: reverse dictionaries (Hill et al., TACL 2016), with all-MiniLM-L6-v2 for the vectors; several rows for "none":
ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Self

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from runtime.weights import load_weights
from scene.errors import UserError

NAME = "descriptions"  # .safetensors and .json
WIDTH = 384
TOKENS = 24
SCALE = 20.0
NOTHING = 0.4  # how much less likely it is than in training that a phrase means none: the parser takes it for a thing

Embed = Callable[[str], Tensor]
_FILE = TypeAdapter(dict[str, list[str]])


def embedded(text: str) -> Tensor:
    """The sentence encoder's vector of a text: float32 (384,), unit length."""
    from perception.text import TextEncoder

    return TextEncoder.load().encode(text, TOKENS).pooled


class DescriptionHead(nn.Module):
    """Vectors to log-probabilities; see the module.

    Args:
        labels: what may be meant.
        nothings: rows for what means none of them.
    """

    def __init__(self, labels: Sequence[str], nothings: int = 16) -> None:
        super().__init__()
        self.labels, self.nothings = tuple(labels), nothings
        self.weight = nn.Parameter(torch.zeros(len(labels) + nothings, WIDTH))
        self.bias = nn.Parameter(torch.zeros(len(labels) + nothings))

    def forward(self, vectors: Tensor) -> Tensor:
        """float32 (N, 384) -> (N, L + 1) log-probabilities, "none" last."""
        scores = SCALE * vectors @ self.weight.T + self.bias
        named, none = scores.split([len(self.labels), self.nothings], dim=1)
        return torch.cat([named, none.logsumexp(1, keepdim=True)], dim=1).log_softmax(1)

    @torch.no_grad()
    def nearest(self, vector: Tensor, apart: Collection[str] = ()) -> tuple[float, str]:
        """Probability and name of the likeliest label for one vector (384,); "" = none.

        Args:
            vector: of the text.
            apart: labels known not to be meant: "something to hang coats on" is no coat.
        """
        scores = self(vector[None])[0].exp()
        scores[[at for at, label in enumerate(self.labels) if label in apart]] = 0.0
        scores[-1] *= NOTHING
        best = int(scores.argmax())
        return float(scores[best] / scores.sum()), (*self.labels, "")[best]

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The head of a weight folder; None where it has none.

        Raises:
            UserError: its two files do not fit each other.
        """
        card = folder / f"{NAME}.json"
        if not card.is_file():
            return None
        try:
            data = json.loads(card.read_text(encoding="utf-8"))
            head = cls(data["labels"], data["nothings"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{card} is no description card; reinstall the weights") from None
        load_weights(head, folder / f"{NAME}.safetensors")
        return head.eval().requires_grad_(False)
