"""Random generators made from seeds; nothing in this project reads a global random state."""

from __future__ import annotations

import numpy as np
import torch


def torch_generator(seed: int) -> torch.Generator:
    """A CPU generator, so that draws agree on every device."""
    return torch.Generator(device="cpu").manual_seed(seed)


def numpy_rng(seed: int) -> np.random.Generator:
    """A numpy generator (PCG64)."""
    return np.random.default_rng(seed)


def set_threads(threads: int) -> None:
    """Fixes torch's CPU threads; results are byte-identical only for one thread count."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
