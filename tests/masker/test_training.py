"""Both stages in the one training loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from masker.smartmask import SmartMask
from masker.stage_config import STAGES, CodecConfig
from masker.stages import OneShotTask, SilhouetteTask
from masker.tasks import CodecTask, DenoiserTask
from masker.texts import TextBook
from masker.weights import load_codec, load_masker
from runtime.assets import asset_dir
from runtime.config import load_stage, validate
from runtime.training import fit
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.geometry import Box
from scene.guidance import Guidance
from scene.seeds import StepSeed

from .conftest import CODEC, masker_config


def _task(codec_folder: Path, corpus: Corpus, texts: TextBook, **more: object) -> DenoiserTask:
    return DenoiserTask(masker_config(codec_folder, **more), [corpus], texts=texts)


def test_one_batch_can_be_learned_by_heart(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    task = _task(codec_folder, corpus, texts)
    batch = task.batch([0, 1, 2, 3])
    optimizer = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss, facts = task.loss(task.model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(facts["v_loss"])
    assert losses[-1] < 0.5 * losses[0]


def test_every_trainable_part_gets_a_gradient(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    task = _task(codec_folder, corpus, texts, diffusion={"mask_loss_weight": 0.5})
    optimizer = torch.optim.SGD(task.model.parameters(), lr=1e-2)
    for start in (0, 8, 16):  # two layers in a row start at zero and open one step after the other
        loss, _ = task.loss(task.model, task.batch(list(range(start, start + 8))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    parts = ("layout_encoder.project", "layout_encoder.guide_vector", "layout_encoder.empty", "roles", "denoiser")
    for part in parts:
        gradients = [p.grad for n, p in task.model.named_parameters() if n.startswith(part)]
        assert any(g is not None and g.abs().max() > 0 for g in gradients), part
    assert all(parameter.grad is None for parameter in task.codec.parameters())


def test_a_batch_depends_on_its_numbers_only(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    task = _task(codec_folder, corpus, texts)
    whole, part = task.batch([4, 5, 6, 7]), task.batch([6])
    assert torch.equal(whole.masks[2:3], part.masks)
    assert torch.equal(whole.noise[2:3], part.noise)
    assert torch.equal(whole.timesteps[2:3], part.timesteps)
    assert torch.equal(whole.conditions.context_tokens[2:3], part.conditions.context_tokens)
    assert torch.equal(whole.kept.layout[2:3], part.kept.layout)


def test_timesteps_are_spread_evenly(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    steps = _task(codec_folder, corpus, texts)._timesteps(range(64))
    counts = torch.histc(steps.float(), bins=8, min=0, max=1000)
    assert counts.min() >= 7
    assert counts.max() <= 9


def test_dropout_shares(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    kept = _task(codec_folder, corpus, texts)._kept(range(3000))
    shares = [1 - flags.float().mean().item() for flags in (kept.layout, kept.object, kept.context)]
    expected = [1 - 0.95 * 0.9, 1 - 0.95 * 0.9, 1 - 0.95 * 0.85]
    assert shares == pytest.approx(expected, abs=0.03)


def test_resume_equals_uninterrupted(
    codec_folder: Path, corpus: Corpus, texts: TextBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DenoiserTask, "sheet", lambda self, model, path: None)
    straight = _task(codec_folder, corpus, texts)
    fit(straight, straight.config.fit, tmp_path / "straight", resume=False)
    # Same schedule, cut after two of four steps by a stop request, as Ctrl-C would.
    first = _task(codec_folder, corpus, texts)
    batches = 0
    original = first.batch

    def stopping(samples):  # type: ignore[no-untyped-def]
        nonlocal batches
        batches += 1
        if batches == 2:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)
        return original(samples)

    first.batch = stopping  # type: ignore[method-assign]
    assert fit(first, first.config.fit, tmp_path / "cut", resume=False) == 8
    second = _task(codec_folder, corpus, texts)
    assert fit(second, second.config.fit, tmp_path / "cut", resume=True) == 16
    for name, parameter in straight.model.state_dict().items():
        assert torch.equal(parameter, second.model.state_dict()[name]), name
    first_bytes, second_bytes = (
        (tmp_path / run / "export" / "model.safetensors").read_bytes() for run in ("straight", "cut")
    )
    assert first_bytes == second_bytes


def test_codec_stage_trains_exports_and_draws(corpus: Corpus, tmp_path: Path) -> None:
    settings = {"batch_size": 8, "total_samples": 16, "sheet_every": 16, "threads": torch.get_num_threads()}
    config = validate(CodecConfig, {"codec": CODEC.model_dump(), "fit": settings}, "test")
    task = CodecTask(config, [corpus])
    fit(task, config.fit, tmp_path / "codec", resume=False)
    codec = load_codec(tmp_path / "codec" / "export")
    assert codec.latent_std.min() > 0
    assert list((tmp_path / "codec" / "sheets").glob("*.png"))


def test_silhouette_stage_learns_shapes_and_leaves_the_rest_alone(
    codec_folder: Path, corpus: Corpus, texts: TextBook, tmp_path: Path
) -> None:
    more = {"stage": "silhouette", "shape_prior": {"side": 12, "hidden": 32}}
    task = SilhouetteTask(masker_config(codec_folder, **more), [corpus], texts=texts)
    before = {name: value.clone() for name, value in task.whole.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in task.model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for step in range(100):
        loss, _ = task.loss(task.model, task.batch(range(8 * step, 8 * step + 8)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])
    task.sheet(task.model, tmp_path / "sheet.png")
    task.export(task.model, tmp_path / "export")
    exported = load_masker(tmp_path / "export")[2].state_dict()
    for name, value in before.items():
        same = torch.allclose(exported[name], value, atol=1e-3, rtol=1e-2)
        assert same != name.startswith("shape_prior"), name


def test_the_silhouette_says_ball_or_post(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    """With the same guide, other words give another silhouette, and without a guide it does not count."""
    task = _task(codec_folder, corpus, texts)
    batch = task.batch(range(8))
    prepared = task.model.prepare(batch.conditions, batch.kept)  # type: ignore[operator]
    expected = (batch.conditions.guide.amax((1, 2, 3)) > 0) & batch.kept.layout
    assert torch.equal(prepared.guided, expected)
    assert expected.any() and not expected.all()
    other = replace(batch.conditions, object_tokens=batch.conditions.object_tokens.flip(0))
    changed = task.model.prepare(other, batch.kept).silhouette != prepared.silhouette  # type: ignore[operator]
    assert changed.any()


def test_denoiser_sheet_and_export(codec_folder: Path, corpus: Corpus, texts: TextBook, tmp_path: Path) -> None:
    task = _task(codec_folder, corpus, texts)
    task.model.eval()
    task.sheet(task.model, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    task.export(task.model, tmp_path / "export")
    config, _, model, facts = load_masker(tmp_path / "export")
    assert config.denoiser == task.config.denoiser
    assert facts["surfaces"] == ["sky", "grass"]
    for name, tensor in task.model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, atol=1e-3, rtol=1e-2)


def _one_shot(codec_folder: Path, corpus: Corpus, texts: TextBook, latent_weight: float = 0.2) -> OneShotTask:
    more = {
        "stage": "oneshot",
        "shape_prior": None,
        "refiner": {"levels": 1, "widths": [16, 16], "blocks": 1},
        "diffusion": {"prediction": "sample", "latent_loss_weight": latent_weight, "mask_loss_weight": 2.0},
        "dropout": {"layout": 0, "object": 0, "context": 0, "all": 0},
    }
    return OneShotTask(masker_config(codec_folder, "unet", **more), [corpus], texts=texts)


def test_the_one_shot_baseline_learns_guided_masks(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    # The codec is untrained: what its decoder makes of the latents is no goal to hold them to.
    task = _one_shot(codec_folder, corpus, texts, latent_weight=20.0)
    assert not any(name.startswith(("shape_prior", "shortcut")) for name in task.model.state_dict())
    batch = task.batch(range(8))
    guided = batch.conditions.guide.amax((1, 2, 3)) > 0
    coarse = nn.functional.avg_pool2d(batch.masks, batch.masks.shape[-1] // CODEC.resolution)

    def error() -> float:
        with torch.no_grad():
            return float((task.whole.draw(batch.conditions)[0] - task.codec.encode(coarse))[guided].square().mean())

    before, optimizer = error(), torch.optim.Adam(task.model.parameters(), lr=3e-3)
    for _ in range(60):
        loss, facts = task.loss(task.model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert set(facts) == {"v_loss", "mask_loss", "refined_loss"}
    assert error() < 0.6 * before


def test_every_guided_one_shot_sample_counts(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    """Changing the target of any guided sample changes the mask loss; an unguided one's does not."""
    task = _one_shot(codec_folder, corpus, texts)
    batch = task.batch(range(8))
    guided = batch.conditions.guide.amax((1, 2, 3)) > 0
    assert guided.any() and not guided.all()
    before = task.loss(task.model, batch)[1]["mask_loss"]
    for number in range(8):
        masks = batch.masks.clone()
        masks[number] = 1 - masks[number]
        changed = task.loss(task.model, replace(batch, masks=masks))[1]["mask_loss"] != before
        assert changed == bool(guided[number]), number


