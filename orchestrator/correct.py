"""Bounded self-correction: the mask that is taken keeps the relations that the prompt and the plan ask for.

Candidates first (another sample), then another place (the guide is moved), then, for what the prompt asks, the planner
is asked again and told what does not hold. What the prompt says goes before what the planner proposed. Nothing is
rendered before the choice is made. Each attempt is kept in the step's record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from orchestrator.asked import as_words, broken, open_claims, place_for
from orchestrator.request import Request
from scene.candidates import MaskCandidate
from scene.corpus.claims import RelationClaim
from scene.errors import ModelError
from scene.geometry import Box
from scene.guidance import Guidance
from scene.relations import Relation

if TYPE_CHECKING:
    from orchestrator.outlook import Outlook


@dataclass(frozen=True, eq=False)
class Choice:
    """What to render.

    Attributes:
        request, candidates, chosen: the object, its masks, and the index of the one to take.
        attempts: `how` ("first", "sample", "move", "ask"), `violated`, `taken`, in order; empty when nothing was asked
            and nothing hidden.
    """

    request: Request
    candidates: tuple[MaskCandidate, ...]
    chosen: int
    attempts: tuple[dict[str, Any], ...] = ()

    @property
    def mask(self) -> np.ndarray:
        """The shape to take, bool (H, W)."""
        return self.candidates[self.chosen].mask


def choose(outlook: Outlook, request: Request, candidates: Sequence[MaskCandidate], limit: int) -> Choice:
    """The candidate that breaks the fewest relations and hides the fewest objects, after at most `limit` tries beyond
    the candidates at hand. What the prompt says comes first, then what would be hidden, then the plan."""
    label = request.proposal.label
    said = open_claims(outlook.scene, label, outlook.models.vocabulary, outlook.models.read(outlook.scene.prompt))
    claims = [*said, *_planned(outlook, request, said)]
    by_hand = request.guide_by == "person" and request.guidance is not None
    free = not (by_hand or request.behind or outlook.config.planner.keep_visible)

    def hidden(mask: np.ndarray) -> int:
        return len(outlook.hides(mask)) if free else 0

    if not claims and not hidden(candidates[0].mask):
        return Choice(request, tuple(candidates), 0)

    def weight(violated: Sequence[RelationClaim], covered: int = 0) -> tuple[int, int, int]:
        return sum(claim in said for claim in violated), covered, len(violated)

    tries: list[tuple[str, Request, tuple[MaskCandidate, ...], int, list[RelationClaim], int]] = []

    def consider(how: str, asked: Request, masks: Sequence[MaskCandidate], only_first: bool = False) -> tuple[int, ...]:
        counted = [
            (broken(claims, outlook.scene, label, c.mask, asked.behind), hidden(c.mask))
            for c in masks[: 1 if only_first else None]
        ]
        best = min(range(len(counted)), key=lambda number: (weight(*counted[number]), number))
        tries.append((how, asked, tuple(masks), best, *counted[best]))
        return weight(*counted[best])

    left = consider("first", request, candidates, only_first=True)
    if any(left) and len(candidates) > 1:
        left = min(left, consider("sample", request, candidates))
    for how in ("move", "ask")[:limit]:
        if not any(left) or (how == "ask" and not left[0]):
            break
        if how == "move":
            again = _elsewhere(outlook, request, candidates[0], tries[-1][4], claims, weight)
        else:
            again = _asked_again(outlook, request, tries[-1][4])
        if again is None:
            continue
        try:
            masks = outlook.masks(again, len(candidates))
        except ModelError:
            continue
        left = min(left, consider(how, again, masks))
    taken = min(range(len(tries)), key=lambda number: (weight(*tries[number][4:]), number))
    _, asked, kept, chosen, _, _ = tries[taken]
    attempts = tuple(
        {"how": how, "violated": as_words(violated), "taken": number == taken} | ({"hides": covered} if covered else {})
        for number, (how, _, _, _, violated, covered) in enumerate(tries)
    )
    return Choice(asked, kept, chosen, attempts)


def _planned(outlook: Outlook, request: Request, said: Sequence[RelationClaim]) -> list[RelationClaim]:
    """The relation that the planner proposed, unless a person guides the object or the prompt speaks of the pair."""
    planned, label = request.proposal.relation, request.proposal.label
    there = {layer.label for layer in outlook.scene.layers}
    if planned is None or planned.relation not in get_args(Relation) or planned.label not in there - {label}:
        return []
    if request.guide_by == "person" and request.guidance is not None:
        return []
    if any({claim.first, claim.second} == {label, planned.label} for claim in said):
        return []
    relation = cast(Relation, planned.relation)
    return [RelationClaim(label, relation, planned.label, f"{label} {relation} {planned.label}")]


def _elsewhere(
    outlook: Outlook,
    request: Request,
    candidate: MaskCandidate,
    violated: Sequence[RelationClaim],
    claims: Sequence[RelationClaim],
    weight: Callable[[Sequence[RelationClaim]], tuple[int, int, int]],
) -> Request | None:
    """Where one of `violated` holds, or two of them (the one says how far across, the other how high), such that the
    fewest of `claims` are broken."""
    box, label = Box.from_mask(candidate.mask), request.proposal.label
    if box is None:
        return None
    found = [place for claim in violated if (place := place_for(claim, label, box, outlook.scene)) is not None]
    crossed = [Box(a.x0, b.y0, a.x1, b.y0 + a.height) for a in found for b in found if a is not b]
    places = [place for place in (*found, *crossed) if place.area and place != box]

    def left(place: Box) -> tuple[int, ...]:
        mask = np.zeros(outlook.scene.size.shape, dtype=bool)
        mask[place.y0 : place.y1, place.x0 : place.x1] = True
        return weight(broken(claims, outlook.scene, label, mask, request.behind))

    place = min(places, key=left, default=None)
    if place is None:
        return None
    return replace(
        request, seed=request.seed.retry(), guidance=Guidance.from_box(place, outlook.scene.size), guide_by="planner"
    )


def _asked_again(outlook: Outlook, request: Request, violated: Sequence[RelationClaim]) -> Request | None:
    """The planner's next word on the same object; another object is not what was asked."""
    seed = request.seed.retry().retry()
    turn = "; ".join(f"the {words}" for words in as_words(violated))
    try:
        proposal = outlook.models.planner.propose(
            outlook.scene, outlook.scene.prompt, seed=seed, turn=turn, rejected=outlook.history.refused()
        )
    except ModelError:
        return None
    if proposal.stop or proposal.label != request.proposal.label or proposal.box is None:
        return None
    guidance = Guidance.from_box(proposal.box, outlook.scene.size)
    return replace(request, seed=seed, guidance=guidance, guide_by="planner")
