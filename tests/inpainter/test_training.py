"""Both training stages: they learn, and an interrupted run equals an uninterrupted one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inpainter.config import AppearanceConfig, InpainterTraining
from inpainter.denoiser_task import DenoiserTask
from inpainter.models import build_scheduler, build_vae, save_component
from inpainter.train import build_task
from inpainter.vae_task import VaeTask
from perception.diffusion import NoiseProcess
from runtime.config import load_config
from runtime.training import fit
from scene.corpus.store import Corpus
from scene.errors import UserError
from tests.inpainter.conftest import embed, tiny_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "inpainter").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_parse(path: Path) -> None:
    config = load_config(InpainterTraining, path)
    assert (config.stage == "denoiser") == (config.denoiser_training is not None)
    assert len(config.denoiser.control_channels) == len(config.vae.block_channels)


def test_there_are_shipped_configs() -> None:
    assert {"park", "vae_park"} <= {path.stem for path in CONFIGS}


def overfit(task: VaeTask | DenoiserTask, steps: int) -> tuple[float, float]:
    batch = task.batch([0, 1])
    optimizer = torch.optim.Adam([p for p in task.model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(steps):
        loss, _ = task.loss(task.model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def test_vae_overfits_one_batch(toy_corpus: Corpus, tiny_vae: Path) -> None:
    first, last = overfit(VaeTask(tiny_config("vae", tiny_vae), toy_corpus), 40)
    assert last < 0.6 * first


def test_denoiser_overfits_one_batch(toy_corpus: Corpus, tiny_vae: Path) -> None:
    first, last = overfit(DenoiserTask(tiny_config("denoiser", tiny_vae), toy_corpus, embed), 40)
    assert last < 0.6 * first


STAGES = {"vae": 1, "appearance": 1, "denoiser": 3}  # and how many weight files each exports


@pytest.mark.parametrize("stage", STAGES)
def test_resumed_run_equals_an_uninterrupted_one(
    stage: str, toy_corpus: Corpus, tiny_vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("appearance_task", "denoiser_task"):
        monkeypatch.setattr(f"inpainter.{module}.TextTokens", lambda tokens: embed)

    def run(folder: Path, total: int, resume: bool) -> None:
        # a constant rate: the cosine's length is part of the run, and the first half is told it is shorter
        config = tiny_config(stage, tiny_vae, total_samples=total, schedule="constant")
        config = config.model_copy(update={"appearance": AppearanceConfig(side=8, code=4, hidden=16)})
        task = build_task(config, toy_corpus)
        task.sheet = lambda model, path: None  # type: ignore[method-assign]  # not under test, and slow
        fit(task, config.fit, folder, resume=resume)

    run(tmp_path / "whole", 8, resume=False)
    run(tmp_path / "parts", 4, resume=False)
    run(tmp_path / "parts", 8, resume=True)
    files = sorted((tmp_path / "whole" / "export").rglob("*.safetensors"))
    assert len(files) == STAGES[stage]
    for file in files:
        other = load_file(tmp_path / "parts" / file.relative_to(tmp_path / "whole"))
        for name, tensor in load_file(file).items():
            assert torch.equal(tensor, other[name]), name


def test_batches_are_functions_of_the_sample_numbers(toy_corpus: Corpus, tiny_vae: Path) -> None:
    config = tiny_config("denoiser", tiny_vae)
    whole = DenoiserTask(config, toy_corpus, embed).batch([4, 5])
    other = DenoiserTask(config, toy_corpus, embed)
    other.batch([9])
    alone = other.batch([5])
    for name in whole:
        assert torch.equal(whole[name][1], alone[name][0]), name


def test_last_timestep_is_pure_noise_and_v_is_consistent(tiny_vae: Path) -> None:
    config = tiny_config("denoiser", tiny_vae)
    alphas = build_scheduler(config.noise).alphas_cumprod
    assert alphas[-1] < 1e-6
    schedule = NoiseProcess(alphas, "v_prediction")
    clean, noise = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    steps = torch.tensor([10, 500, 900])
    noisy, v = schedule.add_noise(clean, noise, steps), schedule.target(clean, noise, steps)
    signal = alphas[steps].sqrt().view(-1, 1, 1, 1)
    spread = (1 - alphas[steps]).sqrt().view(-1, 1, 1, 1)
    assert torch.allclose(signal * noisy - spread * v, clean, atol=1e-5)


def test_v_weights_go_on_as_z0_weights(toy_corpus: Corpus, tiny_vae: Path, tmp_path: Path) -> None:
    v = tiny_config("denoiser", tiny_vae, seed=1)
    task = DenoiserTask(v, toy_corpus, embed)
    task.export(task.model, tmp_path)
    changed = {"noise": v.noise.model_copy(update={"prediction": "sample"}), "initial_weights": str(tmp_path)}
    other = DenoiserTask(v.model_copy(update=changed), toy_corpus, embed)
    batch = task.batch([0])
    arguments = (batch["noise"], torch.tensor([999]), batch["text"], batch["control"])
    with torch.no_grad():
        assert torch.allclose(other.model(*arguments), -task.model(*arguments), atol=2e-2)


def test_a_foreign_decoder_is_refused(toy_corpus: Corpus, tiny_vae: Path, tmp_path: Path) -> None:
    config = tiny_config("denoiser", tiny_vae)
    torch.manual_seed(8)
    save_component(build_vae(config.vae), tmp_path)
    training = config.denoiser_training.model_copy(update={"decoder": str(tmp_path)})
    with pytest.raises(UserError, match="another encoder"):
        DenoiserTask(config.model_copy(update={"denoiser_training": training}), toy_corpus, embed)


def test_a_frozen_encoder_stays(toy_corpus: Corpus, tiny_vae: Path) -> None:
    config = tiny_config("vae", tiny_vae)
    training = config.vae_training.model_copy(update={"freeze_encoder": True})
    config = config.model_copy(update={"vae_training": training, "initial_weights": str(tiny_vae)})
    task = VaeTask(config, toy_corpus)
    overfit(task, 2)
    before = load_file(tiny_vae / "diffusion_pytorch_model.safetensors")
    for name, tensor in task.model.state_dict().items():
        if name.startswith("encoder."):
            assert torch.equal(tensor, before[name].float()), name
    assert any(not torch.equal(t, before[n].float()) for n, t in task.model.state_dict().items())


def test_denoiser_stage_needs_its_section(toy_corpus: Corpus, tiny_vae: Path) -> None:
    config = tiny_config("denoiser", tiny_vae).model_copy(update={"denoiser_training": None})
    with pytest.raises(UserError, match="denoiser_training"):
        DenoiserTask(config, toy_corpus, embed)
