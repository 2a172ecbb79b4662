"""The noise process, its loss, and classifier-free guidance in three compositions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from masker.config import DiffusionConfig, GuidanceWeights, SamplingConfig

# Which of (layout, T_obj, T_context) a branch keeps.
NOTHING, LAYOUT, OBJECT, CONTEXT, ALL = (
    (False, False, False),
    (True, False, False),
    (True, True, False),
    (True, False, True),
    (True, True, True),
)
CLEAN_LIMIT = 4.0  # standardised latents; an estimate from predicted noise divides by the little signal there is


@dataclass(frozen=True)
class Branch:
    """One evaluation of the network inside a guided step, and its share of the sum."""

    layout: bool
    object: bool
    context: bool
    coefficient: float


Kept = tuple[bool, bool, bool]


def guidance_terms(
    weights: GuidanceWeights, composition: Literal["chained", "one_text", "joint"]
) -> tuple[tuple[float, Kept, Kept], ...]:
    """Guidance as e(nothing) + sum of weight * [e(more) - e(less)]: (weight, more, less) of each term."""
    w_layout, w_object, w_context = weights.layout, weights.object, weights.context
    if composition == "joint":
        return ((w_layout, ALL, NOTHING),)
    if composition == "one_text":
        # T_obj last: the last branch is the one whose conditions read the mask.
        return (w_layout, LAYOUT, NOTHING), (w_context, CONTEXT, LAYOUT), (w_object, OBJECT, LAYOUT)
    return (w_layout, LAYOUT, NOTHING), (w_object, OBJECT, LAYOUT), (w_context, ALL, OBJECT)


def guidance_branches(
    weights: GuidanceWeights, composition: Literal["chained", "one_text", "joint"] = "chained"
) -> tuple[Branch, ...]:
    """The evaluations that guidance needs, each once, the fullest last.

    chained:  e(0,0,0) + w_S [e(S,0,0) - e(0,0,0)] + w_o [e(S,o,0) - e(S,0,0)] + w_c [e(S,o,c) - e(S,o,0)]
    one_text: e(0,0,0) + w_S [e(S,0,0) - e(0,0,0)] + w_o [e(S,o,0) - e(S,0,0)] + w_c [e(S,0,c) - e(S,0,0)]
    joint:    e(0,0,0) + w [e(S,o,c) - e(0,0,0)]

    Branches whose coefficients add up to 0 are left out: chained or joint, weight 1 costs one evaluation.

    Source: ours, after composable guidance of InstructPix2Pix (arXiv 2211.09800, Eq. 3).
    """
    coefficients: dict[Kept, float] = defaultdict(float, {NOTHING: 1.0})
    for weight, more, less in guidance_terms(weights, composition):
        coefficients[less] -= weight
        coefficients[more] += weight
    return tuple(Branch(*kept, value) for kept, value in coefficients.items() if abs(value) > 1e-9)


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

    def coefficients(self, timesteps: Tensor, dimensions: int = 4) -> tuple[Tensor, Tensor]:
        """sqrt(alpha_bar) and sqrt(1 - alpha_bar), each (B, 1, ...), for tensors of so many dimensions."""
        alpha_bar = self.alphas_cumprod[timesteps].view(-1, *[1] * (dimensions - 1))
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """z_t from z_0 and noise, all of one shape (B, ...)."""
        signal, sigma = self.coefficients(timesteps, clean.ndim)
        return signal * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should output: v = sqrt(a) eps - sqrt(1 - a) x0, or x0, or eps."""
        if self.config.prediction == "sample":
            return clean
        if self.config.prediction == "epsilon":
            return noise
        signal, sigma = self.coefficients(timesteps, clean.ndim)
        return signal * noise - sigma * clean

    def estimate_clean(self, noisy: Tensor, output: Tensor, timesteps: Tensor) -> Tensor:
        """The network's estimate of z_0, (B, C, h, w); from noise it is kept within `CLEAN_LIMIT`."""
        if self.config.prediction == "sample":
            return output
        signal, sigma = self.coefficients(timesteps)
        if self.config.prediction == "epsilon":
            return ((noisy - sigma * output) / signal).clamp(-CLEAN_LIMIT, CLEAN_LIMIT)
        return signal * noisy - sigma * output

    def estimate_weights(self, timesteps: Tensor) -> Tensor:
        """How much a loss on `estimate_clean` counts, (B,): 1, or alpha_bar where errors are divided by the signal."""
        alpha_bar = self.alphas_cumprod[timesteps]
        return alpha_bar if self.config.prediction == "epsilon" else torch.ones_like(alpha_bar)

    def weights(self, timesteps: Tensor) -> Tensor:
        """Loss weight per sample, (B,): 1, or Min-SNR (Hang et al., arXiv 2303.09556)."""
        gamma = self.config.snr_gamma
        if gamma is None:
            return torch.ones(len(timesteps))
        alpha_bar = self.alphas_cumprod[timesteps]
        snr = alpha_bar / (1 - alpha_bar)
        clipped = snr.clamp(max=gamma)
        per_clean = {"sample": torch.ones_like(snr), "epsilon": snr, "v_prediction": snr + 1}
        return clipped / per_clean[self.config.prediction]


def make_solver(diffusion: DiffusionConfig, sampling: SamplingConfig) -> Any:
    """A diffusers DPM-Solver++ on the training betas, its timesteps set.

    Of a network that predicts noise it takes `NoiseProcess.estimate_clean`: at the first step, the noise itself would
    be divided by next to no signal.
    """
    from diffusers import DPMSolverMultistepScheduler

    solver: Any = DPMSolverMultistepScheduler(
        num_train_timesteps=diffusion.train_timesteps,
        beta_schedule=diffusion.beta_schedule,
        prediction_type="sample" if diffusion.prediction == "epsilon" else diffusion.prediction,
        algorithm_type="dpmsolver++",
        solver_order=2,
        # Few steps: start at the last training step, where the model has seen pure noise.
        timestep_spacing="trailing",
        # The cosine schedule's last steps have log-SNR towards -infinity; diffusers asks for a clip.
        lambda_min_clipped=-5.1 if diffusion.beta_schedule == "squaredcos_cap_v2" else -float("inf"),
    )
    solver.set_timesteps(sampling.solver_steps)
    return solver
