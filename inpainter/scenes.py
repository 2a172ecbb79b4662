"""A whole layered scene: all layers back to front, one layer anew, what an edit makes stale, and the final pass.

Every layer is drawn whole, on the picture of the layers behind it, whatever lies in front. So layers can be moved,
reordered and deleted without drawing anything, and one of them can be drawn again while the others keep every pixel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from inpainter.controlnet_inpaint import ControlNetInpainter, Drawing
from inpainter.effects import ShadowConfig, contact_shadow
from scene.geometry import Box
from scene.layers import Layer, LayeredScene, composite
from scene.seeds import StepSeed

COLOURS = (
    "beige", "black", "blue", "brown", "cream", "gold", "golden", "gray", "green", "grey", "orange", "pink", "purple",
    "red", "silver", "turquoise", "violet", "white", "yellow",
)  # fmt: skip


def render_layers(
    inpainter: ControlNetInpainter, scene: LayeredScene, seeds: Callable[[Layer], StepSeed]
) -> LayeredScene:
    """Layout-first rendering: draws every layer that has no pixels yet, back to front.

    Layers whose windows see nothing of each other go to the model together; the result is that of one by one, to
    the bit.

    Args:
        inpainter: the model.
        scene: layers with masks; those with pixels are kept.
        seeds: the seed of a layer, for example `lambda layer: StepSeed(run_seed, layer.id)`.

    Returns:
        The scene with all pixels.

    Raises:
        ModelError: a mask is empty.
    """
    while True:
        group = independent(scene, inpainter.sees)
        if not group:
            return scene
        drawings = [_drawing(scene, layer, seeds(layer)) for layer in group]
        for layer, rgba in zip(group, inpainter.draw(drawings), strict=True):
            scene = scene.with_changed(replace(layer, rgba=rgba))


def independent(scene: LayeredScene, sees: Callable[[np.ndarray], Box]) -> list[Layer]:
    """The layers without pixels that can be drawn now: none of their windows shows an earlier layer not yet drawn.

    Args:
        scene: the scene so far.
        sees: mask -> box of the canvas that the model looks at.
    """
    waiting: list[Box] = []
    group = []
    for layer in scene.layers:
        if layer.rgba is not None:
            continue
        window, box = sees(layer.mask), layer.box
        if all(window.intersection(other).area == 0 for other in waiting):
            group.append(layer)
        if box is not None:
            waiting.append(box)
    return group


def rerender(
    inpainter: ControlNetInpainter,
    scene: LayeredScene,
    id: int,
    *,
    seed: StepSeed,
    label: str | None = None,
    description: str | None = None,
    colour: str | None = None,
) -> LayeredScene:
    """Draws one layer again, in its mask, on the layers behind it; all others keep their pixels.

    Args:
        inpainter: the model.
        scene: the scene.
        id: layer.
        seed: of the new drawing.
        label, description: new words; None keeps the old ones.
        colour: word that takes the place of the colour in the description.

    Raises:
        KeyError: no such layer.
        ModelError: its mask is empty.
    """
    layer = scene.layers[scene.position(id)]
    layer = replace(
        layer,
        label=layer.label if label is None else label,
        description=layer.description if description is None else description,
    )
    if colour is not None:
        layer = replace(layer, description=in_colour(layer.description or layer.label, layer.label, colour))
    rgba = inpainter.draw([_drawing(scene, layer, seed)])[0]
    return scene.with_changed(replace(layer, rgba=rgba))


def in_colour(description: str, label: str, colour: str) -> str:
    """The description with another colour: in place of the first one named, else before the label, else in front."""
    named = re.compile(r"\b(" + "|".join(COLOURS) + r")\b", re.IGNORECASE)
    if named.search(description):
        return named.sub(colour, description, count=1)
    whole = re.compile(rf"\b{re.escape(label)}\b", re.IGNORECASE)
    if whole.search(description):
        return whole.sub(lambda found: f"{colour} {found.group(0)}", description, count=1)
    return f"{colour} {description}"


def stale(before: LayeredScene, after: LayeredScene, sees: Callable[[np.ndarray], Box]) -> tuple[int, ...]:
    """Layers that an edit makes depend on pixels that are no longer there.

    A layer depends on the picture beneath it inside its window. It is stale when that picture has changed although the
    layer itself has not; whoever wants it to belong to its new surroundings draws it again with `rerender`.

    Args:
        before, after: the scene before and after a move, scaling, deletion, reordering or new drawing.
        sees: mask -> box of the canvas that the model looks at; `ControlNetInpainter.sees`.

    Returns:
        Ids, back to front.
    """
    old = dict(_beneath(before))
    known = {layer.id: layer for layer in before.layers}
    found = []
    for id, picture in _beneath(after):
        layer = after.layers[after.position(id)]
        if id not in known or layer.mask is not known[id].mask or layer.rgba is not known[id].rgba:
            continue
        box = sees(layer.mask).clip(after.size)
        here = (slice(box.y0, box.y1), slice(box.x0, box.x1))
        if not np.array_equal(picture[here], old[id][here]):
            found.append(id)
    return tuple(found)


def with_shadows(scene: LayeredScene, ids: Collection[int], config: ShadowConfig | None = None) -> LayeredScene:
    """The scene with contact shadows as effects of some layers; `LayeredScene.without_effects` takes them off again."""
    layers = (
        replace(layer, effect=contact_shadow(layer.mask, config)) if layer.id in ids else layer
        for layer in scene.layers
    )
    return replace(scene, layers=tuple(layers))


@dataclass(frozen=True, eq=False)
class FinalPass:
    """The picture after the light pass over chosen edges.

    Attributes:
        image: uint8 (H, W, 3); equal to the scene's picture wherever `mask` is False, to the bit.
        mask: bool (H, W), the bands along the chosen layers' visible edges.
    """

    image: np.ndarray
    mask: np.ndarray


def final_pass(
    inpainter: ControlNetInpainter,
    scene: LayeredScene,
    seeds: Mapping[int, StepSeed],
    *,
    band_px: int = 3,
) -> FinalPass:
    """Repaints a narrow band along the edges of some layers with the last step of the sampler; layers stay as they are.

    Args:
        inpainter: the model.
        scene: the finished scene, effects included if they shall be part of it.
        seeds: id of each layer to touch -> seed.
        band_px: the band reaches so far to either side of the visible edge.

    Raises:
        KeyError: no such layer.
    """
    image, touched = scene.image, np.zeros(scene.size.shape, dtype=bool)
    for id, seed in seeds.items():
        layer = scene.layers[scene.position(id)]
        band = edge_band(scene.visible(id), band_px)
        if not band.any():
            continue
        drawing = Drawing(image, band, layer.label, layer.description, seed)
        image = composite(image, inpainter.refine(drawing))
        touched |= band
    return FinalPass(image, touched)


def edge_band(mask: np.ndarray, band_px: int) -> np.ndarray:
    """Bool (H, W): pixels within `band_px` of a mask's edge, on both sides; the canvas edge is no edge."""
    grown = ndimage.binary_dilation(mask, iterations=band_px)
    return np.asarray(grown & ~ndimage.binary_erosion(mask, iterations=band_px, border_value=1))


def _drawing(scene: LayeredScene, layer: Layer, seed: StepSeed) -> Drawing:
    return Drawing(scene.beneath([layer.id]).image, layer.mask, layer.label, layer.description, seed)


def _beneath(scene: LayeredScene) -> Sequence[tuple[int, np.ndarray]]:
    """Of each layer, its id and the picture of all layers behind it."""
    picture = replace(scene, layers=()).image
    found = []
    for layer in scene.layers:
        found.append((layer.id, picture))
        picture = layer.over(picture)
    return found
