"""Where the real packages lie, for tests that need them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scene.corpus.dependencies import DataDeps, Package, find_dependencies
from scene.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def packages_or_skip() -> Callable[..., DataDeps]:
    """(package, module of the extra `data` that reads it) -> where it lies, or skip."""

    def find(package: Package, module: str | None = None) -> DataDeps:
        if module:
            pytest.importorskip(module, reason="the extra `data` is not installed")
        place = Path(os.environ.get("SMARTSCENE_DATA_DEPS") or ROOT / "runs" / "data-deps")
        try:
            return find_dependencies(place, [package])
        except UserError as error:
            pytest.skip(str(error))

    return find
