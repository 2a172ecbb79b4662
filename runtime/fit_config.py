"""Settings of the training loop, apart from torch so that configurations load fast."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runtime.config import Config


class FitConfig(Config):
    """Settings of the loop; every count is in samples, so batch size changes nothing else."""

    seed: int = 0
    batch_size: int = Field(16, ge=1)
    """Samples of one optimiser step, over all processes."""
    accumulate: int = Field(1, ge=1)
    """Parts that each process's share of a batch is computed in, one after the other, to save memory."""
    shard: bool = False
    """Cut weights, gradients and optimiser states up over the processes (PyTorch's FSDP 2) instead of copying them to
    each: less memory, more traffic. Only with several processes."""
    prefetch: int = Field(0, ge=0)
    """Batches made ahead on a thread; 0 = made when needed."""
    total_samples: int = Field(100_000, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    """Shape after warm-up; cosine ends at `final_rate_frac` of the rate."""
    final_rate_frac: float = Field(0.05, ge=0, le=1)
    warmup_samples: int = Field(1_000, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    grad_clip: float = Field(1.0, gt=0)
    ema_decay: float | None = Field(0.999, gt=0, lt=1)
    """Decay per optimiser step, warmed up as (1 + n) / (10 + n); None = export the raw weights."""
    snapshot_minutes: float = Field(5.0, gt=0)
    sheet_every: int = Field(5_000, ge=1)
    log_every: int = Field(500, ge=1)
    threads: int = Field(1, ge=1)
    """Torch threads. Two busy processes with two threads each slow each other down tenfold on two cores."""
    precision: Literal["no", "bf16", "fp16"] = "no"
