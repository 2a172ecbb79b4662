"""What a rendering depends on, and what it may change."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from orchestrator.ports import Models
from scene.errors import SmartSceneError, UserError
from scene.geometry import Box, Size
from scene.seeds import StepSeed

MAX_SEED = 2**63 - 1


def check_seed(seed: int) -> None:
    """Raises UserError unless 0 <= seed < 2**63."""
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"seed {seed} is not in 0 to 2**63 - 1; choose a smaller whole number, like 7")


def drawn_inside(image: np.ndarray, mask: np.ndarray, beneath: np.ndarray) -> np.ndarray:
    """The object alone, uint8 (H, W, 4), cut from a rendering that must equal `beneath` outside the mask.

    Raises:
        SmartSceneError: the inpainter changed other pixels.
    """
    if not np.array_equal(image[~mask], beneath[~mask]):
        raise SmartSceneError("the inpainter changed pixels outside the mask")
    return np.concatenate([image * mask[..., None], mask[..., None].astype(np.uint8) * 255], axis=2)


def footprint(models: Models, mask: np.ndarray) -> Box:
    """The part of the picture beneath that a rendering inside `mask` (bool (H, W)) looks at."""
    size = Size(mask.shape[1], mask.shape[0])
    if models.footprint is None:
        return Box(0, 0, *size)
    return models.footprint(mask).clip(size)


def render_key(models: Models, beneath: np.ndarray, mask: np.ndarray, words: Sequence[str], seed: StepSeed) -> str:
    """Content address of a rendering: weights, picture within the footprint, mask, words, seed.

    Args:
        models: whose inpainter draws.
        beneath: uint8 (H, W, 3).
        mask: bool (H, W).
        words: label, description, caption.
        seed: of the step.

    Returns:
        sha256, hex.
    """
    window = footprint(models, mask)
    hashed = hashlib.sha256()
    weights = sorted((name, str(value)) for name, value in models.weights.items() if name.startswith("inpainter/"))
    hashed.update(repr((weights, tuple(words), seed, tuple(window), mask.shape)).encode())
    hashed.update(np.ascontiguousarray(beneath[window.y0 : window.y1, window.x0 : window.x1]).tobytes())
    hashed.update(np.packbits(mask).tobytes())
    return hashed.hexdigest()
