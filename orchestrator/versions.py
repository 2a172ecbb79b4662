"""What a run's bytes depend on besides its settings: machine, threads, packages."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("smartscene", "torch", "diffusers", "transformers", "peft", "numpy", "pillow", "safetensors")


def versions() -> dict[str, Any]:
    """Package versions, Python, machine and torch's thread count."""
    import torch

    found: dict[str, Any] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    found |= {"python": platform.python_version(), "machine": platform.machine(), "threads": torch.get_num_threads()}
    return found
