"""Geometry, layouts, layers, guidance, seeds, relations: properties that must always hold."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scene.errors import UserError
from scene.geometry import Box, Size
from scene.graph import graph_from_json, graph_to_json, scene_graph
from scene.guidance import Guidance, parse_blob
from scene.layers import Layer, LayeredScene, composite
from scene.layout import EMPTY, f_layer, label_colour, layout_picture
from scene.proposal import Proposal
from scene.relations import box_relations, mask_relations
from scene.seeds import StepSeed, derive_seed

SIZE = Size(256, 256)
masks = hnp.arrays(np.bool_, (24, 32))
coordinates = st.integers(-50, 300)


def rectangle(x0: int, y0: int, x1: int, y1: int, size: Size = SIZE) -> np.ndarray:
    mask = np.zeros(size.shape, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


@given(masks)
def test_box_of_a_mask_is_tight(mask: np.ndarray) -> None:
    box = Box.from_mask(mask)
    if box is None:
        assert not mask.any()
    else:
        inside = mask[box.y0 : box.y1, box.x0 : box.x1]
        assert inside.sum() == mask.sum()
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


@given(coordinates, coordinates, coordinates, coordinates, coordinates, coordinates, coordinates, coordinates)
def test_iou_is_symmetric_and_bounded(a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int) -> None:
    one = Box(min(a, c), min(b, d), max(a, c), max(b, d))
    two = Box(min(e, g), min(f, h), max(e, g), max(f, h))
    assert one.iou(two) == two.iou(one)
    assert 0 <= one.iou(two) <= 1
    clipped = one.clip(SIZE)
    assert 0 <= clipped.x0 <= clipped.x1 <= SIZE.width
    assert 0 <= clipped.y0 <= clipped.y1 <= SIZE.height
    if one.area:
        assert one.iou(one) == 1


@pytest.mark.parametrize("text", ["640", "640x", "x512", "640x512x3", "6x4", "1040x512", "641x512", "-640x512", "ax b"])
def test_bad_sizes_name_the_remedy(text: str) -> None:
    with pytest.raises(UserError, match="640x512"):
        Size.parse(text)


def test_good_size() -> None:
    assert Size.parse("640X512") == Size(640, 512)


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "10,10,5,20", "0,0,300,20", "1,2,3,4,5", ""])
def test_bad_boxes(text: str) -> None:
    with pytest.raises(UserError, match="box"):
        Box.parse(text, SIZE)


@given(st.lists(masks, max_size=5))
def test_f_layer_shows_the_last_mask_on_top(stack: list[np.ndarray]) -> None:
    layout = f_layer(stack, [f"thing {i}" for i in range(len(stack))], Size(32, 24))
    for y, x in ((0, 0), (5, 7), (23, 31)):
        covering = [i for i, mask in enumerate(stack) if mask[y, x]]
        assert layout.index[y, x] == (covering[-1] if covering else EMPTY)
    picture = layout_picture(layout)
    assert (picture[layout.index == EMPTY] == 255).all()
    for i in range(len(stack)):
        assert (picture[layout.visible(i)] == label_colour(f"thing {i}")).all()


def test_f_layer_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="one label per mask"):
        f_layer([np.ones((24, 32), bool)], [], Size(32, 24))
    with pytest.raises(ValueError, match="need bool"):
        f_layer([np.ones((24, 32), np.uint8)], ["a"], Size(32, 24))


@given(hnp.arrays(np.uint8, (6, 5, 3)), hnp.arrays(np.uint8, (6, 5, 4)))
def test_composite_is_exact_where_alpha_is_0_or_255(image: np.ndarray, rgba: np.ndarray) -> None:
    kept = image.copy()
    out = composite(image, rgba)
    assert np.array_equal(image, kept)
    clear, solid = rgba[..., 3] == 0, rgba[..., 3] == 255
    assert np.array_equal(out[clear], image[clear])
    assert np.array_equal(out[solid], rgba[solid][:, :3])


def test_layer_ids_are_never_reused() -> None:
    scene = LayeredScene(SIZE, "p").with_layer(Layer(1, "boy", "a boy", rectangle(0, 0, 9, 9)))
    with pytest.raises(ValueError, match="never reused"):
        scene.with_layer(Layer(1, "dog", "a dog", rectangle(0, 0, 9, 9)))
    with pytest.raises(ValueError, match="need uint8"):
        Layer(2, "dog", "a dog", rectangle(0, 0, 9, 9), rgba=np.zeros((4, 4, 4), np.uint8))


def test_guidance_forms() -> None:
    box = Guidance.from_box(Box(-5, 10, 20, 30), SIZE)
    assert box.map.sum() == 20 * 20
    blob = Guidance.from_blob(100, 50, 20, 10, SIZE)
    assert blob.map[50, 100] > 0.99
    assert blob.map[50, 120] == pytest.approx(np.exp(-0.5), abs=0.03)
    for broken in (lambda: Guidance.from_box(Box(300, 0, 400, 9), SIZE), lambda: Guidance.from_blob(1, 1, 0, 5, SIZE)):
        with pytest.raises(UserError):
            broken()
    with pytest.raises(UserError, match="scribble is empty"):
        Guidance.from_scribble(np.zeros((8, 8), bool))


@pytest.mark.parametrize("tightness", [-0.1, 1.1, float("nan"), float("inf")])
def test_tightness_lies_in_0_to_1(tightness: float) -> None:
    with pytest.raises(UserError, match="tightness is"):
        Guidance.from_box(Box(0, 0, 9, 9), SIZE, tightness)


def test_guidance_round_trip() -> None:
    drawn = rectangle(5, 5, 50, 9)
    for guide in (
        Guidance.from_box(Box(3, 4, 50, 60), SIZE, 0.2),
        Guidance.from_blob(100.5, 50, 20, 10, SIZE, 0.4),
        Guidance.from_scribble(drawn, 0.6),
    ):
        again = Guidance.from_json(guide.to_json(), SIZE, drawn if guide.kind == "scribble" else None)
        assert (again.kind, again.tightness, again.blob) == (guide.kind, guide.tightness, guide.blob)
        assert np.array_equal(again.map, guide.map)
    assert Guidance.from_json({"kind": "box", "box": [3, 4, 50, 60], "by": "planner"}, SIZE).tightness == 1.0
    with pytest.raises(ValueError, match="lacks its scribble"):
        Guidance.from_json(Guidance.from_scribble(drawn).to_json(), SIZE)


def test_numbers_with_a_point_up_to_1_are_fractions() -> None:
    assert Box.parse("0,0,0.5,1", Size(640, 512)) == (0, 0, 320, 512)
    assert Box.parse("0,0,1,1", Size(640, 512)) == (0, 0, 1, 1)
    assert parse_blob("0.5,0.25,0.1,0.1", Size(640, 512)) == pytest.approx((320, 128, 64, 51.2))
    assert parse_blob("2.5,3,4,5", Size(640, 512)) == (2.5, 3, 4, 5)


@given(st.lists(st.tuples(masks, st.integers(0, 4)), min_size=1, max_size=5), st.randoms())
def test_order_decides_what_is_seen(stack: list[tuple[np.ndarray, int]], random: Random) -> None:
    scene = LayeredScene(Size(32, 24), "p")
    for id, (mask, depth) in enumerate(stack):
        behind = [scene.layers[depth].id] if depth < len(scene.layers) else []
        rgba = np.dstack([np.full((24, 32, 3), id), mask * 255]).astype(np.uint8)
        beneath = scene.beneath(behind)
        scene = scene.with_layer(Layer(id, "thing", "a thing", mask, rgba), behind)
        assert scene.position(id) == len(beneath.layers) == min(depth, len(scene.layers) - 1)
    ids = [layer.id for layer in scene.layers]
    random.shuffle(ids)
    scene = scene.reordered(ids)
    assert [layer.id for layer in scene.layers] == ids
    for layer, visible in zip(scene.layers, scene.visible_masks(), strict=True):
        assert np.array_equal(visible, (scene.image == layer.id).all(axis=2))
        assert np.array_equal(visible, scene.layout.visible(scene.position(layer.id)))
    for wrong in (ids[1:], [*ids, 99], [*ids, ids[0]]):
        with pytest.raises(ValueError, match="once"):
            scene.reordered(wrong)


def test_proposal_round_trip() -> None:
    proposal = Proposal("boy", "a boy kicking", Box(1, 2, 3, 4), notes=("repeat cap",))
    assert Proposal.from_json(proposal.to_json()) == proposal
    assert Proposal.from_json(Proposal(stop=True, reason="done").to_json()).stop
    with pytest.raises(ValueError, match="label and a description"):
        Proposal("boy", "")


def test_seeds_depend_on_every_part_and_nothing_else() -> None:
    seeds = {derive_seed(a, b) for a in range(9) for b in "xyz"}
    assert len(seeds) == 27
    assert derive_seed(1, "2") != derive_seed("1", 2)
    assert derive_seed(1, "2") != derive_seed("12")
    assert StepSeed(7, 3).derive("mask", 0) == StepSeed(7, 3).derive("mask", 0)
    assert StepSeed(7, 3).retry().derive("mask") != StepSeed(7, 3).derive("mask")
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_box_relations_mirror_each_other() -> None:
    left, right = Box(0, 50, 40, 90), Box(60, 50, 100, 90)
    assert set(box_relations(left, right)) == {"left of"}  # the gap is half their width: not next to
    assert "right of" in box_relations(right, left)
    assert "next to" in box_relations(left, Box(45, 50, 85, 90))
    assert "above" in box_relations(Box(0, 0, 40, 40), left)


def test_mask_relations() -> None:
    ground, ball = rectangle(0, 128, 256, 256), rectangle(100, 150, 140, 190)
    assert set(mask_relations(ball, ground, True)) == {"overlaps", "in front of", "inside", "on"}
    assert mask_relations(ground, ball, False) == ["overlaps"]
    sky = rectangle(0, 0, 256, 256)
    assert "on" not in mask_relations(ball, sky, True)
    assert mask_relations(ball, rectangle(0, 0, 10, 10), True) == []


def test_scene_graph_round_trip() -> None:
    scene = LayeredScene(SIZE, "p")
    for i, (label, box) in enumerate(
        [("grass", (0, 128, 256, 256)), ("cat", (10, 150, 40, 190)), ("dog", (60, 150, 90, 190))]
    ):
        scene = scene.with_layer(Layer(i + 1, label, f"a {label}", rectangle(*box)))
    graph = scene_graph(scene)
    assert graph.has_edge(2, 3, key="left of")
    assert graph.has_edge(3, 2, key="right of")
    assert graph.has_edge(2, 1, key="on")
    assert not graph.has_edge(2, 1, key="left of")  # surfaces have no sides
    again = graph_from_json(graph_to_json(graph))
    assert set(again.edges(keys=True)) == set(graph.edges(keys=True))


def test_a_picture_that_grew_layer_by_layer_is_the_one_made_anew() -> None:
    rng = np.random.default_rng(5)
    grown = LayeredScene(SIZE, "p")
    for id in range(1, 7):
        x, y = rng.integers(0, 150, 2)
        mask = rectangle(x, y, x + 90, y + 60)
        rgba = rng.integers(0, 256, (*SIZE.shape, 4), dtype=np.uint8) * mask[..., None]
        effect = rng.integers(0, 256, (*SIZE.shape, 4), dtype=np.uint8) if id == 3 else None
        behind = (2,) if id == 5 else ()
        before = grown.image.copy()
        scene = grown.with_layer(Layer(id, "thing", "a thing", mask, None if id == 4 else rgba, effect=effect), behind)
        assert np.array_equal(scene.image, LayeredScene(SIZE, "p", scene.layers).image)
        assert np.array_equal(grown.image, before)
        grown = scene
    assert grown.beneath(()) is grown
