"""Revisions: presets pin commits, every part is taken at its own, and what is not pinned is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from masker.stable_diffusion import find_weights
from masker.stage_config import STAGES, MaskerConfig
from orchestrator import assemble
from orchestrator.assemble import ROOMS, SEGMENTER, load_segmenter, notices, public_folders, public_sources
from orchestrator.checkup import examine, look_at_machine
from orchestrator.cli import run_cli
from orchestrator.config import PINS, ComposeConfig, load_preset
from runtime.assets import asset_dir
from runtime.config import load_stage
from runtime.hub import COMMIT
from scene.errors import UserError
from tests.perception.tiny_segmenters import save_mask2former
from tests.presets.conftest import PLANNERS

MAIN, OTHER = "e" * 40, "a" * 40  # the commit that main points to lacks its weights


def put(cache: Path, name: str, commit: str, folder: Path) -> Path:
    """A repository in the hub's cache layout that has `folder` at a commit, and a broken main."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "snapshots" / MAIN).mkdir(parents=True, exist_ok=True)
    (repository / "snapshots" / MAIN / "config.json").write_text("{}")
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(MAIN)
    (repository / "snapshots" / commit).symlink_to(folder)
    return repository / "snapshots" / commit


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "hub"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """(repository, revision) of every question to the hub's library."""
    questions: list[tuple[str, str | None]] = []
    real = huggingface_hub.snapshot_download

    def snapshot_download(name: str, *, revision: str | None = None, **more: Any) -> str:
        questions.append((name, revision))
        assert more["local_files_only"]
        return str(real(name, revision=revision, **more))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return questions


def sources(config: ComposeConfig) -> dict[str, Any]:
    return {
        f"{room}/{part}": source
        for room in (*ROOMS, SEGMENTER)
        for part, source in public_sources(config, room).items()
    }


@pytest.mark.parametrize(("preset", "loose"), [("sd15", []), ("sdxl", ["inpainter/controlnet"]), ("zimage", [])])
def test_presets_pin_commits_of_all_but_the_named_parts(preset: str, loose: list[str]) -> None:
    found = sources(load_preset(preset))
    assert [part for part, source in found.items() if not source.is_pinned] == loose
    assert all(COMMIT.fullmatch(source.revision) for source in found.values() if source.is_pinned)
    table = (Path(__file__).parents[2] / "docs" / "presets.md").read_text()
    assert all(f"`{source.name}`" in table and (source.revision or "not pinned") in table for source in found.values())


EVERY = {
    "sd15": ["planner.adapter=some/adapter", f"planner.llava.adapter_revision={OTHER}",
             "inpainter.diffusers.lora=some/lora", f"inpainter.diffusers.lora_revision={OTHER}",
             "segmenter.path=some/segmenter", f"segmenter.revision={OTHER}"],
    "sdxl": ["inpainter.diffusers.variant=null", "inpainter.diffusers.controlnet_variant=null",
             f"inpainter.diffusers.controlnet_revision={OTHER}"],
    "zimage": [],
}  # fmt: skip


@pytest.mark.parametrize("preset", ["sd15", "sdxl", "zimage"])
def test_every_part_is_taken_at_its_own_commit(
    preset: str, checkpoints: Path, cache: Path, tmp_path: Path, asked: list[tuple[str, str | None]]
) -> None:
    (tmp_path / "lora").mkdir()
    for name in ("pytorch_lora_weights.safetensors", "adapter_model.safetensors"):
        (tmp_path / "lora" / name).write_bytes(b"")
    folders = {
        "planner/model": checkpoints / PLANNERS[preset],
        "inpainter/base": checkpoints / preset / "base",
        "inpainter/controlnet": checkpoints / preset / "controlnet",
        "segmenter/model": save_mask2former(tmp_path / "segmenter"),
    }
    config = load_preset(preset, None, EVERY[preset])
    expected = {}
    for part, source in sources(config).items():
        expected[part] = put(cache, source.name, source.revision, folders.get(part, tmp_path / "lora"))
    found = {
        f"{room}/{part}": folder for room, parts in public_folders(config).items() for part, folder in parts.items()
    }
    if preset == "sd15":
        assert len(expected) == 6
        load_segmenter(config)  # read from its commit, since main has no weights
        assert ("some/segmenter", OTHER) in asked
        del expected["segmenter/model"]
    assert found == expected
    assert set(asked) == {(source.name, source.revision) for source in sources(config).values()}
    assert notices(config) == config.notice  # nothing is loose


