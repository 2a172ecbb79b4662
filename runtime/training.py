"""The one training loop of planner, masker and inpainter.

Everything is a function of the global sample number: data, augmentation and noise of sample n come from seeds derived
from n, schedules count samples. So a run that is interrupted and resumed any number of times equals one that is not.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from runtime.fit_config import FitConfig
from runtime.seeding import set_threads
from runtime.snapshot import SnapshotStore
from scene.errors import UserError

log = logging.getLogger(__name__)


class TrainingTask(Protocol):
    """What a room brings to the loop."""

    model: nn.Module

    def batch(self, samples: Sequence[int]) -> Any:
        """Data of these global sample numbers, derived from the numbers alone."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Mean loss of the batch, and numbers worth logging."""
        ...

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Writes a PNG of validation samples."""
        ...

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the deployable weight folder."""
        ...


class EMA:
    """Exponential moving average of the trainable parameters."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.average = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """average <- d * average + (1 - d) * parameter, d = min(decay, (1 + n) / (10 + n))."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in model.named_parameters():
            if name in self.average:
                self.average[name].lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchanges averages and parameters; call twice to get the parameters back."""
        for name, parameter in model.named_parameters():
            if name in self.average:
                kept = parameter.detach().clone()
                parameter.copy_(self.average[name])
                self.average[name].copy_(kept)


def learning_rate(config: FitConfig, samples: int) -> float:
    """Rate after `samples` samples: linear warm-up, then constant or cosine."""
    if samples < config.warmup_samples:
        return config.learning_rate * (samples + config.batch_size) / (config.warmup_samples + config.batch_size)
    if config.schedule == "constant":
        return config.learning_rate
    progress = (samples - config.warmup_samples) / max(1, config.total_samples - config.warmup_samples)
    low = config.final_rate_frac
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def _pack(model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA | None) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {f"model.{n}": p for n, p in model.named_parameters() if p.requires_grad}
    tensors |= {f"buffer.{n}": b for n, b in model.named_buffers()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    if ema:
        tensors |= {f"ema.{n}": t for n, t in ema.average.items()}
    return tensors


@torch.no_grad()
def _unpack(tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA | None) -> None:
    try:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(tensors[f"model.{name}"])
        for name, buffer in model.named_buffers():
            buffer.copy_(tensors[f"buffer.{name}"])
        if ema:
            for name, average in ema.average.items():
                average.copy_(tensors[f"ema.{name}"])
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"the snapshot does not fit this model ({str(error)[:80]}); use the config it was made with, or a new --out"
        ) from None
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    for number, parameter in enumerate(optimizer.param_groups[0]["params"]):
        # The fused optimiser walks raw memory: a moment that is laid out otherwise than its parameter
        # (channels_last) would meet the wrong elements.
        state[number] = {
            name: torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
            for name, value in state.get(number, {}).items()
        }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class _Stop:
    """Turns Ctrl-C and SIGTERM into a flag, so that the step under way ends and a snapshot is written."""

    def __init__(self) -> None:
        self.wanted = False
        self._old = {s: signal.signal(s, self._set) for s in (signal.SIGINT, signal.SIGTERM)}

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True

    def restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


def fit(task: TrainingTask, config: FitConfig, out: Path, *, resume: bool = False) -> int:
    """Trains a task; interruptible at any moment, exports at the end and at every snapshot.

    Args:
        task: model, data and loss.
        config: settings.
        out: folder for `snapshots/`, `sheets/`, `train.jsonl` and `export/`.
        resume: go on from the newest readable snapshot in `out`.

    Returns:
        Samples seen in all.

    Raises:
        UserError: `out` holds another run and `resume` is off, or its snapshots do not fit.
    """
    from accelerate import Accelerator

    set_threads(config.threads)
    store = SnapshotStore(out / "snapshots")
    if not resume and (out / "snapshots").exists():
        raise UserError(f"{out} holds a training run already; add --resume to go on, or choose another --out")
    (out / "sheets").mkdir(parents=True, exist_ok=True)

    # model, optimiser
    accelerator = Accelerator(mixed_precision=config.precision, cpu=not torch.cuda.is_available())
    parameters = [p for p in task.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
    ema = EMA(task.model, config.ema_decay) if config.ema_decay else None

    # resume
    samples, last_loss, spent_s = 0, float("nan"), 0.0
    snapshot = store.latest() if resume else None
    if snapshot:
        _unpack(snapshot.tensors, task.model, optimizer, ema)
        samples, spent_s = snapshot.samples, float(snapshot.state.get("spent_s", 0.0))
        if ema:
            ema.updates = int(snapshot.state["ema_updates"])
    elif resume and (out / "snapshots").exists() and any((out / "snapshots").iterdir()):
        raise UserError(f"no readable snapshot in {out / 'snapshots'}; choose another --out to start afresh")
    model, optimizer = accelerator.prepare(task.model, optimizer)
    if ema:
        ema.average = {name: tensor.to(accelerator.device) for name, tensor in ema.average.items()}

    # loop
    started, begun_at = time.monotonic(), samples
    last_snapshot = started
    stop = _Stop()
    main = accelerator.is_main_process
    bar = tqdm(total=config.total_samples, initial=samples, unit="sample", mininterval=5, disable=not main)
    recent: list[float] = (
        list(snapshot.state.get("recent", [])) if snapshot else []
    )  # losses since the last logged line
    _keep_log(out / "train.jsonl", samples)

    def save() -> None:
        state: dict[str, Any] = {
            "ema_updates": ema.updates if ema else 0,
            "spent_s": spent_s + time.monotonic() - started,
        }
        state["recent"] = recent
        store.save(samples, _pack(task.model, optimizer, ema), state)
        _with_ema(ema, task.model, lambda: task.export(task.model, out / "export"))

    try:
        model.train()
        while samples < config.total_samples and not stop.wanted:
            numbers = list(range(samples, min(samples + config.batch_size, config.total_samples)))
            mine = numbers[accelerator.process_index :: accelerator.num_processes]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, samples)
            loss, facts = task.loss(model, task.batch(mine))
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(parameters, config.grad_clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if ema:
                ema.update(task.model)
            before, samples = samples, samples + len(numbers)
            last_loss = float(loss.detach())
            if not math.isfinite(last_loss):
                raise UserError(f"loss is {last_loss} after {samples} samples; lower fit.learning_rate and --resume")
            recent.append(last_loss)
            bar.update(len(numbers))
            if not main:
                continue
            if samples // config.log_every != before // config.log_every:
                rate = (samples - begun_at) / (time.monotonic() - started)
                bar.set_postfix(loss=f"{last_loss:.4f}", refresh=False)
                line = {"samples": samples, "loss": sum(recent) / len(recent), "grad_norm": float(norm), **facts}
                line["samples_per_second"] = round(rate, 2)
                recent.clear()
                with (out / "train.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            if samples // config.sheet_every != before // config.sheet_every:
                sheet = out / "sheets" / f"{samples:010d}.png"
                _with_ema(ema, task.model, lambda path=sheet: task.sheet(task.model, path))
            if time.monotonic() - last_snapshot > 60 * config.snapshot_minutes:
                save()
                last_snapshot = time.monotonic()
    finally:
        bar.close()
        stop.restore()
    if main:
        save()
        _with_ema(ema, task.model, lambda: task.sheet(task.model, out / "sheets" / f"{samples:010d}.png"))
    accelerator.wait_for_everyone()
    if samples < config.total_samples:
        log.warning("stopped at %d of %d samples; go on with --resume", samples, config.total_samples)
    return samples


def _keep_log(path: Path, samples: int) -> None:
    """Drops log lines of samples that a resumed run will see again."""
    if path.exists():
        lines = [
            line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["samples"] <= samples
        ]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _with_ema(ema: EMA | None, model: nn.Module, action: Any) -> None:
    """Runs `action` in evaluation mode with averaged weights, then puts everything back."""
    if ema:
        ema.swap(model)
    model.eval()
    try:
        with torch.no_grad():
            action()
    finally:
        model.train()
        if ema:
            ema.swap(model)
