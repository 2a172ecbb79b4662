"""What a mask is asked for by, what one look at the scene is told, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from masker.placing import LikelyBoxes
from masker.recall import CodeDraw
from masker.windows import Window
from perception.boxes import Places
from scene.geometry import Size
from scene.guidance import Guidance
from scene.layout import SemanticLayout


@dataclass(frozen=True)
class Request:
    """What stays the same for all candidates of one call."""

    size: Size
    label: str
    seen: SemanticLayout
    layout: np.ndarray  # int16 (H, W), rows of `labels`, 0 = nothing
    labels: torch.Tensor  # (N, D) or (N, 3), as the layout encoder wants them
    texts: dict[str, torch.Tensor]
    embedding: torch.Tensor  # of T_obj, (D,)
    surface: bool
    guidance: Guidance | None
    places: Places | None  # where it may lie, when it is not all for the guide to say
    boxes: LikelyBoxes | None  # what a blob stands for


@dataclass(frozen=True)
class Pass:
    """What one row of a batch is told: where to look, the guide there (F, F), its first noise (C, h, w), and where its
    shape's code comes from."""

    window: Window
    form: str
    guide: np.ndarray
    noise: torch.Tensor
    code: CodeDraw


@dataclass(frozen=True)
class View:
    """What came of a pass.

    Attributes:
        window: Where it looked.
        soft: The soft mask that was drawn there, (F, F) or coarser.
        shown: The silhouette that was recalled, as it is to be shown, (`SHOWN_CELLS`, `SHOWN_CELLS`), if one was.
        likely: How well it fits what is likely under its guide, 0 to 1; None where nobody knows.
    """

    window: Window
    soft: np.ndarray
    shown: np.ndarray | None
    likely: float | None
