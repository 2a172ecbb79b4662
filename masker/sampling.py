"""Few-step guided sampling in the codec's latents: one call of the network a step for all views and branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from masker.config import DiffusionConfig, GuidanceWeights, SamplingConfig
from masker.diffusion import Branch, combine, guidance_branches
from masker.model import Conditions, Kept, MaskModel, Prepared
from perception.diffusion import NoiseProcess, make_solver


def repeat_conditions(conditions: Conditions, times: int) -> Conditions:
    """B views `times` over, (times * B, ...), in the order that `combine` expects."""

    def tile(values: Tensor) -> Tensor:
        return values.repeat(times, *([1] * (values.ndim - 1)))

    return Conditions(
        index=tile(conditions.index),
        labels=conditions.labels,
        guide=tile(conditions.guide),
        distance=tile(conditions.distance),
        geometry=tile(conditions.geometry),
        object_tokens=tile(conditions.object_tokens),
        object_mask=tile(conditions.object_mask),
        context_tokens=tile(conditions.context_tokens),
        context_mask=tile(conditions.context_mask),
        code=tile(conditions.code),
    )


def _kept(branches: Sequence[Branch], batch: int, device: torch.device) -> Kept:
    def flags(name: str) -> Tensor:
        return torch.tensor([getattr(branch, name) for branch in branches for _ in range(batch)], device=device)

    return Kept(flags("layout"), flags("object"), flags("context"))


@torch.no_grad()
def sample_latents(
    model: MaskModel,
    conditions: Conditions,
    noise: Tensor,
    weights: GuidanceWeights,
    diffusion: DiffusionConfig,
    sampling: SamplingConfig,
) -> tuple[Tensor, Prepared]:
    """Denoises latents of B views, all guidance branches of a step in one call of the network.

    Args:
        model: In evaluation mode.
        conditions: B views.
        noise: (B, C, h, w), standard normal.
        weights: Guidance weights.
        diffusion: Noise process the model was trained with.
        sampling: Number of solver steps, composition of the guidance.

    Returns:
        z_0, (B, C, h, w), and the prepared conditions of the fullest branch.
    """
    if model.one_shot:
        return model.draw(conditions)
    branches = guidance_branches(weights, sampling.composition)
    repeated = repeat_conditions(conditions, len(branches))
    kept = _kept(branches, len(noise), noise.device)
    prepared = model.prepare(repeated, kept)
    solver, process = make_solver(diffusion, sampling.solver_steps), NoiseProcess.of(diffusion)
    latents = noise * solver.init_noise_sigma
    for step in solver.timesteps:
        stacked = solver.scale_model_input(latents, step).repeat(len(branches), 1, 1, 1)
        timesteps = torch.full((len(stacked),), int(step), dtype=torch.long, device=noise.device)
        output = combine(model.predict(stacked, timesteps, prepared), branches)
        if diffusion.prediction == "epsilon":
            output = process.estimate_clean(latents, output, timesteps[: len(noise)])
        latents = solver.step(output, step, latents, return_dict=False)[0]
    return latents, prepared.rows(slice(-len(noise), None))


@torch.no_grad()
def sample_masks(
    model: MaskModel,
    conditions: Conditions,
    noise: Tensor,
    weights: GuidanceWeights,
    diffusion: DiffusionConfig,
    sampling: SamplingConfig,
    sharp: Sequence[bool],
) -> list[Tensor]:
    """`sample_latents`, decoded and refined: soft masks in [0, 1], on the CPU wherever the model runs.

    Args:
        sharp: For each view that is wanted (the first of them; the others are padding) whether the refiner's second
            level is worth its time.
        Others: As in `sample_latents`.

    Returns:
        One mask a view, (F, F) where sharp, else coarser.
    """
    device = model.no_layout.device
    conditions = replace(conditions, **{name: values.to(device) for name, values in vars(conditions).items()})
    latents, prepared = sample_latents(model, conditions, noise.to(device), weights, diffusion, sampling)
    logits = model.read(latents, prepared)
    masks = []
    for row, wanted in enumerate(sharp):
        view = logits[row : row + 1]
        view = model.sharpen(view, prepared.rows(slice(row, row + 1))) if wanted else view
        masks.append(view.sigmoid()[0, 0].cpu())
    return masks
