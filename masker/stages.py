"""The mask model's other stages: shape prior alone, refiner alone, and the one-shot baseline; all on `DenoiserTask`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from masker.examples import MaskExample
from masker.model import Conditions, Kept, MaskModel, Prepared, SilhouetteModel, pooled
from masker.sheet import silhouette_sheet
from masker.tasks import DenoiserBatch, DenoiserTask, sample_noise, silhouette_loss, stack
from scene.errors import UserError

POOLED_AT_ONCE = 32


class OneShotTask(DenoiserTask):
    """Stage `oneshot`: a baseline without diffusion, the mask in one call of the network from the conditions alone.

    Every guided sample counts in full, since there are no noise levels.
    """

    def loss(self, model: nn.Module, batch: DenoiserBatch) -> tuple[Tensor, dict[str, float]]:
        """See `runtime.training.TrainingTask`."""
        masks = pooled(batch.masks, self.codec.resolution)
        with torch.no_grad():
            clean = self.codec.encode(masks)
        still, never = torch.zeros_like(clean), torch.zeros_like(batch.timesteps)
        latents, prepared = model(still, never, batch.conditions, batch.kept)
        error = (latents - clean).square().mean((1, 2, 3))
        terms = self._reading_losses(latents, prepared, batch.masks, prepared.guided.float(), batch.tiles)
        return self._total(error.mean(), error, {**terms, **self._silhouette_loss(prepared, masks)})


class SilhouetteTask(DenoiserTask):
    """Stage `silhouette`: the shape prior alone. What the denoiser starts from then shows the object already."""

    def _trained(self) -> nn.Module:
        return SilhouetteModel(self.whole)

    def begin(self) -> None:
        """Learns the components of shape codes, unless the weights brought them."""
        prior = self.whole.shape_prior
        if prior is None or prior.code is None or prior.code.knows_components:
            return
        examples = [self.source.example(sample) for sample in range(prior.config.code_masks)]
        guides = stack([example.guide for example in examples])[:, None]
        masks = pooled(stack([example.target for example in examples])[:, None], self.codec.resolution)
        self.whole.learn_components(guides, masks)

    def conditions(self, examples: Sequence[MaskExample]) -> Conditions:
        """As in `DenoiserTask`, without the scene texts, which the shape prior does not see."""
        return super().conditions([replace(example, context="") for example in examples])

    def loss(self, model: nn.Module, batch: DenoiserBatch) -> tuple[Tensor, dict[str, float]]:
        """See `runtime.training.TrainingTask`."""
        masks = pooled(batch.masks, self.codec.resolution)
        if not self.whole.code_width:
            silhouette, guided = model(batch.conditions, batch.kept)
            return silhouette_loss(silhouette, guided, masks), {}
        shapes = cast(SilhouetteModel, model).rebuild(
            batch.conditions, batch.kept, masks, batch.code_noise, batch.timesteps
        )
        drawn = silhouette_loss(shapes.silhouette, shapes.guided, masks)
        average = silhouette_loss(shapes.average, shapes.guided, masks)
        code_loss = (shapes.code_loss * shapes.guided).mean()
        facts = {"silhouette_loss": drawn.item(), "mean_loss": average.item(), "code_loss": code_loss.item()}
        return drawn + average + code_loss, facts

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Validation objects: guide, silhouette, truth."""
        silhouette_sheet(cast(SilhouetteModel, model), self.conditions, self.held_out.first, path)

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the masker folder; its denoiser is untrained still."""
        super().export(self.whole, out)


@dataclass(frozen=True)
class CodeBatch:
    """What codes are drawn from, facts (B, F) and hints (B, G); codes and noise (B, C); timesteps, int64 (B,)."""

    facts: Tensor
    hints: Tensor
    codes: Tensor
    noise: Tensor
    timesteps: Tensor


class CodeTask(SilhouetteTask):
    """Stage `codes`: the model that draws shape codes alone, after stage `silhouette`, on a pool of prepared objects.

    Sample n is object n % `shape_prior.code_pool`, with noise of its own. Preparing an object costs ten times the
    training step.
    """

    def _trained(self) -> nn.Module:
        if self.whole.shape_prior is None or self.whole.shape_prior.code is None:
            raise UserError("stage codes trains shape codes; set shape_prior.code in the config")
        self._pool: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        model = super()._trained().requires_grad_(False)
        self.whole.shape_prior.code.requires_grad_(True)
        return model

    def batch(self, samples: Sequence[int]) -> CodeBatch:  # type: ignore[override]
        """See `runtime.training.TrainingTask`."""
        assert self.config.shape_prior is not None
        numbers = [sample % self.config.shape_prior.code_pool for sample in samples]
        missing = [number for number in dict.fromkeys(numbers) if number not in self._pool]
        for start in range(0, len(missing), POOLED_AT_ONCE):
            self._prepare(missing[start : start + POOLED_AT_ONCE])
        facts, hints, codes = (
            torch.stack(column).float() for column in zip(*(self._pool[number] for number in numbers), strict=True)
        )
        noise = sample_noise(self.config.fit.seed, "code", samples, (self.whole.code_width,))
        return CodeBatch(facts, hints, codes, noise, self._timesteps(samples))

    @torch.no_grad()
    def _prepare(self, numbers: Sequence[int]) -> None:
        """Facts, hints and true codes of objects, half precision, into the pool."""
        examples = [self.source.example(number) for number in numbers]
        masks = pooled(stack([example.target for example in examples])[:, None], self.codec.resolution)
        conditions = self.conditions(examples)
        kept = torch.ones(len(examples), dtype=torch.bool)
        prior = self.whole.shape_prior
        assert prior is not None
        facts, guide, frame = self.whole.known(conditions, Kept(kept, kept, kept))
        hints = prior.hints(facts, guide, frame)
        for number, *row in zip(numbers, facts, hints, self.whole.read_codes(conditions, masks), strict=True):
            self._pool[number] = tuple(part.half() for part in row)  # type: ignore[assignment]

    def loss(self, model: nn.Module, batch: CodeBatch) -> tuple[Tensor, dict[str, float]]:  # type: ignore[override]
        """See `runtime.training.TrainingTask`."""
        prior = cast(SilhouetteModel, model).whole.shape_prior
        assert prior is not None and prior.code is not None
        known = torch.cat([batch.facts, batch.hints], dim=1)
        return prior.code.loss(batch.codes, batch.noise, batch.timesteps, known).mean(), {}


class RefinerModel(nn.Module):
    """The refiner of a mask model, and nothing else of it, as a module to train."""

    def __init__(self, whole: MaskModel) -> None:
        super().__init__()
        if whole.refiner is None:
            raise UserError("stage refiner needs a refiner; set refiner.levels in the config")
        self.whole = whole.requires_grad_(False)
        whole.refiner.requires_grad_(True)


class RefinerTask(DenoiserTask):
    """Trains the refiner on masks that the denoiser estimates in one step from noise.

    One step is what a sampler of few steps comes close to, and costs one call of a network that is not trained here.
    The noise is scaled by a random temperature, since samplers may start from less than it. With
    `refiner.learns_on: silhouette` the shape prior's latents stand in for the estimate: no denoiser is needed yet.
    """

    def _trained(self) -> nn.Module:
        return RefinerModel(self.whole)

    def loss(self, model: nn.Module, batch: DenoiserBatch) -> tuple[Tensor, dict[str, float]]:
        """See `runtime.training.TrainingTask`."""
        estimate, prepared = self._coarse(batch)
        terms = self._reading_losses(estimate, prepared, batch.masks, prepared.guided.float(), batch.tiles)
        del terms["mask_loss"]
        return self._total(torch.zeros(()), torch.zeros(1), terms)

    @torch.no_grad()
    def _coarse(self, batch: DenoiserBatch) -> tuple[Tensor, Prepared]:
        """Estimated latents (B, C, h, w) and the prepared conditions."""
        conditions = self._with_codes(batch, pooled(batch.masks, self.codec.resolution))
        if self.config.refiner is not None and self.config.refiner.learns_on == "silhouette":
            prepared = self.whole.prepare(conditions, batch.kept)
            return prepared.shape, prepared
        last = self.config.diffusion.train_timesteps - 1
        temperature = batch.timesteps.view(-1, 1, 1, 1) / last
        noise, steps = batch.noise * temperature, torch.full_like(batch.timesteps, last)
        output, prepared = self.whole(noise, steps, conditions, batch.kept)
        return self.process.estimate_clean(noise, output, steps), prepared

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Validation objects under the four forms of guidance."""
        super().sheet(self.whole, path)

    def export(self, model: nn.Module, out: Path) -> None:
        """Writes the masker folder."""
        super().export(self.whole, out)


MODEL_TASKS: dict[str, type[DenoiserTask]] = {
    "silhouette": SilhouetteTask,
    "codes": CodeTask,
    "denoiser": DenoiserTask,
    "refiner": RefinerTask,
    "oneshot": OneShotTask,
}
