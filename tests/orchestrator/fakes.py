"""Small deterministic stand-ins for the three models, for tests of the loop only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from orchestrator.ports import Models
from scene.candidates import MaskCandidate
from scene.errors import ModelError
from scene.geometry import Box
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary

WORLD = Path(__file__).resolve().parents[2] / "configs" / "worlds" / "park.yaml"
PLAN = ("sky", "grass", "boy", "dog")


class FakePlanner:
    """Walks through a fixed plan, skipping rejected labels; `unusable` attempts fail first."""

    def __init__(self, plan: Sequence[str] = PLAN, unusable: int = 0) -> None:
        self.plan, self.unusable, self.calls = plan, unusable, 0

    def propose(
        self, scene: LayeredScene, prompt: str, *, seed: StepSeed, turn: str | None = None, rejected: Sequence[str] = ()
    ) -> Proposal:
        self.calls += 1
        if self.unusable >= self.calls:
            raise ModelError("no parse")
        placed = [layer.label for layer in scene.layers]
        for label in self.plan:
            if label not in placed and label not in rejected:
                box = Box(100, 200, 300, 400) if label == "boy" else None
                return Proposal(label, f"a {label}", box)
        return Proposal(stop=True, reason="plan done")


class FakeMasker:
    """A seeded disc, or the guide's box."""

    def predict(
        self,
        scene: LayeredScene,
        label: str,
        description: str,
        context: str,
        *,
        guidance: Guidance | None,
        count: int,
        seed: StepSeed,
    ) -> list[MaskCandidate]:
        if label == "ghost":
            raise ModelError("empty mask")
        height, width = scene.size.shape
        candidates = []
        for number in range(count):
            rng = np.random.default_rng(seed.derive("fake-mask", number))
            y, x = np.mgrid[:height, :width]
            cx, cy = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
            mask = (x - cx) ** 2 + (y - cy) ** 2 < (0.15 * height) ** 2
            if label == "sky":
                mask = np.ones((height, width), dtype=bool)
            elif label == "grass":
                mask = y >= height // 2
            elif guidance is not None:
                mask = guidance.map > 0.5
            candidates.append(MaskCandidate(mask, 1.0 / (number + 1), {"area": float(mask.mean())}))
        return candidates


class FakeInpainter:
    """Noise of a seeded colour inside the mask."""

    def __init__(self, leak: bool = False) -> None:
        self.leak = leak

    def render(
        self, image: np.ndarray, mask: np.ndarray, label: str, description: str, context: str, *, seed: StepSeed
    ) -> np.ndarray:
        rng = np.random.default_rng(seed.derive("fake-render"))
        noise = rng.integers(0, 255, image.shape, dtype=np.uint8)
        inside = np.ones_like(mask) if self.leak else mask
        return np.where(inside[..., None], noise, image)


def fake_models(**planner: object) -> Models:
    """All three fakes with the park's words."""
    return Models(FakePlanner(**planner), FakeMasker(), FakeInpainter(), Vocabulary.load(WORLD))  # type: ignore[arg-type]
