"""A run under way: propose, mask, render, checkpoint. A model's mistake becomes a rejected step; our bug propagates."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from orchestrator.asked import live_graph, verdicts
from orchestrator.config import ComposeConfig
from orchestrator.edits import Insertion, Wish, consider, moved, place, reorder
from orchestrator.history import History, StepRecord
from orchestrator.layout_first import draw_next, ending_of, undrawn
from orchestrator.outlook import Ahead, Draft, Outlook, Thought
from orchestrator.ports import Models
from orchestrator.products import go, write_products
from orchestrator.rendering import check_seed, drawn_inside, render_key
from orchestrator.request import By, Request
from orchestrator.run_folder import RunFolder
from scene.candidates import MaskCandidate
from scene.errors import SmartSceneError
from scene.guidance import Guidance
from scene.layers import Layer, LayeredScene
from scene.layout import layout_picture
from scene.proposal import Proposal
from scene.seeds import StepSeed


class Run:
    """A composition under way.

    `steps()` runs it to the end; `propose`, `place`, `reject` and `stop` let a person decide each step; `insert` and
    `reorder` change the scene at any time, finished or not.
    """

    def __init__(self, folder: RunFolder, config: ComposeConfig, models: Models) -> None:
        self.folder, self.config, self.models = folder, config, models
        self.prompt: str = folder.facts["prompt"]
        self.scene: LayeredScene = folder.scene()
        self._ahead = Ahead()

    @property
    def outlook(self) -> Outlook:
        """Where the run stands, as planner and masker see it."""
        given = frozenset(self.folder.photo.ids) if self.folder.photo else frozenset[int]()
        return Outlook(self.models, self.config, int(self.folder.facts["seed"]), self.folder.history, self.scene, given)

    @property
    def finished(self) -> bool:
        """The head of the history is a stop."""
        return self.folder.history.finished

    @property
    def unknown(self) -> list[str]:
        """Words of the prompt that name something the preset does not know."""
        return list(self.folder.facts.get("unknown", []))

    @property
    def image(self) -> Image.Image:
        """The picture so far."""
        return Image.fromarray(self.scene.image)

    def steps(self) -> Iterator[StepRecord]:
        """Runs to the end, yielding each step once it is on disk; then writes the final pictures."""
        while not self.finished:
            yield self.advance()
        self.finish()

    def advance(self) -> StepRecord:
        """One automatic step."""
        ending = ending_of(self)
        if ending is not None:
            return self.conclude(ending)
        outlook = self.outlook
        stop = outlook.limit()
        if stop:
            return self.conclude(Proposal(stop=True, reason=stop))
        thought = self._ahead.thought(outlook)
        proposal = thought.draft.proposal
        if proposal is not None and proposal.stop:
            return self.conclude(proposal, thought.draft)
        return self._drawn(thought, proposal)

    def conclude(self, ending: Proposal, draft: Draft | None = None) -> StepRecord:
        """The next step once no more objects come: draws a layer that has no pixels yet, else stops.

        Args:
            ending: the proposal to stop.
            draft: where it came from; None = not from the planner, or not just now.
        """
        if undrawn(self):
            return draw_next(self, ending, draft.seconds if draft else 0.0)
        return self.stop(ending.reason or "the planner is done", draft)

    @property
    def lays_only(self) -> bool:
        """Layout-first: steps get their mask now and their pixels later."""
        return self.config.mode == "layout-first" and not self.finished

    @property
    def drawing(self) -> bool:
        """Layout-first: the layout is complete and its layers are being drawn."""
        return ending_of(self) is not None and not self.finished

    def propose(self) -> Draft:
        """Asks the planner for the next object."""
        return self.outlook.propose()

    def draft_seed(self, number: int) -> Draft:
        """A draft without the planner's word, for an object of a person."""
        return Draft(StepSeed(int(self.folder.facts["seed"]), number), None, "", 0.0)

    def place(self, draft: Draft, proposal: Proposal | None = None, guidance: Guidance | None = None) -> StepRecord:
        """Predicts the mask, renders the object and checkpoints the step.

        Args:
            draft: what `propose` gave.
            proposal: used in its place (edited words).
            guidance: the person's hint; without it the planner's coarse box is used.

        Returns:
            The step: placed, or rejected when no usable mask came.
        """
        proposal = proposal or draft.proposal
        if proposal is None or proposal.stop:
            raise ValueError("place needs a proposal with an object")
        return self._drawn(self.outlook.shape(draft, proposal, guidance), proposal)

    def _drawn(self, thought: Thought, proposal: Proposal | None) -> StepRecord:
        """The step that a thought becomes; where the preset says so, the next is thought about meanwhile."""
        draft, choice = thought.draft, thought.choice
        if choice is None:
            return self.reject(draft, thought.error, proposal)
        timings = {"propose_s": round(draft.seconds, 3), "mask_s": round(thought.mask_s, 3)}
        after = self.outlook.after(choice) if self.config.overlap and not self.lays_only else None
        with self._ahead.thinking(None if after is None or after.limit() else after):
            return self.render(choice.request, choice.candidates, choice.chosen, timings, attempts=choice.attempts)

    def render(
        self,
        request: Request,
        candidates: Sequence[MaskCandidate],
        chosen: int,
        timings: Mapping[str, float],
        pictures: Mapping[str, np.ndarray] | None = None,
        attempts: Sequence[Mapping[str, Any]] = (),
    ) -> StepRecord:
        """Renders a candidate whole, on the picture beneath its place, and checkpoints the step.

        Args:
            request: the object.
            candidates: what `masks` gave.
            chosen: index of the one to take.
            timings: seconds spent so far.
            pictures: more pictures to keep with the step, by name.
            attempts: what self-correction tried.

        Raises:
            ModelError: the inpainter cannot draw it.
        """
        proposal, mask, number = request.proposal, candidates[chosen].mask, request.seed.step
        beneath = self.scene.beneath(request.behind).image
        words = (proposal.label, proposal.description, request.context)
        started = time.monotonic()
        rgba = None if self.lays_only else self.draw(beneath, mask, *words, request.seed)
        if rgba is not None:
            timings = {**timings, "render_s": round(time.monotonic() - started, 3)}
        layer = Layer(number, proposal.label, proposal.description, mask, rgba, {"step": number})
        scene = self.scene.with_layer(layer, request.behind)
        visible = scene.visible(number)
        if not np.array_equal(scene.image[~visible], self.scene.image[~visible]):
            raise SmartSceneError("an object behind others changed pixels in front of it")
        step = StepRecord(
            index=number,
            parent=self.folder.history.head,
            outcome="placed",
            proposal=proposal,
            guidance=request.guidance_json(),
            candidates=tuple({"score": round(c.score, 6), **c.details} for c in candidates),
            chosen=chosen,
            timings=timings,
            by=request.by,
            behind=request.behind,
            context=request.context,
            seed=None if request.seed.run == self.folder.facts["seed"] else request.seed.run,
            attempt=request.seed.attempt,
            attempts=tuple(attempts),
            key="" if rgba is None else self.key(beneath, mask, *words, request.seed),
        )
        made = {"mask": visible, "amodal": mask, "layout": layout_picture(scene.layout)}
        if rgba is not None:
            made |= {"layer": rgba, "image": scene.image}
        step = self.folder.add_step(step, {**made, **_drawing(request.guidance), **(pictures or {})})
        self.scene = scene
        return step

    def draw(
        self, beneath: np.ndarray, mask: np.ndarray, label: str, description: str, context: str, seed: StepSeed
    ) -> np.ndarray:
        """The object alone, uint8 (H, W, 4), rendered on the picture `beneath` inside `mask`, in the run's style.

        On a photo larger than the canvas it is drawn in a window of the photo, and shown here scaled down.

        Raises:
            ModelError: the inpainter cannot draw it.
        """
        words = (label, self._styled(description), context or self.prompt)
        view = self.folder.photo.view(beneath, mask) if self.folder.photo else None
        if view is None:
            image = self.models.inpainter.render(beneath, mask, *words, seed=seed)
            return drawn_inside(image, mask, beneath)
        image = self.models.inpainter.render(view.image, view.mask, *words, seed=seed)
        drawn_inside(image, view.mask, view.image)
        assert self.folder.photo is not None
        self.folder.photo.keep(render_key(self.models, beneath, mask, words, seed), image)
        return view.on_canvas(image, mask)

    def key(
        self, beneath: np.ndarray, mask: np.ndarray, label: str, description: str, context: str, seed: StepSeed
    ) -> str:
        """Content address of what `draw` gives: equal keys, equal pixels."""
        words = (label, self._styled(description), context or self.prompt)
        return render_key(self.models, beneath, mask, words, seed)

    def _styled(self, description: str) -> str:
        return f"{description}, {self.config.style}" if self.config.style else description

    def consider(
        self,
        words: str,
        *,
        guidance: Guidance | None = None,
        behind: Sequence[str | int] = (),
        context: str = "",
        count: int = 4,
        pick: int | None = None,
        seed: int | None = None,
    ) -> Insertion:
        """Candidate masks of an object that a person wants, with their contact sheet; nothing is placed.

        Args:
            words: the object, like "a brown dog".
            guidance: box, blob or scribble; None = mask-free.
            behind: ids, labels or descriptions of layers that it goes behind.
            context: caption of the scene; "" = the run's prompt.
            count: candidates, 1 to 16.
            pick: number of the candidate to take, 1 = best; None = the best.
            seed: root of the random numbers; None = the run's.

        Raises:
            UserError: an object that the preset does not know, no such layer, numbers out of range, no usable mask.
        """
        if seed is not None:
            check_seed(seed)
        vocabulary, preset = self.models.vocabulary, self.config.preset
        wish = Wish.checked(words, self.scene, vocabulary, preset, behind=behind, count=count, pick=pick)
        return consider(self, wish, guidance=guidance, context=context, seed=seed)

    def insert(self, wanted: str | Insertion, **options: Any) -> StepRecord:
        """Adds an object, finished run or not: what `consider` gave, or words with the options of `consider`.

        A finished run stays finished. The run's pictures are renewed.

        Raises:
            UserError: as `consider`.
        """
        return place(self, self.consider(wanted, **options) if isinstance(wanted, str) else wanted)

    def reorder(self, layer: str | int, **where: Any) -> StepRecord:
        """Moves a layer `behind=`, `in_front_of=` (another layer) or `to=` (position, 1 = rearmost); see `moved`."""
        order, reason = moved(self.scene, str(layer), **where)
        self.scene = reorder(self.folder, self.scene, order, reason, self.models.vocabulary)
        return self.folder.history.steps[self.folder.history.head]

    def edit(self, layer: str | int, **what: Any) -> StepRecord:
        """Changes one layer, and what was drawn on top of its place; the fields of `layer_edits.Edit` say how."""
        from orchestrator.layer_edits import Edit, edit

        return edit(self, str(layer), Edit(**what))

    def reject(self, draft: Draft, reason: str, proposal: Proposal | None = None, *, by: By = "planner") -> StepRecord:
        """Records that nothing was placed, and why. The planner is told the label, and a person's reason."""
        return self._nothing("rejected", draft, reason, proposal, by)

    def skip(self, draft: Draft) -> StepRecord:
        """Records that a person wants something else first; after the next object it may be proposed again."""
        return self._nothing("skipped", draft, "not now", None, "person")

    def _nothing(self, outcome: Any, draft: Draft, reason: str, proposal: Proposal | None, by: By) -> StepRecord:
        step = StepRecord(
            index=draft.seed.step,
            parent=self.folder.history.head,
            outcome=outcome,
            proposal=proposal or draft.proposal,
            reason=reason,
            timings={"propose_s": round(draft.seconds, 3)},
            by=by,
        )
        self.folder.add_step(step, {})
        return step

    def stop(self, reason: str, draft: Draft | None = None) -> StepRecord:
        """Ends the scene here."""
        history = self.folder.history
        step = StepRecord(
            history.next_id, history.head, "stopped", draft.proposal if draft else None, reason=reason,
            timings={"propose_s": round(draft.seconds, 3)} if draft else {},
        )  # fmt: skip
        self.folder.add_step(step, {})
        return step

    def finish(self) -> None:
        """Writes final.png, layout.png, strip.png, scene.json and layers/ for where the run stands."""
        write_products(self.folder, self.scene, live_graph(self.scene, self.models.vocabulary))

    def relations(self) -> list[dict[str, Any]]:
        """What the prompt asks for, and whether it holds; see `verdicts`."""
        return verdicts(self.scene, self.models.vocabulary)

    def go(self, history: History) -> None:
        """Moves the head (undo, redo, branch): no step is changed. Renews the run's pictures.

        Args:
            history: what `History.undone`, `redone`, `branched` or `switched` gave.
        """
        self.scene = go(self.folder, history, self.models.vocabulary)

    def close(self) -> None:
        """Lets other processes work on the run."""
        self.folder.close()


def _drawing(guidance: Guidance | None) -> dict[str, np.ndarray]:
    """The picture that a scribble's record needs beside it."""
    return {"guide": guidance.map > 0.5} if guidance and guidance.kind == "scribble" else {}
