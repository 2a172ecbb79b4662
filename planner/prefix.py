"""What a planner has read, kept in the key-value cache: the part of the prompt that stays, which is only appended to,
and the answer that is being written.

The list of objects grows by a line a step; instruction, prompt and the lines before it are in the cache already.
torch's kernels differ in the last bits between other splits of the same tokens, so every piece is always read in a pass
of the same shape: together with as many tokens as came after it when it was the last one. Thus a cache that grew over a
run and one that is built afresh after an interruption hold the same bits.

Of an answer, tokens may be read before they are chosen (`planner.drafting`): what turns out as guessed is not read
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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
        self._pieces: list[tuple[tuple[int, ...], int]] = []  # what is read before answers, and what came along
        self._cache: Any = None
        self._heads: dict[tuple[int, ...], nn.Module] = {}
        self._base, self._held = 0, _Held()  # where answers begin, and what is read of them

    def read(
        self,
        pieces: Sequence[Sequence[int]],
        after: Sequence[int] = (),
        pixels: torch.Tensor | None = None,
        tails: Sequence[int] | None = None,
    ) -> Cursor:
        """Read these pieces and what comes after the last of them now, but not later. Pieces that the last call shares
        from the front are not read again; the rest of the cache is dropped, so cursors of earlier calls are void.

        Args:
            pieces: token ids, piece by piece; none empty.
            after: further ids.
            pixels: a picture, float (1, 3, S, S), where `after` holds its placeholders.
            tails: how many tokens came after each piece but the last when that was the last one; None = none.
        """
        from transformers import DynamicCache

        before = tails if tails is not None else [0] * (len(pieces) - 1)
        wanted = [*zip(map(tuple, pieces), before, strict=False), (tuple(pieces[-1]), len(after))]
        shared = 0
        if self.reuse and self._cache is not None:
            shared = _shared(self._pieces, wanted[:-1])
        if shared == 0:
            self._cache = DynamicCache(config=self.llava.config.get_text_config())
        cursor = Cursor(self._cache, sum(len(piece) for piece, _ in wanted[:shared]))
        for piece, tail in wanted[shared:-1]:
            crop(cursor)
            self.forward(cursor, [*piece, *[piece[-1]] * tail])
            cursor = Cursor(self._cache, cursor.length + len(piece))
        crop(cursor)
        self.read_tokens += sum(len(piece) for piece, _ in wanted[shared:])
        self._pieces = wanted
        return self.feed(cursor, [*pieces[-1], *after], pixels)

    def feed(
        self, cursor: Cursor, ids: Sequence[int], pixels: torch.Tensor | None = None, **image: torch.Tensor
    ) -> Cursor:
        """Read further tokens, after which an answer begins, with a picture float (1, 3, S, S) where they hold its
        placeholders.

        Of models that cut a picture into tiles, `image` holds what more they want to know of it, as their processor
        names it.
        """
        hidden = self.forward(cursor, ids, pixels, **image)[-1]
        self._base, self._held = cursor.length + len(ids), _Held()
        return Cursor(cursor.cache, self._base, hidden, (), cursor.confidence)

    def follow(
        self, cursor: Cursor, ids: Sequence[int], draft: Callable[[], Sequence[int]] = tuple[int, ...]
    ) -> Cursor:
        """Read tokens of an answer, and in the same pass a guess of what comes after them, for the calls to come: what
        the cache holds already after the cursor, guessed or chosen before, is not read again.

        Args:
            cursor: of this read, at its end or within an answer; of other answers, too.
            ids: not empty.
            draft: makes the guess where something has to be read; no matter if it is wrong.
        """
        at = cursor.length - self._base
        known = self._held.shared(at, ids)
        if known < len(ids):
            start = replace(cursor, length=cursor.length + known)
            crop(start)
            new = [*ids[known:], *draft()]
            self._held.replace(at + known, new, self.forward(start, new).unbind())
        end = at + len(ids)
        return Cursor(cursor.cache, self._base + end, self._held.states[end - 1], (), cursor.confidence)

    def forward(
        self, cursor: Cursor, ids: Sequence[int], pixels: torch.Tensor | None = None, **image: torch.Tensor
    ) -> torch.Tensor:
        """Last states (len(ids), D); the 49152-way head is applied to the few tokens that the grammar allows."""
        import torch

        pieces, self._pieces = self._pieces, []  # whoever stops a pass half-way leaves layers of unequal length behind
        with torch.inference_mode():
            out = self.llava.model(
                input_ids=torch.tensor([list(ids)], device=self.llava.device),
                pixel_values=pixels,
                **image,
                past_key_values=cursor.cache,
                use_cache=True,
            )
        self._pieces = pieces
        states: torch.Tensor = out.last_hidden_state[0, -len(ids) :]
        return states

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
            position = cursor.length - self._base - 1
            if position < 0:
                logits: torch.Tensor = self._heads[wanted](cursor.hidden[None])[0]
                return logits
            return self._held.logits(position, self._heads[wanted])


@dataclass
class _Held:
    """What is read beyond the base: chosen tokens and, after them, guessed ones.

    Attributes:
        tokens: their ids.
        states: float (D,) each, after reading the token.
    """

    tokens: list[int] = field(default_factory=list)
    states: list[torch.Tensor] = field(default_factory=list)
    _scored: tuple[nn.Module, int, torch.Tensor] | None = None

    def shared(self, at: int, ids: Sequence[int]) -> int:
        """How many of `ids` are held from position `at` on."""
        return _shared(self.tokens[at:], ids)

    def replace(self, at: int, ids: Sequence[int], states: Sequence[torch.Tensor]) -> None:
        """From position `at` on, hold these."""
        self.tokens[at:], self.states[at:], self._scored = ids, states, None

    def logits(self, position: int, head: nn.Module) -> torch.Tensor:
        """A head's logits (V,) after a position; those of later ones are made along with it, for weights come from
        memory once."""
        import torch

        if self._scored is None or self._scored[0] is not head or position < self._scored[1]:
            self._scored = head, position, head(torch.stack(self.states[position:]))
        _, start, scored = self._scored
        return scored[position - start]


def _shared(one: Sequence[object], two: Sequence[object]) -> int:
    """How many items two sequences have in common from the front."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((i for i, (left, right) in pairs if left != right), min(len(one), len(two)))


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
