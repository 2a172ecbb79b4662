"""`smartscene check` on machines that we make up, and on this one."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from orchestrator import checkup
from orchestrator.checkup import Device, Machine, examine, look_at_machine, package_problems
from orchestrator.cli import run_cli
from orchestrator.config import load_preset
from tests.presets.conftest import local_settings

BARE = Machine("Linux x86_64", "3.11", 2, int(8e9), int(6e9), int(50e9), "/cache", (), ())


def with_gpu(gigabytes: float) -> Machine:
    return replace(BARE, devices=(Device("GPU", "cuda:0", int(gigabytes * 1e9)),))


@pytest.fixture
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.usefixtures("_empty_cache")
def test_a_public_preset_without_anything_names_each_part_and_a_remedy() -> None:
    report = examine(load_preset("sd15"), BARE)
    assert not report.can_run
    told = {what.split()[0]: remedy for what, remedy in report.problems}
    for name in (
        "llava-hf/llava-1.5-7b-hf",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "lllyasviel/control_v11p_sd15_inpaint",
    ):
        assert "smartscene check sd15 --fetch" in told[name] and "--set " in told[name]
    assert any("8 GB of memory" in what for what, _ in report.problems)
    assert {(found.room, found.part) for found in report.weights if found.folder is None} == {
        ("planner", "model"), ("inpainter", "base"), ("inpainter", "controlnet"),
    }  # fmt: skip


@pytest.mark.usefixtures("_empty_cache")
@pytest.mark.parametrize(
    ("gigabytes", "offload", "problem", "warning"),
    [
        (80, "none", None, None),
        (18, "none", None, "offload=model"),
        (18, "model", None, None),
        (6, "none", "6 GB", None),
    ],
)
def test_gpu_memory(gigabytes: float, offload: str, problem: str | None, warning: str | None) -> None:
    report = examine(load_preset("sd15", None, [f"hardware.offload={offload}"]), with_gpu(gigabytes))
    problems = [what for what, _ in report.problems if "GPU" in what]
    assert (len(problems) == 1 and problem in problems[0]) if problem else not problems
    assert (warning in report.warnings[0]) if warning else not report.warnings


@pytest.mark.usefixtures("_empty_cache")
def test_disk_that_is_too_small() -> None:
    report = examine(load_preset("zimage"), replace(with_gpu(80), disk_free=int(3e9)))
    assert any("44 GB of weights do not fit on /cache (3 GB free)" in what for what, _ in report.problems)


@pytest.mark.parametrize("preset", ["sd15", "sdxl", "zimage"])
def test_local_folders_are_enough(preset: str, checkpoints: Path) -> None:
    report = examine(load_preset(preset, None, local_settings(preset, checkpoints)), BARE)
    assert [what for what, _ in report.problems if "weight package" not in what] == []
    assert any("minutes" in warning for warning in report.warnings)


def test_broken_folders_and_own_weights(checkpoints: Path, tmp_path: Path) -> None:
    settings = [*local_settings("sd15", checkpoints), f"planner.path={tmp_path}", "masker.path=/nowhere"]
    problems = examine(load_preset("sd15", None, settings), BARE).problems
    assert any("lacks the folder itself/" in what for what, _ in problems)
    assert any("no masker weights in /nowhere" in what and "train" in remedy for what, remedy in problems)


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert package_problems() == []
    real = metadata.version

    def version(name: str) -> str:
        if name == "peft":
            raise metadata.PackageNotFoundError
        return "0.1.0" if name == "diffusers" else real(name)

    monkeypatch.setattr(checkup.metadata, "version", version)
    found = package_problems()
    assert len(found) == 2
    assert any(line.startswith("peft is missing: pip install 'peft>=") for line in found)
    assert any(line.startswith("diffusers is 0.1.0: pip install 'diffusers<") for line in found)
    assert not examine(load_preset("park"), replace(BARE, packages=tuple(found))).can_run


def test_this_machine() -> None:
    machine = look_at_machine()
    assert machine.memory >= machine.memory_free > 0 and machine.cores >= 1 and machine.disk_free > 0


@pytest.mark.usefixtures("_empty_cache")
def test_command(capsys: pytest.CaptureFixture[str], checkpoints: Path) -> None:
    assert run_cli(["check", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"home", "park", "sd15", "sdxl", "zimage"} <= document["presets"].keys()
    assert not document["presets"]["sd15"]["can_run"] and document["presets"]["sd15"]["problems"][0]["remedy"]
    assert run_cli(["check", "sd15"]) == 2
    told = capsys.readouterr()
    assert "-> smartscene check sd15 --fetch" in told.out and "sd15 cannot run here yet" in told.err
    settings = [part for setting in local_settings("sd15", checkpoints) for part in ("--set", setting)]
    document = json.loads((run_cli(["check", "sd15", "--json", *settings]), capsys.readouterr().out)[1])
    parts = {found["part"]: found["folder"] for found in document["presets"]["sd15"]["weights"]}
    assert parts["controlnet"] == str(checkpoints / "sd15" / "controlnet")
    assert run_cli(["check", "--fetch"]) == 2
    assert "name the preset" in capsys.readouterr().err
