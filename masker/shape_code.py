"""Which of its shapes an object shows: a short code, and a diffusion model over codes.

A text and a box leave open from which side a laptop is seen, and the mean over all sides is a blob. As in a conditional
VAE, an encoder reads off the true mask a code of a few numbers that, with everything else that is known, tells the
shape prior which silhouette to draw; at run time the code comes from a small latent diffusion model, given the same
facts and the guide as it lies in the object's frame. A code costs thousands of times less than a view of latent cells,
so this model sees hundreds of thousands of samples where the denoiser of views sees tens of thousands.

Source: ours, after conditional VAEs (Sohn et al., NeurIPS 2015) and latent diffusion (Rombach et al., 2112.10752).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.config import DiffusionConfig, SamplingConfig, ShapePriorConfig
from masker.diffusion import NoiseProcess, make_solver

NOISE = DiffusionConfig(beta_schedule="squaredcos_cap_v2", prediction="v_prediction")
TIME_WAVES = 16
SMALLEST_LOG_VARIANCE = -8.0


class ShapeCode(nn.Module):
    """Codes of shapes: read off a mask, or drawn.

    Args:
        config: Sizes.
        facts: Width of what is known about an object, see `masker.shape_prior.ShapePrior.facts`.
    """

    def __init__(self, config: ShapePriorConfig, facts: int) -> None:
        super().__init__()
        self.config, self.process = config, NoiseProcess(NOISE)
        width = config.code_hidden
        self.posterior = nn.Sequential(
            nn.Linear(config.side**2 + facts, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 2 * config.code),
        )
        self.enter = nn.Linear(config.code + 2 * TIME_WAVES + facts + config.guide_cells**2, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(config.code_layers)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.code))
        for last in (*(block[-1] for block in self.blocks), self.leave[-1]):  # type: ignore[index]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def read(self, facts: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (B, C) each, of the codes of masks seen in their frames, (B, 1, side, side)."""
        seen = torch.cat([2 * mask.flatten(1) - 1, facts], dim=1)
        mean, log_variance = self.posterior(seen).chunk(2, dim=1)
        return mean, log_variance.clamp(SMALLEST_LOG_VARIANCE, 2)

    def predict(self, noisy: Tensor, timesteps: Tensor, facts: Tensor, guide: Tensor) -> Tensor:
        """v, (B, C), of codes noised to `timesteps`, int64 (B,); `guide`: (B, 1, guide_cells, guide_cells)."""
        share = timesteps.float()[:, None] / NOISE.train_timesteps
        waves = share * torch.pi * torch.arange(1, TIME_WAVES + 1, device=share.device)
        x = torch.cat([noisy, waves.sin(), waves.cos(), facts, 2 * guide.flatten(1) - 1], dim=1)
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        output: Tensor = self.leave(x)
        return output

    def loss(self, codes: Tensor, noise: Tensor, timesteps: Tensor, facts: Tensor, guide: Tensor) -> Tensor:
        """Squared error of v, (B,), for codes without gradient."""
        codes = codes.detach()[:, :, None, None]
        noise = noise[:, :, None, None]
        noisy = self.process.add_noise(codes, noise, timesteps)[..., 0, 0]
        target = self.process.target(codes, noise, timesteps)[..., 0, 0]
        return (self.predict(noisy, timesteps, facts, guide) - target).square().mean(1)

    @torch.no_grad()
    def draw(self, noise: Tensor, facts: Tensor, guide: Tensor) -> Tensor:
        """Codes (B, C) from noise (B, C), in `config.code_steps` steps of DPM-Solver++."""
        solver = make_solver(NOISE, SamplingConfig(solver_steps=self.config.code_steps))
        codes = noise * solver.init_noise_sigma
        for step in solver.timesteps:
            timesteps = torch.full((len(codes),), int(step), dtype=torch.long)
            codes = solver.step(self.predict(codes, timesteps, facts, guide), step, codes, return_dict=False)[0]
        return codes


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of N(mean, variance) from N(0, 1), nats, (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def in_frame(values: Tensor, center: Tensor, half: Tensor, side: int) -> Tensor:
    """What a view shows of an object's frame, (B, 1, side, side); 0 beyond the view.

    Args:
        values: (B, 1, R, R).
        center, half: (B, 2), x and y of the frame's centre, and how far it reaches; the view runs from -1 to 1.
        side: Cells asked for.
    """
    unit = (torch.arange(side, device=values.device) + 0.5) * (2 / side) - 1
    x = center[:, :1] + half[:, :1] * unit
    y = center[:, 1:] + half[:, 1:] * unit
    shape = (len(values), side, side)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
