"""Linear layers whose weights are kept in float16 on a CPU: half the memory traffic, float32 arithmetic.

Reading one token is bound by how fast weights come from memory, and models here are stored in float16 anyway; the
FBGEMM kernel widens them in registers. Eight-bit weights were measured too and lose too much
(docs/experiments/planner.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HalfLinear(nn.Module):
    """`nn.Linear` for inference on a CPU, weights rounded to float16, inputs and outputs float32.

    Args:
        linear: where weights and bias come from; may be dropped afterwards.

    Raises:
        RuntimeError: this build of torch has no FBGEMM (`half_linears` asks first).
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        bias = None if linear.bias is None else linear.bias.detach().float()
        self._packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach().float(), bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        out: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        return out


def half_linears(module: nn.Module) -> int:
    """Replace every linear layer in `module` that holds float32 weights on the CPU, in place; how many were.

    0 where this build of torch cannot: the module stays as it is.
    """
    replaced = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not nn.Linear or child.weight.device.type != "cpu" or child.weight.dtype != torch.float32:
                continue
            try:
                setattr(parent, name, HalfLinear(child))
            except (RuntimeError, AttributeError):  # no FBGEMM (ARM), or a torch without these operators
                return replaced
            replaced += 1
    return replaced
