"""Guards: pure functions that overrule a raw choice of the model, each with a note that says so.

The model chooses "what next" (a label, or stop); the guards may narrow that choice to some labels, or to stop.
Description and box are then written by the model again, so that even a guarded proposal fits the picture.

Source: the guard set is ours; the paper's planner (arXiv 2312.05039) is an unguarded LLaVA.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import Field

from runtime.config import Config
from scene.errors import ModelError
from scene.geometry import Box

ALL_LAID = 2  # a world with so few surfaces shows all of them in every scene


class GuardConfig(Config):
    """What the guards allow; surfaces (sky, grass) are never counted."""

    enabled: bool = True
    """False = the model's raw choices, for measuring."""
    max_objects: int = Field(default=8, ge=1)
    """At most this many objects in a scene."""
    max_named: int = Field(default=0, ge=0)
    """What the prompt names may be more than `max_objects`, up to this many."""
    repeat_cap: int = Field(default=1, ge=1)
    """How often a label may occur when the prompt names no larger number."""
    max_implied: int = Field(default=3, ge=0)
    """How many objects the planner may add that the prompt does not name."""
    min_objects: int = Field(default=2, ge=0)
    """No stop before this many objects."""
    strangers: bool = False
    """Whether people may be added to a prompt that says who is there."""
    max_twin_iou: float = Field(default=0.2, ge=0, le=1)
    """Boxes of two objects of one label may overlap this much; above, the second is placed again elsewhere."""


@dataclass(frozen=True)
class PlanState:
    """What guards look at.

    Attributes:
        placed: label -> how many are in the scene.
        wanted: label -> how many the prompt names.
        surfaces: labels that carry a scene, in the order in which they belong, from the back.
        labels: every label of the world.
        rejected: labels that must not be proposed now.
        people: labels that are persons.
        supporters: label -> what the prompt wants under it.
    """

    placed: Mapping[str, int]
    wanted: Mapping[str, int]
    surfaces: tuple[str, ...]
    labels: tuple[str, ...]
    rejected: frozenset[str] = frozenset()
    people: frozenset[str] = frozenset()
    supporters: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def lay_all(self) -> bool:
        """Whether every scene of this world has all its surfaces (park: sky and grass)."""
        return len(self.surfaces) <= ALL_LAID

    @property
    def open_surfaces(self) -> tuple[str, ...]:
        """Surfaces still to be laid."""
        return tuple(label for label in self.surfaces if not self.placed.get(label) and label not in self.rejected)

    @property
    def missing(self) -> tuple[str, ...]:
        """Labels that the prompt names and the scene does not have often enough, in world order."""
        return tuple(
            label
            for label in self.labels
            if self.wanted.get(label, 0) > self.placed.get(label, 0) and label not in self.rejected
        )

    @property
    def missing_count(self) -> int:
        """How many objects are missing, surfaces left out."""
        return sum(
            self.wanted[label] - self.placed.get(label, 0) for label in self.missing if label not in self.surfaces
        )

    @property
    def named(self) -> int:
        """Objects that the prompt names, surfaces left out."""
        return sum(count for label, count in self.wanted.items() if label not in self.surfaces)

    @property
    def objects(self) -> int:
        """Objects placed, surfaces left out."""
        return sum(count for label, count in self.placed.items() if label not in self.surfaces)

    @property
    def implied(self) -> int:
        """Objects placed beyond what the prompt names."""
        return sum(
            max(0, count - self.wanted.get(label, 0))
            for label, count in self.placed.items()
            if label not in self.surfaces
        )


@dataclass(frozen=True)
class Ruling:
    """A guard's word.

    Attributes:
        labels: what the model may choose among instead; empty = stop.
        note: which guard, and why.
        allow_stop: whether it may also choose to stop.
    """

    labels: tuple[str, ...]
    note: str
    allow_stop: bool = False


