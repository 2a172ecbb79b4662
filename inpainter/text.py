"""Text tokens for the U-Net's cross-attention, from the shared text encoder."""

from __future__ import annotations

from torch import Tensor

from perception.text import TextEncoder


class TextTokens:
    """Text -> (T, C) float32 tokens; padding is zero, and so is the whole of an empty text.

    No attention mask reaches the U-Net inside the diffusers pipeline, hence the zeros: a zero token has a zero value,
    so all it does to the attention is to share a known part of the weight.

    Args:
        max_tokens: T.
        encoder: the shared encoder; None loads it on first use.
    """

    def __init__(self, max_tokens: int, encoder: TextEncoder | None = None) -> None:
        self.max_tokens, self._encoder = max_tokens, encoder

    def __call__(self, text: str) -> Tensor:
        """Tokens of one text; each is encoded alone, so they depend on no other text."""
        if self._encoder is None:
            self._encoder = TextEncoder.load()
        return self._encoder.encode(text.lower(), self.max_tokens).tokens
