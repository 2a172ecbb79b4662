"""What a planner of any kind knows before it proposes, and what becomes of its choice: prompt and scene read by the
world's words, relations that the prompt asks for, and the finished `Proposal`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial

import numpy as np

from planner.brief import Item, brief_of
from planner.circumlocution import Circumlocutions
from planner.drafting import Expected
from planner.grammar import Answer, Link
from planner.guards import GuardConfig, PlanState, plan_state
from planner.links import Wish, leaves_room, moved_to_hold, prompt_links, sides_to_come, stands
from planner.restating import restated
from planner.spelling import Speller
from scene.colours import asked_colours
from scene.geometry import Box
from scene.layers import Layer, LayeredScene
from scene.proposal import PlannedRelation, Proposal
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary

ARTICLES = ("a", "an", "the", "some")
_TIMES = re.compile(r"\b(\d{1,2}) ?[x×] ?(?=[A-Za-z]{2})")  # "3x school chair"


@dataclass(frozen=True)
class Situation:
    """Prompt and scene as the guards see them.

    Attributes:
        text: prompt and turn, as typed.
        told: the same as the model is told it: `SceneReader.in_own_words`.
        state: what is placed, wanted, rejected.
        links: label -> relations that the prompt asks for.
        colours: label -> colours that the prompt asks for, one a mention that has one.
        notes: slips that were mended.
        brief: what the prompt asks for, in the order of its words.
    """

    text: str
    told: str
    state: PlanState
    links: dict[str, list[Link]]
    notes: tuple[str, ...] = ()
    colours: dict[str, list[str]] = field(default_factory=dict)
    brief: tuple[Item, ...] = ()


@dataclass(frozen=True, eq=False)
class Moment:
    """What decides where a proposal goes.

    Attributes:
        scene, situation, seed: what is there, what was said, which step this is.
        picture: uint8 (H, W, 3), the layout as it is seen.
    """

    scene: LayeredScene
    situation: Situation
    seed: StepSeed
    picture: np.ndarray

    @cached_property
    def expected(self) -> Expected:
        """What the prompt makes likely."""
        links = self.situation.links
        due = {label: [link for link, _ in open_links(label, links, self.scene)] for label in links}
        return Expected(self.situation.state.missing, due, self.situation.colours)

    def wishes(self, answer: Answer, room: bool) -> tuple[Answer, list[Wish]]:
        """The answer, with a relation that the prompt asks for and whose partner stands there where it states none of
        them; and what its box should meet besides: other such relations, whatever came too early to stand on it, and,
        with `room`, room for what is to stand beside."""
        asked = open_links(answer.label, self.situation.links, self.scene)
        if asked and answer.link not in [link for link, _ in asked]:
            answer = answer.model_copy(update={"link": asked[0][0]})
        wishes: list[Wish] = [partial(stands, link[0], other=box) for link, box in asked if link != answer.link]
        wishes += [partial(stands, "on", box) for box in self._to_carry(answer.label)]
        there = {layer.label for layer in self.scene.layers}
        for side in sides_to_come(self.situation.links.get(answer.label, ()), there) if room else ():
            wishes.append(partial(leaves_room, side=side, size=self.scene.size))
        return answer, wishes

    def _to_carry(self, label: str) -> list[Box]:
        """Boxes of what stands there already and should stand on a `label`, of which there is none yet."""
        if any(layer.label == label for layer in self.scene.layers):
            return []
        return [
            layer.box
            for layer in self.scene.layers
            if layer.box is not None and ("on", label) in self.situation.links.get(layer.label, ())
        ]


class SceneReader:
    """Reads prompts and scenes of one world.

    Args:
        vocabulary: the world's words.
        speller: mends slips before names are looked for; None = as typed.
    """

    def __init__(self, vocabulary: Vocabulary, speller: Speller | None = None) -> None:
        self.vocabulary, self.speller = vocabulary, speller
        self.descriptions = Circumlocutions.of(vocabulary, speller.rare if speller else None)
        self.surfaces = tuple(label for label in vocabulary.labels if vocabulary.kind(label) == "surface")
        self.people = tuple(label for label in vocabulary.labels if vocabulary.kind(label) == "person")
        self.read = lru_cache(maxsize=64)(self._read)  # planner, self-correction and the loop's limit ask every step

    def _read(self, text: str) -> tuple[str, tuple[str, ...]]:
        """A text with slips mended, descriptions replaced by names and relations restated, and a note for each."""
        text = _TIMES.sub(r"\1 ", text)
        read, notes = self.speller.corrected(text) if self.speller else (text, ())
        if self.descriptions is not None:
            read, named = self.descriptions.named(read)
            read, understood = restated(read, self.vocabulary, self.descriptions.parser)
            notes = (*notes, *named, *understood)
        return read, notes

    def in_own_words(self, text: str) -> str:
        """A text as it is read, with every name that the world file does not have replaced by the label: "two wing
        chairs" are "two armchairs" to a small model, which has seen few words. As typed in a world without everyday
        words: its planner has learned from what people typed.
        """
        vocabulary = self.vocabulary
        if not vocabulary.has_everyday_words:
            return text
        told, _ = self.read(text)
        for mention in reversed(vocabulary.find(told)):
            word = told[mention.start : mention.end]
            if vocabulary.plain.exact(word) is None and vocabulary.exact(word) is not None:
                name = vocabulary.plural(mention.label) if vocabulary.is_plural(word) else mention.label
                told = told[: mention.start] + name + told[mention.end :]
        return told

    def situation(self, scene: LayeredScene, prompt: str, turn: str | None, rejected: Sequence[str]) -> Situation:
        """See `Situation`."""
        text = " ".join(part for part in (prompt, turn) if part)
        read, notes = self.read(text)
        links = prompt_links(read, self.vocabulary)
        state = plan_state(
            [layer.label for layer in scene.layers],
            self.vocabulary.counts(read),
            self.vocabulary.labels,
            self.surfaces,
            rejected,
            self.people,
            {label: [other for word, other in found if word == "on"] for label, found in links.items()},
        )
        brief = brief_of(read, self.vocabulary)
        colours = asked_colours(read, self.vocabulary)
        return Situation(text, self.in_own_words(text), state, links, notes, colours, brief)

    def stop(self, situation: Situation, notes: Sequence[str], confidence: float | None = None) -> Proposal:
        """A stop with its reason."""
        return Proposal(
            stop=True, reason=stop_reason(situation.state), notes=(*situation.notes, *notes), confidence=confidence
        )

    def proposal(
        self,
        situation: Situation,
        scene: LayeredScene,
        label: str,
        description: str,
        box: Box | None,
        link: Link | None,
        notes: Sequence[str],
        confidence: float | None = None,
    ) -> Proposal:
        """A finished proposal of an object."""
        reason = "named in the prompt" if situation.state.wanted.get(label) else "fits the scene"
        partner = latest(scene, link[1]) if link else None
        return Proposal(
            label=label,
            description=description,
            box=box,
            reason="carries the scene" if label in self.surfaces else reason,
            notes=(*situation.notes, *notes),
            attributes=attributes(description, label),
            relation=PlannedRelation(link[0], link[1], partner.id if partner else None) if link else None,
            confidence=confidence,
        )


def latest(scene: LayeredScene, label: str) -> Layer | None:
    """The nearest layer of a label that is on the canvas."""
    return next((layer for layer in reversed(scene.layers) if layer.label == label and layer.box is not None), None)


def open_links(label: str, links: Mapping[str, Sequence[Link]], scene: LayeredScene) -> list[tuple[Link, Box]]:
    """Relations of `label` that the prompt asks for, whose partner stands there, and that no other layer of the label
    fulfils yet; with the partner's box."""
    twins = [layer.box for layer in scene.layers if layer.label == label and layer.box is not None]
    found = []
    for link in links.get(label, ()):
        partner = latest(scene, link[1])
        if partner is None or partner.box is None:
            continue
        if not any(stands(link[0], twin, partner.box) for twin in twins):
            found.append((link, partner.box))
    return found