def plan_state(
    placed: Sequence[str],
    wanted: Mapping[str, int],
    labels: Sequence[str],
    surfaces: Iterable[str],
    rejected: Iterable[str] = (),
    people: Iterable[str] = (),
    supporters: Mapping[str, Sequence[str]] | None = None,
) -> PlanState:
    """State from the labels in the scene."""
    return PlanState(
        Counter(placed),
        dict(wanted),
        tuple(surfaces),
        tuple(labels),
        frozenset(rejected),
        frozenset(people),
        dict(supporters or {}),
    )


def is_stranger(label: str, state: PlanState, config: GuardConfig) -> bool:
    """A person whom the prompt does not name, though it names others."""
    named = any(person in state.wanted for person in state.people)
    return not config.strangers and named and label in state.people and label not in state.wanted


def allowed_labels(state: PlanState, config: GuardConfig) -> tuple[str, ...]:
    """Labels that may be added now under repeat cap, implied cap and rejection, in world order."""

    def fits(label: str) -> bool:
        count = state.placed.get(label, 0)
        if label in state.rejected or is_stranger(label, state, config):
            return False
        if label in state.surfaces:
            return count == 0 and (state.lay_all or not state.objects or label in state.wanted)
        if count < state.wanted.get(label, 0):
            return True
        return state.implied < config.max_implied and count < config.repeat_cap

    return tuple(label for label in state.labels if fits(label))


def guard_surfaces(choice: str | None, state: PlanState, config: GuardConfig) -> Ruling | None:
    """What carries the scene comes first: sky, then grass; in a world of many surfaces those that the prompt names and
    at least one, and none after the first object."""
    if not state.lay_all:
        return _guard_some_surfaces(choice, state, config)
    if not state.open_surfaces or choice == state.open_surfaces[0]:
        return None
    first = state.open_surfaces[0]
    return Ruling((first,), f"surfaces first: {choice or 'stop'} -> {first}")


def _guard_some_surfaces(choice: str | None, state: PlanState, config: GuardConfig) -> Ruling | None:
    named = tuple(label for label in state.missing if label in state.surfaces)
    if choice in state.surfaces:
        if not state.objects or choice in named:
            return None
        others = state.missing or allowed_labels(state, config)
        return Ruling(others, f"surfaces first: no {choice} after objects", allow_stop=not state.missing)
    if named:
        return Ruling(named, f"surfaces first: {choice or 'stop'} -> one of {', '.join(named)}")
    if any(state.placed.get(label) for label in state.surfaces) or not state.open_surfaces:
        return None
    return Ruling(state.open_surfaces, f"surfaces first: {choice or 'stop'} -> a surface")


def guard_supporter(choice: str | None, state: PlanState, config: GuardConfig) -> Ruling | None:
    """What carries comes before what it carries, where the prompt says so."""
    due = tuple(label for label in state.supporters.get(choice or "", ()) if label in state.missing)
    return Ruling(due, f"supporter first: {choice} -> {', '.join(due)}") if due and choice not in due else None


def _most(state: PlanState, config: GuardConfig) -> int:
    return max(config.max_objects, min(state.named, config.max_named))


def guard_maximum(choice: str | None, state: PlanState, config: GuardConfig) -> Ruling | None:
    """No more than `max_objects`, or than the prompt names."""
    if choice is None or choice in state.surfaces or state.objects < _most(state, config):
        return None
    return Ruling((), f"maximum of {_most(state, config)} objects: {choice} -> stop")


def guard_room(choice: str | None, state: PlanState, config: GuardConfig) -> Ruling | None:
    """The last free places belong to what the prompt names."""
    named = tuple(label for label in state.missing if label not in state.surfaces)
    if choice is None or not named or choice in state.missing or choice in state.surfaces:
        return None
    if _most(state, config) - state.objects > state.missing_count:
        return None
    return Ruling(named, f"room for named objects: {choice} -> one of {', '.join(named)}")


def guard_named(choice: str | None, state: PlanState, config: GuardConfig) -> Ruling | None:
    """No stop while an object that the prompt names is missing."""
    if choice is not None or not state.missing:
        return None
    return Ruling(state.missing, f"named objects before stop: stop -> one of {', '.join(state.missing)}")


