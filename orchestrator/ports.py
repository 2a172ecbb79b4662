"""Roles that the loop needs; any class with these methods serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from scene.candidates import MaskCandidate
from scene.geometry import Box
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary


class Planner(Protocol):
    """Proposes the next object."""

    def propose(
        self,
        scene: LayeredScene,
        prompt: str,
        *,
        seed: StepSeed,
        turn: str | None = None,
        rejected: Sequence[str] = (),
    ) -> Proposal:
        """The next object, or stop.

        Args:
            scene: objects placed so far.
            prompt: global prompt.
            seed: where in the run this is.
            turn: an instruction of this turn (dialogue), if any.
            rejected: labels that were refused since the last object was placed.

        Raises:
            ModelError: the model's answer cannot be used.
        """
        ...


class Masker(Protocol):
    """Predicts amodal masks."""

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
        """`count` candidates, best first.

        Args:
            scene: objects placed so far; its layout conditions the mask.
            label: category of the object to add.
            description: `T_obj`.
            context: `T_context`, the global prompt.
            guidance: `G_obj` or None.
            count: candidates wanted, 1 to 16.
            seed: where in the run this is; candidate i does not depend on `count`.

        Raises:
            ModelError: no usable mask after the masker's own retries.
        """
        ...


class Inpainter(Protocol):
    """Renders an object inside its mask."""

    def render(
        self, image: np.ndarray, mask: np.ndarray, label: str, description: str, context: str, *, seed: StepSeed
    ) -> np.ndarray:
        """The picture with the object.

        Args:
            image: uint8 (H, W, 3).
            mask: bool (H, W), True = may change.
            label, description, context: words for the object and the scene.
            seed: where in the run this is.

        Returns:
            uint8 (H, W, 3), equal to `image` wherever `mask` is False, to the bit.
        """
        ...


@dataclass(frozen=True)
class Models:
    """The concrete models of a preset.

    Attributes:
        planner, masker, inpainter: the three roles.
        vocabulary: words that the preset knows.
        notice: what the user must be told once per run (licence), or "".
        weights: name -> sha256 of each weight file, for `run.json`.
        footprint: mask -> the box of the picture that the inpainter looks at for it; None = all of it.
        read: a prompt -> as the planner reads it, slips mended and descriptions named.
    """

    planner: Planner
    masker: Masker
    inpainter: Inpainter
    vocabulary: Vocabulary
    notice: str = ""
    weights: Mapping[str, Any] = field(default_factory=dict)
    footprint: Callable[[np.ndarray], Box] | None = None
    read: Callable[[str], str] = str
