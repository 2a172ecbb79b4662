"""Shapes remembered: the codes of training objects, recalled by what an object is called and how it lies.

What a text and a box leave open, a network fills with the mean of everything that fits, or with something between two
of them, and neither is a shape that exists. A remembered code is one. Recalled by likeness of words, proportions, place
and size, it is drawn like any other code: the shape prior fits it to its guide, the denoiser and the refiner to the
scene. The diffusion over codes stays the judge of what is likeliest, and draws alone where a scribble says the shape.

Source: ours, after semi-parametric diffusion (Blattmann et al., arXiv 2204.11824), which has recalled pictures as
conditions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from masker.config import MemoryConfig
from masker.layout_encoder import GuideFrame
from masker.shape_prior import place_on_canvas
from perception.words import text_directions, word_logits

CODE_STEP = 1 / 24  # codes have a deviation of about 1 and are kept in so small steps
PLACE_NUMBERS = 5  # log half-width, log half-height in the view; canvas x, canvas y, log2 of the view's share of it


class ShapeMemory(nn.Module):
    """N remembered objects.

    Args:
        config: How like they have to be.
        objects: N.
        texts: T, how many different texts they have.
        code: numbers in a code, C.
        text_width: Width of a text's pooled embedding, D.
    """

    def __init__(self, config: MemoryConfig, objects: int, texts: int, code: int, text_width: int) -> None:
        super().__init__()
        self.config = config
        self.codes: Tensor
        self.places: Tensor
        self.text: Tensor
        self.words: Tensor
        self.basis: Tensor
        self.register_buffer("codes", torch.zeros(objects, code, dtype=torch.int8))
        self.register_buffer("places", torch.zeros(objects, PLACE_NUMBERS))
        self.register_buffer("text", torch.zeros(objects, dtype=torch.int16))
        width = min(config.text_numbers, texts, text_width)
        self.register_buffer("words", torch.zeros(texts, width))  # of the text's embedding along the basis, unit length
        self.register_buffer("basis", torch.zeros(width, text_width))

    @classmethod
    def of(cls, config: MemoryConfig, codes: Tensor, places: Tensor, text: Tensor, embeddings: Tensor) -> ShapeMemory:
        """Remembers objects: codes (N, C), places (N, 5), rows of `embeddings` int (N,), which is (T, D)."""
        memory = cls(config, len(codes), len(embeddings), codes.shape[1], embeddings.shape[1])
        memory.codes.copy_((codes / CODE_STEP).round().clamp(-127, 127))
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
        """Codes (B, K, C) of objects that come to mind.

        Args:
            embedding, places: As in `likeness`.
            chances: (B, K), uniform in 0 to 1: which ones.
        """
        reached = self.likeness(embedding, places).double().cumsum(1)
        found = torch.searchsorted(reached, chances.double() * reached[:, -1:])
        return self.codes[found.clamp_max(len(self.codes) - 1)].float() * CODE_STEP


def place_of(frame: GuideFrame, geometry: Tensor) -> Tensor:
    """(B, 5): how a guide's frame lies in its view and on the canvas, see `PLACE_NUMBERS`."""
    return torch.cat([frame.half.log(), place_on_canvas(frame, geometry)], dim=1)
