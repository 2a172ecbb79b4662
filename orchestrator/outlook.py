"""What planner and masker look at when they think about a step; and thinking about the next one while this is drawn.

Both read words, layouts and what was refused, never pixels. So once a step's mask is chosen, the next step can be
thought about, and a thought does not depend on whether that happened before, while or after the step was drawn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from orchestrator.config import ComposeConfig
from orchestrator.correct import Choice, choose
from orchestrator.history import History, StepRecord
from orchestrator.ports import Models
from orchestrator.request import By, Request
from scene.candidates import MaskCandidate
from scene.errors import ModelError
from scene.guidance import Guidance
from scene.layers import Layer, LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed

HIDDEN_FRAC = 0.5  # of what shows of an object: with less left it counts as hidden


@dataclass(frozen=True)
class Draft:
    """A proposal (or why there is none) that waits for a decision, with the seed of the step it would become."""

    seed: StepSeed
    proposal: Proposal | None
    error: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Thought:
    """All that a step needs before it is drawn.

    Attributes:
        draft: what the planner said.
        choice: the object with its masks; None = nothing to draw: a stop, or `error` says why.
        error: why there is no usable proposal or mask.
        mask_s: seconds that the masks took.
    """

    draft: Draft
    choice: Choice | None = None
    error: str = ""
    mask_s: float = 0.0


@dataclass(frozen=True, eq=False)
class Outlook:
    """A place in a run as planner and masker see it.

    Attributes:
        models, config: of the run.
        seed: of the run.
        history: its head is where the next step would come.
        scene: at that head; pixels are not looked at.
        given: ids of layers that the run started with, which do not count as objects.
    """

    models: Models
    config: ComposeConfig
    seed: int
    history: History
    scene: LayeredScene
    given: frozenset[int] = frozenset()

    def propose(self) -> Draft:
        """Asks the planner for the next object."""
        seed = StepSeed(self.seed, self.history.next_id)
        started = time.monotonic()
        try:
            proposal = self.models.planner.propose(
                self.scene,
                self.scene.prompt,
                seed=seed,
                turn=self.history.said() or None,
                rejected=self.history.refused(),
            )
        except ModelError as error:
            return Draft(seed, None, f"planner: {error}", time.monotonic() - started)
        return Draft(seed, proposal, "", time.monotonic() - started)

    def guided(self, proposal: Proposal, guidance: Guidance | None) -> tuple[Guidance | None, By]:
        """A person's guide, else the planner's box where the preset uses it; and whose it is."""
        if guidance is None and proposal.box and self.config.planner.use_box:
            return Guidance.from_box(proposal.box, self.scene.size), "planner"
        return guidance, "person"

    def masks(self, request: Request, count: int) -> list[MaskCandidate]:
        """Candidate masks, best first, predicted on what lies beneath the object's place.

        Raises:
            ModelError: no usable mask came.
        """
        return self.models.masker.predict(
            self.scene.beneath(request.behind),
            request.proposal.label,
            request.proposal.description,
            request.context or self.scene.prompt,
            guidance=request.guidance,
            count=count,
            seed=request.seed,
        )

    def shape(self, draft: Draft, proposal: Proposal, guidance: Guidance | None = None) -> Thought:
        """The masks of an object, and which to take, after self-correction."""
        request = Request(draft.seed, proposal, *self.guided(proposal, guidance))
        started = time.monotonic()
        try:
            candidates = self.masks(request, self.config.masker.candidates)
        except ModelError as error:
            return Thought(draft, error=f"masker: {error}")
        choice = choose(self, request, candidates, self.config.corrections)
        if self.config.planner.keep_visible and not request.behind:
            request = replace(choice.request, behind=self.hidden_by(choice.mask))
            choice = replace(choice, request=request)
        return Thought(draft, choice, mask_s=time.monotonic() - started)

    def hides(self, mask: np.ndarray) -> list[int]:
        """Smaller objects, back to front, of which a new one in front, bool (H, W), would hide most of what shows."""
        vocabulary, area = self.models.vocabulary, int(mask.sum())
        return [
            layer.id
            for layer, shown in zip(self.scene.layers, self._shown, strict=True)
            if (layer.label not in vocabulary.labels or vocabulary.kind(layer.label) != "surface")
            and int(shown.sum()) < area
            and int((shown & mask).sum()) > HIDDEN_FRAC * int(shown.sum())
        ]

    @cached_property
    def _shown(self) -> list[np.ndarray]:
        return self.scene.visible_masks()

    def hidden_by(self, mask: np.ndarray) -> tuple[int, ...]:
        """What a new object, bool (H, W), `hides`, for it to go behind; none where it would vanish there."""
        hidden, area = self.hides(mask), int(mask.sum())
        if not hidden:
            return ()
        front = np.zeros_like(mask)
        for layer in self.scene.layers[self.scene.position(min(hidden, key=self.scene.position)) :]:
            front |= layer.mask
        return tuple(hidden) if int((mask & ~front).sum()) >= HIDDEN_FRAC * area else ()

    def think(self) -> Thought:
        """The next object and its masks."""
        draft = self.propose()
        if draft.proposal is None:
            return Thought(draft, error=draft.error)
        return Thought(draft) if draft.proposal.stop else self.shape(draft, draft.proposal)

    def limit(self) -> str:
        """Why the loop must stop here, or ""."""
        vocabulary = self.models.vocabulary
        objects = [
            layer
            for layer in self.scene.layers
            if layer.id not in self.given
            and (layer.label not in vocabulary.labels or vocabulary.kind(layer.label) != "surface")
        ]
        most = self.config.max_objects
        if self.config.max_named > most:
            wanted = vocabulary.counts(self.models.read(self.scene.prompt)).items()
            named = sum(count for label, count in wanted if vocabulary.kind(label) != "surface")
            most = max(most, min(named, self.config.max_named))
        if len(objects) >= most:
            return f"max_objects = {most} reached"
        rejected = [step for step in self.history.rejected_since_placed() if step.by == "planner"]
        if len(rejected) >= self.config.max_rejections:
            return f"{len(rejected)} proposals in a row could not be used; the last: {rejected[-1].reason}"
        return ""

    def after(self, choice: Choice) -> Outlook:
        """The place that follows once the chosen mask is placed; what it looks like does not matter here."""
        request, number = choice.request, choice.request.seed.step
        step = StepRecord(number, self.history.head, "placed", request.proposal)
        layer = Layer(number, request.proposal.label, request.proposal.description, choice.mask)
        return replace(
            self, history=self.history.add(step), scene=self.scene.with_layer(layer, request.behind)
        )  # fmt: skip

    def is_at(self, other: Outlook) -> bool:
        """The same place under the same settings: what is thought there is the same.

        A history only grows, and each step has an id of its own; so equal heads are equal scenes within one run.
        """
        same = self.models is other.models and self.config == other.config
        here, there = self.history, other.history
        return same and (here.head, here.next_id) == (there.head, there.next_id)


class Ahead:
    """Thinks about the next step in a thread of its own while this one is drawn; keeps that one thought."""

    def __init__(self) -> None:
        self._kept: tuple[Outlook, Future[Thought]] | None = None

    @contextmanager
    def thinking(self, outlook: Outlook | None) -> Iterator[None]:
        """Thinks at `outlook` while the body runs, and waits for it at the end; None = does not.

        No thread outlives the body, so a planner or masker never serves two at once. A body that fails leaves nothing.
        """
        self._kept = None
        if outlook is None:
            yield
            return
        with ThreadPoolExecutor(1, "ahead") as pool:
            thought = pool.submit(outlook.think)
            yield
        self._kept = outlook, thought

    def thought(self, outlook: Outlook) -> Thought:
        """What was thought ahead at this very place; else thinks now. A bug in a thought is raised here."""
        kept, self._kept = self._kept, None
        return kept[1].result() if kept and kept[0].is_at(outlook) else outlook.think()
