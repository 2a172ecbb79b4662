"""`smartscene edit`: one layer changes; what was drawn on top of its place is drawn again, everything else is reused.

A layer depends on the picture beneath it within its window (`rendering.footprint`), on its mask, words and seed. After
a change the layers in front are visited from back to front: one whose window beneath stayed the same keeps its pixels;
any other is looked up by content address among all renderings of the run, and only drawn if it is not there. The
run's steps are that cache, so an edit taken back costs nothing.
"""

from __future__ import annotations

import colorsys
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageColor

from orchestrator.history import StepRecord
from orchestrator.rendering import footprint
from orchestrator.request import Request, name_object
from scene.errors import ModelError, UserError
from scene.geometry import Box
from scene.guidance import Guidance
from scene.layers import Layer, LayeredScene
from scene.layout import layout_picture
from scene.seeds import StepSeed

if TYPE_CHECKING:
    from orchestrator.run import Run

MIN_SCALE, MAX_SCALE = 0.1, 10.0
GREY_SATURATION = 0.1  # a colour fainter than this is a grey: it takes saturation away instead of turning the hue


@dataclass(frozen=True)
class Edit:
    """What to do to one layer; exactly one of the fields is given.

    Attributes:
        words: other words; mask and pixels are made anew at its place.
        move: (dx, dy) in canvas pixels; the pixels go along.
        scale: factor about the middle of its foot; drawn anew.
        delete: it goes.
        colour: a CSS colour name or #rrggbb; hue and saturation change, light and shade stay.
        seed: drawn anew in its mask with this seed.
    """

    words: str | None = None
    move: tuple[int, int] | None = None
    scale: float | None = None
    delete: bool = False
    colour: str | None = None
    seed: int | None = None

    def checked(self) -> str:
        """The name of what is asked.

        Raises:
            UserError: nothing or several things were asked.
        """
        given = [name for name, value in vars(self).items() if value is not None and value is not False]
        if len(given) != 1:
            said = f"--{' --'.join(given)} were given" if given else "nothing to do was given"
            raise UserError(f"{said}; choose one of --words, --move, --scale, --delete, --colour, --seed, --z")
        return given[0]


@dataclass(frozen=True, eq=False)
class Origin:
    """How the pixels of a layer came about: what is needed to draw them again.

    Attributes:
        context: caption; "" = the run's prompt.
        seed: of its rendering.
        key: content address, "" where it is not known.
        drawn: False where a person changed the pixels (moved, coloured): they cannot be drawn again.
    """

    context: str
    seed: StepSeed
    key: str
    drawn: bool = True


def edit(run: Run, layer: str, wanted: Edit) -> StepRecord:
    """Changes one layer and what depends on it; a step of the history. Renews the run's pictures.

    Args:
        run: the composition.
        layer: id, label or description.
        wanted: what to do.

    Returns:
        The step; `changes` says of each layer that was touched how it came about, `reason` sums it up.

    Raises:
        UserError: no such layer, a mistake in `wanted`, or a model that cannot draw it; nothing was changed.
    """
    what = wanted.checked()
    target = run.scene.find(layer)
    parts = run.folder.photo.ids if run.folder.photo else frozenset()
    if target.id in parts:
        raise UserError(
            f"{target.id} {target.description} is a part of the photo, and what it hides was never seen; only what was "
            "added can be edited (smartscene insert puts things over it)"
        )
    if not wanted.delete and any(other.rgba is None for other in run.scene.layers):
        raise UserError(f"layers have no pixels yet; draw them first: smartscene resume {run.folder.path}")
    origins = origins_of(run)
    started = time.monotonic()
    try:
        first = None if wanted.delete else _MAKERS[what](run, target, wanted, origins[target.id])
        step, scene, pictures = _propagate(run, target, first, origins, f"{target.description}: {_said(what, wanted)}")
    except ModelError as error:
        raise UserError(f"{error}; nothing was changed, try another --seed or other words") from None
    step = replace(step, timings={"edit_s": round(time.monotonic() - started, 3)})
    step = run.folder.add_step(step, pictures)
    run.scene = scene
    run.finish()
    return step


def _said(what: str, wanted: Edit) -> str:
    return what if what == "delete" else f"{what} {getattr(wanted, what)}"


def origins_of(run: Run) -> dict[int, Origin]:
    """Of each layer at the head, how its pixels came about."""
    root = int(run.folder.facts["seed"])
    parts = run.folder.photo.ids if run.folder.photo else ()
    found = {id: Origin("", StepSeed(root, id), "", drawn=False) for id in parts}
    for step in run.folder.history.path():
        if step.outcome == "placed":
            seed = StepSeed(root if step.seed is None else step.seed, step.index, step.attempt)
            found[step.index] = Origin(step.context, seed, step.key)
        for change in step.changes:
            found[change["layer"]] = Origin(
                change["context"], StepSeed(*change["seed"]), change["key"], bool(change["drawn"])
            )
    return found


