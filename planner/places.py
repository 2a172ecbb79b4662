"""Where the proposed object goes, read off the layout picture: p(box | picture, answer).

The language model says what comes next and how it stands to what ("mug | on coffee table | @ | a white mug"); at "@" a
place head looks at the picture for it. It sees the picture itself, where the partner of the relation and others of the
label show in it (a label always has one colour), and the words of the answer in the language model's own embeddings.
Digits out of the language model never learned to read places off 25 image tokens (docs/experiments/planner.md).

Source: ours; a decoder of its own behind a token of the language model is LISA's idea (Lai et al., arXiv 2308.00692).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
from planner.grammar import CELLS, LINKS, Answer
from planner.links import Wish, stands
from planner.listener import Listener, Said, colour_codes, heard, mirrored, shown
from runtime.config import Config
from runtime.weights import load_weights
from scene.errors import UserError
from scene.geometry import Box, Size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WEIGHTS = "places.safetensors"
PLANES = 7  # picture, partner, others of the label, where in the view
MIN_SIDE_PX = 4
DRAWS, MORE_DRAWS = 16, 64  # for wishes; the further ones from nearly the whole distribution
WIDE_TOP_P = 0.97
AT_ONCE = 16
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
    hidden: int = Field(default=96, gt=0)
    """Width of the encoder that reads it."""
    layers: int = Field(default=2, ge=1)
    """Its layers."""
    heads: int = Field(default=4, ge=1)
    """Its attention heads."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Its dropout while it learns."""


