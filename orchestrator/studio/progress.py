"""Tells when a model starts to work and how long it should take, and stops between two of them when asked to."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from orchestrator.ports import Inpainter, Masker, Models, Planner
from scene.candidates import MaskCandidate
from scene.proposal import Proposal

Phase = Literal["load", "planner", "mask", "render"]
TIMED: Mapping[str, Phase] = {"propose_s": "planner", "mask_s": "mask", "render_s": "render"}
REMEMBERED = 8


class Cancelled(Exception):
    """A person stopped the job; nothing was written."""


class Progress:
    """Phases of the job under way.

    Args:
        tell: takes a phase that begins and the seconds it should take (None = not known yet).
        cancelled: says whether the job is to stop.
    """

    def __init__(self, tell: Callable[[Phase, float | None], None], cancelled: Callable[[], bool]) -> None:
        self._tell, self._cancelled = tell, cancelled
        self._seconds: dict[Phase, deque[float]] = {}

    def learn(self, timings: Mapping[str, float]) -> None:
        """Takes the seconds of a finished step as what to expect, where nothing better is known."""
        for name, phase in TIMED.items():
            if timings.get(name) and phase not in self._seconds:
                self._seconds[phase] = deque([timings[name]], REMEMBERED)

    def expected(self, phase: Phase) -> float | None:
        """Median of the last times, seconds."""
        known = self._seconds.get(phase)
        return round(statistics.median(known), 2) if known else None

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Tells the phase, times it, and raises `Cancelled` before and after it when the job is to stop."""
        self.check()
        self._tell(name, self.expected(name))
        started = time.monotonic()
        yield
        self._seconds.setdefault(name, deque(maxlen=REMEMBERED)).append(time.monotonic() - started)
        self.check()

    def check(self) -> None:
        """Raises `Cancelled` when the job is to stop."""
        if self._cancelled():
            raise Cancelled

    def watched(self, models: Models) -> Models:
        """The same models, telling when they work."""
        return replace(
            models,
            planner=_Planner(models.planner, self),
            masker=_Masker(models.masker, self),
            inpainter=_Inpainter(models.inpainter, self),
        )


class _Planner:
    def __init__(self, role: Planner, progress: Progress) -> None:
        self._role, self._progress = role, progress

    def propose(self, *scene: Any, **rest: Any) -> Proposal:
        """See `orchestrator.ports.Planner`."""
        with self._progress.phase("planner"):
            return self._role.propose(*scene, **rest)


class _Masker:
    def __init__(self, role: Masker, progress: Progress) -> None:
        self._role, self._progress = role, progress

    def predict(self, *scene: Any, **rest: Any) -> list[MaskCandidate]:
        """See `orchestrator.ports.Masker`."""
        with self._progress.phase("mask"):
            return self._role.predict(*scene, **rest)


class _Inpainter:
    def __init__(self, role: Inpainter, progress: Progress) -> None:
        self._role, self._progress = role, progress

    def render(self, *picture: Any, **rest: Any) -> np.ndarray:
        """See `orchestrator.ports.Inpainter`."""
        with self._progress.phase("render"):
            return self._role.render(*picture, **rest)


def median_seconds(steps: Sequence[Mapping[str, float]]) -> float | None:
    """What a step took, seconds: the median over the timings of placed steps; None = no step yet."""
    return round(statistics.median(sum(timings.values()) for timings in steps), 1) if steps else None
