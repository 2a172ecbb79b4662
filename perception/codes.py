"""Looks as short codes, and a small diffusion model that draws them.

What tells one silhouette, or one appearance, from another fits into a few numbers: coordinates along the principal
components of training examples, all seen in one frame. A code costs thousands of times less than a picture, so this
model sees hundreds of thousands of samples where a convolutional denoiser sees tens of thousands.

Source: ours, after eigenfaces (Turk and Pentland 1991) and latent diffusion (Rombach et al., arXiv 2112.10752).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from perception.diffusion import NoiseProcess, make_solver

TIME_WAVES = 16


@dataclass(frozen=True)
class CodeNoise:
    """The noise process of codes."""

    train_timesteps: int = 1000
    beta_schedule: str = "squaredcos_cap_v2"
    prediction: str = "v_prediction"


NOISE = CodeNoise()


class CodeModel(nn.Module):
    """Codes: read off examples, or drawn from what is known.

    The components are a part of the weights; until `learn_components` they are 0, and all examples alike.

    Args:
        length: numbers in an example, D.
        code: numbers in a code, C.
        known: numbers that a code is drawn from, F.
        hidden: width of the residual network that draws.
        layers: its blocks.
        steps: of the solver.
    """

    def __init__(self, length: int, code: int, known: int, *, hidden: int, layers: int, steps: int) -> None:
        super().__init__()
        self.steps, self.process = steps, NoiseProcess.of(NOISE)
        self.mean: Tensor
        self.basis: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.full((length,), 0.5))
        self.register_buffer("basis", torch.zeros(code, length))
        self.register_buffer("spread", torch.ones(code))
        self.enter = nn.Linear(code + 2 * TIME_WAVES + known, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
            for _ in range(layers)
        )
        self.leave = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, code))
        for last in (*(block[-1] for block in self.blocks), self.leave[-1]):  # type: ignore[index]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @property
    def code_width(self) -> int:
        """C."""
        return len(self.spread)

    def learn_components(self, examples: Tensor) -> None:
        """Takes the principal components of examples (N, ...) of D numbers each, N > C.

        Raises:
            ValueError: too few examples.
        """
        seen = examples.flatten(1)
        if len(seen) <= self.code_width:
            raise ValueError(f"{len(seen)} examples have no {self.code_width} components")
        self.mean.copy_(seen.mean(0))
        _, scales, components = torch.linalg.svd(seen - self.mean, full_matrices=False)
        self.basis.copy_(components[: self.code_width])
        self.spread.copy_((scales[: self.code_width] / len(seen) ** 0.5).clamp_min(1e-3))

    @property
    def knows_components(self) -> bool:
        """`learn_components` was called, or weights were loaded that know them."""
        return bool(self.basis.any())

    def read(self, examples: Tensor) -> Tensor:
        """Codes (B, C) of examples (B, ...); each number has a deviation of about 1."""
        return (examples.flatten(1) - self.mean) @ self.basis.T / self.spread

    def stand_for(self, codes: Tensor) -> Tensor:
        """What codes (B, C) stand for, as far as components can draw it, (B, D)."""
        return self.mean + (codes * self.spread) @ self.basis

    def predict(self, noisy: Tensor, timesteps: Tensor, known: Tensor) -> Tensor:
        """v, (B, C), of codes noised to `timesteps`, int64 (B,), given what is known, (B, F)."""
        share = timesteps.float()[:, None] / NOISE.train_timesteps
        waves = share * torch.pi * torch.arange(1, TIME_WAVES + 1, device=share.device)
        x = self.enter(torch.cat([noisy, waves.sin(), waves.cos(), known], dim=1))
        for block in self.blocks:
            x = x + block(x)
        output: Tensor = self.leave(x)
        return output

    def loss(self, codes: Tensor, noise: Tensor, timesteps: Tensor, known: Tensor) -> Tensor:
        """Squared error of v, (B,), components weighted by how much of an example they move."""
        noisy = self.process.add_noise(codes, noise, timesteps)
        target = self.process.target(codes, noise, timesteps)
        error = (self.predict(noisy, timesteps, known) - target).square()
        return (error * self.spread / self.spread.mean()).mean(1)

    @torch.no_grad()
    def draw(self, noise: Tensor, known: Tensor) -> Tensor:
        """Codes (B, C) from noise (B, C), in `steps` steps of DPM-Solver++."""
        solver = make_solver(NOISE, self.steps)
        codes = noise * solver.init_noise_sigma
        for step in solver.timesteps:
            timesteps = torch.full((len(codes),), int(step), dtype=torch.long)
            codes = solver.step(self.predict(codes, timesteps, known), step, codes, return_dict=False)[0]
        return codes
