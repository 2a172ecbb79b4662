"""The part of the prompt that stays: read once, kept in the key-value cache, and only appended to.

The list of objects grows by a line a step; instruction, prompt and the lines before it are in the cache already. Every
piece is fed by itself, always in the same pieces, so a cache that grew over a run and one that is built afresh after an
interruption hold the same bits (torch's kernels differ in the last bits between other splits of the same tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import LlavaForConditionalGeneration


FEW_TOKENS = 1024  # so many rows of the head are gathered when they are needed; of more the gathered ones are kept


@dataclass(frozen=True)
class Cursor:
    """Where decoding stands.

    Attributes:
        cache: keys and values, valid up to `length`.
        length: tokens read.
        hidden: float (D,), the last token's state; None before any is read.
        pending: chosen tokens that are not fed yet.
        confidence: probability of the words chosen so far among those allowed.
    """

    cache: Any
    length: int
    hidden: torch.Tensor | None = None
    pending: tuple[int, ...] = ()
    confidence: float = 1.0


class PrefixCache:
    """Keeps what a growing prompt's pieces left in the cache.

    Args:
        llava: the model.
        reuse: False = start from nothing at every call, for measuring.
    """

    def __init__(self, llava: LlavaForConditionalGeneration, reuse: bool = True) -> None:
        self.llava, self.reuse = llava, reuse
        self.read_tokens = 0
        """Tokens that `read` has fed to the model, in all."""
        self._chunks: list[tuple[int, ...]] = []
        self._cache: Any = None
        self._heads: dict[tuple[int, ...], nn.Module] = {}

    def read(self, chunks: Sequence[Sequence[int]]) -> Cursor:
        """The cache after these pieces. Pieces that the last call shares from the front are not read again; the rest of
        the cache is dropped, so cursors of earlier calls are void.

        Args:
            chunks: token ids, piece by piece; none empty.
        """
        from transformers import DynamicCache

        wanted = [tuple(chunk) for chunk in chunks]
        shared = 0
        if self.reuse and self._cache is not None:
            pairs = zip(self._chunks, wanted, strict=False)
            shared = next((i for i, (old, new) in enumerate(pairs) if old != new), min(len(self._chunks), len(wanted)))
        if shared == 0:
            self._cache = DynamicCache(config=self.llava.config.get_text_config())
        cursor = Cursor(self._cache, sum(len(chunk) for chunk in wanted[:shared]))
        crop(cursor)
        for chunk in wanted[shared:]:
            cursor = self.feed(cursor, chunk)
            self.read_tokens += len(chunk)
        self._chunks = wanted
        return cursor

    def feed(
        self, cursor: Cursor, ids: Sequence[int], pixels: torch.Tensor | None = None, **image: torch.Tensor
    ) -> Cursor:
        """Read further tokens, with a picture float (1, 3, S, S) where they hold its placeholders.

        Of models that cut a picture into tiles, `image` holds what more they want to know of it, as their processor
        names it. Only the last state is kept; the 49152-way head is applied to the few tokens that the grammar allows.
        """
        import torch

        with torch.inference_mode():
            out = self.llava.model(
                input_ids=torch.tensor([list(ids)], device=self.llava.device),
                pixel_values=pixels,
                **image,
                past_key_values=cursor.cache,
                use_cache=True,
            )
        hidden = out.last_hidden_state[0, -1]
        return Cursor(cursor.cache, cursor.length + len(ids), hidden, (), cursor.confidence)

    def scores(self, cursor: Cursor, tokens: Sequence[int]) -> torch.Tensor:
        """Logits (len(tokens),) of these tokens as the next one."""
        import torch

        assert cursor.hidden is not None
        weight = self.llava.lm_head.weight
        with torch.inference_mode():
            if len(tokens) <= FEW_TOKENS:
                return torch.nn.functional.linear(cursor.hidden, weight[torch.as_tensor(tokens)])
            wanted = tuple(tokens)
            if wanted not in self._heads:
                self._heads[wanted] = _head_of(weight[torch.as_tensor(tokens)])
            logits: torch.Tensor = self._heads[wanted](cursor.hidden[None])[0]
            return logits


def _head_of(rows: torch.Tensor) -> nn.Module:
    """A head for some tokens, (1, D) to (1, len(rows))."""
    import torch

    from runtime.half_linear import half_linears

    with torch.device("meta"):
        head = torch.nn.Linear(rows.shape[1], rows.shape[0], bias=False)
    head.weight = torch.nn.Parameter(rows, requires_grad=False)
    holder = torch.nn.Sequential(head)
    half_linears(holder)
    return holder


def crop(cursor: Cursor) -> None:
    """Drop what the cache holds beyond the cursor, so that it can go on from there."""
    surplus = cursor.cache.get_seq_length() - cursor.length
    if surplus > 0:
        cursor.cache.crop(-surplus)
