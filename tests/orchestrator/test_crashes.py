"""Nothing is lost: death at every write boundary, full disks, read-only folders, two processes on one run."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator import assemble, lock, versions
from orchestrator.cli import run_cli
from orchestrator.compose import Composer
from orchestrator.ports import Models
from orchestrator.run_folder import RunFolder
from scene.errors import UserError
from tests.orchestrator import faults
from tests.orchestrator.faults import Faults, Killed

ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = ("final.png", "layout.png", "strip.png", "scene.json", "layers/01-sky.png", "layers/02-boy.png")


@pytest.fixture(scope="module")
def models() -> Models:
    return faults.models()


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch, models: Models) -> None:
    monkeypatch.setattr(versions, "versions", dict)  # no torch in these tests
    monkeypatch.setattr(assemble, "assemble", lambda config: models)


def products(path: Path) -> dict[str, bytes]:
    found = {name: (path / name).read_bytes() for name in PRODUCTS}
    for file in sorted(path.glob("steps/*/*.png")):
        found[str(file.relative_to(path))] = file.read_bytes()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "versions", dict)
        faults.compose(path, models)
    return path


def kinds(seen: list[str]) -> set[str]:
    return {re.sub(r"\.\d+\.tmp$", "", name) for name in seen}


def check_resumed(path: Path, whole: Path, models: Models) -> None:
    """Goes on as a person would, and compares every byte that does not hold seconds."""
    if (path / "run.json").exists():
        _, run = Composer.for_run(path, models=models)
        list(run.steps())
        run.close()
    else:
        faults.compose(path, models)
    assert products(path) == products(whole)
    outcomes = [step.outcome for step in RunFolder.open(path, write=False).history.path()]
    assert outcomes == ["placed", "placed", "stopped"]
    assert not list(path.rglob("*.tmp"))


def test_killed_at_every_write_boundary_resumes_to_the_same_bytes(tmp_path: Path, whole: Path, models: Models) -> None:
    with Faults().installed() as counted:
        faults.compose(tmp_path / "count", models)
    total = len(counted.seen)
    assert len(kinds(counted.seen)) >= 40  # distinct kinds of moment, like "rename .layer.png"
    for number in range(1, total + 1):
        path = tmp_path / f"{number}"
        steps_before = 0
        with Faults(number).installed() as fault, pytest.raises(Killed):
            faults.compose(path, models)
        assert len(fault.seen) == number
        if (path / "run.json").exists():
            steps_before = len(list(path.glob("steps/*/step.json")))
            assert len(RunFolder.open(path, write=False).history.steps) == steps_before  # no finished step is lost
        check_resumed(path, whole, models)
        shutil.rmtree(path)


def test_killed_again_while_clearing_up(tmp_path: Path, whole: Path, models: Models) -> None:
    with Faults().installed() as counted:
        faults.compose(tmp_path / "count", models)
    inside = next(n for n, name in enumerate(counted.seen, 1) if name.startswith("rename .layer.png"))
    path = tmp_path / "run"
    with Faults(inside).installed(), pytest.raises(Killed):
        faults.compose(path, models)
    (path / "steps/0001/.torn.png.1.tmp").write_bytes(b"torn")
    for number in range(1, 4):
        with Faults(number).installed(), pytest.raises(Killed):
            Composer.for_run(path, models=models)[1].advance()
    check_resumed(path, whole, models)


@pytest.mark.parametrize("share", [0.04, 0.5, 0.95])
def test_a_real_sigkill_in_another_process(tmp_path: Path, whole: Path, models: Models, share: float) -> None:
    with Faults().installed() as counted:
        faults.compose(tmp_path / "count", models)
    path = tmp_path / "run"
    number = max(3, round(share * len(counted.seen)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.orchestrator.faults", str(path), str(number)], cwd=ROOT, check=False
    )
    assert done.returncode == -signal.SIGKILL
    check_resumed(path, whole, models)


FULL = ("mkdir", "write .amodal", "fsync", "rename .step.json", "write .history", "write .f")


@pytest.mark.parametrize("operation", FULL)
def test_a_full_disk_is_said_and_loses_no_step(
    tmp_path: Path, whole: Path, models: Models, capsys: pytest.CaptureFixture[str], operation: str
) -> None:
    with Faults().installed() as counted:
        faults.compose(tmp_path / "count", models)
    matching = [n for n, name in enumerate(counted.seen, 1) if name.startswith(operation)]
    path = tmp_path / "run"
    with (
        Faults(matching[-1], error=errno.ENOSPC).installed(),
        pytest.raises(UserError, match=r"the disk is full; free some space.*every finished step is kept"),
    ):
        faults.compose(path, models)
    check_resumed(path, whole, models)


def test_a_read_only_folder_is_said_and_can_still_be_shown(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    opened = Path.open

    def refuse(file: Path, mode: str = "r", *rest: object, **options: object) -> object:
        if mode[0] in "wa" and path in file.parents:
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(file, mode, *rest, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    for command in (["resume"], ["undo"], ["insert", "a cat"]):
        assert run_cli([command[0], str(path), *command[1:]]) == 2
        assert "Read-only file system" in capsys.readouterr().err
    assert run_cli(["show", str(path)]) == 0
    assert products(path) == products(whole)


def test_two_processes_and_a_lock_that_dies_with_its_holder(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    code = (
        "import sys, time; from pathlib import Path; from orchestrator.run_folder import RunFolder\n"
        "folder = RunFolder.open(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=r"another process works on .*; wait for it or end it"):
            RunFolder.open(path)
        assert RunFolder.open(path, write=False).history.finished  # looking is allowed
    finally:
        holder.kill()
        holder.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            RunFolder.open(path).close()
            return
        except UserError:
            time.sleep(0.05)
    pytest.fail("the lock outlived its holder")


def test_a_disk_without_locks_is_said(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", no_locks)
    with pytest.raises(UserError, match=r"cannot lock .*No locks available.*copy the run to a local disk"):
        RunFolder.open(whole)
    assert fcntl.LOCK_EX


def test_a_lock_says_whose_it_is(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    folder = RunFolder.open(path)
    holder = lock.Holder.of(path)
    assert holder is not None and holder.pid == os.getpid() and "pytest" in holder.command
    with pytest.raises(UserError, match=rf"works on .* \(.*pytest.*, process {os.getpid()}\); wait for it"):
        RunFolder.open(path)
    folder.close()
    assert lock.Holder.of(path) is None
    (path / ".lock").write_text('{"pid": 999999, "started": 5, "command": "dead"}')
    assert lock.Holder.of(path) is None  # its process is gone
