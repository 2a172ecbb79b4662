"""Where the proposed object goes, read off the layout picture: p(box | picture, answer).

The language model says what comes next and how it stands to what ("mug | on coffee table | @ | a white mug"); at "@" a
place head looks at the picture for it. It sees the picture itself, where the partner of the relation and others of the
label show in it (a label always has one colour), and the words of the answer in the language model's own embeddings.
Digits out of the language model never learned to read places off 25 image tokens (docs/experiments/planner.md).

Source: ours; a decoder of its own behind a token of the language model is LISA's idea (Lai et al., arXiv 2308.00692).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from perception.boxes import BoxPrior, Places
from perception.modulated import ModulatedUNet
from planner.grammar import CELLS, LINKS, Answer, Link
from planner.links import holds
from runtime.config import Config
from runtime.weights import load_weights
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.layout import label_colour
from scene.relations import DIRECTIONS, points
from scene.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WEIGHTS = "places.safetensors"
PLANES = 7  # picture, partner, others of the label, where in the view
MIN_SIDE_PX = 4
DRAWS = 16
HEARD = 16  # words on either side
KNOWN_WORDS, HEARING, HEEDS = 4096, 64, 4
OTHER = "<other>"
MIRRORED = {"left": "right", "right": "left"}
_WORD = re.compile(r"[a-z']+")
STRIDE = 2  # every second pixel is looked at


class PlaceConfig(Config):
    """Sizes of the place head."""

    resolution: int = Field(default=80, gt=0)
    """Cells along a side of the picture as it is seen, squeezed to a square."""
    fold: int = Field(default=4, gt=0)
    """Cells folded into channels, per axis, before the first convolution."""
    widths: tuple[int, ...] = (64, 128)
    """Channels, from the folded resolution downwards."""
    vector: int = Field(default=192, gt=0)
    """Width of the answer's summary that steers every block."""
    size_bins: int = Field(default=32, ge=2)
    """Bins of log height and of log width."""
    smallest: float = Field(default=2**-7, gt=0)
    """Side of the first size bin's centre over the picture's side."""
    said: bool = False
    """What the prompt says round the object's name ("a small ... in the upper left corner") is read, too."""


@dataclass(frozen=True)
class Sought:
    """What is to be placed, and what is there.

    Attributes:
        picture: uint8 (H, W, 3), the layout picture.
        answer: label, relation and description; its cells are not looked at.
        said: words of the prompt before and after the object's name, nearest last and first, see `said_about`.
    """

    picture: np.ndarray
    answer: Answer
    said: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def planes(self, side: int) -> np.ndarray:
        """float32 (PLANES, side, side): RGB to [-1, 1]; how much of each cell shows the partner, and the label."""
        partner, picture = self.answer.link[1] if self.answer.link else None, self.picture[::STRIDE, ::STRIDE]
        seen = [_squeezed(picture, side).transpose(2, 0, 1) / 127.5 - 1]
        for label in (partner, self.answer.label):
            shown = np.zeros(picture.shape[:2], dtype=bool)
            if label is not None:
                shown = (picture == np.asarray(label_colour(label), dtype=np.uint8)).all(axis=2)
            seen.append(_squeezed(np.where(shown, np.uint8(255), np.uint8(0)), side)[None] / 255)
        across = np.broadcast_to(np.linspace(-1, 1, side), (side, side))
        return np.concatenate([*seen, across[None], across.T[None]]).astype(np.float32)

    @property
    def partner(self) -> Box | None:
        """Box round all that the picture shows of the relation's partner; None where there is nothing."""
        if self.answer.link is None:
            return None
        return Box.from_mask(
            (self.picture == np.asarray(label_colour(self.answer.link[1]), dtype=np.uint8)).all(axis=2)
        )

    def flipped(self) -> Self:
        """The same seen in a mirror, cells included."""
        link, cells = self.answer.link, self.answer.cells
        if link is not None and link[0] in ("left of", "right of"):
            link = ("right of" if link[0] == "left of" else "left of", link[1])
        if cells is not None:
            cells = (CELLS - 1 - cells[2], cells[1], CELLS - 1 - cells[0], cells[3])
        answer = self.answer.model_copy(update={"link": link, "cells": cells})
        before, after = (tuple(MIRRORED.get(word, word) for word in words) for words in self.said)
        return replace(self, picture=self.picture[:, ::-1], answer=answer, said=(before, after))


