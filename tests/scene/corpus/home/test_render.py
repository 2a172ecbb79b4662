"""Rendering: whole silhouettes, exact visible parts, depth order, shadows, glass; made-up cubes and real models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from toy_library import cube, library, model, png

from scene.corpus.dependencies import FURNITURE, DataDeps
from scene.corpus.home.catalog import Catalog, CatalogModel
from scene.corpus.home.meshes import MeshCache
from scene.corpus.home.plan import Camera, Material, Placed, ScenePlan, Surface
from scene.corpus.home.render import RenderedLayer, RenderedScene, depth_order, render
from scene.corpus.home.tracing import Coverage, Fragments, Instance
from scene.corpus.home.view import View
from scene.errors import UserError
from scene.geometry import Box, Size

pytest.importorskip("embreex", reason="needs embreex: pip install 'smartscene[data]'")
SIZE = Size(256, 256)
CAMERA = Camera((0.0, -5.0, 1.6), (0.0, 0.0, 0.6), 45.0)
FLOOR = Surface(
    "floor", "a white floor", Material("paint", ((235, 235, 235),)), (((-9, -9, 0), (9, -9, 0), (9, 3, 0), (-9, 3, 0)),)
)
WALL = Surface(
    "wall", "a white wall", Material("paint", ((235, 235, 235),)), (((-9, 3, 0), (9, 3, 0), (9, 3, 4), (-9, 3, 4)),)
)
SKY = Surface("sky", "blue sky", Material("sky", ((110, 160, 220), (210, 230, 245))))


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, CatalogModel], MeshCache]:
    """A cube, a glass cube, one with a picture half cut out, and a flat board; one metre each."""
    holes = np.full((32, 32, 4), (200, 60, 60, 255), np.uint8)
    holes[:, :16, 3] = 0
    path = library(
        tmp_path_factory.mktemp("toys") / "toys.sh3f",
        {"cube": cube(), "glass": cube("glass"), "holes": cube("picture", uvs=True), "board": cube()},
        {"holes/picture.png": png(holes)},
    )
    sizes = {"board": (2.4, 0.3, 0.05)}
    return {
        name: model(path, name, sizes.get(name, (1, 1, 1))) for name in ("cube", "glass", "holes", "board")
    }, MeshCache()


def _put(name: str, x: float, y: float, z: float = 0.0, **more: object) -> Placed:
    return Placed(name, name, f"a {name}", (x, y, z), **{"yaw_deg": 0.0, **more})  # type: ignore[arg-type]


def _plan(*objects: Placed, surfaces: tuple[Surface, ...] = (FLOOR, WALL), **more: object) -> ScenePlan:
    return ScenePlan("plan", "test", "train", CAMERA, surfaces, objects, **more)  # type: ignore[arg-type]


def _objects(scene: RenderedScene) -> dict[int, RenderedLayer]:
    return {layer.index: layer for layer in scene.layers if layer.kind == "object"}


def _whole(layer: RenderedLayer, mask: np.ndarray | None = None) -> np.ndarray:
    canvas = np.zeros(SIZE.shape, bool)
    canvas[layer.picture.window] = layer.mask if mask is None else mask
    return canvas


def test_a_mask_is_the_projection_of_the_shape(toys) -> None:
    from scipy.spatial import ConvexHull, Delaunay

    placed = _put("cube", 0.3, 0.2, yaw_deg=25.0, scale=0.8)
    scene = render(_plan(placed), *toys, SIZE)
    view = View.of(CAMERA, SIZE)
    corners = view.project(Instance(toys[1].get(toys[0]["cube"]), placed).corners)[:, :2]
    hull = Delaunay(corners[ConvexHull(corners).vertices])
    x, y = np.meshgrid(np.arange(256) + 0.5, np.arange(256) + 0.5)
    expected = hull.find_simplex(np.stack([x, y], -1)) >= 0
    found = _whole(_objects(scene)[0])
    assert (found & expected).sum() / (found | expected).sum() > 0.985
    layer = _objects(scene)[0]
    assert layer.size_m == pytest.approx((0.8, 0.8, 0.8))
    assert layer.depth_m == pytest.approx(np.dot((0.3, 0.2, 0.4) - view.position, view.forward), abs=0.4)


def test_objects_are_whole_whatever_stands_before_them(toys) -> None:
    back, front = _put("cube", 0.0, 1.0), _put("cube", 0.4, -1.0, yaw_deg=30.0)
    alone, both = (render(_plan(*objects), *toys, SIZE) for objects in ((back,), (back, front)))
    assert np.array_equal(_whole(_objects(alone)[0]), _whole(_objects(both)[0]))
    assert [layer.index for layer in both.layers if layer.kind == "object"] == [0, 1]
    hidden = _objects(both)[0]
    assert 0.1 < hidden.visible_frac < 0.9 and _objects(both)[1].visible_frac == 1.0


def test_visible_is_the_mask_minus_everything_nearer(toys) -> None:
    objects = [_put("cube", x, y, yaw_deg=20 * y) for x, y in ((-0.5, 1.5), (0.2, 0.3), (0.6, -1.0), (-0.6, -1.2))]
    scene = render(_plan(*objects, surfaces=(SKY, FLOOR)), *toys, SIZE)
    nearer = np.zeros(SIZE.shape, bool)
    for layer in reversed(scene.layers):
        assert np.array_equal(_whole(layer, layer.visible), _whole(layer) & ~nearer)
        nearer |= _whole(layer)
        box = layer.box
        assert _whole(layer)[box.y0 : box.y1, box.x0 : box.x1].sum() == layer.mask.sum()
    assert nearer.all() and scene.order_conflict == 0 and scene.uncovered_frac == 0


def test_the_layers_make_the_picture(toys) -> None:
    scene = render(_plan(_put("cube", 0, 1), _put("holes", 0.3, -1), _put("glass", -0.6, -0.5)), *toys, SIZE)
    canvas = np.full((*SIZE.shape, 3), 255.0)
    for layer in scene.layers:
        for crop in (layer.effect, layer.picture):
            if crop is not None:
                alpha = crop.rgba[..., 3:] / 255
                canvas[crop.window] = canvas[crop.window] * (1 - alpha) + alpha * crop.rgba[..., :3]
    assert np.abs(canvas - scene.image).max() <= 1


def test_the_same_plan_gives_the_same_bytes_whatever_came_before(toys) -> None:
    plan = _plan(_put("cube", 0, 0.5), _put("holes", 0.5, -1), light=(0.6, -0.4, 0.7))
    first = render(plan, *toys, SIZE)
    render(_plan(_put("glass", 0, 0)), *toys, SIZE)
    again = render(plan, toys[0], MeshCache(), SIZE)
    assert np.array_equal(first.image, again.image)
    for a, b in zip(first.layers, again.layers, strict=True):
        assert np.array_equal(a.picture.rgba, b.picture.rgba) and np.array_equal(a.visible, b.visible)


def test_a_shadow_falls_away_from_the_light_and_touches_its_object(toys) -> None:
    for side in (-1.0, 1.0):
        scene = render(_plan(_put("cube", 0, 0), light=(side, -0.2, 0.8)), *toys, SIZE)
        layer = _objects(scene)[0]
        assert layer.effect is not None
        dark = np.zeros(SIZE.shape)
        dark[layer.effect.window] = layer.effect.rgba[..., 3]
        box, row = layer.box, layer.box.y1 - 12
        near, far = (
            dark[row - 4 : row + 4, box.x0 - 30 : box.x0 - 2],
            dark[row - 4 : row + 4, box.x1 + 2 : box.x1 + 30],
        )
        lit, shaded = (near, far) if side < 0 else (far, near)
        assert shaded.max() > 60 and shaded.mean() > 3 * lit.mean()
        assert dark[:20].max() == 0  # nothing far up on the wall
    assert layer.effect.rgba[..., :3].max() == 0


def test_the_sky_takes_no_shadow(toys) -> None:
    scene = render(_plan(_put("cube", 0, 0, 1.2, support="ceiling"), surfaces=(SKY,)), *toys, SIZE)
    assert _objects(scene)[0].effect is None and scene.uncovered_frac == 0


def test_glass_belongs_to_the_mask_and_lets_see_through(toys) -> None:
    layer = _objects(render(_plan(_put("glass", 0, 0)), *toys, SIZE))[0]
    inner = layer.picture.rgba[20:-20, 20:-20, 3]
    assert layer.mask[20:-20, 20:-20].all() and inner.max() < 250


def test_holes_of_a_texture_do_not_belong_to_the_mask(toys) -> None:
    whole, open_ = (_objects(render(_plan(_put(name, 0, 0)), *toys, SIZE))[0].mask.sum() for name in ("cube", "holes"))
    assert 0.4 < open_ / whole < 0.95  # a back wall shows through some of the holes


def test_a_tint_recolours_the_main_material(toys) -> None:
    plain, blue = (
        _objects(render(_plan(_put("cube", 0, 0, tint=tint)), *toys, SIZE))[0].picture.rgba[40:60, 40:60].mean((0, 1))
        for tint in (None, (30, 60, 220))
    )
    assert plain[0] > plain[2] and blue[2] > 2 * blue[0]


def test_what_cannot_be_ordered_is_reported(toys) -> None:
    crossed = render(_plan(_put("board", 0, 0, 0.5), _put("board", 0, 0, 0.5, yaw_deg=80.0)), *toys, SIZE)
    assert crossed.order_conflict > 0
    assert max(layer.conflict_frac for layer in crossed.layers) > 0.05
    sunk = render(_plan(_put("cube", 0, 0, -0.5)), *toys, SIZE)
    assert _objects(sunk)[0].conflict_frac > 0.2
    fine = render(_plan(_put("cube", -0.8, 0), _put("cube", 0.8, 0)), *toys, SIZE)
    assert fine.order_conflict == 0 and all(layer.conflict_frac == 0 for layer in fine.layers)


def _seen(*spans: tuple[int, int, float]) -> Coverage:
    """An object that covers pixels a to b of one row of twenty at some depths."""
    depth = np.full((1, 20), np.inf, np.float32)
    for start, stop, metres in spans:
        depth[0, start:stop] = metres
    seen, none = np.isfinite(depth), np.zeros(20)
    fragments = Fragments(none, none, none, none, depth[0], none)
    return Coverage(Box(0, 0, 20, 1), fragments, seen.astype(np.float32), np.where(seen, np.arange(20), -1))


def test_the_order_follows_the_overlaps_not_the_mean_depth() -> None:
    wall_picture, low_rug = _seen((0, 10, 5.0)), _seen((0, 2, 4.0), (10, 20, 9.0))  # the rug is farther on the whole
    assert depth_order({0: low_rug, 1: wall_picture}) == [1, 0]
    assert depth_order({0: _seen((0, 5, 3.0)), 1: _seen((8, 12, 7.0))}) == [1, 0]  # nothing overlaps


def test_a_ring_is_broken_where_fewest_pixels_speak() -> None:
    ring = {
        0: _seen((0, 8, 5.0), (8, 10, 4.0)),
        1: _seen((0, 8, 4.0), (10, 16, 5.0)),
        2: _seen((10, 16, 4.0), (8, 10, 5.0)),
    }
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        assert depth_order({index: ring[index] for index in order}) == [0, 1, 2]


def test_what_is_off_the_canvas_has_no_layer(toys) -> None:
    scene = render(_plan(_put("cube", 40, 0), _put("cube", 0, 0), _put("cube", 0, -9)), *toys, SIZE)
    assert scene.unseen == (0, 2) and list(_objects(scene)) == [1]


def test_neighbouring_walls_leave_no_seam(toys) -> None:
    """A wall in two pieces looks like one, in its pattern and in the shade of its corners."""
    wall = replace(WALL, material=Material("concrete", ((190, 190, 190), (90, 90, 90)), 1.0))
    halves = tuple(((a, 3, 0), (b, 3, 0), (b, 3, 4), (a, 3, 4)) for a, b in ((-9, 0.013), (0.013, 9)))
    one, two = (
        render(_plan(surfaces=(SKY, FLOOR, replace(wall, quads=quads))), *toys, SIZE).image.astype(int)
        for quads in (WALL.quads, halves)
    )
    assert np.abs(one - two).max() <= 6


@pytest.mark.parametrize(("target", "fov"), [((0.0, -5.0, 0.0), 45.0), ((0.0, 0.0, 0.6), 179.0)])
def test_an_impossible_camera_is_the_users_mistake(toys, target, fov) -> None:
    plan = replace(_plan(), camera=Camera((0.0, -5.0, 1.6), target, fov))
    with pytest.raises(UserError, match="it must look sideways"):
        render(plan, *toys, SIZE)


def test_without_embreex_the_remedy_is_named(toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embreex.mesh_construction", None)
    with pytest.raises(UserError, match=r"pip install 'smartscene\[data\]'"):
        render(_plan(_put("cube", 0, 0)), toys[0], MeshCache(), SIZE)


def test_a_real_room_looks_like_one(packages_or_skip: Callable[..., DataDeps]) -> None:
    catalog = Catalog.open(packages_or_skip(FURNITURE).furniture)
    plan = _plan(
        _put("Kator Legaz#mid-century-sofa", -0.5, 2.0),
        _put("Blend Swap CC-0#oakTable", 0.3, 0.3),
        _put(
            "Scopia#table_lamp", 0.3, 0.3, catalog["Blend Swap CC-0#oakTable"].size_m[2], support="object", supporter=1
        ),
        _put("Reallusion#female01", -1.3, 0.5, yaw_deg=20.0),
    )
    scene = render(plan, catalog, MeshCache(), SIZE)
    order = [layer.index for layer in scene.layers if layer.kind == "object"]
    assert order.index(0) < order.index(1) < order.index(2) and scene.unseen == ()
    assert scene.order_conflict < 0.002
    for layer in _objects(scene).values():  # neither black nor blown out
        seen = layer.picture.rgba[layer.mask][:, :3]
        assert 20 < seen.mean() < 235 and seen.std() > 8
