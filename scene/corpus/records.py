"""The one record type of every corpus: layers back to front, prompts, and dialogue turns where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[str, ...] = ("train", "val", "test", "all")


@dataclass(frozen=True)
class AssetInfo:
    """One stored picture of an object.

    Attributes:
        label: category.
        description: `T_obj`.
        source: which drawing or model it shows, scale and mirroring left out ("hb0_11s"); groups equal silhouettes.
        offset: first byte in `assets.bin`.
        height, width: pixels; RGBA follows row by row.
    """

    label: str
    description: str
    source: str
    offset: int
    height: int
    width: int


@dataclass(frozen=True)
class LayerRecord:
    """An asset placed on the canvas.

    Attributes:
        label: category.
        description: `T_obj` ("a smiling boy kicking").
        asset: number of the asset in the store.
        x, y: canvas pixel of the asset's top-left corner; may lie off the canvas.
    """

    label: str
    description: str
    asset: int
    x: int
    y: int


@dataclass(frozen=True)
class Turn:
    """One round of a drawing dialogue.

    Attributes:
        teller, drawer: what each said.
        before, after: the drawer's objects before and after, back to front, background surfaces left out.
    """

    teller: str
    drawer: str
    before: tuple[LayerRecord, ...]
    after: tuple[LayerRecord, ...]


@dataclass(frozen=True)
class SceneRecord:
    """One scene.

    Attributes:
        id: unique in the corpus.
        group: scenes of one group never straddle splits.
        split: train, val or test.
        layers: back to front, background surfaces first.
        prompts: global prompts in several styles, from terse to the words of a human dialogue.
    """

    id: str
    group: int
    split: Split
    layers: tuple[LayerRecord, ...]
    prompts: tuple[str, ...]
    _turns: Sequence[Any] = field(default=(), repr=False, compare=False)
    _assets: Sequence[AssetInfo] = field(default=(), repr=False, compare=False)

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """Dialogue rounds in order; empty where the corpus has none."""
        return tuple(
            Turn(t, d, unpack_layers(before, self._assets), unpack_layers(after, self._assets))
            for t, d, before, after in self._turns
        )


def pack_layers(layers: Sequence[LayerRecord]) -> list[list[int]]:
    """Compact JSON form: [asset, x, y] each; label and description come with the asset."""
    return [[layer.asset, layer.x, layer.y] for layer in layers]


def unpack_layers(packed: Sequence[Sequence[int]], assets: Sequence[AssetInfo]) -> tuple[LayerRecord, ...]:
    """Inverse of `pack_layers`."""
    return tuple(LayerRecord(assets[a].label, assets[a].description, a, x, y) for a, x, y in packed)
