"""What a person changes in a scene outside the loop: objects inserted, layers put in another order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.asked import live_graph
from orchestrator.history import StepRecord
from orchestrator.pictures import candidate_sheet
from orchestrator.products import write_products
from orchestrator.request import Request, name_object
from orchestrator.run_folder import RunFolder
from scene.candidates import MaskCandidate
from scene.errors import ModelError, UserError
from scene.guidance import Guidance
from scene.layers import Layer, LayeredScene
from scene.layout import layout_picture
from scene.proposal import Proposal
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary

if TYPE_CHECKING:
    from orchestrator.run import Run

MAX_CANDIDATES = 16
MIN_VISIBLE_FRAC = 0.1  # a candidate hidden further than this is not taken unless a person picks it


@dataclass(frozen=True, eq=False)
class Insertion:
    """An object that a person wants, with its candidate masks; nothing is placed yet.

    Attributes:
        request: what was asked for.
        candidates: best first; `details` has "visible_frac" where it goes behind something.
        chosen: index of the candidate to take.
        sheet: contact sheet, uint8 (h, w, 3).
        seconds: how long the masks took.
    """

    request: Request
    candidates: tuple[MaskCandidate, ...]
    chosen: int
    sheet: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Wish:
    """A checked order of a person.

    Attributes:
        proposal: what to insert.
        behind: layers it goes behind.
        count, pick: candidates wanted; number of the one to take, 1 = best, None = the best.
    """

    proposal: Proposal
    behind: tuple[Layer, ...]
    count: int
    pick: int | None

    @classmethod
    def checked(
        cls,
        words: str,
        scene: LayeredScene,
        vocabulary: Vocabulary,
        preset: str,
        *,
        behind: Sequence[str | int] = (),
        count: int = 4,
        pick: int | None = None,
    ) -> Wish:
        """Checks all that can be checked without a model.

        Args:
            words: the object.
            scene: what it is inserted into.
            vocabulary, preset: words that the preset knows, and its name.
            behind: ids, labels or descriptions of layers.
            count, pick: see the class.

        Raises:
            UserError: an object that the preset does not know, no such layer, numbers out of range.
        """
        if not 1 <= count <= MAX_CANDIDATES:
            raise UserError(f"{count} candidates were asked for; -n must be 1 to {MAX_CANDIDATES}")
        if pick is not None and not 1 <= pick <= count:
            raise UserError(f"--pick {pick} is not one of {count} candidates; pick 1 to {count}")
        layers = tuple({layer.id: layer for layer in (scene.find(str(name)) for name in behind)}.values())
        return cls(name_object(words, vocabulary, preset), layers, count, pick)


def consider(
    run: Run, wish: Wish, *, guidance: Guidance | None = None, context: str = "", seed: int | None = None
) -> Insertion:
    """Predicts the candidate masks of an insertion, all in one call of the masker, and draws their contact sheet.

    Raises:
        UserError: no usable mask, or nothing of it would be seen.
    """
    history = run.folder.history
    root = int(run.folder.facts["seed"]) if seed is None else seed
    behind = tuple(layer.id for layer in wish.behind)
    request = Request(
        StepSeed(root, history.next_id), wish.proposal, guidance, "person", behind, context, by="person"
    )  # fmt: skip
    started = time.monotonic()
    try:
        candidates = run.outlook.masks(request, wish.count)
    except ModelError as error:
        raise UserError(f"{error}; nothing was changed, try another --seed or another guide") from None
    seconds = time.monotonic() - started
    hidden = hidden_by_front(run.scene, behind)
    if behind:
        candidates = [with_visible(candidate, hidden) for candidate in candidates]
    chosen = _choose(candidates, wish, hidden)
    sheet = candidate_sheet(run.scene, candidates, chosen, wish.proposal.label, hidden, guidance, _title(request, wish))
    return Insertion(request, tuple(candidates), chosen, sheet, seconds)


def hidden_by_front(scene: LayeredScene, behind: tuple[int, ...]) -> np.ndarray:
    """Bool (H, W): where layers in front hide what is put behind `behind`."""
    hidden = np.zeros(scene.size.shape, dtype=bool)
    for layer in scene.layers[len(scene.beneath(behind).layers) :]:
        hidden |= layer.opaque
    return hidden


def with_visible(candidate: MaskCandidate, hidden: np.ndarray) -> MaskCandidate:
    visible = float((candidate.mask & ~hidden).sum() / candidate.mask.sum())
    return MaskCandidate(candidate.mask, candidate.score, {**candidate.details, "visible_frac": round(visible, 4)})


def _choose(candidates: Sequence[MaskCandidate], wish: Wish, hidden: np.ndarray) -> int:
    """The picked candidate, else the best one of which enough is seen."""
    names = " and ".join(f"{layer.id} {layer.description}" for layer in wish.behind)
    if wish.pick is not None:
        if wish.pick > len(candidates):
            raise UserError(f"only {len(candidates)} masks came out; --pick 1 to {len(candidates)}")
        if not (candidates[wish.pick - 1].mask & ~hidden).any():
            raise UserError(f"candidate {wish.pick} would be hidden entirely behind {names}; pick another")
        return wish.pick - 1
    for number, candidate in enumerate(candidates):
        if candidate.details.get("visible_frac", 1.0) >= MIN_VISIBLE_FRAC:
            return number
    raise UserError(
        f"every candidate would be hidden behind {names} (less than {MIN_VISIBLE_FRAC:.0%} seen); "
        "give a box that reaches out, or another layer"
    )


def _title(request: Request, wish: Wish) -> str:
    guide = request.guidance
    parts = [f"{wish.proposal.description}  ({wish.proposal.label})"]
    parts.append(f"{guide.kind}, tightness {guide.tightness:g}" if guide else "no guide")
    if wish.behind:
        parts.append("behind " + ", ".join(f"{layer.id} {layer.description}" for layer in wish.behind))
    return "   ·   ".join([*parts, f"step {request.seed.step}, seed {request.seed.run}"])


def place(run: Run, insertion: Insertion) -> StepRecord:
    """Renders the chosen candidate and adds it to the history; then the run's pictures are renewed.

    Raises:
        UserError: the inpainter cannot draw it.
    """
    timings = {"mask_s": round(insertion.seconds, 3)}
    pictures = {"candidates": insertion.sheet}
    try:
        step = run.render(insertion.request, insertion.candidates, insertion.chosen, timings, pictures)
    except ModelError as error:
        raise UserError(f"inpainter: {error}; nothing was changed, pick another candidate") from None
    run.finish()
    return step


def moved(
    scene: LayeredScene,
    layer: str,
    *,
    behind: str | None = None,
    in_front_of: str | None = None,
    to: int | None = None,
) -> tuple[tuple[int, ...], str]:
    """The order of layers after one of them moved.

    Args:
        scene: the layers.
        layer: id, label or description of the one to move.
        behind: it goes right under this one.
        in_front_of: it goes right over this one.
        to: its new place, 1 = rearmost.

    Returns:
        Layer ids back to front, and what happened in words.

    Raises:
        UserError: not exactly one place given, no such layer or place, or it is there already.
    """
    if [behind is not None, in_front_of is not None, to is not None].count(True) != 1:
        raise UserError("say where to: one of --behind LAYER, --in-front-of LAYER, --to POSITION")
    mover = scene.find(layer)
    rest = [other.id for other in scene.layers if other.id != mover.id]
    here = scene.position(mover.id)
    if to is not None:
        if not 1 <= to <= len(scene.layers):
            raise UserError(f"position {to} is not 1 (rearmost) to {len(scene.layers)} (nearest)")
        there, words = to - 1, f"to position {to}"
    else:
        other = scene.find(behind or in_front_of or "")
        words = f"{'behind' if behind is not None else 'in front of'} {other.description}"
        if other.id == mover.id:
            raise UserError(f"{mover.description} cannot go {words}: that is the same layer; name another")
        already = (here < scene.position(other.id)) == (behind is not None)
        if already:
            raise UserError(f"{mover.description} is {words} already; for an exact place use --to POSITION")
        there = rest.index(other.id) + (in_front_of is not None)
    if there == here:
        raise UserError(f"{mover.description} is at position {here + 1} already; nothing to do")
    rest.insert(there, mover.id)
    return tuple(rest), f"{mover.description} {words}"


def reorder(
    folder: RunFolder, scene: LayeredScene, order: Sequence[int], reason: str, vocabulary: Vocabulary
) -> LayeredScene:
    """Adds a step that puts the layers into another order; nothing is rendered. Renews the run's pictures.

    Args:
        folder: the run, open for writing.
        scene: its scene at the head.
        order: all layer ids, back to front.
        reason: what happened, in words.
        vocabulary: the run's words, for its scene graph.

    Returns:
        The scene after it.
    """
    after = scene.reordered(order)
    history = folder.history
    step = StepRecord(
        history.next_id, history.head, "reordered", reason=reason, by="person", order=tuple(order)
    )  # fmt: skip
    changed = (after.image != scene.image).any(axis=2)
    folder.add_step(step, {"mask": changed, "image": after.image, "layout": layout_picture(after.layout)})
    write_products(folder, after, live_graph(after, vocabulary))
    return after