@dataclass(frozen=True)
class Sought:
    """What is to be placed, and what is there.

    Attributes:
        picture: uint8 (H, W, 3), the layout picture.
        answer: label, relation and description; its cells are not looked at.
        said: what the prompt says round the object's name, see `planner.listener.said_about`.
    """

    picture: np.ndarray
    answer: Answer
    said: Said = ((), ())

    def planes(self, side: int) -> np.ndarray:
        """float32 (PLANES, side, side): RGB to [-1, 1]; how much of each cell shows the partner, and the label."""
        planes = np.zeros((PLANES, side, side), dtype=np.float32)
        planes[:3] = _squeezed(self.picture[::STRIDE, ::STRIDE], side).transpose(2, 0, 1) / 127.5 - 1
        for plane, label in ((3, self.answer.link[1] if self.answer.link else None), (4, self.answer.label)):
            there = shown(self.codes, label) if label is not None else np.zeros(1, dtype=bool)
            if there.any():
                planes[plane] = _squeezed(np.where(there, np.uint8(255), np.uint8(0)), side) / 255
        planes[5] = np.linspace(-1, 1, side)
        planes[6] = planes[5].T
        return planes

    @cached_property
    def codes(self) -> np.ndarray:
        """`colour_codes` of every second pixel."""
        return colour_codes(self.picture[::STRIDE, ::STRIDE])

    @property
    def partner(self) -> Box | None:
        """Box round all that the picture shows of the relation's partner; None where there is nothing."""
        link = self.answer.link
        return None if link is None else Box.from_mask(shown(colour_codes(self.picture), link[1]))

    def flipped(self) -> Self:
        """The same seen in a mirror, cells included."""
        link, cells = self.answer.link, self.answer.cells
        if link is not None and link[0] in ("left of", "right of"):
            link = ("right of" if link[0] == "left of" else "left of", link[1])
        if cells is not None:
            cells = (CELLS - 1 - cells[2], cells[1], CELLS - 1 - cells[0], cells[3])
        answer = self.answer.model_copy(update={"link": link, "cells": cells})
        return replace(self, picture=self.picture[:, ::-1], answer=answer, said=mirrored(self.said))


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
        self.listener = None
        if config.said:
            self.listener = Listener(width, config.hidden, config.layers, config.heads, config.dropout)
            self.told = nn.Linear(width, 2 * config.resolution)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.net = ModulatedUNet(config.fold**2 * PLANES, first, config.widths, 2, width)

    def maps(
        self, planes: Tensor, words: Tensor, links: Tensor, said: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of the base's cell (B, R * R), features (B, C, R / fold, R / fold), vectors (B, W).

        Args:
            planes: (B, PLANES, R, R), see `Sought.planes`.
            words: (B, 3 D), see `Words.answers`.
            links: int64 (B,), 0 = no relation, else 1 + its number in `LINKS`.
            said, seen: see `planner.listener.heard`; only looked at where the sizes say so.
        """
        vector = self.read(words) + self.link(links)
        if self.listener is not None:
            vector = vector + self.listener(vector, said, seen)
        vector = self.mix(vector)
        features, _ = self.net(F.pixel_unshuffle(planes, self.config.fold), vector)
        cells = self.cells(features)
        if self.listener is not None:  # "on the left" needs no look at the picture
            across, down = self.told(vector).chunk(2, dim=1)
            cells = cells + across[:, None, :] + down[:, :, None]
        return cells.flatten(1).log_softmax(1), features, vector

    def inputs(self, sought: Sequence[Sought], words: Words) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What `maps` takes."""
        planes = torch.from_numpy(np.stack([each.planes(self.resolution) for each in sought]))
        answers = [each.answer for each in sought]
        said = [each.said if self.listener is not None else ((), ()) for each in sought]
        codes = [each.codes for each in sought]
        spoken = heard([answer.label for answer in answers], said, codes)
        return planes, words.answers(answers), link_numbers(answers), *spoken


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

    def box(self, sought: Sought, size: Size, generator: torch.Generator, top_p: float, draws: int = 1) -> Box:
        """The first of `boxes`."""
        return next(self.boxes(sought, size, generator, top_p, draws))

    def boxes(
        self,
        sought: Sought,
        size: Size,
        generator: torch.Generator,
        top_p: float,
        draws: int = 1,
        wishes: Sequence[Wish] = (),
    ) -> Iterator[Box]:
        """Boxes in canvas pixels without end, on the canvas, at least `MIN_SIDE_PX` a side.

        Args:
            sought: what to place.
            size: canvas.
            generator: source of the draw.
            top_p: see `perception.boxes.Places.sample`; 0 = always the likeliest.
            draws: each box is the medoid of so many.
            wishes: what a box should meet besides the answer's relation to its partner as the picture shows it.
        """
        places, partner, link = self.places(sought), sought.partner, sought.answer.link
        if link is not None and partner is not None:
            wishes = [lambda box: stands(link[0], box, partner), *wishes]
        spreads = [top_p] * DRAWS + [max(top_p, WIDE_TOP_P)] * (MORE_DRAWS if draws == 1 and wishes else 0)
        while True:
            yield medoid([self._drawn(places, wishes, size, generator, spreads) for _ in range(draws)])

    @staticmethod
    def _drawn(
        places: Places, wishes: Sequence[Wish], size: Size, generator: torch.Generator, spreads: Sequence[float]
    ) -> Box:
        """Of a few draws, one for each spread (top-p), the first that meets all wishes, or else the first of those that
        meet most."""
        best: tuple[int, Box] | None = None
        for box in Placer._candidates(places, size, generator, spreads):
            if min(box.width, box.height) < MIN_SIDE_PX:
                continue
            met = sum(wish(box) for wish in wishes)
            if met == len(wishes):
                return box
            if best is None or met > best[0]:
                best = met, box
        return best[1] if best else in_pixels(torch.tensor([0.25, 0.25, 0.75, 0.75]), size)

    @staticmethod
    def _candidates(places: Places, size: Size, generator: torch.Generator, spreads: Sequence[float]) -> Iterator[Box]:
        """Draws, one for each spread: the first by itself, for it mostly serves, then `AT_ONCE` at a time."""
        at, count = 0, 1
        while at < len(spreads):
            alike = next((n for n, spread in enumerate(spreads[at : at + count]) if spread != spreads[at]), count)
            for box in places.samples(min(alike, len(spreads) - at), generator, spreads[at]):
                yield in_pixels(box, size)
            at, count = at + alike, AT_ONCE


def medoid(boxes: Sequence[Box]) -> Box:
    """The box that differs least from all others, in sum: where opinions differ, neither an outlier nor a compromise
    that nobody holds. Differences are of the middle of the lower edge, over the typical side, and of log size.

    Source: minimum Bayes risk decisions (Kumar and Byrne, NAACL 2004), for boxes.
    """
    facts = np.array([((b.x0 + b.x1) / 2, b.y1, b.width, b.height) for b in boxes], dtype=np.float64)
    facts[:, 2:] = np.log(facts[:, 2:])
    facts[:, :2] /= np.exp(np.median(facts[:, 2:]))
    return boxes[int(np.abs(facts[:, None] - facts).sum((1, 2)).argmin())]


def in_pixels(box: Tensor, size: Size) -> Box:
    """A box (4,), 0 to 1 across the canvas, clipped to it; perhaps empty."""
    edges = box.double() * torch.tensor([*size, *size], dtype=torch.float64)
    return Box(*(round(float(edge)) for edge in edges)).clip(size)