def said_about(text: str, label: str, vocabulary: Vocabulary) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Up to `HEARD` words before and after the last place where a text names a label; nothing where it does not."""
    lowered = text.lower()
    named = [mention for mention in vocabulary.find(lowered) if mention.label == label]
    if not named:
        return (), ()
    at = named[-1]
    others = [(each.start, each.end) for each in vocabulary.find(lowered) if each.start != at.start]

    def words(start: int, end: int) -> list[str]:
        """Words of a stretch; every other name in it is one and the same word."""
        found, position = list[str](), start
        for first, last in others:
            if position <= first and last <= end:
                found += [*_WORD.findall(lowered[position:first]), OTHER]
                position = last
        return [*found, *_WORD.findall(lowered[position:end])]

    return tuple(words(0, at.start)[-HEARD:]), tuple(words(at.end, len(lowered))[:HEARD])


def _squeezed(values: np.ndarray, side: int) -> np.ndarray:
    """uint8 pixels averaged over the cells of a square."""
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(values)).resize((side, side), Image.Resampling.BOX), dtype=np.float32
    )


class Words:
    """Texts in the language model's input embeddings, mean over tokens.

    Args:
        tokenizer: the language model's.
        table: (V, D), its embeddings.
    """

    def __init__(self, tokenizer: Tokenizer, table: Tensor) -> None:
        self._tokenizer, self._table = tokenizer, table
        self.width = table.shape[1]
        self._known: dict[str, Tensor] = {"": torch.zeros(self.width)}

    def __call__(self, text: str) -> Tensor:
        """(D,); of an empty text 0."""
        if text not in self._known:
            ids = self._tokenizer.encode(f" {text}", add_special_tokens=False).ids
            self._known[text] = self._table[torch.tensor(ids)].float().mean(0)
        return self._known[text]

    def answers(self, answers: Sequence[Answer]) -> Tensor:
        """(B, 3 D): label, description (or else the label again), partner."""
        rows = []
        for answer in answers:
            partner = answer.link[1] if answer.link else ""
            rows.append(torch.cat([self(answer.label), self(answer.description or answer.label), self(partner)]))
        return torch.stack(rows)


class Listener(nn.Module):
    """What is said round a name, as a vector: the words in their places look at their neighbours, and some are heeded.

    Args:
        width: of the vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(KNOWN_WORDS, HEARING, padding_idx=0)
        self.places = nn.Parameter(torch.zeros(2 * HEARD, HEARING))
        self.near = nn.Conv1d(HEARING, HEARING, 3, padding=1)
        self.heed = nn.Linear(HEARING, HEEDS)
        self.tell = nn.Linear(HEARING, HEARING)
        self.sum = nn.Linear(HEEDS * HEARING, width)

    def forward(self, said: Tensor) -> Tensor:
        """(B, width) of word numbers int64 (B, 2 * HEARD), see `heard`."""
        known = (said > 0)[..., None]
        x = (self.words(said) + self.places) * known
        x = x + F.silu(self.near(x.transpose(1, 2))).transpose(1, 2)
        logits = self.heed(x).masked_fill(~known, -1e4)
        heeded = torch.einsum("bth,btc->bhc", logits.softmax(1), self.tell(x) * known)
        told: Tensor = self.sum(heeded.flatten(1))
        return told


def heard(sought: Sequence[Sought]) -> Tensor:
    """int64 (B, 2 * HEARD): numbers of the words before the name, right-aligned, and after it; 0 = none. A word's
    number is its checksum: no list of words is kept."""
    numbers = np.zeros((len(sought), 2 * HEARD), dtype=np.int64)
    for row, each in enumerate(sought):
        for words, start in ((each.said[0], HEARD - len(each.said[0])), (each.said[1], HEARD)):
            for at, word in enumerate(words, start=start):
                numbers[row, at] = 1 + zlib.crc32(word.encode()) % (KNOWN_WORDS - 1)
    return torch.from_numpy(numbers)


