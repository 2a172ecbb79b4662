"""Layers and the layered scene: frozen values, back to front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from scene.errors import UserError
from scene.geometry import Box, Size
from scene.layout import SemanticLayout, f_layer


@dataclass(frozen=True, eq=False)
class Layer:
    """One object of a scene.

    Attributes:
        id: unique within the run, never reused.
        label: category ("boy").
        description: `T_obj`, the words for this object ("a smiling boy kicking").
        mask: amodal mask, bool (H, W), True = the object, hidden parts included.
        rgba: the complete object, uint8 (H, W, 4), or None before it is rendered.
        provenance: seed, guidance, scores and the like, JSON-ready.
        effect: what the object does to the layers behind it (its shadow), uint8 (H, W, 4), painted before the object;
            None = nothing. It is no part of the object: masks and layouts leave it out.
    """

    id: int
    label: str
    description: str
    mask: np.ndarray
    rgba: np.ndarray | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    effect: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.mask.dtype != np.bool_ or self.mask.ndim != 2:
            raise ValueError(f"layer mask is {self.mask.dtype} {self.mask.shape}; need bool (H, W)")
        if self.rgba is not None and (self.rgba.dtype != np.uint8 or self.rgba.shape != (*self.mask.shape, 4)):
            raise ValueError(f"layer rgba is {self.rgba.dtype} {self.rgba.shape}; need uint8 (H, W, 4)")
        if self.effect is not None and (self.effect.dtype != np.uint8 or self.effect.shape != (*self.mask.shape, 4)):
            raise ValueError(f"layer effect is {self.effect.dtype} {self.effect.shape}; need uint8 (H, W, 4)")

    @property
    def box(self) -> Box | None:
        """Tightest box of the amodal mask; None when the mask is empty."""
        return Box.from_mask(self.mask)

    @property
    def opaque(self) -> np.ndarray:
        """Bool (H, W): where nothing behind this layer can be seen."""
        return self.mask if self.rgba is None else self.rgba[..., 3] == 255

    def over(self, image: np.ndarray) -> np.ndarray:
        """The layer, its effect first, over a picture uint8 (H, W, 3)."""
        if self.effect is not None:
            image = composite(image, self.effect)
        return image if self.rgba is None else composite(image, self.rgba)

    def transformed(self, *, move: tuple[int, int] = (0, 0), scale: float = 1.0) -> Layer:
        """The layer moved and scaled, pixels and effect with it; nothing is rendered anew.

        Args:
            move: (dx, dy) canvas pixels, right and down.
            scale: about the middle of the object's lower edge, where it stands.

        Returns:
            A new layer; what leaves the canvas is cut.

        Raises:
            UserError: nothing of it would be left on the canvas, or a scale outside 0.1 to 10.
        """
        box = self.box
        if not 0.1 <= scale <= 10:
            raise UserError(f"scale {scale} is not 0.1 to 10")
        if box is None:
            return self
        matrix = []
        for axis, foot in enumerate(((box.x0 + box.x1) / 2, float(box.y1))):
            row = [0.0, 0.0, foot - (foot + move[axis]) / scale]
            row[axis] = 1 / scale
            matrix += row

        def carried(pixels: np.ndarray, resample: Image.Resampling) -> np.ndarray:
            size = (pixels.shape[1], pixels.shape[0])
            return np.asarray(Image.fromarray(pixels).transform(size, Image.Transform.AFFINE, matrix, resample))

        mask = carried(self.mask.astype(np.uint8) * 255, Image.Resampling.NEAREST) > 0
        if not mask.any():
            raise UserError(f"{self.description or self.label} would leave the canvas; move it less far")
        smooth = Image.Resampling.NEAREST if scale == 1 else Image.Resampling.BICUBIC
        rgba, effect = (None if p is None else carried(p, smooth) for p in (self.rgba, self.effect))
        return replace(self, mask=mask, rgba=None if rgba is None else rgba * mask[..., None], effect=effect)


def composite(image: np.ndarray, rgba: np.ndarray) -> np.ndarray:
    """`rgba` over `image`: out = (a * rgba + (255 - a) * image) / 255, rounded; exact where a is 0 or 255.

    Args:
        image: uint8 (H, W, 3).
        rgba: uint8 (H, W, 4), alpha not premultiplied.

    Returns:
        A new uint8 (H, W, 3).
    """
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed = alpha * rgba[..., :3] + (255 - alpha) * image
    return ((mixed + 127) // 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class LayeredScene:
    """Canvas, prompt and layers back to front.

    Attributes:
        size: of the canvas.
        prompt: global prompt.
        layers: back to front.
        ground: what the canvas shows before any layer, uint8 (H, W, 3): a photograph; None = white.
    """

    size: Size
    prompt: str
    layers: tuple[Layer, ...] = ()
    ground: np.ndarray | None = None

    def position(self, id: int) -> int:
        """Where layer `id` stands, 0 = rearmost.

        Raises:
            KeyError: no such layer.
        """
        for position, layer in enumerate(self.layers):
            if layer.id == id:
                return position
        raise KeyError(f"no layer {id}")

    def find(self, text: str) -> Layer:
        """The layer that a person names by id, label or description.

        Raises:
            UserError: none or several answer to it; the message lists them.
        """
        wanted = " ".join(text.lower().split())
        found = [layer for layer in self.layers if str(layer.id) == wanted]
        found = found or [layer for layer in self.layers if wanted in (layer.label.lower(), layer.description.lower())]
        if len(found) == 1:
            return found[0]
        listed = ", ".join(f"{layer.id} {layer.description}" for layer in found or self.layers)
        if found:
            raise UserError(f"{len(found)} layers answer to {text[:40]!r}; give an id: {listed}")
        raise UserError(f"no layer {text[:40]!r}; there are (id and words): {listed or 'none yet'}")

    def beneath(self, behind: Sequence[int]) -> LayeredScene:
        """The layers under the rearmost of the layers `behind` (ids); the whole scene when that names none."""
        end = min((self.position(id) for id in behind), default=len(self.layers))
        return self if end == len(self.layers) else replace(self, layers=self.layers[:end])

    def with_layer(self, layer: Layer, behind: Sequence[int] = ()) -> LayeredScene:
        """A new scene with `layer` right under the rearmost of the layers `behind` (ids); by default before all."""
        if layer.mask.shape != self.size.shape:
            raise ValueError(f"layer mask is {layer.mask.shape}; the canvas is {self.size.shape}")
        if any(other.id == layer.id for other in self.layers):
            raise ValueError(f"layer id {layer.id} is taken; ids are never reused")
        end = len(self.beneath(behind).layers)
        scene = replace(self, layers=(*self.layers[:end], layer, *self.layers[end:]))
        if end == len(self.layers) and "image" in self.__dict__:
            scene.__dict__["image"] = layer.over(self.image)  # the same bits as all layers anew, whatever their number
        return scene

    def reordered(self, ids: Sequence[int]) -> LayeredScene:
        """The same layers in another order, ids back to front.

        Raises:
            ValueError: `ids` does not name every layer once.
        """
        by_id = {layer.id: layer for layer in self.layers}
        if sorted(ids) != sorted(by_id):
            raise ValueError(f"order {list(ids)} does not name each of the layers {sorted(by_id)} once")
        return replace(self, layers=tuple(by_id[id] for id in ids))

    def without(self, id: int) -> LayeredScene:
        """The scene less one layer.

        Raises:
            KeyError: no such layer.
        """
        position = self.position(id)
        return replace(self, layers=(*self.layers[:position], *self.layers[position + 1 :]))

    def with_changed(self, layer: Layer) -> LayeredScene:
        """The scene with `layer` in the place of the one that has its id.

        Raises:
            KeyError: no such layer.
        """
        position = self.position(layer.id)
        return replace(self, layers=(*self.layers[:position], layer, *self.layers[position + 1 :]))

    def without_effects(self) -> LayeredScene:
        """The same layers, none with an effect on those behind it."""
        return replace(self, layers=tuple(replace(layer, effect=None) for layer in self.layers))

    def visible_masks(self) -> list[np.ndarray]:
        """Of each layer, bool (H, W): its mask less all that nearer layers hide."""
        hidden = np.zeros(self.size.shape, dtype=bool)
        visible = []
        for layer in reversed(self.layers):
            visible.append(layer.mask & ~hidden)
            hidden |= layer.opaque
        return visible[::-1]

    def visible(self, id: int) -> np.ndarray:
        """`visible_masks` of one layer."""
        return self.visible_masks()[self.position(id)]

    @property
    def bare(self) -> np.ndarray:
        """The canvas without layers, a new uint8 (H, W, 3)."""
        if self.ground is not None:
            return self.ground.copy()
        return np.full((*self.size.shape, 3), 255, dtype=np.uint8)

    @cached_property
    def image(self) -> np.ndarray:
        """All rendered layers with their effects over the ground, uint8 (H, W, 3)."""
        image = self.bare
        for layer in self.layers:
            image = layer.over(image)
        return image

    @property
    def effect_mask(self) -> np.ndarray:
        """Bool (H, W): where the picture differs from the one without effects."""
        return np.asarray((self.image != self.without_effects().image).any(axis=2))

    @cached_property
    def layout(self) -> SemanticLayout:
        """`f_layer` of all amodal masks."""
        return f_layer([layer.mask for layer in self.layers], [layer.label for layer in self.layers], self.size)
