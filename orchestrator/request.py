"""What is to be placed: words, seed, guide and depth of one object."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Literal

from scene.errors import UserError
from scene.guidance import Guidance
from scene.proposal import Proposal
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary

MAX_OBJECT_CHARACTERS = 200
NEAR_WORDS, NEAR_RATIO = 3, 0.8
By = Literal["planner", "person"]


@dataclass(frozen=True)
class Request:
    """An object to place.

    Attributes:
        seed: root of all random numbers of the step, and the step's id.
        proposal: label and description.
        guidance: spatial hint, or None for mask-free.
        guide_by: who gave the hint.
        behind: ids of the layers it goes behind; mask and pixels are made on the scene beneath all of them.
        context: caption of the scene; "" = the run's prompt.
        by: who asked for the object.
    """

    seed: StepSeed
    proposal: Proposal
    guidance: Guidance | None = None
    guide_by: By = "person"
    behind: tuple[int, ...] = ()
    context: str = ""
    by: By = "planner"

    def guidance_json(self) -> dict[str, Any] | None:
        """As `step.json` holds it."""
        return self.guidance.to_json() | {"by": self.guide_by} if self.guidance else None


def name_object(words: str, vocabulary: Vocabulary, preset: str) -> Proposal:
    """What a person's words ask for: the first category they name, described by the words as they are.

    Raises:
        UserError: no words, too many, several at once, or no category of the preset among them.
    """
    cleaned = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    if not cleaned:
        raise UserError('OBJECT is empty; say what to insert, like "a brown dog"')
    if len(cleaned) > MAX_OBJECT_CHARACTERS:
        raise UserError(f"OBJECT has {len(cleaned):,} characters; describe it in at most {MAX_OBJECT_CHARACTERS}")
    label = vocabulary.canonical(cleaned)
    if label is None:
        near = _near(cleaned, vocabulary)
        hint = f"did you mean {' or '.join(near)}?" if near else "it knows " + _some(vocabulary)
        raise UserError(f"{cleaned[:60]!r} names nothing that preset {preset} knows; {hint}")
    count = vocabulary.counts(cleaned).get(label, 1)
    if count > 1:
        raise UserError(f"{cleaned[:60]!r} asks for {count} of {label}; insert one at a time")
    return Proposal(label, cleaned, reason="asked for by a person")


def _near(words: str, vocabulary: Vocabulary) -> list[str]:
    """Labels whose names or synonyms look like one of the words, likeliest first."""
    names = {name: label for label in vocabulary.labels for name in (label, *vocabulary.synonyms(label))}
    parts = {part: label for name, label in names.items() for part in name.split() if len(part) > 3}
    lowered = words.lower()
    found: list[str] = []
    for text in (lowered, *(word for word in lowered.split() if len(word) > 2)):
        for close in difflib.get_close_matches(text, [*names, *parts], n=NEAR_WORDS, cutoff=NEAR_RATIO):
            label = names.get(close) or parts[close]
            if label not in found:
                found.append(label)
    return found[:NEAR_WORDS]


def _some(vocabulary: Vocabulary) -> str:
    labels = vocabulary.labels
    step = max(1, len(labels) // 8)
    return f"{len(labels)} kinds of object, like {', '.join(labels[::step][:8])}"
