"""Studios for tests: one with a worker that draws fast, one that has no models at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.orchestrator.studio.client import NO_WORKER, Client, served


@pytest.fixture(scope="package")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("studio") / "runs") as client:
        yield client


@pytest.fixture(scope="package")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """For tests of what comes before any model."""
    with served(tmp_path_factory.mktemp("bare") / "runs", NO_WORKER) as client:
        yield client
