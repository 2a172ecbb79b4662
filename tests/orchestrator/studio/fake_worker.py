"""A worker with small fast stand-ins for the models, whose slowness and death tests can order.

`$STUDIO_FAKE_SECONDS` is how long a rendering takes; the words "a fatal ..." kill the process while they are rendered.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import numpy as np

from orchestrator.config import ComposeConfig
from orchestrator.ports import Models
from orchestrator.studio.worker import serve
from scene.geometry import Box
from scene.layers import LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed
from tests.orchestrator.fakes import FakeInpainter, FakeMasker, FakePlanner, fake_models

PLAN = ("sky", "grass", "sun", "oak tree", "boy", "dog", "cat", "soccer ball")


class Planner(FakePlanner):
    """The fake planner, with reasons and confidence."""

    def propose(self, scene: LayeredScene, prompt: str, **rest: object) -> Proposal:
        proposal = super().propose(scene, prompt, **rest)  # type: ignore[arg-type]
        if proposal.stop:
            return proposal
        number = self.plan.index(proposal.label)
        box = None if number < 2 else Box(*(round(v) for v in _places(number, *scene.size)))
        return replace(proposal, box=box, reason=f"the prompt names a {proposal.label}", confidence=0.9 - number / 20)


def _places(number: int, width: int, height: int) -> tuple[float, float, float, float]:
    x = (0.08 + 0.16 * (number - 2)) * width
    y = 0.08 * height if number == 2 else 0.45 * height
    return x, y, x + 0.14 * width, y + (0.18 if number == 2 else 0.35) * height


class Painter(FakeInpainter):
    """One colour inside the mask, as slowly as ordered."""

    def render(self, image: np.ndarray, mask: np.ndarray, *words: str, seed: StepSeed) -> np.ndarray:
        if "fatal" in words[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ.get("STUDIO_FAKE_SECONDS", "0")))
        colour = np.random.default_rng(seed.derive("flat")).integers(60, 240, 3, dtype=np.uint8)
        return np.where(mask[..., None], colour, image)


def models(config: ComposeConfig) -> Models:
    """All stand-ins, whatever the preset."""
    plain = fake_models()
    return Models(Planner(PLAN), FakeMasker(), Painter(), plain.vocabulary, notice=config.notice)


if __name__ == "__main__":
    serve(models)
