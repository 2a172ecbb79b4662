"""The home world as a `SceneSource`: arranges, renders and encodes scene after scene, and leaves out what failed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from scene.corpus.assets import encode_asset
from scene.corpus.attribution import Credit
from scene.corpus.build import Draft, DraftLayer, SceneSource, Skipped
from scene.corpus.dependencies import FURNITURE, find_dependencies
from scene.corpus.home.arrange import arrange, split_of
from scene.corpus.home.catalog import Catalog
from scene.corpus.home.language import Prompt, Seen, home_prompts
from scene.corpus.home.meshes import MeshCache, MeshError
from scene.corpus.home.plan import ScenePlan
from scene.corpus.home.render import RenderedLayer, RenderedScene, render
from scene.corpus.home.rules import Rules
from scene.corpus.records import LayerFacts
from scene.errors import SmartSceneError
from scene.geometry import DEFAULT_SIZE, Size
from scene.seeds import derive_seed

ATTEMPTS = 8  # drawings of one scene number before it is given up
MIN_VISIBLE_FRAC = 0.12  # an object that shows less is taken out
MIN_VISIBLE_PX = 60
MIN_SURFACE_FRAC = 0.01  # a surface that shows less (a sky behind a house) is not talked about
MAX_CONFLICT_FRAC = 0.04  # of an object's mask where the layer order is wrong; above, it is taken out
MAX_ORDER_CONFLICT, MAX_UNCOVERED = 0.004, 0.0  # of the canvas
MIN_OBJECTS = 3
VERSION = 1  # raised when the same settings give other scenes
ORIGIN = "Debian package sweethome3d-furniture 1.8"
_PLANS, _PROMPTS = TypeAdapter(ScenePlan), TypeAdapter(tuple[Prompt, ...])


class HomeSource(SceneSource):
    """See `SceneSource`; open it with `opener`."""

    def __init__(self, rules: Rules, digest: str, catalog: Catalog, seed: int, size: Size) -> None:
        self.rules, self.catalog, self.seed, self.size = rules, catalog, seed, size
        self.name, self.licence = "home", "CC-BY-3.0 and CC0-1.0"
        self.vocabulary = rules.vocabulary
        self._digest, self._meshes = digest, MeshCache()

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `SceneSource`."""
        packages = {name: version(name) for name in ("embreex", "numpy", "pillow")}
        return {
            "world": self.name,
            "version": VERSION,
            "seed": self.seed,
            "data": self._digest,
            "packages": {**packages, "furniture": FURNITURE.sha256[:16]},
        }

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `SceneSource`."""
        return {
            "held_out": {
                "sources": sorted(self.rules.held_out_models),
                "recipes": sorted(self.rules.held_out_recipes),
            }
        }

    @property
    def unusable(self) -> Sequence[str]:
        """See `SceneSource`: models whose entry in the catalogue makes no sense."""
        return self.catalog.skipped

    def credits(self, sources: Iterable[str]) -> list[Credit]:
        """See `SceneSource`; surfaces are procedural and need none."""
        models = self.catalog.models
        return [
            Credit(source, models[source].name, models[source].creator, models[source].licence, ORIGIN)
            for source in sources
            if source in models
        ]

    def draft(self, number: int) -> Draft | Skipped:
        """See `SceneSource`. A drawing that cannot be used is noted and the number drawn again, up to `ATTEMPTS`."""
        notes: list[tuple[str, str]] = []
        reason = ""
        for attempt in range(ATTEMPTS):
            seed = derive_seed(self.seed, "home attempt", attempt) if attempt else self.seed
            try:
                plan = arrange(seed, number, self.rules, self.catalog, split_of(number))
                plan = replace(plan, id=f"home-{number:06d}")
                self._load_meshes(plan, notes)
                plan, scene = self._drawn(plan, notes)
            except SmartSceneError as error:
                reason = str(error)
                notes.append(("drawn again", reason.split(":")[0]))
                continue
            return self._encoded(number, plan, scene, notes)
        return Skipped(reason, tuple(notes))

    def _load_meshes(self, plan: ScenePlan, notes: list[tuple[str, str]]) -> None:
        """Raises UnusableDrawing when a model cannot be read; that, and what a readable one lacks, is a report line."""
        for placed in plan.objects:
            try:
                mesh = self._meshes.get(self.catalog[placed.model])
                notes += [("drawn with less", f"{placed.model}: {note}") for note in mesh.notes]
            except MeshError as error:
                notes.append(("model skipped", f"{placed.model}: {error}"))
                raise UnusableDrawing("a model could not be read") from None

    def _drawn(self, plan: ScenePlan, notes: list[tuple[str, str]]) -> tuple[ScenePlan, RenderedScene]:
        """The plan without what is not seen or cannot be ordered, and its picture."""
        scene = render(plan, self.catalog, self._meshes, self.size)
        hidden = set(scene.unseen) | {layer.index for layer in scene.layers if _is_hidden(layer)}
        tangled = {
            layer.index
            for layer in scene.layers
            if layer.kind == "object" and layer.conflict_frac > MAX_CONFLICT_FRAC and layer.index not in hidden
        }
        if hidden or tangled:
            notes += [("object left out", "hidden")] * len(hidden) + [("object left out", "depth order")] * len(tangled)
            plan = without(plan, hidden | tangled)
            scene = render(plan, self.catalog, self._meshes, self.size)
        if len(plan.objects) < MIN_OBJECTS:
            raise UnusableDrawing("too few objects are left")
        if scene.unseen or any(_is_hidden(layer) for layer in scene.layers):
            raise UnusableDrawing("an object cannot be seen")
        if scene.order_conflict > MAX_ORDER_CONFLICT:
            raise UnusableDrawing("no layer order shows the nearest object everywhere")
        if scene.uncovered_frac > MAX_UNCOVERED:
            raise UnusableDrawing("the surfaces leave part of the canvas bare")
        return plan, scene

    def _encoded(
        self, number: int, plan: ScenePlan, scene: RenderedScene, notes: Sequence[tuple[str, str]]
    ) -> Draft:  # fmt: skip
        layers = tuple(self._layer(plan, layer) for layer in scene.layers)
        masks = [_on_canvas(layer, self.size) for layer in scene.layers]
        surfaces = [
            (layer.label, mask)
            for layer, mask in zip(scene.layers, masks, strict=True)
            if layer.kind == "surface" and layer.visible_frac >= MIN_SURFACE_FRAC
        ]
        seen = [
            Seen(layer.index, mask, layer.size_m)
            for layer, mask in zip(scene.layers, masks, strict=True)
            if layer.size_m is not None
        ]
        prompts = home_prompts(plan, seen, surfaces, self.vocabulary)
        made_from = {
            "plan": _PLANS.dump_python(plan, mode="json"),
            "prompts": _PROMPTS.dump_python(prompts, mode="json"),
        }
        texts = tuple(prompt.text for prompt in prompts)
        return Draft(plan.id, number, plan.split, plan.recipe, layers, texts, made_from, tuple(notes))

    def _layer(self, plan: ScenePlan, layer: RenderedLayer) -> DraftLayer:
        is_object = layer.kind == "object"
        words = {
            "label": layer.label,
            "description": layer.description,
            "source": plan.objects[layer.index].model if is_object else f"surface:{layer.label}",
        }
        effect = None
        if layer.effect is not None:
            shadow = np.ascontiguousarray(layer.effect.rgba[..., 3])
            effect = (encode_asset(shadow, **words, encoding="shadow"), int(layer.effect.x), int(layer.effect.y))
        size_m = layer.size_m and tuple(round(side, 3) for side in layer.size_m)
        depth_m = round(layer.depth_m, 2) if np.isfinite(layer.depth_m) else None
        return DraftLayer(
            encode_asset(layer.picture.rgba, **words, encoding="webp"),
            int(layer.picture.x),
            int(layer.picture.y),
            LayerFacts(round(layer.visible_frac, 4), depth_m, size_m),  # type: ignore[arg-type]
            effect,
        )


class UnusableDrawing(SmartSceneError):
    """A scene that must be drawn again."""


def _is_hidden(layer: RenderedLayer) -> bool:
    shown = int(layer.visible.sum())
    return layer.kind == "object" and (layer.visible_frac < MIN_VISIBLE_FRAC or shown < MIN_VISIBLE_PX)


def without(plan: ScenePlan, gone: Iterable[int]) -> ScenePlan:
    """The plan without some objects and without everything that stands on them."""
    left_out = set(gone)
    while True:
        carried = {i for i, placed in enumerate(plan.objects) if placed.supporter in left_out} - left_out
        if not carried:
            break
        left_out |= carried
    kept = [i for i in range(len(plan.objects)) if i not in left_out]
    place = {old: new for new, old in enumerate(kept)}
    objects = tuple(
        replace(plan.objects[i], supporter=None if (s := plan.objects[i].supporter) is None else place[s]) for i in kept
    )
    return replace(plan, objects=objects)


def plan_from_json(made_from: Mapping[str, Any]) -> ScenePlan:
    """The plan out of a line of `plans.jsonl`."""
    return _PLANS.validate_python(made_from["plan"])


def prompts_from_json(made_from: Mapping[str, Any]) -> tuple[Prompt, ...]:
    """The prompts with their claims out of a line of `plans.jsonl`."""
    return _PROMPTS.validate_python(made_from["prompts"])


def _on_canvas(layer: RenderedLayer, size: Size) -> np.ndarray:
    mask = np.zeros(size.shape, dtype=bool)
    mask[layer.picture.window] = layer.mask
    return mask


def opener(rules_folder: Path, seed: int, size: Size = DEFAULT_SIZE, place: Path | None = None) -> partial[HomeSource]:
    """What `build_corpus` needs: opens the home world in any process.

    Args:
        rules_folder: `configs/worlds/home`.
        seed: of the whole corpus.
        size: canvas.
        place: folder of dependencies; None = see `find_dependencies`.
    """
    size.check()
    return partial(open_source, rules_folder, seed, size, place)


def open_source(rules_folder: Path, seed: int, size: Size, place: Path | None = None) -> HomeSource:
    """The home world, ready to draft scenes.

    Raises:
        UserError: packages are missing or the rules are malformed.
    """
    furniture = find_dependencies(place, [FURNITURE]).furniture
    files = (rules_folder.with_suffix(".yaml"), *sorted(rules_folder.rglob("*.yaml")))
    rules = Rules.load(rules_folder)
    digest = hashlib.sha256(b"\n".join(file.read_bytes() for file in files)).hexdigest()[:16]
    return HomeSource(rules, digest, Catalog.open(furniture), seed, size)