def _words(run: Run, layer: Layer, wanted: Edit, origin: Origin) -> tuple[Layer, Origin]:
    """New words: a mask at the old one's place, predicted on what lies beneath, then drawn."""
    proposal = name_object(wanted.words or "", run.models.vocabulary, run.config.preset)
    box = layer.box
    guidance = Guidance.from_box(box, run.scene.size) if box else None
    seed = StepSeed(origin.seed.run, run.folder.history.next_id)
    behind = tuple(other.id for other in run.scene.layers[run.scene.position(layer.id) :])
    request = Request(seed, proposal, guidance, "person", behind, origin.context, by="person")
    mask = run.outlook.masks(request, run.config.masker.candidates)[0].mask
    bare = Layer(layer.id, proposal.label, proposal.description, mask)
    return drawn(run, bare, replace(origin, seed=seed))


def _move(run: Run, layer: Layer, wanted: Edit, origin: Origin) -> tuple[Layer, Origin]:
    move = wanted.move or (0, 0)
    useless = UserError(
        f"--move {move[0]},{move[1]} leaves nothing to do or nothing on the canvas; choose other numbers"
    )
    _pixels(layer)
    if move == (0, 0):
        raise useless
    try:
        return layer.transformed(move=move), replace(origin, drawn=False, key="")
    except UserError:
        raise useless from None


def _scale(run: Run, layer: Layer, wanted: Edit, origin: Origin) -> tuple[Layer, Origin]:
    factor = wanted.scale or 0.0
    box = layer.box
    if not MIN_SCALE <= factor <= MAX_SCALE or factor == 1 or box is None:
        raise UserError(f"--scale {factor:g} is not usable; give {MIN_SCALE} to {MAX_SCALE:g}, not 1")
    width, height = max(1, round(box.width * factor)), max(1, round(box.height * factor))
    x0, y0 = round(box.center[0] - width / 2), box.y1 - height
    cut = Image.fromarray(layer.mask[box.y0 : box.y1, box.x0 : box.x1].astype(np.uint8) * 255)
    grown = np.asarray(cut.resize((width, height), Image.Resampling.BILINEAR)) >= 128
    mask = np.zeros_like(layer.mask)
    part = Box(x0, y0, x0 + width, y0 + height).clip(run.scene.size)
    mask[part.y0 : part.y1, part.x0 : part.x1] = grown[part.y0 - y0 : part.y1 - y0, part.x0 - x0 : part.x1 - x0]
    if not mask.any():
        raise UserError(f"--scale {factor:g} leaves nothing on the canvas; choose a larger factor")
    return drawn(run, replace(layer, mask=mask), origin)


def _seed(run: Run, layer: Layer, wanted: Edit, origin: Origin) -> tuple[Layer, Origin]:
    return drawn(run, layer, replace(origin, seed=StepSeed(wanted.seed or 0, origin.seed.step)))


def _colour(run: Run, layer: Layer, wanted: Edit, origin: Origin) -> tuple[Layer, Origin]:
    name = (wanted.colour or "").strip()
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise UserError(f"--colour {name[:40]!r} is no colour; give a name like red or a code like #cc2200") from None
    hue, saturation, _ = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    rgba = _pixels(layer).copy()
    hsv = np.asarray(Image.fromarray(rgba[..., :3]).convert("HSV")).copy()
    if saturation < GREY_SATURATION:
        hsv[..., 1] = 0
    else:
        hsv[..., 0] = round(hue * 255)
        hsv[..., 1] = np.maximum(hsv[..., 1], round(saturation * 160))
    rgba[..., :3] = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB")) * layer.mask[..., None]
    words = _recoloured(layer.description, name) if name.isalpha() else layer.description
    return replace(layer, rgba=rgba, description=words), replace(origin, drawn=False, key="")


_COLOUR_WORD = re.compile(rf"\b(?:{'|'.join(sorted(ImageColor.colormap, key=len, reverse=True))})\b", re.IGNORECASE)


def _recoloured(description: str, colour: str) -> str:
    """The description with its colour word exchanged, or the new one put after the article."""
    if _COLOUR_WORD.search(description):
        return _COLOUR_WORD.sub(colour, description, count=1)
    article = re.match(r"(a|an|the)\s+", description, re.IGNORECASE)
    if article is None:
        return f"{colour} {description}"
    first = "the" if article[1].lower() == "the" else "an" if colour[0].lower() in "aeiou" else "a"
    return f"{first} {colour} {description[article.end() :]}"


