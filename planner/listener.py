"""What a prompt says round an object's name, and where the other things named there show in the picture: "to the left
of the tree is a small ..." tells the place of what follows only to one who sees the tree.

Source: a transformer encoder over words (Vaswani et al., arXiv 1706.03762, norm first); the boxes at names are ours.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from scene.geometry import Box
from scene.layout import label_colour
from scene.vocabulary import Vocabulary

HEARD = 24  # words on either side
SPAN = 2 * HEARD + 1  # with the name itself in the middle
KNOWN_WORDS = 4096
SEEN = 5  # shows, centre across, lower edge, width, height
MIRRORED = {"left": "right", "right": "left"}
_WORD = re.compile(r"[a-z']+")

Said = tuple[tuple[str, ...], tuple[str, ...]]
"""Words before and after a name, nearest last and first; another object's name stands as "<label>"."""


def said_about(text: str, label: str, vocabulary: Vocabulary) -> Said:
    """Up to `HEARD` words before and after the last place where a text names a label; nothing where it does not."""
    lowered = text.lower()
    found = vocabulary.find(lowered)
    named = [mention for mention in found if mention.label == label]
    if not named:
        return (), ()
    at = named[-1]

    def words(start: int, end: int) -> Iterator[str]:
        for other in found:
            if start <= other.start and other.end <= end:
                yield from _WORD.findall(lowered[start : other.start])
                yield f"<{other.label}>"
                start = other.end
        yield from _WORD.findall(lowered[start:end])

    return tuple(words(0, at.start))[-HEARD:], tuple(words(at.end, len(lowered)))[:HEARD]


def mirrored(said: Said) -> Said:
    """The same of what is seen in a mirror."""
    before, after = (tuple(MIRRORED.get(word, word) for word in words) for words in said)
    return before, after


def shown(codes: np.ndarray, label: str) -> np.ndarray:
    """Where a layout picture shows a label, bool (H, W), by its `colour_codes`."""
    return np.asarray(codes == colour_codes(np.asarray(label_colour(label), dtype=np.uint8)))


def colour_codes(picture: np.ndarray) -> np.ndarray:
    """uint8 (..., 3) as one number per pixel, int32 (...)."""
    red, green, blue = (picture[..., channel].astype(np.int32) for channel in range(3))
    return (red << 16) | (green << 8) | blue


def heard(labels: Sequence[str], said: Sequence[Said], codes: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Numbers of words and boxes of names.

    A word's number is its checksum: no list of words is kept.

    Args:
        labels: what each is about; the number of the name itself.
        said: B stretches of words.
        codes: of the layout picture of each, see `colour_codes`.

    Returns:
        int64 (B, SPAN), 0 for the name itself in the middle and where no word stands; float32 (B, SPAN, SEEN), 0 but
        at names that the picture shows: 1, centre across and lower edge from -1 to 1, width and height from 0 to 1.
    """
    numbers = np.zeros((len(said), SPAN), dtype=np.int64)
    seen = np.zeros((len(said), SPAN, SEEN), dtype=np.float32)
    for row, (label, (before, after), seen_by) in enumerate(zip(labels, said, codes, strict=True)):
        numbers[row, HEARD] = _number(f"<{label}>")
        for start, words in ((HEARD - len(before), before), (HEARD + 1, after)):
            for at, word in enumerate(words, start=start):
                numbers[row, at] = _number(word)
                box = Box.from_mask(shown(seen_by, word[1:-1])) if word.startswith("<") else None
                if box is not None:
                    height, width = seen_by.shape
                    across, foot = (box.x0 + box.x1) / width - 1, 2 * box.y1 / height - 1
                    seen[row, at] = 1, across, foot, box.width / width, box.height / height
    return torch.from_numpy(numbers), torch.from_numpy(seen)


def _number(word: str) -> int:
    return 1 + zlib.crc32(word.encode()) % (KNOWN_WORDS - 1)


class Listener(nn.Module):
    """A small transformer encoder over what is said.

    Args:
        width: of the vector that stands for the name.
        hidden, layers, heads: of the encoder.
        dropout: while it learns.
    """

    def __init__(self, width: int, hidden: int, layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.words = nn.Embedding(KNOWN_WORDS, hidden, padding_idx=0)
        self.places = nn.Parameter(torch.zeros(SPAN, hidden))
        for table in (self.words.weight, self.places):
            nn.init.normal_(table, std=0.02)
        self.boxes = nn.Sequential(nn.Linear(SEEN, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.name = nn.Linear(width, hidden)
        layer = nn.TransformerEncoderLayer(
            hidden, heads, 4 * hidden, dropout=dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.tell = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, width))

    def forward(self, name: Tensor, said: Tensor, seen: Tensor) -> Tensor:
        """(B, width) of the name's vector (B, width) and of what `heard` gives."""
        x = self.words(said) + self.boxes(seen) * seen[..., :1]
        middle = torch.zeros(SPAN, 1, device=x.device, dtype=x.dtype)
        middle[HEARD] = 1
        x = x + self.places + middle * self.name(name)[:, None]
        told: Tensor = self.tell(self.encoder(x, src_key_padding_mask=said == 0)[:, HEARD])
        return told
