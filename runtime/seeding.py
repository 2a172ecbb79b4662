"""Random generators made from seeds; nothing in this project reads a global random state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from scene.seeds import derive_seed

M = TypeVar("M", bound=nn.Module)


def torch_generator(seed: int) -> torch.Generator:
    """A CPU generator, so that draws agree on every device."""
    return torch.Generator(device="cpu").manual_seed(seed)


def numpy_rng(seed: int) -> np.random.Generator:
    """A numpy generator (PCG64)."""
    return np.random.default_rng(seed)


def sample_noise(seed: int, purpose: str, samples: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise (B, *shape), one generator per sample number."""
    return torch.stack(
        [torch.randn(shape, generator=torch_generator(derive_seed(seed, purpose, "noise", n))) for n in samples]
    )


def set_threads(threads: int) -> None:
    """Fixes torch's CPU threads; results are byte-identical only for one thread count."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def seeded(build: Callable[[], M], seed: int) -> M:
    """`build()` with torch's global generator seeded for its duration and restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initial weights"))
        return build()