_Maker = Callable[["Run", Layer, Edit, Origin], tuple[Layer, Origin]]
_MAKERS: Mapping[str, _Maker] = {"words": _words, "move": _move, "scale": _scale, "colour": _colour, "seed": _seed}


def _pixels(layer: Layer) -> np.ndarray:
    if layer.rgba is None:
        raise UserError(f"{layer.description} has no pixels yet; resume the run first")
    return layer.rgba


def drawn(run: Run, layer: Layer, origin: Origin, beneath: np.ndarray | None = None) -> tuple[Layer, Origin]:
    """The layer drawn on the picture `beneath` it (default: at its place in the run), or taken from the cache."""
    beneath = run.scene.beneath([layer.id]).image if beneath is None else beneath
    words = (layer.label, layer.description, origin.context)
    key = run.key(beneath, layer.mask, *words, origin.seed)
    rgba = _cached(run, key)
    provenance = {"how": "reused" if rgba is not None else "recomputed"}
    if rgba is None:
        rgba = run.draw(beneath, layer.mask, *words, origin.seed)
    return replace(layer, rgba=rgba, provenance=provenance), replace(origin, key=key, drawn=True)


def _cached(run: Run, key: str) -> np.ndarray | None:
    """The pixels of a rendering that this run made before, on any branch."""
    for step in run.folder.history.steps.values():
        names = [("layer", step.key)] + [(f"layer-{c['layer']}", c["key"]) for c in step.changes]
        for name, other in names:
            if other == key:
                try:
                    return run.folder.picture(step.index, name, "RGBA")
                except UserError:
                    continue  # a broken file is no reason not to draw again
    return None


def _propagate(
    run: Run, target: Layer, first: tuple[Layer, Origin] | None, origins: Mapping[int, Origin], said: str
) -> tuple[StepRecord, LayeredScene, dict[str, np.ndarray]]:
    """The step and the scene once the change has gone through all layers in front."""
    old, history = run.scene, run.folder.history
    changes: dict[int, tuple[Layer, Origin, str]] = {}
    position = old.position(target.id)
    if first is None:
        scene = old.without(target.id)
    else:
        made, origin = first
        scene = old.with_changed(made)
        how = made.provenance.get("how")
        changes[target.id] = (made, origin, "reused" if how == "reused" else "edited")
    kept: list[int] = [layer.id for layer in old.layers[:position]]
    beneath = old.beneath([target.id]).image
    before, after = target.over(beneath), beneath if first is None else first[0].over(beneath)
    for layer in old.layers[position + 1 :]:
        window = footprint(run.models, layer.mask)
        inside = (slice(window.y0, window.y1), slice(window.x0, window.x1))
        shown = layer
        untouched = np.array_equal(before[inside], after[inside])
        if untouched or layer.rgba is None or not origins[layer.id].drawn:
            kept.append(layer.id)
        else:
            shown, origin = drawn(run, layer, origins[layer.id], after)
            scene = scene.with_changed(shown)
            changes[layer.id] = (shown, origin, str(shown.provenance["how"]))
        before, after = layer.over(before), shown.over(after)
    pictures: dict[str, np.ndarray] = {}
    number = history.next_id
    for id, (layer, _, _) in changes.items():
        provenance = {"step": number, "mask": f"steps/{number:04d}/amodal-{id}.png"}
        scene = scene.with_changed(replace(layer, provenance=provenance))
        pictures |= {f"amodal-{id}": layer.mask, f"layer-{id}": _pixels(layer)}
    pictures |= {
        "mask": (scene.image != old.image).any(axis=2),
        "layout": layout_picture(scene.layout),
        "image": scene.image,
    }
    anew = sum(how == "recomputed" for _, _, how in changes.values())
    cached = sum(how == "reused" for _, _, how in changes.values())
    step = StepRecord(
        number,
        history.head,
        "edited",
        reason=f"{said} ({len(kept)} layers kept, {cached} from the cache, {anew} in front drawn again)",
        by="person",
        changes=tuple(record_of(layer, origin, how) for layer, origin, how in changes.values()),
        removed=(target.id,) if first is None else (),
    )
    return step, scene, pictures


def record_of(layer: Layer, origin: Origin, how: str) -> dict[str, Any]:
    seed = origin.seed
    return {
        "layer": layer.id,
        "label": layer.label,
        "description": layer.description,
        "how": how,
        "key": origin.key,
        "context": origin.context,
        "seed": [seed.run, seed.step, seed.attempt],
        "drawn": origin.drawn,
    }
