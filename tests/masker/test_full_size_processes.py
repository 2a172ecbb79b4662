"""The documented command for several GPUs, on two CPU processes (gloo): full-size trainer, FSDP, data in shards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from safetensors.torch import load_file

from masker.train import train
from runtime.assets import asset_dir
from scene.corpus.shards import write_shards
from scene.corpus.store import Corpus
from tests.masker.test_stable_diffusion import CONFIG, tiny
from tests.presets.checkpoints import write_sd15

ROOT = Path(__file__).resolve().parents[2]
GPUS = asset_dir("configs") / "accelerate" / "gpus.yaml"


def test_the_shipped_accelerate_config_is_understood() -> None:
    config = load_config_from_file(str(GPUS))
    assert (config.distributed_type.value, config.num_machines, config.num_processes) == ("MULTI_GPU", 1, 8)
    assert config.mixed_precision == "no" and not config.fsdp_config and not config.deepspeed_config  # as `fit` says
    words = ["--config_file", str(GPUS), "--num_processes", "2", "-m", "orchestrator.cli", "train", "masker"]
    told, *_ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert told.multi_gpu and told.module and told.num_processes == 2
    assert [told.training_script, *told.training_script_args] == words[5:]


@pytest.mark.slow
def test_two_processes_train_the_full_size_model_that_one_trains(corpus: Corpus, tmp_path: Path) -> None:
    public = write_sd15(tmp_path / "sd15") / "base"
    shards = write_shards(corpus.path, tmp_path / "shards", scenes_per_shard=4).path
    settings = tiny(public, "examples.shard_lanes=2", "examples.shard_samples=2", "fit.log_every=4", "fit.prefetch=1")
    train(CONFIG, data=[shards], out=tmp_path / "alone", overrides=settings)
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(GPUS), "--num_processes", "2",
        "--main_process_port", "0", "-m", "orchestrator.cli", "train", "masker", "--config", str(CONFIG),
        "--data", str(shards), "--out", str(tmp_path / "two"),
        *(word for setting in [*settings, "fit.shard=true"] for word in ("--set", setting)),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert told.returncode == 0, told.stderr[-3000:]
    one, two = (load_file(next((tmp_path / name).glob("snapshots/*/tensors.safetensors"))) for name in ("alone", "two"))
    assert one.keys() == two.keys()
    worst = max(float((two[name].float() - value.float()).abs().max()) for name, value in one.items())
    exported = load_file(tmp_path / "two" / "export" / "model.safetensors")
    assert worst < 2e-5 and exported["denoiser.net.conv_in.weight"][:, 4:].any(), worst
    alone, both = ({str(f.relative_to(tmp_path / n)) for f in (tmp_path / n).rglob("*")} for n in ("alone", "two"))
    assert alone == both and "export/model.safetensors" in both
    assert len((tmp_path / "two" / "train.jsonl").read_text().splitlines()) == 2  # by one process
