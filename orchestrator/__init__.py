"""The loop: planner, masker and inpainter step by step, with a run folder that survives anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.compose import Composer

__all__ = ["Composer"]


def __getattr__(name: str) -> Any:
    """Imports `Composer` on first use, so that light commands start without torch."""
    if name == "Composer":
        from orchestrator.compose import Composer

        return Composer
    raise AttributeError(name)
