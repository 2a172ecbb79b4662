"""Two processes train what one trains: copies of the model (DDP) and a model cut up (FSDP 2), resumed in between."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from runtime.fit_config import FitConfig
from runtime.training import fit
from runtime.weights import save_weights
from scene.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


class Block(nn.Linear):
    """A block that is cut up by itself."""


class ToyTask:
    """Fits a line to numbers that depend on the sample number alone."""

    blocks = ("Block",)
    entrances = ("peek",)

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = _Toy()

    def batch(self, samples: Sequence[int]) -> Tensor:
        return torch.tensor([[float(number % 7), float(number % 5)] for number in samples]) / 7

    def loss(self, model: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        return (model(batch)[:, 0] - batch.sum(1)).square().mean(), {}

    def sheet(self, model: nn.Module, path: Path) -> None:
        path.write_text(str(float(model.peek(torch.ones(1, 2)))))

    def export(self, model: nn.Module, out: Path) -> None:
        save_weights(model, out / "toy.safetensors", half=False)


class _Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Block(2, 8), nn.SiLU(), Block(8, 4), nn.SiLU())
        self.last = nn.Linear(4, 1)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.last(self.layers(numbers))

    def peek(self, numbers: Tensor) -> Tensor:
        """Used beside `forward`, as samplers do."""
        return self.last(self.layers(numbers))[0, 0]


def settings(total: int, **more: object) -> FitConfig:
    values = {"batch_size": 8, "learning_rate": 1e-2, "warmup_samples": 0, "schedule": "constant", "log_every": 8}
    return FitConfig.model_validate(values | {"total_samples": total, "threads": 1} | more)


def all_fits(out: Path) -> None:
    """What each of the two processes does."""
    fit(ToyTask(), settings(48), out / "copied")
    fit(ToyTask(), settings(48, shard=True, accumulate=2, prefetch=2), out / "cut")
    fit(ToyTask(), settings(24, shard=True), out / "resumed")
    fit(ToyTask(), settings(48, shard=True), out / "resumed", resume=True)
    torch.distributed.destroy_process_group()


def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    fit(ToyTask(), settings(48), tmp_path / "alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.runtime.test_processes", str(tmp_path)]
    started = [
        subprocess.Popen(
            command, env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    expected = load_file(tmp_path / "alone" / "export" / "toy.safetensors")
    torch.manual_seed(0)
    assert any(not torch.equal(value, expected[name]) for name, value in _Toy().state_dict().items())
    for name in ("copied", "cut", "resumed"):
        found = load_file(tmp_path / name / "export" / "toy.safetensors")
        worst = max(float((found[key] - value).abs().max()) for key, value in expected.items())
        assert worst < 1e-6, (name, worst)
        assert (tmp_path / name / "sheets" / "0000000048.png").is_file()
        lines = (tmp_path / name / "train.jsonl").read_text().splitlines()
        assert len(lines) == 6  # written once, by one process


def test_a_batch_has_a_sample_for_every_part(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 processes in 4 parts each need 4"):
        fit(ToyTask(), settings(8, batch_size=2, accumulate=4), tmp_path / "out")


@pytest.mark.parametrize("plugin", ["FSDP", "DEEPSPEED"])
def test_a_launcher_with_a_plugin_of_its_own_is_refused(
    plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{plugin}", "true")
    with pytest.raises(UserError, match=f"accelerate's {plugin} plugin; launch with .*gpus.yaml.*fit.shard=true"):
        fit(ToyTask(), settings(8), tmp_path / "out")


if __name__ == "__main__":
    all_fits(Path(sys.argv[1]))
