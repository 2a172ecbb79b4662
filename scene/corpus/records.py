"""The one record type of every corpus: layers back to front, prompts, and dialogue turns where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

Split = Literal["train", "val", "test"]
SPLITS: tuple[str, ...] = ("train", "val", "test", "all")


class AssetInfo(NamedTuple):
    """One stored picture of an object; one line of `assets.jsonl`.

    Attributes:
        label: category.
        description: `T_obj`.
        source: which drawing or model it shows, scale and mirroring left out ("hb0_11s"); groups equal silhouettes.
        encoding: how the picture is stored, see `scene.corpus.assets`.
        height, width: pixels.
        offset: first byte in `assets.bin`; the packed mask comes first, the picture after it.
        mask_bytes: length of the packed mask; 0 = the mask is read off the picture's alpha.
        picture_bytes: length of the picture.
    """

    label: str
    description: str
    source: str
    encoding: str
    height: int
    width: int
    offset: int
    mask_bytes: int
    picture_bytes: int


class Placement(NamedTuple):
    """An asset's number and the canvas pixel of its top-left corner, which may lie off the canvas."""

    asset: int
    x: int
    y: int


class LayerFacts(NamedTuple):
    """What is known of a layer besides its pixels.

    Attributes:
        visible_frac: share of the amodal mask that no nearer layer covers, 0 to 1.
        depth_m: mean distance from the camera in metres; None where the world has no depth.
        size_m: width, depth and height of the real thing in metres; None where unknown.
    """

    visible_frac: float
    depth_m: float | None = None
    size_m: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class LayerRecord:
    """An asset placed on the canvas.

    Attributes:
        label: category.
        description: `T_obj` ("a smiling boy kicking").
        asset: number of the asset in the store.
        x, y: canvas pixel of the asset's top-left corner; may lie off the canvas.
        effect: what the object does to the layers behind it (its shadow), painted before the object itself.
        facts: visible share, depth and real size, where the world knows them.
    """

    label: str
    description: str
    asset: int
    x: int
    y: int
    effect: Placement | None = None
    facts: LayerFacts | None = None


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
        recipe: the kind of scene ("living_room/tv_corner"); empty where the world has none.
    """

    id: str
    group: int
    split: Split
    layers: tuple[LayerRecord, ...]
    prompts: tuple[str, ...]
    _turns: Sequence[Any] = field(default=(), repr=False, compare=False)
    _assets: Sequence[AssetInfo] = field(default=(), repr=False, compare=False)
    recipe: str = ""

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """Dialogue rounds in order; empty where the corpus has none."""
        return tuple(
            Turn(t, d, unpack_layers(before, self._assets), unpack_layers(after, self._assets))
            for t, d, before, after in self._turns
        )


def pack_layers(layers: Sequence[LayerRecord]) -> list[list[Any]]:
    """Compact JSON form; label and description come with the asset.

    [asset, x, y], followed where there are facts or an effect by [effect's asset, x, y] or null, and by
    [visible_frac, depth_m, width_m, depth_m, height_m].
    """
    packed: list[list[Any]] = []
    for layer in layers:
        item: list[Any] = [layer.asset, layer.x, layer.y]
        if layer.effect is not None or layer.facts is not None:
            item.append(layer.effect and list(layer.effect))
        if layer.facts is not None:
            item.append([layer.facts.visible_frac, layer.facts.depth_m, *(layer.facts.size_m or ())])
        packed.append(item)
    return packed


def unpack_layers(
    packed: Sequence[Sequence[Any]], assets: Sequence[AssetInfo] | Mapping[int, AssetInfo]
) -> tuple[LayerRecord, ...]:
    """Inverse of `pack_layers`; `assets` has at least the layers' own, by number."""
    layers = []
    for number, x, y, *more in packed:
        effect = Placement(*more[0]) if more and more[0] else None
        facts = None
        if len(more) > 1:
            visible, depth, *size = more[1]
            facts = LayerFacts(visible, depth, tuple(size) if size else None)
        layers.append(LayerRecord(assets[number].label, assets[number].description, number, x, y, effect, facts))
    return tuple(layers)