class PlaceHead(BoxPrior):
    """A small U-Net over the picture, steered by the words of the answer.

    Args:
        config: sizes.
        words: width D of the words' embeddings.
    """

    def __init__(self, config: PlaceConfig, words: int) -> None:
        width, first = config.vector, config.widths[0]
        super().__init__(config.resolution, config.fold, first, width, config.size_bins, config.smallest)
        self.config = config
        self.link = nn.Embedding(len(LINKS) + 1, width)
        self.read = nn.Sequential(nn.LayerNorm(3 * words), nn.Linear(3 * words, width), nn.SiLU())
        self.listener = Listener(width) if config.said else None
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.net = ModulatedUNet(config.fold**2 * PLANES, first, config.widths, 2, width)

    def maps(self, planes: Tensor, words: Tensor, links: Tensor, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the base's cell (B, R * R), features (B, C, R / fold, R / fold), vectors (B, W).

        Args:
            planes: (B, PLANES, R, R), see `Sought.planes`.
            words: (B, 3 D), see `Words.answers`.
            links: int64 (B,), 0 = no relation, else 1 + its number in `LINKS`.
            said: int64 (B, 2 * HEARD), see `heard`; only looked at where the sizes say so.
        """
        vector = self.read(words) + self.link(links)
        if self.listener is not None:
            vector = vector + self.listener(said)
        vector = self.mix(vector)
        features, _ = self.net(F.pixel_unshuffle(planes, self.config.fold), vector)
        return self.cells(features).flatten(1).log_softmax(1), features, vector

    def inputs(self, sought: Sequence[Sought], words: Words) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `maps` takes."""
        planes = torch.from_numpy(np.stack([each.planes(self.resolution) for each in sought]))
        answers = [each.answer for each in sought]
        return planes, words.answers(answers), link_numbers(answers), heard(sought)


def link_numbers(answers: Sequence[Answer]) -> Tensor:
    """int64 (B,): see `PlaceHead.maps`."""
    return torch.tensor([1 + LINKS.index(answer.link[0]) if answer.link else 0 for answer in answers])


class Placer:
    """Draws boxes for answers.

    Args:
        head: in evaluation mode.
        words: the language model's embeddings.
    """

    def __init__(self, head: PlaceHead, words: Words) -> None:
        self.head, self.words = head, words

    @classmethod
    def load(cls, folder: Path, config: PlaceConfig, words: Words) -> Self:
        """The head of a weight folder.

        Raises:
            UserError: its file is missing or does not fit.
        """
        if not (folder / WEIGHTS).is_file():
            raise UserError(f"no {folder / WEIGHTS}; train it with configs/planner/places_*.yaml")
        head = PlaceHead(config, words.width)
        load_weights(head, folder / WEIGHTS)
        return cls(head.eval().requires_grad_(False), words)

    def places(self, sought: Sought) -> Places:
        """The distribution over boxes."""
        with torch.inference_mode():
            return Places(self.head, *self.head.maps(*self.head.inputs([sought], self.words)))

    def box(self, sought: Sought, size: Size, generator: torch.Generator, top_p: float) -> Box:
        """The first of `boxes`."""
        return next(self.boxes(sought, size, generator, top_p))

    def boxes(self, sought: Sought, size: Size, generator: torch.Generator, top_p: float) -> Iterator[Box]:
        """Boxes in canvas pixels without end, on the canvas, at least `MIN_SIDE_PX` a side: each is of a few draws the
        first that stands to the partner, as the picture shows it, as the answer says; the first one where none does.

        Args:
            sought: what to place.
            size: canvas.
            generator: source of the draw.
            top_p: see `perception.boxes.Places.sample`; 0 = always the likeliest.
        """
        places, partner = self.places(sought), sought.partner
        while True:
            yield self._drawn(places, sought.answer.link, partner, size, generator, top_p)

    @staticmethod
    def _drawn(
        places: Places, link: Link | None, partner: Box | None, size: Size, generator: torch.Generator, top_p: float
    ) -> Box:
        first = None
        for _ in range(DRAWS):
            box = in_pixels(places.sample(generator, top_p), size)
            if min(box.width, box.height) < MIN_SIDE_PX:
                continue
            if link is None or partner is None or stands(link[0], box, partner):
                return box
            first = first or box
        return first or in_pixels(torch.tensor([0.25, 0.25, 0.75, 0.75]), size)


def stands(link: str, box: Box, other: Box) -> bool:
    """Whether a box stands so to another; directions within 45 degrees, the rest as `planner.links.holds` says."""
    return points(box, other, link) if link in DIRECTIONS else holds(link, box, other)


def in_pixels(box: Tensor, size: Size) -> Box:
    """A box (4,), 0 to 1 across the canvas, clipped to it; perhaps empty."""
    edges = box.double() * torch.tensor([*size, *size], dtype=torch.float64)
    return Box(*(round(float(edge)) for edge in edges)).clip(size)
