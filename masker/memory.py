"""Shapes remembered: silhouettes of training objects, recalled by what an object is called and how it lies.

What a text and a box leave open, a network fills with the mean of everything that fits, or with something between two
of them, and neither is a shape that exists. A remembered one does. Recalled by likeness of words, proportions, place
and size, its code is drawn like any other: the shape prior fits it to its guide, the denoiser and the refiner to the
scene; what is finer than they can draw is kept (`masker.recall`). The diffusion over codes stays the judge of what is
likeliest, and draws alone where a scribble says the shape.

Source: ours, after semi-parametric diffusion (Blattmann et al., arXiv 2204.11824), which has recalled pictures as
conditions.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from masker.config import MemoryConfig
from masker.layout_encoder import GuideFrame
from masker.shape_prior import place_on_canvas
from perception.remembering import come_to_mind, laid_end_to_end, nth_file, text_directions, word_logits

PLACE_NUMBERS = 5  # log half-width, log half-height in the view; canvas x, canvas y, log2 of the view's share of it
KEPT_SHAPES = 1024  # silhouettes that stay unpacked, about 10 MB
CENTER_OF = 40  # remembered objects
EDGE_AT = 0.99  # a box that reaches so far towards an edge of the canvas, from -1 to 1, is taken to be cut by it
RAW_DEFLATE = -15  # zlib without header and checksum


@dataclass(frozen=True)
class Cue:
    """What a shape is recalled by.

    Attributes:
        label: Its category.
        embedding: Pooled embedding of T_obj, (D,).
        place: (5,), see `place_of`.
        edges: Which edges of the canvas its box touches, bool (4,): left, top, right, bottom.
    """

    label: str
    embedding: Tensor
    place: Tensor
    edges: Tensor

    @classmethod
    def of(cls, label: str, embedding: Tensor, frame: GuideFrame, geometry: Tensor) -> Cue:
        """Of an object in a view.

        Args:
            label, embedding: As above.
            frame: Of its guide, B = 1.
            geometry: (1, 4, R, R), of the view.
        """
        place = place_of(frame, geometry)
        return cls(label, embedding, place[0], touched_edges(place, _aspect(geometry))[0])


class ShapeMemory(nn.Module):
    """N remembered objects.

    Args:
        config: How like they have to be, and S, the side of a silhouette.
        objects: N.
        size: Bytes of all silhouettes.
        labels: Category of every different text, T.
        text_width: Width of a text's pooled embedding, D.
    """

    def __init__(self, config: MemoryConfig, objects: int, size: int, labels: Sequence[str], text_width: int) -> None:
        super().__init__()
        self.config, self.labels, texts = config, tuple(labels), len(labels)
        self.shapes: Tensor
        self.starts: Tensor
        self.places: Tensor
        self.text: Tensor
        self.words: Tensor
        self.basis: Tensor
        self.register_buffer("shapes", torch.zeros(size, dtype=torch.uint8))  # one after the other, see `_packed`
        self.register_buffer("starts", torch.zeros(objects + 1, dtype=torch.int32))
        self.register_buffer("places", torch.zeros(objects, PLACE_NUMBERS))
        self.register_buffer("text", torch.zeros(objects, dtype=torch.int16))
        width = min(config.text_numbers, texts, text_width)
        self.register_buffer("words", torch.zeros(texts, width))  # of the text's embedding along the basis, unit length
        self.register_buffer("basis", torch.zeros(width, text_width))

    @classmethod
    def of(
        cls,
        config: MemoryConfig,
        shapes: Sequence[np.ndarray],
        places: Tensor,
        text: Tensor,
        labels: Sequence[str],
        embeddings: Tensor,
    ) -> ShapeMemory:
        """Remembers objects.

        Args:
            config: Sizes and scales.
            shapes: Bool (S, S) each, the mask in its box.
            places: (N, 5), see `place_of`.
            text: Rows of `embeddings`, int (N,).
            labels: Category of every text, T.
            embeddings: (T, D).
        """
        packed, starts = laid_end_to_end([_packed(shape) for shape in shapes])
        memory = cls(config, len(shapes), len(packed), labels, embeddings.shape[1])
        memory.shapes.copy_(packed)
        memory.starts.copy_(starts)
        memory.places.copy_(places)
        memory.text.copy_(text)
        basis, words = text_directions(embeddings, config.text_numbers)
        memory.basis.copy_(basis)
        memory.words.copy_(words)
        return memory

    def likeness(self, cue: Cue) -> Tensor:
        """How readily each object comes to mind, (N,), summing to 1.

        What an edge of the canvas cut off is no shape to lay elsewhere, and a peach tree is no peach: objects cut where
        the cue is not, and of another label than the cue's where its own is remembered, come to mind last.
        """
        config = self.config
        logits = word_logits(self.words, self.basis, cue.embedding, config.word_scale)
        same = torch.tensor([label == cue.label for label in self.labels])
        if same.any():
            logits = logits - config.label_cost * ~same
        apart = cue.place - self.places
        stretched = (apart[:, 0] - apart[:, 1]) / config.proportion_scale
        moved = apart[:, 2:4].square().sum(1) / config.place_scale**2
        scaled = (apart[:, 4] / config.size_scale).square()
        cut = touched_edges(self.places, config.aspect)
        costs = config.cut_cost * (cut & ~cue.edges).sum(1) + config.whole_cost * (~cut & cue.edges).sum(1)
        return (logits[self.text.long()] - 0.5 * (stretched.square() + moved + scaled) - costs).softmax(0)

    @torch.no_grad()
    def recall(self, cue: Cue, chances: Tensor) -> Tensor:
        """Silhouettes of objects that come to mind, their masks in their boxes, 0 or 1, (K, S, S).

        Args:
            cue: What is wanted.
            chances: (K,), uniform in 0 to 1: which ones.
        """
        return self._shapes(come_to_mind(self.likeness(cue), chances))

    @torch.no_grad()
    def readiest(self, cue: Cue, count: int) -> tuple[Tensor, Tensor]:
        """The `count` objects (or all) that come to mind most readily.

        Returns:
            their chances, (K,), summing to 1, and their silhouettes, 0 or 1, (K, S, S).
        """
        chances, numbers = self.likeness(cue).topk(min(count, len(self.places)))
        return chances / chances.sum(), self._shapes(numbers)

    @torch.no_grad()
    def center(self, cue: Cue) -> tuple[float, float]:
        """Where in its box such an object has its centre of mass, x and y, 0 to 1: the mean of what comes to mind."""
        chances, shapes = self.readiest(cue, CENTER_OF)
        steps = (torch.arange(self.config.side) + 0.5) / self.config.side
        area = shapes.sum((1, 2)).clamp_min(1)
        x, y = (float(chances @ (shapes.sum(axis) @ steps / area)) for axis in (1, 2))
        return x, y

    def _shapes(self, numbers: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray([self.shape(number) for number in numbers.tolist()], dtype=np.float32))

    def shape(self, number: int) -> np.ndarray:
        """Silhouette `number`, bool (S, S), not to be written to."""
        return _unpacked(nth_file(self.shapes, self.starts, number), self.config.side)


def _packed(shape: np.ndarray) -> bytes:
    """Every row as what changed since the one above, as bits, deflated: about 190 bytes of 96 x 96 cells."""
    changed = shape.copy()
    changed[1:] ^= shape[:-1]
    coder = zlib.compressobj(9, zlib.DEFLATED, RAW_DEFLATE)
    return coder.compress(np.packbits(changed).tobytes()) + coder.flush()


@lru_cache(KEPT_SHAPES)  # the candidates of one object recall much the same
def _unpacked(data: bytes, side: int) -> np.ndarray:
    bits = np.frombuffer(zlib.decompress(data, RAW_DEFLATE), dtype=np.uint8)
    changed = np.unpackbits(bits, count=side * side).reshape(side, side)
    shape = np.logical_xor.accumulate(changed.astype(bool), axis=0)
    shape.flags.writeable = False
    return shape


def place_of(frame: GuideFrame, geometry: Tensor) -> Tensor:
    """(B, 5): how a guide's frame lies in its view and on the canvas, see `PLACE_NUMBERS`."""
    return torch.cat([frame.half.log(), place_on_canvas(frame, geometry)], dim=1)


def touched_edges(places: Tensor, aspect: float) -> Tensor:
    """Which edges of their canvas boxes touch, bool (N, 4): left, top, right, bottom.

    Args:
        places: (N, 5), see `place_of`.
        aspect: Width over height of the canvas.
    """
    share = 2 ** places[:, 4]
    across, down = (places[:, axis].exp() * share * max(1.0, ratio) for axis, ratio in ((0, 1 / aspect), (1, aspect)))
    x, y = places[:, 2], places[:, 3]
    return torch.stack([across - x, down - y, across + x, down + y], dim=1) > EDGE_AT


def _aspect(geometry: Tensor) -> float:
    """Width over height of the canvas that a view's `geometry_channels` (1, 4, R, R) speak of."""
    across, down = (float(line[-1] - line[0]) for line in (geometry[0, 1, 0], geometry[0, 2, :, 0]))
    return down / across
