"""Where a prompt speaks of things, and how these are to stand to each other, as learned from prompts in which that is
marked (`planner.frames`): no list of phrases holds all that people say.

The sentence encoder (all-MiniLM-L6-v2) reads the prompt; its upper layers learn with low-rank updates W + B A. Of its
token states h, one head tells the tokens of noun phrases, the other is asked of two phrases i, j, whose tokens get
vectors m added, and tells how the first stands to the second:

    p(t) = softmax(V GRU(U h)_t)                                       outside, first or further token of a phrase
    p(r | i, j) = softmax(MLP[max_i g; max_j g; max g]),  g = GRU(S h + m)

Trained by `planner.parser_train`.

Source: slot filling as tagging (Mesnil et al., 2015), LoRA (Hu et al., arXiv 2106.09685), entity markers for relations
(Baldini Soares et al., arXiv 1906.03158).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from perception.text import Below
from planner.grammar import INVERSE
from planner.tuned_encoder import WIDTH, TunedEncoder, load_tuned
from runtime.config import Config

NAME = "parser"  # .safetensors and .json
TOKENS = 128
OUTSIDE, FIRST, FURTHER = range(3)
ONE_WAY = ("on", "inside")
RELATIONS = ("", *INVERSE, *ONE_WAY, *(f"{word} <" for word in ONE_WAY))  # "on <": the second on the first
REACH = 6  # phrases lie at most so far apart; else a long list has thousands of pairs
LEAST = 0.03  # probability of a span that is worth a look
Phrase = tuple[int, int]
"""First token and the one after the last."""


class ParserSize(Config):
    """Sizes of a `PromptParser`.

    Attributes:
        layers: how many of the encoder's layers learn, from the top.
        rank: of their updates.
        hidden: width of the heads.
    """

    layers: int = 3
    rank: int = 8
    hidden: int = 64


class Span(NamedTuple):
    """A part of a text that may speak of a thing, and how likely exactly this part does."""

    start: int
    end: int
    score: float


class PromptParser(TunedEncoder):
    """See the module.

    Args:
        size: sizes.
    """

    def __init__(self, size: ParserSize) -> None:
        super().__init__(size.layers, size.rank)
        self.size, hidden = size, size.hidden
        self.drop = nn.Dropout(0.25)
        self.narrow = nn.Sequential(nn.Linear(WIDTH, hidden), nn.GELU())
        self.phrases = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.tag = nn.Linear(2 * hidden, 3)
        self.pair = nn.Sequential(nn.Linear(WIDTH, hidden), nn.GELU())
        self.marks = nn.Embedding(4, hidden)
        self.between = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.relation = nn.Sequential(
            nn.Linear(6 * hidden, hidden), nn.GELU(), nn.Dropout(0.25), nn.Linear(hidden, len(RELATIONS))
        )

    def encoded(self, texts: Sequence[str]) -> list[Below]:
        """Texts as the layers that do not learn leave them, each read alone; long ones are cut off."""
        return [self.below([text], TOKENS)[0] for text in texts]

    def tags(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(N, T, 384) -> log-probabilities (N, T, 3)."""
        read = _read(self.phrases, self.drop(self.narrow(states)), lengths)
        return self.tag(self.drop(read)).log_softmax(-1)

    def relations(self, states: Tensor, lengths: Tensor, marks: Tensor) -> Tensor:
        """States (N, T, 384) and marks, int64 (N, T), of `marked` -> log-probabilities (N, 12) of `RELATIONS`."""
        read = _read(self.between, self.drop(self.pair(states)) + self.marks(marks), lengths)
        inside = torch.arange(marks.shape[1])[None] < lengths[:, None]
        pooled = [read.masked_fill(~part[..., None], -1e4).amax(1) for part in (marks == 1, marks == 2, inside)]
        return self.relation(torch.cat(pooled, dim=-1)).log_softmax(-1)

    def forward(self, lower: Tensor, lengths: Tensor, rows: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of `tags` and of `relations`, these of pairs (P,) with their row of the texts and marks."""
        states = self.states(lower, lengths)
        return self.tags(states, lengths), self.relations(states[rows], lengths[rows], marks)

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The parser of a weight folder; see `load_tuned`."""
        return load_tuned(folder, NAME, lambda card: cls(ParserSize(**card)))

    @torch.no_grad()
    def spans(self, text: str) -> list[Span]:
        """What parts of a text may speak of a thing, overlapping ones included, in the order of their starts."""
        (read,) = self.encoded([text])
        lengths = torch.tensor([len(read.offsets)])
        chances = self.tags(self.states(read.states[None], lengths), lengths)[0].exp()
        found = []
        for first, last, score in _likely(chances, text, read.offsets):
            found.append(Span(read.offsets[first][0], read.offsets[last - 1][1], score))
        return found

    def best(self, text: str) -> list[Span]:
        """The likeliest of `spans` that do not overlap, in their order."""
        taken: list[Span] = []
        for span in sorted(self.spans(text), key=lambda each: -each.score):
            if all(span.end <= other.start or other.end <= span.start for other in taken):
                taken.append(span)
        return sorted(taken)

    @torch.no_grad()
    def related(self, text: str, phrases: Sequence[tuple[int, int]]) -> dict[tuple[int, int], tuple[str, float]]:
        """How things stand to each other.

        Args:
            text: of up to `TOKENS` tokens; what stands behind them is not read.
            phrases: (start, end) of each thing, not overlapping, in their order; pairs at most `REACH` apart are read.

        Returns:
            (i, j) -> likeliest relation of thing i to thing j and its probability, each pair once; unrelated pairs are
            left out.
        """
        (read,) = self.encoded([text])
        places = [tokens_of(read.offsets, start, end) for start, end in phrases]
        known = [number for number, place in enumerate(places) if place is not None]
        pairs = [(i, j) for at, i in enumerate(known) for j in known[at + 1 : at + 1 + REACH]]
        if not pairs:
            return {}
        lengths = torch.tensor([len(read.offsets)])
        states = self.states(read.states[None], lengths).expand(len(pairs), -1, -1)
        marks = torch.stack([marked(len(read.offsets), places, i, j) for i, j in pairs])
        chances = self.relations(states, lengths.expand(len(pairs)), marks).exp()
        found: dict[tuple[int, int], tuple[str, float]] = {}
        for (i, j), row in zip(pairs, chances, strict=True):
            best = int(row.argmax())
            word = RELATIONS[best]
            if word:
                pair = (j, i) if word.endswith(" <") else (i, j)
                found[pair] = (word.removesuffix(" <"), float(row[best]))
        return found


def marked(length: int, phrases: Sequence[Phrase | None], first: int, second: int) -> Tensor:
    """Which of `length` tokens belong to the first (1), the second (2) or another phrase (3): int64 (length,)."""
    marks = torch.zeros(length, dtype=torch.long)
    for number, phrase in enumerate(phrases):
        if phrase is not None:
            marks[phrase[0] : phrase[1]] = {first: 1, second: 2}.get(number, 3)
    return marks


def tokens_of(offsets: Sequence[tuple[int, int]], start: int, end: int) -> Phrase | None:
    """The tokens that a part of a text touches; None where it was cut off."""
    touched = [at for at, (left, right) in enumerate(offsets) if left < right and left < end and start < right]
    return (touched[0], touched[-1] + 1) if touched else None


def _read(gru: nn.GRU, states: Tensor, lengths: Tensor) -> Tensor:
    """A GRU's states of padded sequences: (N, T, D) -> (N, T, 2 H)."""
    packed = pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=states.shape[1])[0]


def _likely(chances: Tensor, text: str, offsets: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, float]]:
    """Spans of whole words with a probability of at least `LEAST`: (first token, after the last, probability). Tags are
    taken as independent; where a span starts is told by one token, where it ends by the first that is no further
    one."""
    rows = chances.tolist()

    def ends(token: int) -> bool:
        at = offsets[token - 1][1]
        return not text[at - 1 : at + 1].isalnum() or len(text) == at

    for first, row in enumerate(rows):
        score, end = row[FIRST] if offsets[first][0] < offsets[first][1] else 0.0, first + 1
        while score >= LEAST:
            further = rows[end][FURTHER] if end < len(rows) else 0.0
            if score * (1 - further) >= LEAST and ends(end):
                yield first, end, score * (1 - further)
            score, end = score * further, end + 1
