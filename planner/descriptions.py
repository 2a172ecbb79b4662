"""A trained reverse dictionary: which thing a description means ("the gadget that shrieks when the toast burns"), or
that it means none, beside the things that the same prompt names ("the outside spigot", with a hose reel).

A sentence encoder whose upper layers learned for it (`planner.tuned_encoder`) reads description and company; the mean
of the description's token states, of unit length, is e. One linear layer turns it into a probability for every label,
and for "no thing at all", which is many different things and therefore has several rows:

    z = s W e + b,      p = softmax(z_1, ..., z_L, logsumexp(z_L+1, ..., z_L+K)),      s = 20

Trained by `planner.descriptions_train`.

Source: reverse dictionaries (Hill et al., TACL 2016), with all-MiniLM-L6-v2 for the states; several rows for "none",
and the company: ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from planner.tuned_encoder import WIDTH, TunedEncoder, load_tuned
from runtime.config import Config

NAME = "descriptions"  # .safetensors and .json
TOKENS = 40
SCALE = 20.0
NOTHING = 0.4  # how much less likely it is than in training that a phrase means none: the parser takes it for a thing
MOST_COMPANY = 4


class DictionarySize(Config):
    """Sizes of a `ReverseDictionary`.

    Attributes:
        layers: how many of the encoder's layers learn, from the top.
        rank: of their updates.
        nothings: rows for what means no label.
    """

    layers: int = 3
    rank: int = 8
    nothings: int = 16


class ReverseDictionary(TunedEncoder):
    """See the module.

    Args:
        labels: what may be meant.
        size: sizes.
    """

    def __init__(self, labels: Sequence[str], size: DictionarySize) -> None:
        super().__init__(size.layers, size.rank)
        self.labels, self.size = tuple(labels), size
        self.weight = nn.Parameter(torch.zeros(len(labels) + size.nothings, WIDTH))
        self.bias = nn.Parameter(torch.zeros(len(labels) + size.nothings))
        self.chances = lru_cache(maxsize=4096)(self._chances)

    def vectors(self, texts: Sequence[tuple[str, str]]) -> Tensor:
        """Descriptions with their company, read together -> (N, 384), unit length."""
        below = self.below([text if text[1] else text[0] for text in texts], TOKENS)
        lengths = torch.tensor([len(each.states) for each in below])
        own = torch.tensor([len(each.offsets) for each in below])
        states = self.states(nn.utils.rnn.pad_sequence([each.states for each in below], batch_first=True), lengths)
        inside = torch.arange(states.shape[1])[None] < own[:, None]
        return nn.functional.normalize((states * inside[..., None]).sum(1), dim=1)

    def forward(self, texts: Sequence[tuple[str, str]]) -> Tensor:
        """(N, L + 1) log-probabilities, "none" last, of descriptions with their company (`company`)."""
        scores = SCALE * self.vectors(texts) @ self.weight.T + self.bias
        named, none = scores.split([len(self.labels), self.size.nothings], dim=1)
        return torch.cat([named, none.logsumexp(1, keepdim=True)], dim=1).log_softmax(1)

    @torch.no_grad()
    def _chances(self, said: str, others: str = "") -> dict[str, float]:
        """Probability of every label, "" = none, for one description; `others` of `company`. Read alone."""
        (row,) = self([(said, others)]).exp()
        row[-1] *= NOTHING
        return dict(zip((*self.labels, ""), (row / row.sum()).tolist(), strict=True))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The dictionary of a weight folder; see `load_tuned`."""
        return load_tuned(folder, NAME, lambda card: cls(card["labels"], DictionarySize(**card["size"])))


def company(labels: Sequence[str]) -> str:
    """What stands beside a description, as the dictionary is told it: the first few labels."""
    return ", ".join(list(dict.fromkeys(labels))[:MOST_COMPANY])
