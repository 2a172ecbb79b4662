"""Fault injection: dies or fails at the n-th write boundary of a run, in this process or as a real SIGKILL.

A boundary is a moment just before one operation that changes the disk, or half-way through writing a file. After a
death nothing more is written, as if the process were gone: clean-up code runs into `Killed` again.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator import versions
from orchestrator.compose import Composer, Run
from orchestrator.ports import Models
from scene.seeds import StepSeed
from tests.orchestrator.fakes import FakeInpainter, FakeMasker, FakePlanner, fake_models

PLAN = ("sky", "boy")


class Killed(BaseException):
    """The process is dead from here on."""


class FlatInpainter(FakeInpainter):
    """One colour inside the mask: small PNGs."""

    def render(self, image: np.ndarray, mask: np.ndarray, *words: str, seed: StepSeed) -> np.ndarray:
        colour = np.random.default_rng(seed.derive("flat")).integers(0, 255, 3, dtype=np.uint8)
        return np.where(mask[..., None], colour, image)


class Faults:
    """Counts boundaries and fails at one of them.

    Args:
        at: number of the boundary, from 1; 0 = never.
        error: errno to raise there and ever after ("disk full"); None = die.
        real: die by SIGKILL.
    """

    def __init__(self, at: int = 0, error: int | None = None, real: bool = False) -> None:
        self.at, self.error, self.real = at, error, real
        self.seen: list[str] = []
        self.struck = False

    def boundary(self, name: str, torn: Any = None) -> None:
        if not self.struck:
            self.seen.append(name)
            self.struck = len(self.seen) == self.at
            if self.struck and torn is not None:
                torn()
        if not self.struck:
            return
        if self.error is not None:
            if not name.startswith("unlink"):  # deleting works on a full disk
                raise OSError(self.error, os.strerror(self.error))
            return
        if self.real:
            os.kill(os.getpid(), signal.SIGKILL)
        raise Killed(name)

    @contextmanager
    def installed(self) -> Iterator[Faults]:
        """Patches everything that a run changes its disk with."""
        with pytest.MonkeyPatch.context() as patch:
            write, replace, mkdir, unlink = Path.write_bytes, Path.replace, Path.mkdir, Path.unlink
            fsync, rmtree = os.fsync, shutil.rmtree

            def write_bytes(path: Path, data: bytes) -> int:
                self.boundary(f"write {path.name}", lambda: write(path, data[: len(data) // 2]))
                return write(path, data)

            def before(operation: str, act: Any) -> Any:
                def patched(path: Any, *rest: Any, **options: Any) -> Any:
                    self.boundary(f"{operation} {getattr(path, 'name', '')}")
                    return act(path, *rest, **options)

                return patched

            patch.setattr(Path, "write_bytes", write_bytes)
            patch.setattr(Path, "replace", before("rename", replace))
            patch.setattr(Path, "mkdir", before("mkdir", mkdir))
            patch.setattr(Path, "unlink", before("unlink", unlink))
            patch.setattr(os, "fsync", before("fsync", fsync))
            patch.setattr(shutil, "rmtree", before("rmtree", rmtree))
            yield self


def models() -> Models:
    return Models(FakePlanner(PLAN), FakeMasker(), FlatInpainter(), fake_models().vocabulary)


def composer(loaded: Models) -> Composer:
    settings = ["width=256", "height=256", "masker.candidates=1"]
    return Composer.from_preset("park", overrides=settings, models=loaded)


def compose(path: Path, loaded: Models) -> None:
    """Starts a run, or goes on with it, to its end."""
    run: Run | None = None
    try:
        run = composer(loaded).start("a boy", seed=7, out=path)
        list(run.steps())
    finally:
        if run is not None:
            run.close()


if __name__ == "__main__":
    versions.versions = dict
    with Faults(int(sys.argv[2]), real=True).installed():
        compose(Path(sys.argv[1]), models())
