"""Noise process, chained guidance and denoisers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from pydantic import ValidationError

from masker.codec import MaskVAE
from masker.config import DiffusionConfig, GuidanceWeights, SamplingConfig
from masker.diffusion import combine, guidance_branches
from masker.model import Conditions, Kept
from masker.sampling import sample_latents
from masker.weights import build_model
from perception.diffusion import NoiseProcess

from .conftest import CODEC, TEXT, masker_config


def _conditions(batch: int, resolution: int = 16) -> Conditions:
    generator = torch.Generator().manual_seed(3)
    return Conditions(
        index=torch.randint(0, 4, (batch, resolution, resolution), generator=generator),
        labels=torch.randn(4, TEXT.width, generator=generator),
        guide=torch.rand(batch, 1, resolution, resolution, generator=generator),
        distance=torch.rand(batch, 1, resolution, resolution, generator=generator),
        geometry=torch.rand(batch, 4, resolution, resolution, generator=generator),
        object_tokens=torch.randn(batch, 4, TEXT.width, generator=generator),
        object_mask=torch.ones(batch, 4, dtype=torch.bool),
        context_tokens=torch.randn(batch, 6, TEXT.width, generator=generator),
        code=torch.zeros(batch, 0),
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


@pytest.mark.parametrize("prediction", ["v_prediction", "sample", "epsilon"])
def test_targets_agree_with_diffusers_and_invert(prediction: str) -> None:
    process = NoiseProcess.of(DiffusionConfig(prediction=prediction))
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=prediction)
    clean, noise = torch.randn(2, 3, 4, 4, 4).clamp(-3, 3).unbind(0)
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


def test_each_text_alone_equals_the_written_sum() -> None:
    w_s, w_o, w_c = 1.3, 2.0, 3.5
    branches = guidance_branches(GuidanceWeights(layout=w_s, object=w_o, context=w_c), "one_text")
    e = {key: torch.randn(1, 2, 2, 2) for key in ("000", "S00", "S0c", "So0")}
    kept = {(False, False, False): "000", (True, False, False): "S00", (True, False, True): "S0c",
            (True, True, False): "So0"}  # fmt: skip
    written = e["000"] + w_s * (e["S00"] - e["000"]) + w_o * (e["So0"] - e["S00"]) + w_c * (e["S0c"] - e["S00"])
    stacked = torch.cat([e[kept[b.layout, b.object, b.context]] for b in branches])
    torch.testing.assert_close(combine(stacked, branches), written)
    assert branches[-1].object  # its conditions read the mask


def test_one_joint_weight_equals_the_written_sum() -> None:
    branches = guidance_branches(GuidanceWeights(layout=2.5, object=2.5, context=2.5), "joint")
    assert [(b.layout, b.object, b.context) for b in branches] == [(False, False, False), (True, True, True)]
    e = torch.randn(2, 1, 2, 2, 2)
    torch.testing.assert_close(combine(torch.cat(list(e)), branches), e[0] + 2.5 * (e[1] - e[0]))


def test_joint_guidance_refuses_unequal_weights() -> None:
    with pytest.raises(ValidationError, match="same number"):
        SamplingConfig(composition="joint", weights=GuidanceWeights(object=2.0))


def test_sampling_follows_the_composition() -> None:
    model, config = _model()
    weights, noise = GuidanceWeights(layout=2, object=2, context=2), torch.randn(1, 4, 4, 4)
    samples = [
        sample_latents(
            model, _conditions(1), noise, weights, config.diffusion,
            config.sampling.model_copy(update={"composition": composition}),
        )[0]
        for composition in ("chained", "one_text", "joint")
    ]  # fmt: skip
    torch.testing.assert_close(samples[0], samples[2], atol=1e-4, rtol=1e-4)  # equal weights telescope
    assert not torch.allclose(samples[0], samples[1], atol=1e-3)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample", "epsilon"])
def test_min_snr_weights_are_one_loss_in_clean_latents(prediction: str) -> None:
    """Hang et al.: whatever is predicted, an error in z_0 counts min(SNR, gamma)."""
    process = NoiseProcess.of(DiffusionConfig(prediction=prediction))
    steps = torch.tensor([50, 400, 800])
    clean, noise, error = (torch.randn(3, 1, 2, 2) for _ in range(3))
    noisy, target = process.add_noise(clean, noise, steps), process.target(clean, noise, steps)
    estimates = [process.estimate_clean(noisy, target + 1e-3 * part, steps) for part in (0 * error, error)]
    in_clean = (estimates[1] - estimates[0]).square().mean((1, 2, 3))
    alpha_bar = process.alphas_cumprod[steps]
    expected = (alpha_bar / (1 - alpha_bar)).clamp(max=5.0) * in_clean
    weighted = process.weights(steps, 5.0) * (1e-3 * error).square().mean((1, 2, 3))
    torch.testing.assert_close(weighted, expected, rtol=0.02, atol=1e-12)


def test_predicted_noise_samples_what_it_stands_for() -> None:
    """A network that knows z_0 and answers with the noise must lead the sampler to z_0."""
    model, _ = _model()
    diffusion, goal = DiffusionConfig(prediction="epsilon"), torch.randn(1, 4, 4, 4).clamp(-2, 2)
    process = NoiseProcess.of(diffusion)

    def predict(noisy: torch.Tensor, timesteps: torch.Tensor, prepared: object) -> torch.Tensor:
        signal, sigma = process.coefficients(timesteps)
        return (noisy - signal * goal) / sigma

    model.predict = predict
    sampling = SamplingConfig(solver_steps=4)
    latents, _ = sample_latents(
        model, _conditions(1), 0.3 * torch.randn(1, 4, 4, 4), GuidanceWeights(), diffusion, sampling
    )
    torch.testing.assert_close(latents, goal, atol=0.05, rtol=0.05)


def test_an_empty_scene_text_is_a_dropped_one() -> None:
    model, _ = _model()
    empty, full = _conditions(1), _conditions(1)
    empty.context_tokens.zero_()
    empty.context_mask.zero_()
    noisy, steps = torch.randn(1, 4, 4, 4), torch.tensor([300])
    yes, no = torch.tensor([True]), torch.tensor([False])
    everything, dropped = Kept(yes, yes, yes), Kept(yes, yes, no)
    with torch.no_grad():
        torch.testing.assert_close(model(noisy, steps, empty, everything)[0], model(noisy, steps, full, dropped)[0])
