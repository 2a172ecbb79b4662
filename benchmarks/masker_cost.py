"""What a training sample of configs/masker/sd15.yaml costs, counted without weights; docs/masker-full-size.md.

python -m benchmarks.masker_cost
"""

from __future__ import annotations

import json
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from masker.codec import KLCodec
from masker.stage_config import STAGES, MaskerConfig
from masker.weights import build_model
from runtime.assets import asset_dir
from runtime.config import load_stage

UNET = {
    "sample_size": 64, "in_channels": 4, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768,
    "attention_head_dim": 8,
}  # fmt: skip
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
PEAKS = {"A100 (312 TFLOP/s in bf16)": 312e12, "H100 (989 TFLOP/s in bf16)": 989e12}
SHARE = 0.35  # of the peak: an assumption, not a measurement


def main() -> None:
    config = load_stage(STAGES, asset_dir("configs") / "masker" / "sd15.yaml", [f"denoiser.unet={json.dumps(UNET)}"])
    assert isinstance(config, MaskerConfig) and config.public is not None
    with torch.device("meta"):
        codec = KLCodec(AutoencoderKL(**VAE), config.public.resolution)
        net: Any = build_model(config, codec).denoiser
        side, tokens = codec.latent_size, config.text.object_tokens + config.text.context_tokens
        noisy = torch.empty(1, net.net.config.in_channels, side, side, requires_grad=True)
        text, mask = torch.empty(1, tokens, config.text.width), torch.ones(1, tokens, dtype=torch.bool)
        with FlopCounterMode(display=False) as step:
            net(noisy, torch.zeros(1, dtype=torch.long), text, mask, torch.empty(1, config.text.width)).sum().backward()
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            net(noisy, torch.zeros(1, dtype=torch.long), text, mask, torch.empty(1, config.text.width))
        with FlopCounterMode(display=False) as encode, torch.no_grad():
            codec.encode(torch.empty(1, 1, config.public.resolution, config.public.resolution))
    # The mask and the guide each pass the VAE's encoder once.
    per_sample = step.get_total_flops() + 2 * encode.get_total_flops()
    print(f"U-Net, forward {forward.get_total_flops() / 1e12:.2f} TFLOP")
    print(f"U-Net, forward, backward and recomputed activations {step.get_total_flops() / 1e12:.2f} TFLOP")
    print(f"VAE encoder {encode.get_total_flops() / 1e12:.2f} TFLOP, twice a sample")
    print(f"a training sample {per_sample / 1e12:.2f} TFLOP")
    samples = config.fit.total_samples
    print(f"{samples:,} samples, {samples // config.fit.batch_size:,} steps of {config.fit.batch_size}")
    for name, peak in PEAKS.items():
        hours = samples * per_sample / (peak * SHARE) / 3600
        print(f"{name} at {SHARE:.0%}: {hours:,.0f} GPU hours, {hours / 8:,.0f} hours on 8")


if __name__ == "__main__":
    main()
