"""The noise process, its loss, and chained classifier-free guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from masker.config import DiffusionConfig, GuidanceWeights, SamplingConfig

# Branches of the chain, from nothing to everything: which of (layout, T_obj, T_context) is kept.
CHAIN: tuple[tuple[bool, bool, bool], ...] = (
    (False, False, False),
    (True, False, False),
    (True, True, False),
    (True, True, True),
)


@dataclass(frozen=True)
class Branch:
    """One evaluation of the network inside a guided step, and its share of the sum."""

    layout: bool
    object: bool
    context: bool
    coefficient: float


def guidance_branches(weights: GuidanceWeights) -> tuple[Branch, ...]:
    """The evaluations that chained guidance needs.

    e(0,0,0) + w_S [e(S,0,0) - e(0,0,0)] + w_o [e(S,o,0) - e(S,0,0)] + w_c [e(S,o,c) - e(S,o,0)]
    is a sum over the four branches with coefficients 1 - w_S, w_S - w_o, w_o - w_c and w_c. Branches
    whose coefficient is 0 are left out: weight 1 everywhere costs one evaluation.

    Source: ours, after composable guidance of InstructPix2Pix (arXiv 2211.09800, Eq. 3).
    """
    w_layout, w_object, w_context = weights.layout, weights.object, weights.context
    coefficients = (1 - w_layout, w_layout - w_object, w_object - w_context, w_context)
    return tuple(
        Branch(*kept, coefficient)
        for kept, coefficient in zip(CHAIN, coefficients, strict=True)
        if abs(coefficient) > 1e-9
    )


def combine(predictions: Tensor, branches: tuple[Branch, ...]) -> Tensor:
    """Weighted sum over branches.

    Args:
        predictions: (K * B, C, h, w), branch by branch.
        branches: K of them.

    Returns:
        (B, C, h, w).
    """
    parts = predictions.chunk(len(branches))
    total = parts[0] * branches[0].coefficient
    for part, branch in zip(parts[1:], branches[1:], strict=True):
        total = total + part * branch.coefficient
    return total


class NoiseProcess:
    """q(z_t | z_0) and the training target, on diffusers' DDPM betas."""

    def __init__(self, config: DiffusionConfig) -> None:
        from diffusers import DDPMScheduler

        self.config = config
        scheduler: Any = DDPMScheduler(
            num_train_timesteps=config.train_timesteps,
            beta_schedule=config.beta_schedule,
            prediction_type=config.prediction,
        )
        self.alphas_cumprod: Tensor = scheduler.alphas_cumprod

    def coefficients(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar) and sqrt(1 - alpha_bar), each (B, 1, 1, 1)."""
        alpha_bar = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """z_t from z_0 and noise, all (B, C, h, w)."""
        signal, sigma = self.coefficients(timesteps)
        return signal * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should output: v = sqrt(a) eps - sqrt(1 - a) x0, or x0."""
        if self.config.prediction == "sample":
            return clean
        signal, sigma = self.coefficients(timesteps)
        return signal * noise - sigma * clean

    def estimate_clean(self, noisy: Tensor, output: Tensor, timesteps: Tensor) -> Tensor:
        """The network's estimate of z_0, (B, C, h, w)."""
        if self.config.prediction == "sample":
            return output
        signal, sigma = self.coefficients(timesteps)
        return signal * noisy - sigma * output

    def weights(self, timesteps: Tensor) -> Tensor:
        """Loss weight per sample, (B,): 1, or Min-SNR (Hang et al., arXiv 2303.09556)."""
        gamma = self.config.snr_gamma
        if gamma is None:
            return torch.ones(len(timesteps))
        alpha_bar = self.alphas_cumprod[timesteps]
        snr = alpha_bar / (1 - alpha_bar)
        clipped = snr.clamp(max=gamma)
        return clipped if self.config.prediction == "sample" else clipped / (snr + 1)


def make_solver(diffusion: DiffusionConfig, sampling: SamplingConfig) -> Any:
    """A diffusers DPM-Solver++ on the training betas, its timesteps set."""
    from diffusers import DPMSolverMultistepScheduler

    solver: Any = DPMSolverMultistepScheduler(
        num_train_timesteps=diffusion.train_timesteps,
        beta_schedule=diffusion.beta_schedule,
        prediction_type=diffusion.prediction,
        algorithm_type="dpmsolver++",
        solver_order=2,
        # Few steps: start at the last training step, where the model has seen pure noise.
        timestep_spacing="trailing",
        # The cosine schedule's last steps have log-SNR towards -infinity; diffusers asks for a clip.
        lambda_min_clipped=-5.1 if diffusion.beta_schedule == "squaredcos_cap_v2" else -float("inf"),
    )
    solver.set_timesteps(sampling.solver_steps)
    return solver
