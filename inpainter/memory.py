"""Appearances remembered: pictures of training objects, recalled by words and shape.

A network that has seen some ten thousand objects draws the mean of what fits: right colours, no burners on the stove,
no face on the boy. A remembered picture has them. It is recalled by likeness of words, shape and proportions, laid into
the mask, and drawn over by the denoiser like any other draft (`inpainter.appearance`); what is finer than the denoiser
can draw is kept from it (`keep_detail`).

Source: ours, after semi-parametric diffusion (Blattmann et al., arXiv 2204.11824) and, for the detail, the wavelet
colour fix of StableSR (Wang et al., arXiv 2305.07015). Letters: N objects, T texts, S = side of a picture, K = mask
cells a side, C = width of a text token.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from inpainter.config import MemoryConfig
from perception.remembering import come_to_mind, laid_end_to_end, nth_file, text_directions, word_logits
from runtime.config import load_config, save_config
from runtime.weights import read_weights, save_weights
from scene.errors import UserError

EDGE_PX = 3.0
SHAPE_FROM = 0.5  # share of a cell from which it counts as filled


@dataclass(frozen=True)
class AppearanceMemory:
    """N remembered objects.

    Attributes:
        config: how like they have to be.
        pictures: uint8 (bytes,), S x S pictures one after the other, WebP.
        starts: int64 (N + 1,), where each begins.
        shapes: uint8 (N, ceil(K * K / 8)), filled cells as bits.
        proportions: (N,), log(width / height).
        text: int16 (N,), rows of `words`.
        words, basis: see `perception.remembering.text_directions`.
    """

    config: MemoryConfig
    pictures: Tensor
    starts: Tensor
    shapes: Tensor
    proportions: Tensor
    text: Tensor
    words: Tensor
    basis: Tensor

    @classmethod
    def of(
        cls,
        config: MemoryConfig,
        pictures: Sequence[np.ndarray],
        shapes: np.ndarray,
        proportions: np.ndarray,
        text: Sequence[int],
        embeddings: Tensor,
    ) -> AppearanceMemory:
        """Remembers objects.

        Args:
            config: sizes and scales.
            pictures: uint8 (S, S, 3) each.
            shapes: float (N, K, K), how full each cell of the box is.
            proportions: (N,), log(width / height).
            text: rows of `embeddings`.
            embeddings: (T, C), not zero.
        """
        coded, starts = laid_end_to_end([_encode(picture, config.quality) for picture in pictures])
        basis, words = text_directions(embeddings, config.text_numbers)
        bits = np.packbits(shapes.reshape(len(shapes), -1) >= SHAPE_FROM, axis=1)
        return cls(
            config,
            coded,
            starts,
            torch.from_numpy(bits),
            torch.from_numpy(np.asarray(proportions, dtype=np.float32)),
            torch.tensor(text, dtype=torch.int16),
            words,
            basis,
        )

    def __len__(self) -> int:
        return len(self.text)

    def logits(self, tokens: Tensor, shape: np.ndarray, proportion: float) -> Tensor:
        """How readily each object comes to mind, as it is (N,) and then mirrored (N,): (2 N,).

        Args:
            tokens: (T, C) of the words, padding zeroed; all zero: any words will do.
            shape: float (K, K), how full each cell of the mask's box is.
            proportion: log(width / height) of the box.
        """
        config, filled = self.config, shape >= SHAPE_FROM
        told = tokens.sum(0)
        by_words = torch.zeros(len(self.words))
        if bool(told.any()):
            by_words = word_logits(self.words, self.basis, told, config.word_scale)
        apart = (self.proportions - proportion) / config.proportion_scale
        known = by_words[self.text.long()] - 0.5 * apart.square()
        cells = np.unpackbits(self.shapes.numpy(), axis=1, count=filled.size).astype(bool)
        either = []
        for seen in (filled, filled[:, ::-1]):
            common = (cells & seen.ravel()).sum(1)
            overlap = common / np.maximum((cells | seen.ravel()).sum(1), 1)
            either.append(known + torch.from_numpy(overlap.astype(np.float32)) / config.shape_scale)
        return torch.cat(either)

    def recall(
        self, tokens: Tensor, shape: np.ndarray, proportion: float, *, chance: float, temperature: float
    ) -> np.ndarray:
        """The picture of an object that comes to mind, uint8 (S, S, 3).

        Args:
            tokens, shape, proportion: as in `logits`.
            chance: uniform in 0 to 1: which one.
            temperature: above 0; 1 is as the scales say, less makes the likest likelier.
        """
        likeness = (self.logits(tokens, shape, proportion).double() / temperature).softmax(0)
        found = int(come_to_mind(likeness, torch.tensor([chance], dtype=torch.float64)))
        mirrored, number = divmod(found, len(self))
        picture = self.picture(number)
        return np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture

    def picture(self, number: int) -> np.ndarray:
        """Picture `number`, uint8 (S, S, 3)."""
        data = io.BytesIO(nth_file(self.pictures, self.starts, number))
        with Image.open(data, formats=["WEBP"]) as image:
            return np.asarray(image.convert("RGB"))

    def save(self, folder: Path) -> None:
        """Writes `memory.yaml` and `memory.safetensors`."""
        names = ("pictures", "starts", "shapes", "proportions", "text", "words", "basis")
        save_weights({name: getattr(self, name) for name in names}, folder / "memory.safetensors")
        save_config(self.config, folder / "memory.yaml")


def load_memory(folder: Path) -> AppearanceMemory | None:
    """Reads what `AppearanceMemory.save` wrote; None where there is none.

    Raises:
        UserError: broken.
    """
    if not (folder / "memory.yaml").is_file():
        return None
    config, state = load_config(MemoryConfig, folder / "memory.yaml"), read_weights(folder / "memory.safetensors")
    try:
        memory = AppearanceMemory(config, **state)
    except TypeError:
        raise UserError(f"{folder / 'memory.safetensors'} is no memory of appearances; train stage memory") from None
    if len(memory.starts) != len(memory.text) + 1 or int(memory.starts[-1]) != len(memory.pictures):
        raise UserError(f"{folder / 'memory.safetensors'} is broken: its parts do not fit; train stage memory again")
    return memory


def keep_detail(
    drawn: np.ndarray, draft: np.ndarray, decoded: np.ndarray, mask: np.ndarray, sigma_px: float
) -> np.ndarray:
    """A draft with what a denoiser changed about it, as far as that is coarser than `sigma_px`.

    What the VAE alone loses is no change, and all is blurred inside the mask only, so nothing round it leaks in. The
    object's colours go on for `EDGE_PX` beyond its mask: enlarged, its edge does not mix with what lies behind.

    Args:
        drawn: uint8 (R, R, 3), the denoiser's drawing.
        draft: uint8 (R, R, 3), what it started from.
        decoded: uint8 (R, R, 3), the draft, encoded and decoded.
        mask: bool (R, R).
        sigma_px: of the Gaussian; 0 returns `drawn`.

    Returns:
        uint8 (R, R, 3); as `drawn` farther outside the mask.
    """
    if sigma_px <= 0 or not mask.any():
        return drawn
    weight = mask.astype(np.float32)
    change = (drawn.astype(np.float32) - decoded) * weight[..., None]
    coarse = ndimage.gaussian_filter(change, (sigma_px, sigma_px, 0))
    coarse /= np.maximum(ndimage.gaussian_filter(weight, sigma_px), 1e-3)[..., None]
    detailed = np.clip(draft + coarse + 0.5, 0, 255).astype(np.uint8)
    away, (rows, columns) = ndimage.distance_transform_edt(~mask, return_indices=True)
    return np.where((away <= EDGE_PX)[..., None], detailed[rows, columns], drawn)


def _encode(picture: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()
