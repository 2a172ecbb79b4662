"""The one training loop of planner, masker and inpainter.

Everything is a function of the global sample number: data, augmentation and noise of sample n come from seeds derived
from n, schedules count samples. So a run that is interrupted and resumed any number of times equals one that is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from runtime.fit_config import FitConfig
from runtime.hardware import refuse_plugins
from runtime.seeding import set_threads
from runtime.snapshot import SnapshotStore
from runtime.weights import whole
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
    return {name: whole(tensor) for name, tensor in tensors.items()}


@torch.no_grad()
def _unpack(tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA | None) -> None:
    try:
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(_like(parameter, tensors[f"model.{name}"]))
        for name, buffer in model.named_buffers():
            buffer.copy_(tensors[f"buffer.{name}"])
        if ema:
            for name, average in ema.average.items():
                average.copy_(_like(average, tensors[f"ema.{name}"]))
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
            name: torch.empty_like(parameter).copy_(_like(parameter, value))
            if value.shape == parameter.shape
            else value
            for name, value in state.get(number, {}).items()
        }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _like(template: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor as `template` is: cut up where that is sharded over processes (FSDP)."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(template, DTensor):
        return tensor
    return distribute_tensor(tensor.to(template.device), template.device_mesh, template.placements)


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch on another device: tensors inside dataclasses, mappings and sequences are moved, all else stays."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return dataclasses.replace(batch, **{name: to_device(value, device) for name, value in vars(batch).items()})
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list) and type(batch) in (tuple, list):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def _shares(config: FitConfig, samples: int, rank: int, processes: int) -> Iterator[tuple[int, list[list[int]]]]:
    """From `samples` on, step by step: how many samples all processes see, and this one's, in parts."""
    while samples < config.total_samples:
        numbers = list(range(samples, min(samples + config.batch_size, config.total_samples)))
        mine = numbers[rank::processes] or numbers[:1]  # the last batch may be smaller than there are processes
        parts = [mine[part :: config.accumulate] for part in range(config.accumulate)]
        yield len(numbers), [part for part in parts if part]
        samples += len(numbers)


