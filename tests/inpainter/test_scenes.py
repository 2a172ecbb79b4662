"""Scenes: whole layers, drawn together or anew one at a time; edits name what they make stale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inpainter.controlnet_inpaint import ControlNetInpainter
from inpainter.effects import ShadowConfig, contact_shadow
from inpainter.scenes import (
    edge_band,
    final_pass,
    in_colour,
    independent,
    render_layers,
    rerender,
    stale,
    with_shadows,
)
from scene.errors import UserError
from scene.geometry import Box
from scene.layers import Layer, LayeredScene
from scene.seeds import StepSeed
from tests.inpainter.conftest import SIZE


def seeds(layer: Layer) -> StepSeed:
    return StepSeed(7, layer.id)


def square(id: int, x: int, y: int, side: int, words: str = "a red ball") -> Layer:
    mask = np.zeros(SIZE.shape, bool)
    mask[y : y + side, x : x + side] = True
    return Layer(id, "ball", words, mask)


@pytest.fixture(scope="module")
def sketch() -> LayeredScene:
    """Two balls far apart and one behind-and-before pair that overlaps."""
    layers = (square(1, 10, 10, 40), square(2, 190, 190, 40), square(3, 100, 100, 50), square(4, 120, 120, 40))
    return LayeredScene(SIZE, "balls", layers)


@pytest.fixture(scope="module")
def drawn(inpainter: ControlNetInpainter, sketch: LayeredScene) -> LayeredScene:
    return render_layers(inpainter, sketch, seeds)


def test_layers_that_see_nothing_of_each_other_are_drawn_together(
    inpainter: ControlNetInpainter, sketch: LayeredScene
) -> None:
    assert [layer.id for layer in independent(sketch, inpainter.sees)] == [1, 2, 3]
    whole = Box(0, 0, *SIZE)
    assert [layer.id for layer in independent(sketch, lambda mask: whole)] == [1]


def test_layout_first_equals_one_by_one(
    inpainter: ControlNetInpainter, sketch: LayeredScene, drawn: LayeredScene
) -> None:
    scene = replace(sketch, layers=())
    for layer in sketch.layers:
        image = inpainter.render(scene.image, layer.mask, layer.label, layer.description, "", seed=seeds(layer))
        rgba = np.concatenate([image, layer.mask[..., None].astype(np.uint8) * 255], axis=2) * layer.mask[..., None]
        scene = scene.with_layer(replace(layer, rgba=rgba.astype(np.uint8)))
    assert np.array_equal(scene.image, drawn.image)


def test_layers_are_complete_objects(inpainter: ControlNetInpainter, sketch: LayeredScene, drawn: LayeredScene) -> None:
    hidden = drawn.layers[2]
    assert hidden.rgba is not None and (hidden.rgba[hidden.mask][:, 3] == 255).all()
    alone = render_layers(inpainter, sketch.without(4), seeds)
    assert np.array_equal(alone.layers[2].rgba, hidden.rgba), "what lies in front must not matter"


def test_drawing_one_layer_again_leaves_the_others(inpainter: ControlNetInpainter, drawn: LayeredScene) -> None:
    again = rerender(inpainter, drawn, 3, seed=StepSeed(8, 3), colour="blue")
    assert again.layers[2].description == "a blue ball"
    assert not np.array_equal(again.layers[2].rgba, drawn.layers[2].rgba)
    assert all(again.layers[k] is drawn.layers[k] for k in (0, 1, 3))
    visible = drawn.visible(3)
    assert np.array_equal(again.image[~visible], drawn.image[~visible])
    same = rerender(inpainter, drawn, 3, seed=seeds(drawn.layers[2]))
    assert np.array_equal(same.image, drawn.image)
    assert stale(drawn, again, inpainter.sees) == (4,)


def test_colour_takes_the_place_of_the_old_one() -> None:
    assert in_colour("a tall Black speaker", "speaker", "red") == "a tall red speaker"
    assert in_colour("a wide sofa", "sofa", "green") == "a wide green sofa"
    assert in_colour("something tall", "lamp", "green") == "green something tall"


def test_moving_recomposites_and_names_what_depends_on_it(inpainter: ControlNetInpainter, drawn: LayeredScene) -> None:
    far = drawn.with_changed(drawn.layers[0].transformed(move=(20, 0)))
    assert stale(drawn, far, inpainter.sees) == ()
    moved = drawn.layers[2].transformed(move=(60, 60))
    near = drawn.with_changed(moved)
    assert stale(drawn, near, inpainter.sees) == (4,)
    assert moved.box == Box(160, 160, 210, 210)
    assert drawn.layers[2].rgba is not None and moved.rgba is not None
    assert np.array_equal(moved.rgba[160:210, 160:210], drawn.layers[2].rgba[100:150, 100:150])
    assert stale(drawn, drawn.without(3), inpainter.sees) == (4,)
    assert stale(drawn, drawn.reordered([1, 2, 4, 3]), inpainter.sees) == (4, 3)
    with pytest.raises(UserError, match="would leave the canvas"):
        drawn.layers[0].transformed(move=(0, -200))


def test_scaling_keeps_the_feet_where_they_are(drawn: LayeredScene) -> None:
    twice = drawn.layers[2].transformed(scale=2.0)
    assert twice.box is not None and abs(twice.box.y1 - 150) <= 1 and abs(twice.box.center[0] - 125) <= 1
    assert abs(twice.box.width - 100) <= 1 and abs(twice.box.height - 100) <= 1
    assert twice.rgba is not None and not twice.rgba[~twice.mask].any()
    with pytest.raises(UserError, match="scale"):
        drawn.layers[2].transformed(scale=0.0)


def test_shadows_lie_outside_the_object_and_can_be_switched_off(drawn: LayeredScene) -> None:
    shaded = with_shadows(drawn, [2])
    effect = shaded.layers[1].effect
    assert effect is not None and not effect[drawn.layers[1].mask].any()
    assert effect[230:240, 190:230, 3].max() > 50 and not effect[:190, :, 3].any(), "under the object, not above it"
    assert shaded.effect_mask.any() and not drawn.effect_mask.any()
    assert np.array_equal(shaded.image[~shaded.effect_mask], drawn.image[~shaded.effect_mask])
    assert (shaded.image <= drawn.image).all()
    assert np.array_equal(shaded.without_effects().image, drawn.image)
    assert not contact_shadow(drawn.layers[1].mask, ShadowConfig(strength=0)).any()


def test_objects_cut_off_below_have_no_shadow_and_each_leg_has_one() -> None:
    below, table = np.zeros(SIZE.shape, bool), np.zeros(SIZE.shape, bool)
    below[200:, 50:90] = True
    assert not contact_shadow(below).any()
    table[100:110, 50:150] = table[110:160, 50:60] = table[110:150, 140:150] = True
    alpha = contact_shadow(table)[..., 3]
    assert alpha[162, 55] > 50 and alpha[152, 145] > 50 and alpha[152, 100] < alpha[152, 145] / 2


def test_final_pass_touches_only_the_bands(inpainter: ControlNetInpainter, drawn: LayeredScene) -> None:
    result = final_pass(inpainter, drawn, {3: StepSeed(7, 3)}, band_px=2)
    assert np.array_equal(result.mask, edge_band(drawn.visible(3), 2))
    assert np.array_equal(result.image[~result.mask], drawn.image[~result.mask])
    assert not np.array_equal(result.image, drawn.image)
    assert not result.mask[110, 110] and result.mask[100, 110] and result.mask[98, 110]
    untouched = final_pass(inpainter, drawn, {})
    assert np.array_equal(untouched.image, drawn.image) and not untouched.mask.any()
