"""Layers and the layered scene: frozen values, back to front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

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
    """

    id: int
    label: str
    description: str
    mask: np.ndarray
    rgba: np.ndarray | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mask.dtype != np.bool_ or self.mask.ndim != 2:
            raise ValueError(f"layer mask is {self.mask.dtype} {self.mask.shape}; need bool (H, W)")
        if self.rgba is not None and (self.rgba.dtype != np.uint8 or self.rgba.shape != (*self.mask.shape, 4)):
            raise ValueError(f"layer rgba is {self.rgba.dtype} {self.rgba.shape}; need uint8 (H, W, 4)")

    @property
    def box(self) -> Box | None:
        """Tightest box of the amodal mask; None when the mask is empty."""
        return Box.from_mask(self.mask)


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
    """Canvas, prompt and layers back to front. The canvas starts white."""

    size: Size
    prompt: str
    layers: tuple[Layer, ...] = ()

    def with_layer(self, layer: Layer) -> LayeredScene:
        """A new scene with `layer` in front of all others."""
        if layer.mask.shape != self.size.shape:
            raise ValueError(f"layer mask is {layer.mask.shape}; the canvas is {self.size.shape}")
        if any(other.id == layer.id for other in self.layers):
            raise ValueError(f"layer id {layer.id} is taken; ids are never reused")
        return replace(self, layers=(*self.layers, layer))

    @cached_property
    def image(self) -> np.ndarray:
        """All rendered layers over white, uint8 (H, W, 3)."""
        image = np.full((*self.size.shape, 3), 255, dtype=np.uint8)
        for layer in self.layers:
            if layer.rgba is not None:
                image = composite(image, layer.rgba)
        return image

    @cached_property
    def layout(self) -> SemanticLayout:
        """`f_layer` of all amodal masks."""
        return f_layer([layer.mask for layer in self.layers], [layer.label for layer in self.layers], self.size)
