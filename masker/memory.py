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

import numpy as np
import torch
from torch import Tensor, nn

from masker.config import MemoryConfig
from masker.layout_encoder import GuideFrame
from masker.shape_prior import place_on_canvas
from perception.remembering import come_to_mind, laid_end_to_end, nth_file, text_directions, word_logits

PLACE_NUMBERS = 5  # log half-width, log half-height in the view; canvas x, canvas y, log2 of the view's share of it
CENTER_OF = 40  # remembered objects
RAW_DEFLATE = -15  # zlib without header and checksum


class ShapeMemory(nn.Module):
    """N remembered objects.

    Args:
        config: How like they have to be, and S, the side of a silhouette.
        objects: N.
        size: Bytes of all silhouettes.
        texts: T, how many different texts they have.
        text_width: Width of a text's pooled embedding, D.
    """

    def __init__(self, config: MemoryConfig, objects: int, size: int, texts: int, text_width: int) -> None:
        super().__init__()
        self.config = config
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
        cls, config: MemoryConfig, shapes: Sequence[np.ndarray], places: Tensor, text: Tensor, embeddings: Tensor
    ) -> ShapeMemory:
        """Remembers objects.

        Args:
            config: Sizes and scales.
            shapes: Bool (S, S) each, the mask in its box.
            places: (N, 5), see `place_of`.
            text: Rows of `embeddings`, int (N,).
            embeddings: (T, D).
        """
        packed, starts = laid_end_to_end([_packed(shape) for shape in shapes])
        memory = cls(config, len(shapes), len(packed), len(embeddings), embeddings.shape[1])
        memory.shapes.copy_(packed)
        memory.starts.copy_(starts)
        memory.places.copy_(places)
        memory.text.copy_(text)
        basis, words = text_directions(embeddings, config.text_numbers)
        memory.basis.copy_(basis)
        memory.words.copy_(words)
        return memory

    def likeness(self, embedding: Tensor, places: Tensor) -> Tensor:
        """How readily each object comes to mind, (B, N), rows summing to 1.

        Args:
            embedding: Pooled embedding of T_obj, (D,).
            places: (B, 5), see `place_of`.
        """
        config = self.config
        logits = word_logits(self.words, self.basis, embedding, config.word_scale)[self.text.long()]
        apart = places[:, None] - self.places[None]
        stretched = (apart[..., 0] - apart[..., 1]) / config.proportion_scale
        moved = apart[..., 2:4].square().sum(2) / config.place_scale**2
        scaled = (apart[..., 4] / config.size_scale).square()
        return (logits - 0.5 * (stretched.square() + moved + scaled)).softmax(1)

    @torch.no_grad()
    def recall(self, embedding: Tensor, places: Tensor, chances: Tensor) -> Tensor:
        """Silhouettes of objects that come to mind, their masks in their boxes, 0 or 1, (B, K, S, S).

        Args:
            embedding, places: As in `likeness`.
            chances: (B, K), uniform in 0 to 1: which ones.
        """
        found = come_to_mind(self.likeness(embedding, places), chances)
        rows = [[self.shape(int(n)) for n in row] for row in found]
        return torch.from_numpy(np.asarray(rows, dtype=np.float32))

    @torch.no_grad()
    def center(self, embedding: Tensor, place: Tensor) -> tuple[float, float]:
        """Where in its box such an object has its centre of mass, x and y, 0 to 1: the mean of what comes to mind.

        Args:
            embedding: As in `likeness`.
            place: (1, 5).
        """
        chances, numbers = self.likeness(embedding, place)[0].topk(min(CENTER_OF, len(self.places)))
        steps = (np.arange(self.config.side) + 0.5) / self.config.side
        centers = []
        for number in numbers.tolist():
            shape = self.shape(number)
            centers.append([float(shape.sum(axis) @ steps) / max(int(shape.sum()), 1) for axis in (0, 1)])
        x, y = (chances / chances.sum()).double() @ torch.tensor(centers, dtype=torch.float64)
        return float(x), float(y)

    def shape(self, number: int) -> np.ndarray:
        """Silhouette `number`, bool (S, S)."""
        return _unpacked(nth_file(self.shapes, self.starts, number), self.config.side)


def _packed(shape: np.ndarray) -> bytes:
    """Every row as what changed since the one above, as bits, deflated: about 190 bytes of 96 x 96 cells."""
    changed = shape.copy()
    changed[1:] ^= shape[:-1]
    coder = zlib.compressobj(9, zlib.DEFLATED, RAW_DEFLATE)
    return coder.compress(np.packbits(changed).tobytes()) + coder.flush()


def _unpacked(data: bytes, side: int) -> np.ndarray:
    bits = np.frombuffer(zlib.decompress(data, RAW_DEFLATE), dtype=np.uint8)
    changed = np.unpackbits(bits, count=side * side).reshape(side, side)
    return np.logical_xor.accumulate(changed.astype(bool), axis=0)


def place_of(frame: GuideFrame, geometry: Tensor) -> Tensor:
    """(B, 5): how a guide's frame lies in its view and on the canvas, see `PLACE_NUMBERS`."""
    return torch.cat([frame.half.log(), place_on_canvas(frame, geometry)], dim=1)
