"""What a mask model returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class MaskCandidate:
    """One predicted amodal mask.

    Attributes:
        mask: bool (H, W), canvas size, never empty.
        score: higher is better; candidates come best first.
        details: what the score is made of.
    """

    mask: np.ndarray
    score: float
    details: Mapping[str, float] = field(default_factory=dict)
