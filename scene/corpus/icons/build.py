"""The icons world as a `SceneSource`: from a scene number to encoded layers, prompts and plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from scene.corpus.assets import MASK_ALPHA, EncodedAsset, encode_asset
from scene.corpus.attribution import Credit
from scene.corpus.build import Draft, DraftLayer, SceneSource, Skipped
from scene.corpus.dependencies import ICONS, find_dependencies
from scene.corpus.icons.arrange import Arranger, Standing, View, pull_in
from scene.corpus.icons.colours import colour_word
from scene.corpus.icons.drawings import SKIN_TONES, Drawing, DrawingStore, spellings
from scene.corpus.icons.surfaces import paint_surface, surface_mask
from scene.corpus.icons.world import IconWorld, Layout
from scene.corpus.language import global_prompts
from scene.corpus.records import LayerFacts, LayerRecord
from scene.errors import UserError
from scene.geometry import DEFAULT_SIZE, Box, Size
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary

SHADOW_ALPHA = 70
SHADOW_ROUND = 0.16  # height of a contact shadow, share of its width
SPLIT_OF_TENTH = {8: "val", 9: "test"}
ATTEMPTS, MIN_THINGS = 8, 2
MIN_FAMILIES = 4  # a label drawn by fewer artists loses none of them to val and test
VERSION = 1  # raised when the same settings give other scenes
ORIGIN = "npm package @iconify/json 2.2.535"
_UNCOLOURED = frozenset({"person", "sky"})  # kinds whose description names no colour


class IconSource(SceneSource):
    """See `SceneSource`; open it with `opener`."""

    def __init__(self, world: IconWorld, store: DrawingStore, seed: int, size: Size) -> None:
        self.world, self.store, self.seed, self.size = world, store, seed, size
        self.name, self.licence = world.name, world.licence
        self.vocabulary: Vocabulary = world.vocabulary
        drawings = {
            label: store.find(names_of(label, entry.icons), entry.only, entry.tones)
            for label, entry in world.labels.items()
        }
        missing = [label for label, found in drawings.items() if not found]
        if missing:
            raise UserError(f"no drawing of {missing[0]!r} in the icon sets; correct its line in {world.name}/*.yaml")
        self.held_out = hold_out(drawings, world.held_out_frac, seed)
        self._arrangers = {
            split: Arranger(world, *self._choices(drawings, split)) for split in ("train", "val", "test")
        }

    def _choices(
        self, drawings: Mapping[str, Sequence[Drawing]], split: str
    ) -> tuple[dict[str, list[Drawing]], frozenset[str]]:
        """Drawings that a split may show: held-out ones alone where it has any, else those of training."""
        own = self.held_out.get(split, frozenset())
        anywhere = frozenset().union(*self.held_out.values())
        choices, preferred = {}, set()
        for label, found in drawings.items():
            mine = [drawing for drawing in found if drawing.id in own]
            if mine:
                preferred.add(label)
            choices[label] = mine or [drawing for drawing in found if drawing.id not in anywhere]
        return choices, frozenset(preferred)

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `SceneSource`."""
        return {
            "world": self.name,
            "version": VERSION,
            "seed": self.seed,
            "data": self.world.digest,
            "packages": {"resvg_py": version("resvg_py"), "pillow": version("pillow"), "icons": ICONS.sha256[:16]},
        }

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `SceneSource`."""
        return {"held_out": {split: sorted(ids) for split, ids in self.held_out.items()}}

    @property
    def unusable(self) -> Sequence[str]:
        """See `SceneSource`."""
        return ()

    def credits(self, sources: Iterable[str]) -> list[Credit]:
        """See `SceneSource`; surfaces are painted by this program and need none."""
        credits = []
        for source in sources:
            prefix, _, name = source.partition(":")
            if prefix in self.store.sets:
                info = self.store.sets[prefix]
                credits.append(
                    Credit(source, name, f"{info.artist} ({info.address})", info.licence, f"{prefix}, {ORIGIN}")
                )
        return credits

    def draft(self, number: int) -> Draft | Skipped:
        """See `SceneSource`."""
        split = SPLIT_OF_TENTH.get(number % 10, "train")
        for attempt in range(ATTEMPTS):
            rng = np.random.default_rng(derive_seed(self.seed, "icons scene", number, attempt))
            recipe, layout = self._layout(rng)
            horizon_px = round(rng.uniform(*layout.horizon) * self.size.height)
            view = View(self.size, horizon_px, rng.uniform(*layout.camera_m))
            standing = self._arrangers[split].arrange(layout, view, rng)
            if len(standing) >= MIN_THINGS:
                return self._draft(number, split, recipe, view, standing, rng)
        return Skipped(f"fewer than {MIN_THINGS} things found a place in {ATTEMPTS} attempts")

    def _draft(
        self, number: int, split: str, recipe: str, view: View, standing: Sequence[Standing], rng: np.random.Generator
    ) -> Draft:
        layout = self.world.layouts[recipe]
        layers = [*self._surfaces(layout, view, rng), *(self._thing(item, rng) for item in standing)]
        masks = [layer.mask for layer in layers]
        shown = visible_fracs(masks, [(layer.x, layer.y) for layer in layers], self.size)
        kept = [k for k, frac in enumerate(shown) if frac > 0]
        scene_id = f"icons-{number:06d}"
        things = [layers[k] for k in kept if layers[k].is_thing]
        prompts = global_prompts(
            f"{self.seed}/{scene_id}",
            [LayerRecord(t.encoded.label, t.encoded.description, 0, t.x, t.y) for t in things],
            [t.box(self.size) for t in things],
            (),
            self.vocabulary,
            place=layout.place,
        )
        plan = {
            "recipe": recipe,
            "horizon_px": view.horizon_px,
            "camera_m": round(view.camera_m, 3),
            "objects": [_plan_of(item) for item in standing],
        }
        drafts = tuple(
            DraftLayer(layers[k].encoded, layers[k].x, layers[k].y, LayerFacts(round(shown[k], 4)), layers[k].effect)
            for k in kept
        )
        return Draft(scene_id, number, split, recipe, drafts, prompts, plan)

    def _layout(self, rng: np.random.Generator) -> tuple[str, Layout]:
        names = list(self.world.layouts)
        weights = np.array([layout.weight for layout in self.world.layouts.values()])
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        return name, self.world.layouts[name]

    def _surfaces(self, layout: Layout, view: View, rng: np.random.Generator) -> Iterable[_Layer]:
        for label, shape, *extent in layout.surfaces:
            mask = surface_mask(shape, tuple(map(float, extent)), view.horizon_px, self.size, rng)
            colours = self.world.surfaces[label].colours
            description = list(colours)[int(rng.integers(len(colours)))]
            picture = paint_surface(mask, *colours[description])
            encoded = encode_asset(
                picture.rgba, label=label, description=description, source=f"surface:{label}", encoding="lossless"
            )
            yield _Layer(encoded, picture.x, picture.y, picture.rgba[..., 3] >= MASK_ALPHA, None, is_thing=False)

    def _thing(self, item: Standing, rng: np.random.Generator) -> _Layer:
        variant = item.drawing.variants[int(rng.integers(len(item.drawing.variants)))]
        rgba = self.store.render(variant, item.longest_px)
        if item.mirrored:
            rgba = np.ascontiguousarray(rgba[:, ::-1])
        height, width = rgba.shape[:2]
        x, y = pull_in(item.x - width // 2, width, self.size), item.foot_px - height
        words = {
            "label": item.label,
            "description": self._description(item.label, rgba),
            "source": item.drawing.id,
        }
        effect = None
        if item.grounded:
            shadow, dx, dy = contact_shadow(width)
            effect = (encode_asset(shadow, **words, encoding="shadow"), x + dx, item.foot_px + dy)
        encoded = encode_asset(rgba, **words, encoding="lossless")
        return _Layer(encoded, x, y, rgba[..., 3] >= MASK_ALPHA, effect, is_thing=True)

    def _description(self, label: str, rgba: np.ndarray) -> str:
        named = None if self.world.labels[label].kind in _UNCOLOURED else colour_word(rgba)
        if named is None or any(named in word for word in label.split()):
            return self.vocabulary.with_article(label)
        text = f"{named} {label}"
        return text if self.world.labels[label].plural_only else self.vocabulary.with_article(label, text)


class _Layer:
    """An encoded asset on its way into a draft, with its mask at hand."""

    def __init__(
        self,
        encoded: EncodedAsset,
        x: int,
        y: int,
        mask: np.ndarray,
        effect: tuple[EncodedAsset, int, int] | None,
        *,
        is_thing: bool,
    ) -> None:
        self.encoded, self.x, self.y, self.mask, self.effect, self.is_thing = encoded, x, y, mask, effect, is_thing

    def box(self, size: Size) -> Box:
        """Tight box of the mask on the canvas."""
        tight = Box.from_mask(self.mask) or Box(0, 0, 0, 0)
        return Box(tight.x0 + self.x, tight.y0 + self.y, tight.x1 + self.x, tight.y1 + self.y).clip(size)


def opener(world_file: Path, seed: int, size: Size = DEFAULT_SIZE, place: Path | None = None) -> partial[IconSource]:
    """What `build_corpus` needs: opens the icons world in any process.

    Args:
        world_file: `configs/worlds/icons.yaml`.
        seed: of the whole corpus.
        size: canvas.
        place: folder of dependencies; None = see `find_dependencies`.
    """
    size.check()
    return partial(open_source, world_file, seed, size, place)


def open_source(world_file: Path, seed: int, size: Size, place: Path | None = None) -> IconSource:
    """The icons world, ready to draft scenes.

    Raises:
        UserError: packages are missing or the world file is malformed.
    """
    world = IconWorld.load(world_file)
    folder = find_dependencies(place, [ICONS]).icons
    wanted: dict[str, list[str]] = {prefix: [] for prefix in world.families}
    for label, entry in world.labels.items():
        for prefix, names in wanted.items():
            plain = entry.only.get(prefix) or spellings(prefix, names_of(label, entry.icons))
            names += [
                name for base in plain for name in (base, *(f"{base}-{tone}-skin-tone" for tone in SKIN_TONES))
            ]  # fmt: skip
    return IconSource(world, DrawingStore(folder, world.families, wanted), seed, size)


def names_of(label: str, icons: Sequence[str]) -> Sequence[str]:
    """Icon names of a label: those given, else the label with hyphens."""
    return icons or (label.replace(" ", "-"),)


def hold_out(drawings: Mapping[str, Sequence[Drawing]], frac: float, seed: int) -> dict[str, frozenset[str]]:
    """Ids of the drawings that only val and only test may show: `frac` of all, half each.

    Only labels drawn by at least `MIN_FAMILIES` artists give any, all drawings of one artist together and never
    more than half of the artists.
    """
    units: list[tuple[str, frozenset[str]]] = []
    for label, found in sorted(drawings.items()):
        families = sorted({drawing.family for drawing in found})
        if len(families) >= MIN_FAMILIES:
            order = np.random.default_rng(derive_seed(seed, "held-out artist", label)).permutation(len(families))
            for family in (families[i] for i in order[: len(families) // 2]):
                units.append((label, frozenset(drawing.id for drawing in found if drawing.family == family)))
    wanted = frac * sum(map(len, drawings.values()))
    order = np.random.default_rng(derive_seed(seed, "held-out drawings")).permutation(len(units))
    held: dict[str, frozenset[str]] = {"val": frozenset(), "test": frozenset()}
    for i in order:
        if sum(map(len, held.values())) >= wanted:
            break
        smaller = min(held, key=lambda split: len(held[split]))
        held[smaller] |= units[i][1]
    return held


def contact_shadow(width: int) -> tuple[np.ndarray, int, int]:
    """A soft ellipse, uint8 (h, w), and where its corner lies from the thing's left edge and foot row."""
    long, short = max(3, round(0.86 * width)), max(2, round(SHADOW_ROUND * width))
    blur = 0.25 * short
    pad = int(np.ceil(3 * blur))
    rows, columns = np.mgrid[0 : short + 2 * pad, 0 : long + 2 * pad]
    y = (rows - (short - 1) / 2 - pad) / (short / 2)
    x = (columns - (long - 1) / 2 - pad) / (long / 2)
    soft = ndimage.gaussian_filter(np.where(x**2 + y**2 <= 1, float(SHADOW_ALPHA), 0.0), blur)
    return soft.round().astype(np.uint8), (width - long) // 2 - pad, -round(0.55 * short) - pad


def visible_fracs(masks: Sequence[np.ndarray], corners: Sequence[tuple[int, int]], size: Size) -> list[float]:
    """Share of each mask's part on the canvas that no later mask covers; 0 where none of it is on the canvas."""
    covered = np.zeros(size.shape, dtype=bool)
    fracs = []
    for mask, (x, y) in zip(reversed(masks), reversed(corners), strict=True):
        box = Box(x, y, x + mask.shape[1], y + mask.shape[0]).clip(size)
        part = mask[box.y0 - y : box.y1 - y, box.x0 - x : box.x1 - x]
        above = covered[box.y0 : box.y1, box.x0 : box.x1]
        fracs.append(float((part & ~above).sum() / max(1, part.sum())))
        above |= part
    return fracs[::-1]


def _plan_of(item: Standing) -> dict[str, Any]:
    plan = asdict(item)
    plan["drawing"] = item.drawing.id
    plan["depth"] = round(item.depth, 3)
    return plan
