"""configs/masker/sd15.yaml, the mask model of full size, on a tiny random checkpoint in the public layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file

from masker.codec import KLCodec
from masker.denoiser import StableDiffusionDenoiser
from masker.sampling import sample_latents
from masker.smartmask import SmartMask
from masker.stable_diffusion import ClipText, clip_texts, find_weights
from masker.stage_config import STAGES, MaskerConfig
from masker.tasks import DenoiserTask
from masker.train import train
from masker.weights import build_model
from runtime.assets import asset_dir
from runtime.config import load_stage
from runtime.training import to_device
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.seeds import StepSeed
from tests.presets.checkpoints import write_sd15
from tests.presets.test_inpainting import SD15_UNET, VAE

CONFIG = asset_dir("configs") / "masker" / "sd15.yaml"


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd15(tmp_path_factory.mktemp("sd15")) / "base"


def tiny(public: Path, *more: str) -> list[str]:
    """Settings that shrink `configs/masker/sd15.yaml` to the tiny checkpoint and eight samples."""
    return [
        f"public.path={public}", "public.resolution=64", "text.width=16", "text.summary_channels=4",
        "layout_encoder.widths=[8, 8, 16]", "layout_encoder.painted_channels=4", "sampling.solver_steps=2",
        "fit.batch_size=4", "fit.total_samples=8", "fit.warmup_samples=0", "fit.threads=1", 'fit.precision="no"',
        "fit.log_every=4", "fit.sheet_every=1000", *more,
    ]  # fmt: skip


def task_of(public: Path, corpus: Corpus, *more: str) -> DenoiserTask:
    config = load_stage(STAGES, CONFIG, tiny(public, *more))
    assert isinstance(config, MaskerConfig)
    task = DenoiserTask(config, [corpus])
    task.begin()
    return task


def test_it_starts_as_the_public_unet_whatever_the_conditions_say(public: Path, corpus: Corpus) -> None:
    task = task_of(public, corpus)
    denoiser = task.whole.denoiser
    assert isinstance(denoiser, StableDiffusionDenoiser)
    unet = UNet2DConditionModel.from_pretrained(public / "unet").eval()
    generator = torch.Generator().manual_seed(0)
    latents, tokens = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 16, generator=generator)
    further = torch.randn(2, denoiser.net.config.in_channels - 4, 8, 8, generator=generator)
    steps, mask = torch.tensor([10, 900]), torch.ones(2, 5, dtype=torch.bool)
    with torch.no_grad():
        ours = denoiser.eval()(torch.cat([latents, further], 1), steps, tokens, mask, torch.randn(2, 16))
        theirs = unet(latents, steps, encoder_hidden_states=tokens).sample
    assert float((ours - theirs).abs().max()) < 1e-6
    assert float(theirs.abs().max()) > 0.1
    assert not denoiser.net.conv_in.weight[:, 4:].any()


def test_a_few_steps_then_the_exported_folder_predicts(
    public: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    train(CONFIG, data=[corpus.path], out=out, overrides=tiny(public))
    start = UNet2DConditionModel.from_pretrained(public / "unet").state_dict()["conv_in.weight"]
    weights = load_file(out / "export" / "model.safetensors")["denoiser.net.conv_in.weight"].float()
    assert weights[:, 4:].any() and not torch.equal(weights[:, :4], start)  # both learn
    assert list((out / "sheets").iterdir())
    text = (out / "export" / "masker.yaml").read_text()
    assert str(public) not in text and "block_out_channels" in text
    assert not list((out / "export").rglob("*.bin"))
    masker = SmartMask.from_pretrained(out / "export")  # from the folder alone
    scene = LayeredScene(Size(256, 256), "a ball")
    guide = Guidance.from_box(Box(60, 60, 180, 180), scene.size)
    found = masker.predict(scene, "ball", "a red ball", "a ball", guidance=guide, count=2, seed=StepSeed(1, 1))
    again = masker.predict(scene, "ball", "a red ball", "a ball", guidance=guide, count=1, seed=StepSeed(1, 1))
    assert found[0].mask.shape == (256, 256) and any((again[0].mask == one.mask).all() for one in found)


def test_parts_prefetch_and_checkpointing_change_no_weight(public: Path, corpus: Corpus, tmp_path: Path) -> None:
    def trained(name: str, *more: str) -> dict[str, torch.Tensor]:
        settings = tiny(public, "fit.total_samples=4", *more)
        train(CONFIG, data=[corpus.path], out=tmp_path / name, overrides=settings)
        return load_file(next((tmp_path / name).glob("snapshots/*/tensors.safetensors")))

    plain = trained("plain", "fit.prefetch=0", "denoiser.gradient_checkpointing=false")
    for name, more in (
        ("ahead", ("fit.prefetch=2", "denoiser.gradient_checkpointing=true")),
        ("parts", ("fit.accumulate=2",)),
    ):
        other = trained(name, *more)
        worst = max(float((other[key].float() - value.float()).abs().max()) for key, value in plain.items())
        assert worst == 0 if name == "ahead" else worst < 2e-5, (name, worst)


def test_the_loss_is_noise_prediction_on_stable_diffusions_own_schedule(public: Path, corpus: Corpus) -> None:
    task = task_of(public, corpus)
    schedule = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert torch.allclose(task.process.alphas_cumprod, (1 - schedule).cumprod(0), atol=1e-6)
    batch = task.batch([0, 1])
    assert batch.masks.shape == (2, 1, 64, 64) and task.codec.encode(batch.masks).shape == (2, 4, 8, 8)
    loss, facts = task.loss(task.model, batch)
    assert torch.isfinite(loss) and 0 < facts["v_loss"] < 10
    loss.backward()
    assert all(parameter.grad is None for parameter in task.codec.parameters())


def test_everything_lies_on_the_models_device(public: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without data: a tensor left on the CPU would raise."""
    task, device = task_of(public, corpus), torch.device("meta")
    task.whole.to(device)
    for module in task.frozen:
        module.to(device)
    batch = task.batch([0, 1])
    moved = to_device(batch, device)
    assert moved.conditions.guide.is_meta and moved.kept.layout.is_meta and moved.tiles == batch.tiles
    monkeypatch.setattr(task, "_total", lambda loss, error, terms: (loss, {}))  # its numbers have no values here
    loss, _ = task.loss(task.model, moved)
    loss.backward()
    assert loss.is_meta and all(p.grad is not None and p.grad.is_meta for p in task.whole.layout_encoder.parameters())
    sampling, noise = task.config.sampling, torch.zeros(2, 4, 8, 8, device=device)
    latents, _ = sample_latents(task.whole, moved.conditions, noise, sampling.weights, task.config.diffusion, sampling)
    assert latents.is_meta


