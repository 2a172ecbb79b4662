"""Noise process, chained guidance and denoisers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler

from masker.codec import MaskVAE
from masker.config import DiffusionConfig, GuidanceWeights
from masker.diffusion import NoiseProcess, combine, guidance_branches
from masker.model import Conditions, Kept
from masker.sampling import sample_latents
from masker.weights import build_model

from .conftest import CODEC, TEXT, masker_config


def _conditions(batch: int, resolution: int = 16) -> Conditions:
    generator = torch.Generator().manual_seed(3)
    return Conditions(
        index=torch.randint(0, 4, (batch, resolution, resolution), generator=generator),
        labels=torch.randn(4, TEXT.width, generator=generator),
        guide=torch.rand(batch, 1, resolution, resolution, generator=generator),
        geometry=torch.rand(batch, 4, resolution, resolution, generator=generator),
        object_tokens=torch.randn(batch, 4, TEXT.width, generator=generator),
        object_mask=torch.ones(batch, 4, dtype=torch.bool),
        context_tokens=torch.randn(batch, 6, TEXT.width, generator=generator),
        context_mask=torch.ones(batch, 6, dtype=torch.bool),
    )


def _model(kind: str = "transformer"):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    config = masker_config(Path("unused"), kind)
    model = build_model(config, MaskVAE(CODEC).eval())
    for parameter in model.denoiser.parameters():  # undo the zero start: outputs must not be all 0
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval(), config


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_targets_agree_with_diffusers_and_invert(prediction: str) -> None:
    process = NoiseProcess(DiffusionConfig(prediction=prediction))
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=prediction)
    clean, noise = torch.randn(2, 3, 4, 4, 4).unbind(0)
    steps = torch.tensor([0, 500, 900])
    noisy = process.add_noise(clean, noise, steps)
    torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, steps))
    target = process.target(clean, noise, steps)
    if prediction == "v_prediction":
        torch.testing.assert_close(target, scheduler.get_velocity(clean, noise, steps))
    torch.testing.assert_close(process.estimate_clean(noisy, target, steps), clean, atol=1e-5, rtol=1e-5)


def test_chain_at_weight_one_is_the_conditional_model() -> None:
    branches = guidance_branches(GuidanceWeights(layout=1, object=1, context=1))
    assert [(b.layout, b.object, b.context, b.coefficient) for b in branches] == [(True, True, True, 1)]


def test_chain_equals_the_written_sum() -> None:
    w_s, w_o, w_c = 1.3, 2.0, 3.5
    branches = guidance_branches(GuidanceWeights(layout=w_s, object=w_o, context=w_c))
    e = torch.randn(4, 1, 2, 2, 2)  # e(0,0,0), e(S,0,0), e(S,o,0), e(S,o,c)
    written = e[0] + w_s * (e[1] - e[0]) + w_o * (e[2] - e[1]) + w_c * (e[3] - e[2])
    torch.testing.assert_close(combine(torch.cat(list(e)), branches), written)
    assert sum(branch.coefficient for branch in branches) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["transformer", "unet"])
def test_both_kinds_forward_and_ignore_padding(kind: str) -> None:
    model, _ = _model(kind)
    conditions = _conditions(2)
    conditions.object_mask[:, 2:] = False
    noisy, steps = torch.randn(2, 4, 4, 4), torch.tensor([10, 700])
    everything = Kept(*(torch.ones(2, dtype=torch.bool) for _ in range(3)))
    with torch.no_grad():
        output = model(noisy, steps, conditions, everything)[0]
        conditions.object_tokens[:, 2:] = 7.0
        padded = model(noisy, steps, conditions, everything)[0]
    assert output.shape == noisy.shape
    assert output.abs().max() > 0
    torch.testing.assert_close(output, padded)


@pytest.mark.parametrize("name", ["layout", "object", "context"])
def test_a_dropped_condition_has_no_influence(name: str) -> None:
    model, _ = _model()
    first, second = _conditions(1), _conditions(1)
    {"layout": second.guide, "object": second.object_tokens, "context": second.context_tokens}[name].mul_(-2).add_(1)
    flags = {key: torch.tensor([key != name]) for key in ("layout", "object", "context")}
    noisy, steps = torch.randn(1, 4, 4, 4), torch.tensor([300])
    with torch.no_grad():
        kept = Kept(*(torch.tensor([True]) for _ in range(3)))
        assert not torch.allclose(model(noisy, steps, first, kept)[0], model(noisy, steps, second, kept)[0])
        torch.testing.assert_close(
            model(noisy, steps, first, Kept(**flags))[0], model(noisy, steps, second, Kept(**flags))[0]
        )


def test_guided_sampling_with_equal_branches_matches_weight_one() -> None:
    """With all conditions without influence, any weights must give the conditional sample."""
    model, config = _model()
    with torch.no_grad():
        model.denoiser.net.pos_embed.proj.weight[:, 4:] = 0  # layout and summary channels
        model.denoiser.net.adaln_single.emb.project[2].weight.zero_()
    for block in model.denoiser.net.transformer_blocks:
        torch.nn.init.zeros_(block.attn2.to_out[0].weight)
        torch.nn.init.zeros_(block.attn2.to_out[0].bias)
    noise = torch.randn(1, 4, 4, 4)
    samples = [
        sample_latents(model, _conditions(1), noise, weights, config.diffusion, config.sampling)[0]
        for weights in (GuidanceWeights(layout=1, object=1, context=1), GuidanceWeights(layout=2, object=3, context=4))
    ]
    torch.testing.assert_close(samples[0], samples[1], atol=1e-4, rtol=1e-4)