def _batches(
    task: TrainingTask, config: FitConfig, samples: int, rank: int, processes: int
) -> Iterator[tuple[int, list[Any]]]:
    """`_shares` with the data, up to `prefetch` steps ahead: data is a function of the numbers, so nothing changes."""
    shares = _shares(config, samples, rank, processes)
    if not config.prefetch:
        for count, parts in shares:
            yield count, [task.batch(part) for part in parts]
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        ahead: deque[tuple[int, list[Future[Any]]]] = deque()
        for count, parts in shares:
            ahead.append((count, [pool.submit(task.batch, part) for part in parts]))
            if len(ahead) > config.prefetch:
                due, waiting = ahead.popleft()
                yield due, [future.result() for future in waiting]
        for due, waiting in ahead:
            yield due, [future.result() for future in waiting]


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
        UserError: `out` holds another run and `resume` is off, its snapshots do not fit, or the launcher's settings
            would cut the model up a second way.
    """
    from accelerate import Accelerator

    set_threads(config.threads)
    store = SnapshotStore(out / "snapshots")
    if not resume and (out / "snapshots").exists():
        raise UserError(f"{out} holds a training run already; add --resume to go on, or choose another --out")
    (out / "sheets").mkdir(parents=True, exist_ok=True)

    # model, optimiser
    refuse_plugins()
    accelerator = Accelerator(mixed_precision=config.precision, cpu=not torch.cuda.is_available())
    rank, processes, main = accelerator.process_index, accelerator.num_processes, accelerator.is_main_process
    if config.batch_size < processes * config.accumulate:
        raise UserError(
            f"fit.batch_size is {config.batch_size}; {processes} processes in {config.accumulate} parts each need "
            f"{processes * config.accumulate}"
        )
    sharded = config.shard and processes > 1
    if sharded:
        _shard(task, accelerator.device)
    parameters = [p for p in task.model.parameters() if p.requires_grad]
    optimizer: Any = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=not sharded
    )
    model, optimizer = (task.model, optimizer) if sharded else accelerator.prepare(task.model, optimizer)
    for module in getattr(task, "frozen", ()):
        module.to(accelerator.device)
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

    # loop
    started, begun_at = time.monotonic(), samples
    last_snapshot = started
    stop = _Stop()
    bar = tqdm(total=config.total_samples, initial=samples, unit="sample", mininterval=5, disable=not main)
    recent: list[float] = (
        list(snapshot.state.get("recent", [])) if snapshot else []
    )  # losses since the last logged line
    if main:
        _keep_log(out / "train.jsonl", samples)

    def agreed(wanted: bool) -> bool:
        """Whether any process wants it; each has its own clock and its own signals."""
        if processes == 1:
            return wanted
        return bool(accelerator.reduce(torch.tensor(float(wanted), device=accelerator.device), "sum") > 0)

    def write(action: Callable[[Path], None]) -> None:
        """Runs `action` on the first process; sharded weights are gathered by all, so then on the others in vain."""
        with tempfile.TemporaryDirectory() as nowhere:
            if main or sharded:
                _with_ema(ema, task.model, lambda: action(out if main else Path(nowhere)))

    def sheet() -> None:
        write(lambda folder: task.sheet(task.model, folder_of(folder / "sheets") / f"{samples:010d}.png"))

    def save() -> None:
        state: dict[str, Any] = {
            "ema_updates": ema.updates if ema else 0,
            "spent_s": spent_s + time.monotonic() - started,
        }
        state["recent"] = recent
        tensors = _pack(task.model, optimizer, ema) if main or sharded else {}
        if main:
            store.save(samples, tensors, state)
        write(lambda folder: task.export(task.model, folder / "export"))

    try:
        model.train()
        for count, batches in _batches(task, config, samples, rank, processes):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, samples)
            last_loss = 0.0
            for number, batch in enumerate(batches):
                unfinished = number + 1 < len(batches)
                with _one_part(accelerator, model, unfinished, sharded):
                    loss, facts = task.loss(model, to_device(batch, accelerator.device))
                    accelerator.backward(loss / len(batches))
                last_loss += float(loss.detach()) / len(batches)
            if processes > 1:
                last_loss = float(accelerator.reduce(torch.tensor(last_loss, device=accelerator.device), "mean"))
            norm = whole(accelerator.clip_grad_norm_(parameters, config.grad_clip))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if ema:
                ema.update(task.model)
            before, samples = samples, samples + count
            if not math.isfinite(last_loss):
                raise UserError(f"loss is {last_loss} after {samples} samples; lower fit.learning_rate and --resume")
            recent.append(last_loss)
            bar.update(count)
            if main and samples // config.log_every != before // config.log_every:
                rate = (samples - begun_at) / (time.monotonic() - started)
                bar.set_postfix(loss=f"{last_loss:.4f}", refresh=False)
                line = {"samples": samples, "loss": sum(recent) / len(recent), "grad_norm": float(norm), **facts}
                line["samples_per_second"] = round(rate, 2)
                recent.clear()
                with (out / "train.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            if samples // config.sheet_every != before // config.sheet_every:
                sheet()
            if agreed(stop.wanted):
                break
            if agreed(main and time.monotonic() - last_snapshot > 60 * config.snapshot_minutes):
                save()
                last_snapshot = time.monotonic()
    finally:
        bar.close()
        stop.restore()
    save()
    sheet()
    accelerator.wait_for_everyone()
    if samples < config.total_samples:
        log.warning("stopped at %d of %d samples; go on with --resume", samples, config.total_samples)
    return samples


def folder_of(path: Path) -> Path:
    """The folder, made where it is missing."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def _shard(task: TrainingTask, device: torch.device) -> None:
    """Cuts a model up over the processes, in place: the blocks that its task names, then the rest.

    Source: Zhao et al., "PyTorch FSDP", arXiv 2304.11277.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    task.model.to(device)
    for module in list(task.model.modules()):
        if type(module).__name__ in getattr(task, "blocks", ()):
            fully_shard(module, mesh=mesh)
    fully_shard(task.model, mesh=mesh, reshard_after_forward=True)  # whoever looks at its weights expects shards
    for name in getattr(task, "entrances", ()):
        register_fsdp_forward_method(task.model, name)


@contextlib.contextmanager
def _one_part(accelerator: Any, model: Any, unfinished: bool, sharded: bool) -> Iterator[None]:
    """Around one part's loss and gradient: gradients are exchanged with the last part only."""
    if sharded:
        model.set_requires_gradient_sync(not unfinished)
        with accelerator.autocast():  # `prepare` sees to that otherwise
            yield
        return
    with accelerator.no_sync(model) if unfinished else contextlib.nullcontext():
        yield


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
