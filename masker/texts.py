"""Texts as the network takes them: a cache of half-precision token features and the label table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import torch
from torch import Tensor

from masker.config import TextConfig
from perception.text import TextEncoder, TextFeatures

KEPT_BYTES = 1 << 30  # of features; beyond that the oldest are forgotten


class TextBook:
    """Features of the texts met so far, as many as fit.

    A training meets tens of thousands of captions, more than the encoder's own cache holds; half
    precision is below what the network can tell apart.

    Args:
        config: Token counts.
        encode: (text, max_tokens) -> features.
        kept_bytes: How much of them is kept in memory.
    """

    def __init__(
        self, config: TextConfig, encode: Callable[[str, int], TextFeatures], kept_bytes: int = KEPT_BYTES
    ) -> None:
        self.config = config
        self._encode = encode
        self._room, self._lock = kept_bytes, Lock()  # batches may be made on a thread
        self._tokens: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}

    @classmethod
    def load(cls, config: TextConfig) -> TextBook:
        """With the shared frozen MiniLM."""
        return cls(config, TextEncoder.load().encode)

    def pooled(self, text: str) -> Tensor:
        """Pooled embedding of a label, (D,), unit length."""
        return self._encode(text, self.config.object_tokens).pooled

    def label_table(self, labels: Sequence[str]) -> Tensor:
        """(N, D); row 0, "nothing", is zero."""
        return torch.stack([torch.zeros(self.config.width), *(self.pooled(label) for label in labels[1:])])

    def batch(self, objects: Sequence[str], contexts: Sequence[str]) -> dict[str, Tensor]:
        """The four text fields of `masker.model.Conditions` for B samples."""
        object_tokens, object_mask = self._many(objects, self.config.object_tokens)
        context_tokens, context_mask = self._many(contexts, self.config.context_tokens)
        return {
            "object_tokens": object_tokens,
            "object_mask": object_mask,
            "context_tokens": context_tokens,
            "context_mask": context_mask,
        }

    def _many(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        pairs = [self._one(text, max_tokens) for text in texts]
        return torch.stack([tokens for tokens, _ in pairs]).float(), torch.stack([mask for _, mask in pairs])

    def _one(self, text: str, max_tokens: int) -> tuple[Tensor, Tensor]:
        key = (text, max_tokens)
        found = self._tokens.get(key)
        if found is None:
            features = self._encode(text, max_tokens)
            found = features.tokens.half(), features.mask
            with self._lock:
                self._keep(key, found)
        return found

    def _keep(self, key: tuple[str, int], found: tuple[Tensor, Tensor]) -> None:
        if key in self._tokens:
            return
        self._tokens[key] = found
        self._room -= found[0].nbytes + found[1].nbytes
        while self._room < 0:
            tokens, mask = self._tokens.pop(next(iter(self._tokens)))
            self._room += tokens.nbytes + mask.nbytes