def test_the_models_load_from_the_pinned_commits_alone(
    checkpoints: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["inpainter.diffusers.window.resolution_px=64", "planner.llava.max_prompt_tokens=20000", "threads=1"]
    config = load_preset("sd15", None, [*settings, "hardware.device=cpu"])
    named = {"planner/model": "llava", "inpainter/base": "sd15/base", "inpainter/controlnet": "sd15/controlnet"}
    for part, source in sources(config).items():
        put(cache, source.name, source.revision, checkpoints / named[part])
    monkeypatch.setattr(assemble, "_masker", lambda config, folder: None)
    models = assemble.assemble(config)
    weights = {part: models.weights[part] for part in named}
    assert weights == {part: f"{source.name}@{source.revision}" for part, source in sources(config).items()}


def test_the_full_size_masker_starts_from_its_commit(
    checkpoints: Path, cache: Path, asked: list[tuple[str, str | None]]
) -> None:
    config = load_stage(STAGES, asset_dir("configs") / "masker" / "sd15.yaml")
    assert isinstance(config, MaskerConfig) and config.public is not None and config.public.revision
    with pytest.raises(UserError, match=f"at revision {config.public.revision} .* is not on this machine"):
        find_weights(config.public)
    here = put(cache, config.public.path, config.public.revision, checkpoints / "sd15" / "base")
    assert find_weights(config.public) == here
    assert set(asked) == {(config.public.path, config.public.revision)}


def test_other_weights_drop_the_presets_pin_and_a_branch_is_no_pin() -> None:
    assert sources(load_preset("sd15", None, ["planner.path=some/llava"]))["planner/model"].revision is None
    kept = ["planner.path=some/llava", f"planner.llava.revision={OTHER}"]
    assert sources(load_preset("sd15", None, kept))["planner/model"].revision == OTHER
    assert not sources(load_preset("sd15", None, ["planner.llava.revision=main"]))["planner/model"].is_pinned
    assert load_preset("home", None, ["planner.path=somewhere"]).planner.llava is None  # nothing there to drop
    assert {source.pin for preset in PLANNERS for source in sources(load_preset(preset)).values()} <= set(PINS.values())


def test_what_is_not_pinned_is_said_in_one_line(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert notices(load_preset("home")) == "" and notices(load_preset("sd15")) == load_preset("sd15").notice
    told = notices(load_preset("sdxl")).splitlines()
    assert len(told) == 2 and told[1] == (
        "preset sdxl: not pinned to a commit, so results may change with the repository: "
        "destitech/controlnet-inpaint-dreamer-sdxl (--set inpainter.diffusers.controlnet_revision=COMMIT)"
    )
    assert "segmenter.revision=COMMIT" in notices(load_preset("home", None, ["segmenter.path=some/segmenter"]))
    put(cache, "destitech/controlnet-inpaint-dreamer-sdxl", OTHER, cache)
    weights = cache / "models--destitech--controlnet-inpaint-dreamer-sdxl" / "snapshots" / MAIN
    (weights / "model.fp16.safetensors").write_bytes(b"")
    assert run_cli(["check", "sdxl"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "unpinned" in line] == [
        f"      unpinned -> --set inpainter.diffusers.controlnet_revision={MAIN}"  # what is here
    ]
    report = examine(load_preset("sdxl"), look_at_machine())
    assert [part.part for part in report.weights if not part.pinned] == ["controlnet"]


def test_another_revision_on_this_machine_is_mentioned(cache: Path, checkpoints: Path) -> None:
    config = load_preset("sd15")
    put(cache, "llava-hf/llava-1.5-7b-hf", OTHER, checkpoints / "llava")
    with pytest.raises(UserError, match=r"pinned to b234b804b114; another revision is here, --set planner\.llava\.rev"):
        public_folders(config)