def guard_repeat(choice: str | None, state: PlanState, config: GuardConfig) -> Ruling | None:
    """No label more often than named, or than `repeat_cap`."""
    if choice is None:
        return None
    cap = max(1 if choice in state.surfaces else config.repeat_cap, state.wanted.get(choice, 0))
    if state.placed.get(choice, 0) < cap:
        return None
    why = f"repeat cap of {cap} for {choice}"
    if state.missing:
        return Ruling(state.missing, f"{why} -> one of {', '.join(state.missing)}")
    return Ruling(allowed_labels(state, config), f"{why} -> something else", allow_stop=True)


def guard_implied(choice: str | None, state: PlanState, config: GuardConfig) -> Ruling | None:
    """A bounded number of objects that the prompt does not name."""
    if choice is None or choice in state.surfaces or choice in state.missing:
        return None
    if state.implied < config.max_implied:
        return None
    why = f"at most {config.max_implied} unnamed objects: {choice}"
    if state.missing:
        return Ruling(state.missing, f"{why} -> one of {', '.join(state.missing)}")
    return Ruling((), f"{why} -> stop")


def guard_strangers(choice: str | None, state: PlanState, config: GuardConfig) -> Ruling | None:
    """When the prompt says who is there, nobody else comes."""
    if choice is None or not is_stranger(choice, state, config):
        return None
    why = f"the prompt says who is there: {choice}"
    if state.missing:
        return Ruling(state.missing, f"{why} -> one of {', '.join(state.missing)}")
    return Ruling(allowed_labels(state, config), f"{why} -> something else", allow_stop=True)


def guard_minimum(choice: str | None, state: PlanState, config: GuardConfig) -> Ruling | None:
    """No stop before `min_objects`."""
    if choice is not None or state.objects >= min(config.min_objects, config.max_objects):
        return None
    labels = allowed_labels(state, config)
    return Ruling(labels, f"at least {config.min_objects} objects: stop -> go on") if labels else None


GUARDS = (
    guard_surfaces,
    guard_maximum,
    guard_named,
    guard_repeat,
    guard_implied,
    guard_room,
    guard_strangers,
    guard_minimum,
    guard_supporter,
)


def too_close(box: Box, twins: Sequence[Box], config: GuardConfig) -> bool:
    """Whether a box all but covers another object of its label."""
    return config.enabled and any(box.iou(twin) > config.max_twin_iou for twin in twins)


def rule(choice: str | None, state: PlanState, config: GuardConfig) -> Ruling | None:
    """The first guard that objects, or None.

    Args:
        choice: the model's label, None = stop.
        state: scene and prompt.
        config: limits.
    """
    if not config.enabled:
        return None
    for guard in GUARDS:
        ruling = guard(choice, state, config)
        if ruling is not None:
            return ruling
    return None


Reply = TypeVar("Reply")


def settle(
    state: PlanState,
    config: GuardConfig,
    max_rulings: int,
    ask: Callable[[Sequence[str], bool], tuple[str | None, Reply]],
) -> tuple[Reply | None, list[str]]:
    """Asks a model until no guard objects.

    Args:
        state: what guards look at.
        config: what they allow.
        max_rulings: so many times at most.
        ask: labels to choose among, and whether it may stop -> the choice (None = stop), and the reply it is a part of.

    Returns:
        The reply, or None where a guard says stop; and a note for every guard that fired.

    Raises:
        ModelError: the guards do not agree.
    """
    labels: Sequence[str] = [label for label in state.labels if label not in state.rejected]
    allow_stop, notes = True, list[str]()
    for _ in range(max_rulings):
        choice, reply = ask(labels, allow_stop)
        ruling = rule(choice, state, config)
        if ruling is None:
            return reply, notes
        notes.append(ruling.note)
        labels, allow_stop = ruling.labels, ruling.allow_stop
        if not labels:
            return None, notes
    raise ModelError(f"guards do not agree: {'; '.join(notes)}")
