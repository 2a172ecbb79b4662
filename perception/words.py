"""How alike texts are, for memories of training objects: few numbers a text, cosine similarity.

Source: principal directions of text embeddings; ours.
"""

from __future__ import annotations

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
