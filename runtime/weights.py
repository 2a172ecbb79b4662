"""How weights are read and written: safetensors only, strict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from runtime.files import write_atomic
from scene.errors import UserError

ROW_SCALE = ".row_scale"
PACK_FROM = 2048  # numbers; below, a scale per row is not worth it


def save_weights(weights: nn.Module | Mapping[str, torch.Tensor], path: Path, *, half: bool = True) -> None:
    """Writes safetensors atomically; floating tensors as float16 when `half`."""
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).detach().cpu().contiguous().clone()
        for name, tensor in ((name, whole(tensor)) for name, tensor in state.items())
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda temporary: save_file(tensors, str(temporary)))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, or of one that is sharded over processes (FSDP) all of it; then every process has to ask."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def pack(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices and kernels as int8 with one scale per row (output channel): half of float16, for shipping.

    Row r of a tensor W (rows, ...) becomes round(W_r / s_r), s_r = max |W_r| / 127, beside `<name>.row_scale` (rows,).
    Small tensors, vectors and integers stay as they are. `read_weights` undoes it, up to s_r / 2 per weight.
    """
    packed: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if tensor.ndim < 2 or tensor.numel() < PACK_FROM or not tensor.is_floating_point():
            packed[name] = tensor
            continue
        rows = tensor.float().flatten(1)
        scale = (rows.abs().amax(dim=1).clamp_min(1e-8) / 127).half().float().clamp_min(2.0**-24)
        packed[name] = (rows / scale[:, None]).round().clamp(-127, 127).to(torch.int8).view(tensor.shape)
        packed[name + ROW_SCALE] = scale
    return packed


def _unpacked(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    unpacked = {}
    for name, tensor in state.items():
        if name.endswith(ROW_SCALE):
            continue
        scale = state.get(name + ROW_SCALE)
        if scale is not None:
            tensor = tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))
        unpacked[name] = tensor
    return unpacked


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads safetensors; floating tensors come back as float32, and so do packed ones.

    Raises:
        UserError: missing or corrupt file.
    """
    try:
        state = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read weights {path} ({str(error)[:80]}); train or reinstall them") from None
    unpacked = _unpacked(state)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in unpacked.items()}


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads safetensors into a module; every name and shape must match.

    Raises:
        UserError: the file does not fit the module.
    """
    try:
        module.load_state_dict(read_weights(path), strict=True)
    except RuntimeError as error:
        raise UserError(f"weights {path} do not fit this model: {' '.join(str(error).split())[:160]}") from None
