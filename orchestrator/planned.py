"""A plan of one's own in place of the planner: an object list from a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from orchestrator.request import name_object
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.layers import LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary

MAX_OBJECTS = 64
_WANTED = 'write a list like [{"words": "a brown dog", "box": [0.1, 0.5, 0.4, 0.9]}, "a boy"], the rearmost first'


def read_plan(path: Path, size: Size, vocabulary: Vocabulary, preset: str) -> tuple[Proposal, ...]:
    """Reads an object list, JSON or YAML: words, or `words` and `box` (canvas pixels or fractions), rearmost first.

    Raises:
        UserError: unreadable, empty, or an entry that cannot be used; it is named by its number.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read plan {path} ({' '.join(str(error).split())[:80]}); {_WANTED}") from None
    if not isinstance(data, list) or not 1 <= len(data) <= MAX_OBJECTS:
        found = f"{len(data)} entries" if isinstance(data, list) else type(data).__name__
        raise UserError(f"plan {path} holds {found}, need a list of 1 to {MAX_OBJECTS}; {_WANTED}")
    return tuple(
        _entry(item, size, vocabulary, preset, f"plan {path} entry {n}") for n, item in enumerate(data, start=1)
    )


def _entry(item: Any, size: Size, vocabulary: Vocabulary, preset: str, where: str) -> Proposal:
    item = {"words": item} if isinstance(item, str) else item
    if not isinstance(item, dict) or not isinstance(item.get("words"), str) or not item.keys() <= {"words", "box"}:
        raise UserError(f"{where} has no words, or more than words and box; {_WANTED}")
    box, values = None, item.get("box")
    try:
        if values is not None:
            text = ",".join(map(str, values)) if isinstance(values, list) else str(values)
            box = Box.parse(text, size)
        return replace(name_object(item["words"], vocabulary, preset), box=box, reason="in the plan")
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


class FixedPlanner:
    """The `Planner` role played by a list: each entry once, in order; then stop.

    Args:
        plan: rearmost first.
    """

    def __init__(self, plan: Sequence[Proposal]) -> None:
        self.plan = tuple(plan)

    def propose(
        self, scene: LayeredScene, prompt: str, *, seed: StepSeed, turn: str | None = None, rejected: Sequence[str] = ()
    ) -> Proposal:
        """The first entry that is not in the scene yet and was not refused."""
        there = Counter((layer.label, layer.description) for layer in scene.layers)
        left = []
        for entry in self.plan:
            if there[entry.label, entry.description]:
                there[entry.label, entry.description] -= 1
            elif entry.label not in rejected:
                return entry
            else:
                left.append(entry.description)
        return Proposal(stop=True, reason=f"plan done, without {', '.join(left)}" if left else "plan done")