def test_an_exported_one_shot_model_predicts_in_one_call(
    codec_folder: Path, corpus: Corpus, texts: TextBook, tmp_path: Path
) -> None:
    task = _one_shot(codec_folder, corpus, texts)
    nn.init.normal_(task.whole.denoiser.net.conv_out.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    task.model.eval()
    task.sheet(task.model, tmp_path / "sheet.png")
    task.export(task.model, tmp_path / "export")
    model = SmartMask.from_pretrained(tmp_path / "export", texts)
    calls: list[int] = []
    model.model.denoiser.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    with torch.no_grad():
        model.codec.decoder[-2].bias.fill_(0.5)  # random weights must not leave the mask empty
    scene, guide = corpus.scene(corpus.records("val")[0], 3), Guidance.from_box(Box(100, 90, 180, 170), corpus.size)
    found = model.predict(scene, "ball", "a red ball", "", guidance=guide, count=2, seed=StepSeed(7, 3))
    assert calls == [4]  # rows of a batch
    assert torch.equal(torch.from_numpy(found[0].mask), torch.from_numpy(found[1].mask))  # it draws nothing


def test_a_palette_model_trains_and_predicts(
    codec_folder: Path, corpus: Corpus, texts: TextBook, tmp_path: Path
) -> None:
    task = _task(codec_folder, corpus, texts, layout_encoder={"labels": "palette", "widths": [16, 16]})
    assert task.labels.shape == (1 + len(corpus.labels), 3)
    loss, _ = task.loss(task.model, task.batch(range(4)))
    loss.backward()
    task.model.eval()
    task.export(task.model, tmp_path / "export")
    model = SmartMask.from_pretrained(tmp_path / "export", texts)
    with torch.no_grad():
        model.codec.decoder[-2].bias.fill_(0.5)
    scene = corpus.scene(corpus.records("val")[0], 3)
    assert model.predict(scene, "ball", "", "", guidance=None, count=1, seed=StepSeed(0, 1))[0].mask.any()


def test_a_silhouette_stage_without_a_prior_is_refused(codec_folder: Path) -> None:
    with pytest.raises(UserError, match="shape_prior must not be null"):
        masker_config(codec_folder, stage="silhouette", shape_prior=None)


@pytest.mark.parametrize("path", sorted(asset_dir("configs").glob("masker/*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_parse(path: Path) -> None:
    config = load_stage(STAGES, path)
    stage = yaml.safe_load(path.read_text(encoding="utf-8"))["stage"]
    assert type(config) is STAGES[stage]
    assert "smartscene train masker --config" in path.read_text(encoding="utf-8")


def test_a_wrong_config_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("stage: denoiser\ncodec: x\nlayers: 3\nfit: {}\n", encoding="utf-8")
    with pytest.raises(UserError, match="layers"):
        load_stage(STAGES, path)
    with pytest.raises(UserError, match="cannot read config"):
        load_stage(STAGES, tmp_path / "missing.yaml")
