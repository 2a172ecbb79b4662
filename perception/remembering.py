"""What memories of training objects share: how alike texts are, what comes to mind, and files kept one after the other.

Texts are kept in few numbers, along the principal directions of their embeddings. Source: ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def text_directions(embeddings: Tensor, numbers: int) -> tuple[Tensor, Tensor]:
    """Embeddings in few numbers.

    Args:
        embeddings: (T, D), one a text.
        numbers: W at most.

    Returns:
        the directions (W, D), W = min(numbers, T, D), and the texts along them, (T, W), of unit length.
    """
    _, _, components = torch.linalg.svd(embeddings, full_matrices=False)
    basis = components[: min(numbers, *embeddings.shape)]
    return basis, F.normalize(embeddings @ basis.T, dim=1)


def word_logits(words: Tensor, basis: Tensor, embedding: Tensor, scale: float) -> Tensor:
    """How readily each text comes to mind, (T,), 0 for the likest.

    Args:
        words, basis: see `text_directions`.
        embedding: of what is asked for, (D,).
        scale: of cosine similarity below that of the likest text.
    """
    alike = words @ F.normalize(basis @ embedding, dim=0)
    return (alike - alike.max()) / scale


def come_to_mind(likeness: Tensor, chances: Tensor) -> Tensor:
    """Which of N objects are recalled, int64 (..., K).

    Args:
        likeness: (..., N), not negative: how readily each comes to mind.
        chances: (..., K), uniform in 0 to 1.
    """
    reached = likeness.double().cumsum(-1)
    found = torch.searchsorted(reached, chances.double() * reached[..., -1:])
    return found.clamp_max(likeness.shape[-1] - 1)


def laid_end_to_end(files: Sequence[bytes]) -> tuple[Tensor, Tensor]:
    """N files as one: their bytes, uint8, and where each begins and the last one ends, int64 (N + 1,)."""
    starts = torch.tensor([0, *(len(data) for data in files)]).cumsum(0)
    return torch.frombuffer(bytearray(b"".join(files)), dtype=torch.uint8), starts


def nth_file(data: Tensor, starts: Tensor, number: int) -> bytes:
    """File `number` of `laid_end_to_end`."""
    return data[int(starts[number]) : int(starts[number + 1])].numpy().tobytes()
