"""The icons world: its data hold together, things are to scale, and held-out drawings stay out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scene.corpus.dependencies import ICONS, DataDeps
from scene.corpus.icons.arrange import Arranger, View
from scene.corpus.icons.build import IconSource, contact_shadow, hold_out, open_source, visible_fracs
from scene.corpus.icons.colours import colour_word
from scene.corpus.icons.drawings import Drawing, DrawingStore
from scene.corpus.icons.surfaces import paint_surface, surface_mask
from scene.corpus.icons.world import IconWorld
from scene.errors import UserError
from scene.geometry import Size
from scene.vocabulary import pluralise

ROOT = Path(__file__).resolve().parents[3]
WORLD_FILE = ROOT / "configs" / "worlds" / "icons.yaml"
SIZE = Size(320, 256)


@pytest.fixture(scope="module")
def world() -> IconWorld:
    return IconWorld.load(WORLD_FILE)


@pytest.fixture(scope="module")
def source(packages_or_skip: Callable[..., DataDeps]) -> IconSource:
    """The whole world on a small canvas, or skip."""
    place = packages_or_skip(ICONS, "resvg_py").icons.parent
    return open_source(WORLD_FILE, 1, SIZE, place)


def test_there_are_enough_labels_and_their_words_are_unambiguous(world: IconWorld) -> None:
    assert len(world.labels) >= 400
    forms: Counter[str] = Counter()
    vocabulary = world.vocabulary
    for label in vocabulary.labels:
        words = {label, *vocabulary.synonyms(label)}
        forms.update(words | {vocabulary.plural(label)} - words)
    assert [form for form, count in forms.items() if count > 1] == []
    for label, entry in world.labels.items():
        if label.endswith("s") and not (entry.plural or entry.plural_only or entry.mass):
            raise AssertionError(f"{label}: {pluralise(label)!r} is no plural")


def test_layouts_name_known_surfaces_and_habitats(world: IconWorld) -> None:
    lived_in = {habitat for entry in world.labels.values() for habitat in entry.habitat}
    for layout in world.layouts.values():
        assert {label for label, *_ in layout.surfaces} <= set(world.surfaces)
        assert {zone.habitat for zone in layout.zones} <= lived_in
    assert lived_in == {zone.habitat for layout in world.layouts.values() for zone in layout.zones}


def test_surfaces_cover_every_canvas(world: IconWorld) -> None:
    for layout in world.layouts.values():
        rng, covered = np.random.default_rng(0), np.zeros(SIZE.shape, bool)
        for label, shape, *extent in layout.surfaces:
            mask = surface_mask(shape, tuple(map(float, extent)), 100, SIZE, rng)
            far, near = next(iter(world.surfaces[label].colours.values()))
            picture = paint_surface(mask, far, near)
            assert int((picture.rgba[..., 3] > 0).sum()) == int(mask.sum())
            covered |= mask
        assert covered.all()


def test_a_malformed_world_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not describe the icons world"):
        IconWorld.load(tmp_path / "icons.yaml")
    (tmp_path / "icons.yaml").write_text(WORLD_FILE.read_text())
    (tmp_path / "icons").mkdir()
    (tmp_path / "icons" / "a.yaml").write_text("cat: {kind: animal, habitat: [ground]}")
    with pytest.raises(UserError, match="needs size_m"):
        IconWorld.load(tmp_path / "icons.yaml")
    for name in ("a", "b"):
        (tmp_path / "icons" / f"{name}.yaml").write_text("cat: {kind: animal, habitat: [ground], size_m: 1}")
    with pytest.raises(UserError, match="'cat' stands twice"):
        IconWorld.load(tmp_path / "icons.yaml")


def _families(label: str, count: int) -> list[Drawing]:
    return [Drawing(f"set{k}:{label}", f"artist{k}", (f"set{k}:{label}",)) for k in range(count)]


def test_a_tenth_is_held_out_by_artist_and_only_from_labels_with_four() -> None:
    drawings = {f"thing{k}": _families(f"thing{k}", 6) for k in range(30)} | {"rare": _families("rare", 3)}
    held = hold_out(drawings, 0.1, seed=1)
    together = held["val"] | held["test"]
    assert not held["val"] & held["test"]
    assert abs(len(together) - 18) <= 1
    assert not any("rare" in name for name in together)
    for found in drawings.values():
        assert sum(drawing.id in together for drawing in found) <= len(found) // 2
    assert hold_out(drawings, 0.1, seed=2) != held


def test_things_are_to_scale(world: IconWorld) -> None:
    """size in metres * rows below the horizon / eye height = size in pixels, for all that stands on the ground."""
    drawings = {label: [Drawing(f"a:{label}", "a", ())] for label in world.labels}
    arranger = Arranger(world, drawings, frozenset())
    view, seen = View(Size(640, 512), 180, 1.8), 0
    for seed in range(20):
        for item in arranger.arrange(world.layouts["meadow"], view, np.random.default_rng(seed)):
            size_m = world.labels[item.label].size_m
            if item.grounded and size_m:
                seen += 1
                assert abs(item.longest_px - size_m * (item.foot_px - 180) / 1.8) <= 0.6 * size_m / 1.8 + 1
    assert seen > 50


@pytest.mark.parametrize(
    ("rgb", "word"),
    [((220, 30, 30), "red"), ((30, 90, 200), "blue"), ((60, 170, 70), "green"), ((120, 75, 40), "brown"),
     ((250, 140, 30), "orange"), ((250, 220, 40), "yellow"), ((20, 20, 20), "black"), ((245, 245, 245), "white"),
     ((140, 140, 145), "grey"), ((150, 60, 190), "purple"), ((245, 120, 190), "pink")],
)  # fmt: skip
def test_colours_have_their_names(rgb: tuple[int, int, int], word: str) -> None:
    rgba = np.full((8, 8, 4), 255, np.uint8)
    rgba[..., :3] = rgb
    assert colour_word(rgba) == word
    rgba[:4, :, :3] = (30, 90, 200) if word != "blue" else (220, 30, 30)
    assert colour_word(rgba) is None  # half and half has none


def test_visible_shares() -> None:
    masks = [np.ones((10, 10), bool), np.ones((10, 5), bool), np.ones((2, 2), bool)]
    assert visible_fracs(masks, [(0, 0), (0, 0), (-9, 0)], Size(10, 10)) == [0.5, 1.0, 0.0]


def test_a_contact_shadow_lies_under_the_foot() -> None:
    shadow, dx, dy = contact_shadow(100)
    assert shadow.max() <= 80
    assert dx + shadow.shape[1] / 2 == pytest.approx(50, abs=1)
    assert dy < 0 < dy + shadow.shape[0]


def test_a_broken_set_or_drawing_is_named(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="the extra `data` is not installed")
    with pytest.raises(UserError, match=r"noto\.json is no iconify set"):
        DrawingStore(tmp_path, {"noto": "google"})
    info = {"author": {"name": "G", "url": "u"}, "license": {"spdx": "MIT"}}
    icons = {
        "dot": {"body": '<circle cx="6" cy="8" r="4" fill="red"/>'},
        "void": {"body": "<g/>"},
        "torn": {"body": "<circle"},
    }
    raw = {"info": info, "icons": icons, "aliases": {"spot": {"parent": "dot"}}, "width": 16, "height": 16}
    (tmp_path / "noto.json").write_text(json.dumps(raw))
    store = DrawingStore(tmp_path, {"noto": "google"})
    assert [drawing.id for drawing in store.find(["dot", "spot"], {}, tones=False)] == ["noto:dot"]
    assert store.find(["dot"], {"noto": ()}, tones=False) == ()
    picture = store.render("noto:dot", 40)
    assert max(picture.shape[:2]) == pytest.approx(40, abs=2)
    assert picture[20, 20].tolist() == [255, 0, 0, 255]
    with pytest.raises(UserError, match="is empty"):
        store.render("noto:void", 40)
    with pytest.raises(UserError, match="cannot be drawn"):
        store.render("noto:torn", 40)


def test_every_label_has_drawings_by_two_artists(source: IconSource) -> None:
    for label, entry in source.world.labels.items():
        names = entry.icons or (label.replace(" ", "-"),)
        found = source.store.find(names, entry.only, entry.tones)
        assert len({drawing.family for drawing in found}) >= 2, label


def test_scenes_are_deterministic_and_keep_held_out_drawings_out(source: IconSource) -> None:
    held = source.held_out["val"] | source.held_out["test"]
    assert source.draft(3) == source.draft(3)
    shown = set()
    for number in [*range(8), 8, 18, 28]:
        draft = source.draft(number)
        assert draft.split == ("val" if number % 10 == 8 else "train")
        sources = {layer.asset.source for layer in draft.layers}
        assert not sources & (held if draft.split == "train" else source.held_out["test"])
        shown |= sources & source.held_out["val"]
        assert all(prompt for prompt in draft.prompts)
    assert shown
    credits = source.credits(["noto:cat", "twemoji:cat", "surface:sky"])
    assert [(credit.licence, credit.title) for credit in credits] == [("Apache-2.0", "cat"), ("CC-BY-4.0", "cat")]
