"""Makes `pretrained/judge/crops/efficientnet.safetensors` out of the weight package; run once, never at run time.

python -m perception.convert_efficientnet FILE.pth pretrained/judge/crops/efficientnet.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from perception.efficientnet import BLOCKS, EfficientNetTrunk
from runtime.weights import save_weights

EPSILON = 1e-3  # of the package's batch norms


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and shapes of `EfficientNetTrunk`, batch norms folded in.

    Args:
        state: the package's state dict.
    """
    result = dict(_folded(state, "_conv_stem", "_bn0", "stem"))
    for number, (expansion, *_) in enumerate(BLOCKS):
        old, new = f"_blocks.{number}", f"blocks.{number}"
        if expansion > 1:
            result |= _folded(state, f"{old}._expand_conv", f"{old}._bn0", f"{new}.expand")
        result |= _folded(state, f"{old}._depthwise_conv", f"{old}._bn1", f"{new}.depthwise")
        result |= _folded(state, f"{old}._project_conv", f"{old}._bn2", f"{new}.project")
    return result


def _folded(state: dict[str, Tensor], convolution: str, norm: str, name: str) -> dict[str, Tensor]:
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + EPSILON).sqrt()
    weight = state[f"{convolution}.weight"] * scale.view(-1, 1, 1, 1)
    return {f"{name}.weight": weight, f"{name}.bias": state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale}


if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    converted = convert(torch.load(source, map_location="cpu", weights_only=True))
    EfficientNetTrunk().load_state_dict(converted, strict=True)
    save_weights(converted, target)
