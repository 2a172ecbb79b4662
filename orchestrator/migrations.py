"""Brings the JSON files of older runs to today's schema, one function a version; the files themselves stay as they are.

A run of an older version opens, and what is added to it is written in today's schema. Fixtures of every version lie in
`tests/orchestrator/old_runs/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scene.errors import UserError

RUN_SCHEMA_VERSION = 3

Data = dict[str, Any]


def _step_1_to_2(data: Data) -> Data:
    """Version 2 adds who did it, depth, order, caption and seed."""
    return {"by": "planner", "behind": [], "order": [], "context": "", "seed": None, **data}


def _step_2_to_3(data: Data) -> Data:
    """Version 3 adds self-correction, edits of layers, and checksums (none are known of older pictures)."""
    return {"attempt": 0, "attempts": [], "changes": [], "removed": [], "key": "", "files": {}, **data}


def _history_2_to_3(data: Data) -> Data:
    """Version 3 names branches and remembers what undo left."""
    return {"branches": {"main": data["head"]}, "branch": "main", "trail": [], **data}


def _same(data: Data) -> Data:
    return data


_MIGRATIONS: Mapping[str, tuple[Callable[[Data], Data], ...]] = {
    "run": (_same, _same),
    "step": (_step_1_to_2, _step_2_to_3),
    "history": (_same, _history_2_to_3),
}


def read_json(path: Path, kind: str, remedy: str = "restore it or start a new run") -> Data:
    """Reads a JSON file of a run, in today's schema.

    Args:
        path: the file.
        kind: "run", "step" or "history".
        remedy: what to do when it cannot be used.

    Raises:
        UserError: unreadable, no JSON object, lacking what its version has, or of a version that is not known.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({str(error)[:80]}); {remedy}") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int) or not 1 <= version <= RUN_SCHEMA_VERSION:
        advice = "use a newer smartscene" if isinstance(version, int) and version > RUN_SCHEMA_VERSION else remedy
        raise UserError(f"{path} has schema {version}, need 1 to {RUN_SCHEMA_VERSION}; {advice}")
    try:
        for migrate in _MIGRATIONS[kind][version - 1 :]:
            data = migrate(data)
    except KeyError as error:
        raise UserError(f"{path} is broken (lacks {error}); {remedy}") from None
    return {**data, "schema_version": RUN_SCHEMA_VERSION}