def test_clip_text_features(public: Path, corpus: Corpus) -> None:
    encoder = ClipText(public)
    features, empty = encoder.encode("a ball", 12), encoder.encode("", 12)
    assert features.mask.sum() == 7  # one token a letter, start and end
    assert not features.tokens[~features.mask].any() and float(features.pooled.norm()) == pytest.approx(1)
    assert not empty.mask.any() and not empty.tokens.any() and not empty.pooled.any()
    assert int(encoder.encode("a very long text indeed", 12).mask.sum()) == 12
    config = load_stage(STAGES, CONFIG, tiny(public, "text.width=32"))
    assert isinstance(config, MaskerConfig)
    with pytest.raises(UserError, match=r"text\.width is 32; this text encoder's tokens have 16"):
        clip_texts(public, config.text)
    with pytest.raises(UserError, match="the U-Net attends to text of width 16"):
        task_of(public, corpus, "text.width=32")


def test_absent_weights_and_wrong_settings_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    config = load_stage(STAGES, CONFIG)
    assert isinstance(config, MaskerConfig) and config.public is not None
    with pytest.raises(UserError, match=r"not on this machine; fetch it with --set public\.offline=false"):
        find_weights(config.public)
    for settings, reason in (
        (["codec=somewhere"], "give either codec"),
        (["public=null", "codec=somewhere"], "go together"),
        (["stage=oneshot"], "only stage denoiser"),
    ):
        with pytest.raises(UserError, match=reason):
            load_stage(STAGES, CONFIG, settings)


def test_full_size_on_the_meta_device() -> None:
    """The shipped config with SD 1.5's public shapes: parameters as in docs/masker-full-size.md, one step's shapes."""
    config = load_stage(STAGES, CONFIG, [f"denoiser.unet={json.dumps(SD15_UNET)}"])
    assert isinstance(config, MaskerConfig) and config.public is not None
    with torch.device("meta"):
        codec = KLCodec(AutoencoderKL(**VAE), config.public.resolution)
        model = build_model(config, codec)
        net = model.denoiser.net
        side = codec.latent_size
        assert (side, codec.latent_channels, net.config.out_channels) == (64, 4, 4)
        noisy, tokens = torch.empty(2, net.config.in_channels, side, side), torch.empty(2, 101, 768)
        mask = torch.ones(2, 101, dtype=torch.bool)
        out = model.denoiser(noisy, torch.zeros(2, dtype=torch.long), tokens, mask, torch.empty(2, 768))
        assert out.shape == (2, 4, side, side)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) / 1e6
    assert trained == pytest.approx(863.56, abs=0.01)