def due_links(label: str, situation: Situation, scene: LayeredScene, config: GuardConfig) -> list[Link]:
    """`open_links`; the guard lets only these be stated. Empty = free choice."""
    return [link for link, _ in open_links(label, situation.links, scene)] if config.enabled else []


def due_colour(
    label: str, description: str, situation: Situation, scene: LayeredScene, config: GuardConfig
) -> str | None:
    """A colour that the prompt asks of `label`, that no layer of it has and `description` does not say; None = fine."""
    if not config.enabled:
        return None
    due = list(situation.colours.get(label, ()))
    for layer in scene.layers:
        said = [colour for colour in due if layer.label == label and colour in layer.description.split()]
        if said:
            due.remove(said[0])
    return due[0] if due and not any(colour in description.split() for colour in due) else None


def held(link: Link | None, box: Box, scene: LayeredScene, asked: Sequence[Link]) -> tuple[Box, list[str]]:
    """The box moved to where the relation that the prompt asks for holds; a note says so when it was not there."""
    if link is None or link not in asked:
        return box, []
    partner = latest(scene, link[1])
    if partner is None or partner.box is None:
        return box, []
    moved = moved_to_hold(link[0], box, partner.box, scene.size)
    return moved, [] if moved == box else [f"moved to be {link[0]} the {link[1]}, as the prompt says"]


def stop_reason(state: PlanState) -> str:
    """Why a scene ends here."""
    named = sum(1 for label in state.wanted if label not in state.surfaces)
    if state.missing:
        return f"stopped with {', '.join(state.missing)} missing"
    return "everything that the prompt names is placed" if named else "the scene is complete"


def attributes(description: str, label: str) -> tuple[str, ...]:
    """What a description says besides the label: words before it, and what follows as one piece ("with rolled arms").

    >>> attributes("a yellow sofa with rolled arms", "sofa")
    ('yellow', 'with rolled arms')
    """
    before, found, after = f" {description} ".partition(f" {label} ")
    if not found:
        before, after = description, ""
    words = [word for word in before.split() if word not in ARTICLES]
    return (*words, *([after.strip()] if after.strip() else []))
