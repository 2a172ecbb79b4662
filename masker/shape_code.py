"""Which of its shapes an object shows: a short code, and a diffusion model over codes.

A text and a box leave open from which side a laptop is seen, and the mean over all sides is a blob. What tells one
silhouette from another fits into a few numbers: coordinates along the principal components of training masks, seen in
the frames of their guides. With them the shape prior draws one of the shapes instead of their mean; at run time they
come from a small latent diffusion model, given everything known and the guide as it lies in its frame. A code costs
thousands of times less than a view of latent cells, so this model sees hundreds of thousands of samples where the
denoiser of views sees tens of thousands.

Source: ours, after eigenfaces (Turk and Pentland 1991) and latent diffusion (Rombach et al., arXiv 2112.10752). A
learned encoder (a conditional VAE) in the components' place was far behind them after 50 k samples; see
docs/experiments/masker.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masker.config import DiffusionConfig, SamplingConfig, ShapePriorConfig
from masker.diffusion import NoiseProcess, make_solver
from masker.layout_encoder import cell_centers

NOISE = DiffusionConfig(beta_schedule="squaredcos_cap_v2", prediction="v_prediction")
TIME_WAVES = 16
SKETCH_GAIN = 12.0  # logits per unit of coverage
FARTHEST = 5.0  # deviations that a guide's code may lie off


class ShapeCode(nn.Module):
    """Codes of shapes: read off a mask, or drawn.

    The components are a part of the weights; until `learn_components` they are 0, and all masks alike.

    Args:
        config: Sizes.
        facts: Width of what is known about an object, see `masker.shape_prior.ShapePrior.facts`.
    """

    def __init__(self, config: ShapePriorConfig, facts: int) -> None:
        super().__init__()
        self.config, self.process = config, NoiseProcess(NOISE)
        self.mean: Tensor
        self.basis: Tensor
        self.spread: Tensor
        width = config.code_hidden
        self.register_buffer("mean", torch.full((config.side**2,), 0.5))
        self.register_buffer("basis", torch.zeros(config.code, config.side**2))
        self.register_buffer("spread", torch.ones(config.code))
        self.enter = nn.Linear(3 * config.code + 2 * TIME_WAVES + facts + config.guide_cells**2, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(config.code_layers)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.code))
        for last in (*(block[-1] for block in self.blocks), self.leave[-1]):  # type: ignore[index]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def learn_components(self, masks: Tensor) -> None:
        """Takes the principal components of masks seen in their frames, (N, 1, side, side), N > code.

        Raises:
            ValueError: too few masks.
        """
        seen = masks.flatten(1)
        if len(seen) <= self.config.code:
            raise ValueError(f"{len(seen)} masks have no {self.config.code} components")
        self.mean.copy_(seen.mean(0))
        _, scales, components = torch.linalg.svd(seen - self.mean, full_matrices=False)
        self.basis.copy_(components[: self.config.code])
        self.spread.copy_((scales[: self.config.code] / len(seen) ** 0.5).clamp_min(1e-3))

    @property
    def knows_components(self) -> bool:
        """`learn_components` was called, or weights were loaded that know them."""
        return bool(self.basis.any())

    def read(self, masks: Tensor) -> Tensor:
        """Codes (B, C) of masks seen in their frames, (B, 1, side, side); each number has a deviation of about 1."""
        return (masks.flatten(1) - self.mean) @ self.basis.T / self.spread

    def sketch(self, codes: Tensor) -> Tensor:
        """Logits, (B, 1, side, side), of the masks that codes (B, C) stand for, as far as components can draw them."""
        seen = self.mean + (codes * self.spread) @ self.basis
        return SKETCH_GAIN * (seen - 0.5).view(-1, 1, self.config.side, self.config.side)

    def look(self, guide: Tensor) -> Tensor:
        """What is seen of guides in their frames, (B, 1, side, side): their own codes and a coarse picture, (B, G)."""
        cells = F.adaptive_avg_pool2d(guide, self.config.guide_cells)
        return torch.cat([self.read(guide).clamp(-FARTHEST, FARTHEST), 2 * cells.flatten(1) - 1], dim=1)

    def predict(self, noisy: Tensor, timesteps: Tensor, facts: Tensor, hints: Tensor) -> Tensor:
        """v, (B, C), of codes noised to `timesteps`, int64 (B,); `hints`: see `ShapePrior.hints`."""
        share = timesteps.float()[:, None] / NOISE.train_timesteps
        waves = share * torch.pi * torch.arange(1, TIME_WAVES + 1, device=share.device)
        x = torch.cat([noisy, waves.sin(), waves.cos(), facts, hints], dim=1)
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        output: Tensor = self.leave(x)
        return output

    def loss(self, codes: Tensor, noise: Tensor, timesteps: Tensor, facts: Tensor, hints: Tensor) -> Tensor:
        """Squared error of v, (B,), components weighted by how much of a mask they move."""
        noisy = self.process.add_noise(codes, noise, timesteps)
        target = self.process.target(codes, noise, timesteps)
        error = (self.predict(noisy, timesteps, facts, hints) - target).square()
        return (error * self.spread / self.spread.mean()).mean(1)

    @torch.no_grad()
    def draw(self, noise: Tensor, facts: Tensor, hints: Tensor) -> Tensor:
        """Codes (B, C) from noise (B, C), in `config.code_steps` steps of DPM-Solver++."""
        solver = make_solver(NOISE, SamplingConfig(solver_steps=self.config.code_steps))
        codes = noise * solver.init_noise_sigma
        for step in solver.timesteps:
            timesteps = torch.full((len(codes),), int(step), dtype=torch.long)
            codes = solver.step(self.predict(codes, timesteps, facts, hints), step, codes, return_dict=False)[0]
        return codes


def in_frame(values: Tensor, center: Tensor, half: Tensor, side: int) -> Tensor:
    """What a view shows of an object's frame, (B, 1, side, side); 0 beyond the view.

    Args:
        values: (B, 1, R, R).
        center, half: (B, 2), x and y of the frame's centre, and how far it reaches; the view runs from -1 to 1.
        side: Cells asked for.
    """
    unit = cell_centers(side, values.device)
    return sampled_at(values, center[:, :1] + half[:, :1] * unit, center[:, 1:] + half[:, 1:] * unit)


def sampled_at(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(B, 1, R, R) at columns x and rows y, (B, N) each, bilinear; the map runs from -1 to 1 and is 0 beyond."""
    shape = (len(values), y.shape[1], x.shape[1])
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
