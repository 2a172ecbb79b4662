"""What every diffusion model here shares: the noise process, its training targets, and the few-step solver.

Notation: alpha_bar_t = product of (1 - beta); z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) eps. A network that
predicts the flow (Lipman et al., arXiv 2210.02747; Liu et al., arXiv 2209.03003) has no betas:
z_t = (1 - s) z_0 + s eps with s = t / timesteps, as diffusers' flow sigmas are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

GOLDEN = 0.6180339887498949
CLEAN_LIMIT = 4.0  # standardised values; an estimate from predicted noise divides by the little signal there is


class Schedule(Protocol):
    """What defines a noise process."""

    @property
    def train_timesteps(self) -> int:
        """Number of steps."""
        ...

    @property
    def beta_schedule(self) -> str:
        """diffusers' name of the betas."""
        ...

    @property
    def prediction(self) -> str:
        """What the network outputs: v_prediction, sample or epsilon."""
        ...


def _betas(schedule: Schedule) -> dict[str, float]:
    """diffusers' arguments for schedules that name their first and last beta; others take diffusers' own."""
    found = getattr(schedule, "beta_range", None)
    return {} if found is None else {"beta_start": found[0], "beta_end": found[1]}


class NoiseProcess:
    """q(z_t | z_0) and the training target.

    Args:
        alphas_cumprod: (timesteps,) alpha_bar, as the sampler uses it; of a flow, its length alone.
        prediction: v_prediction (v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) z_0, Salimans & Ho 2022), sample (z_0),
            epsilon or flow_prediction (eps - z_0).
    """

    def __init__(self, alphas_cumprod: Tensor, prediction: str) -> None:
        self.alphas_cumprod, self.prediction = alphas_cumprod, prediction

    @classmethod
    def of(cls, schedule: Schedule) -> NoiseProcess:
        """The process on diffusers' DDPM betas of that name."""
        from diffusers import DDPMScheduler

        scheduler: Any = DDPMScheduler(
            num_train_timesteps=schedule.train_timesteps,
            beta_schedule=schedule.beta_schedule,
            prediction_type=schedule.prediction,
            **_betas(schedule),
        )
        return cls(scheduler.alphas_cumprod, schedule.prediction)

    def _alpha_bar(self, timesteps: Tensor) -> Tensor:
        """(B,), wherever the timesteps are; of a flow, what it would be at the same ratio of signal to noise."""
        if self.prediction == "flow_prediction":
            signal, sigma = self.coefficients(timesteps, 1)
            return signal**2 / (signal**2 + sigma**2)
        return self.alphas_cumprod.to(timesteps.device)[timesteps]

    def coefficients(self, timesteps: Tensor, dimensions: int = 4) -> tuple[Tensor, Tensor]:
        """What z_0 and the noise are multiplied by, each (B, 1, ...), for tensors of so many dimensions."""
        shape = (-1, *[1] * (dimensions - 1))
        if self.prediction == "flow_prediction":
            sigma = (timesteps / len(self.alphas_cumprod)).view(shape)
            return 1 - sigma, sigma
        alpha_bar = self._alpha_bar(timesteps).view(shape)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """z_t from z_0 and noise, all of one shape (B, ...)."""
        signal, sigma = self.coefficients(timesteps, clean.ndim)
        return signal * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should output: v = sqrt(a) eps - sqrt(1 - a) x0, or x0, eps, or eps - x0."""
        if self.prediction == "sample":
            return clean
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "flow_prediction":
            return noise - clean
        signal, sigma = self.coefficients(timesteps, clean.ndim)
        return signal * noise - sigma * clean

    def estimate_clean(self, noisy: Tensor, output: Tensor, timesteps: Tensor) -> Tensor:
        """The network's estimate of z_0, (B, ...); from noise it is kept within `CLEAN_LIMIT`."""
        if self.prediction == "sample":
            return output
        signal, sigma = self.coefficients(timesteps, noisy.ndim)
        if self.prediction == "epsilon":
            return ((noisy - sigma * output) / signal).clamp(-CLEAN_LIMIT, CLEAN_LIMIT)
        if self.prediction == "flow_prediction":
            return noisy - sigma * output
        return signal * noisy - sigma * output

    def estimate_weights(self, timesteps: Tensor) -> Tensor:
        """How much a loss on `estimate_clean` counts, (B,): 1, or alpha_bar where errors are divided by the signal."""
        alpha_bar = self._alpha_bar(timesteps)
        return alpha_bar if self.prediction == "epsilon" else torch.ones_like(alpha_bar)

    def weights(self, timesteps: Tensor, snr_gamma: float | None) -> Tensor:
        """Loss weight per sample, (B,): 1, or Min-SNR (Hang et al., arXiv 2303.09556) clamped at `snr_gamma`."""
        if snr_gamma is None:
            return torch.ones(len(timesteps), device=timesteps.device)
        alpha_bar = self._alpha_bar(timesteps)
        snr = alpha_bar / (1 - alpha_bar)
        clipped = snr.clamp(max=snr_gamma)
        per_clean = {
            "sample": torch.ones_like(snr),
            "epsilon": snr,
            "v_prediction": snr + 1,
            "flow_prediction": (snr.sqrt() + 1) ** 2,
        }
        return clipped / per_clean[self.prediction]


def spread_timesteps(samples: Sequence[int], steps: int, *, power: float = 1.0, offset: float = 0.5) -> Tensor:
    """Timesteps int64 (B,) of sample numbers: steps * u ** power, u by golden-ratio steps from `offset`.

    They cover the unit interval evenly in any stretch of samples: less gradient noise than independent draws, and still
    a function of the sample number alone.
    """
    shares = [(offset + sample * GOLDEN) % 1.0 for sample in samples]
    return torch.tensor([min(int(share**power * steps), steps - 1) for share in shares])


def make_solver(schedule: Schedule, steps: int) -> Any:
    """A diffusers DPM-Solver++ on the training betas, set to so many timesteps.

    Of a network that predicts noise it takes `NoiseProcess.estimate_clean`: at the first step, the noise itself would
    be divided by next to no signal.
    """
    from diffusers import DPMSolverMultistepScheduler

    solver: Any = DPMSolverMultistepScheduler(
        num_train_timesteps=schedule.train_timesteps,
        beta_schedule=schedule.beta_schedule,
        prediction_type="sample" if schedule.prediction == "epsilon" else schedule.prediction,
        **_betas(schedule),
        algorithm_type="dpmsolver++",
        solver_order=2,
        # Few steps: start at the last training step, where the model has seen pure noise.
        timestep_spacing="trailing",
        # The cosine schedule's last steps have log-SNR towards -infinity; diffusers asks for a clip.
        lambda_min_clipped=-5.1 if schedule.beta_schedule == "squaredcos_cap_v2" else -float("inf"),
    )
    solver.set_timesteps(steps)
    return solver
