"""What the recipe's comparisons switch: flow prediction, the perceptual loss, what the ControlNet sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from inpainter.config import ExampleConfig, InpainterTraining, NoiseConfig, WindowConfig
from inpainter.controlnet_inpaint import ControlNetInpainter
from inpainter.denoiser_task import DenoiserTask
from inpainter.examples import ExampleSource
from inpainter.models import CONTROL_CHANNELS, build_scheduler, control_image, load_vae
from inpainter.perceptual import LatentPerceptualDistance, PerceptualDistance
from inpainter.pipeline import draw_windows
from inpainter.planes import HERE, PLANES
from inpainter.vae_task import VaeTask
from perception.diffusion import NoiseProcess
from perception.efficientnet import EfficientNetTrunk
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.layout import label_colour
from tests.inpainter.conftest import embed, tiny_config


def changed(config: InpainterTraining, section: str, **values: object) -> InpainterTraining:
    part = getattr(config, section)
    return config.model_copy(update={section: part.model_copy(update=values)})


def flow_process() -> NoiseProcess:
    config = NoiseConfig(prediction="flow_prediction")
    return NoiseProcess(build_scheduler(config).alphas_cumprod, config.prediction)


def test_flow_lies_on_the_scheduler_s_line() -> None:
    scheduler, process = build_scheduler(NoiseConfig(prediction="flow_prediction")), flow_process()
    scheduler.set_timesteps(8)
    clean, noise = torch.randn(8, 4, 2, 2), torch.randn(8, 4, 2, 2)
    ours = process.add_noise(clean, noise, scheduler.timesteps)
    assert torch.allclose(ours, scheduler.add_noise(clean, noise, scheduler.timesteps), atol=1e-2), "t is cut to whole"


def test_a_perfect_flow_is_solved_to_the_end() -> None:
    """The sampler's own steps, fed with the training target, arrive at z_0."""
    scheduler, process = build_scheduler(NoiseConfig(prediction="flow_prediction")), flow_process()
    scheduler.set_timesteps(4)
    clean, noise = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    z = noise
    for timestep in scheduler.timesteps:
        z = scheduler.step(process.target(clean, noise, timestep[None]), timestep, z).prev_sample
    assert torch.allclose(z, clean, atol=5e-3)


@pytest.mark.parametrize("prediction", ["flow_prediction", "v_prediction", "sample"])
def test_the_estimate_undoes_the_target(prediction: str) -> None:
    process = NoiseProcess(build_scheduler(NoiseConfig()).alphas_cumprod, prediction)
    clean, noise, steps = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.tensor([10, 500, 999])
    noisy, target = process.add_noise(clean, noise, steps), process.target(clean, noise, steps)
    assert torch.allclose(process.estimate_clean(noisy, target, steps), clean, atol=1e-5)


def test_min_snr_weights_of_a_flow_bound_the_error_of_z0() -> None:
    process, steps = flow_process(), torch.tensor([100, 500, 900])
    sigma = steps / 1000
    snr = ((1 - sigma) / sigma) ** 2
    assert torch.allclose(process.weights(steps, 5.0), snr.clamp(max=5.0) * sigma**2, rtol=1e-4)


def test_a_flow_learns(toy_corpus: Corpus, tiny_vae: Path) -> None:
    config = changed(tiny_config("denoiser", tiny_vae), "noise", prediction="flow_prediction")
    task = DenoiserTask(config, toy_corpus, embed)
    assert overfit(task) < 0.7


def overfit(task: DenoiserTask | VaeTask) -> float:
    """Loss after 30 steps on one batch over the loss before."""
    batch = task.batch([0, 1])
    optimizer = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss, _ = task.loss(task.model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[-1] / losses[0]


def test_perceptual_distance_is_zero_for_the_truth_and_sees_the_inside_alone() -> None:
    distance = PerceptualDistance(EfficientNetTrunk.load())
    truth = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = truth.clone()
    other[..., :16] = -truth[..., :16]
    inside = torch.zeros(1, 1, 16, 16)
    inside[..., 14:] = 1
    assert distance(truth, truth) == 0 < distance(other, truth)
    everywhere = distance(other, truth, torch.ones(1, 1, 16, 16))
    assert everywhere == pytest.approx(float(distance(other, truth)), rel=1e-4)
    assert distance(other, truth, inside) < 0.2 * everywhere, "only receptive fields reach so far"


def test_perceptual_distance_of_latents_reaches_them_and_nothing_else(tiny_vae: Path) -> None:
    vae = load_vae(tiny_vae)
    distance = LatentPerceptualDistance(vae, EfficientNetTrunk())
    latents, truth = torch.randn(1, 4, 8, 8, requires_grad=True), torch.randn(1, 4, 8, 8)
    distance(latents, truth, torch.ones(1, 1, 8, 8)).backward()
    assert latents.grad is not None and bool(latents.grad.abs().sum() > 0)
    assert not any(p.requires_grad for p in distance.parameters()) and vae.decoder is not distance.decoder[1]


@pytest.mark.parametrize("stage", ["vae", "denoiser"])
def test_a_perceptual_weight_adds_that_distance_to_the_loss(stage: str, toy_corpus: Corpus, tiny_vae: Path) -> None:
    plain = tiny_config(stage, tiny_vae)
    wanted = changed(plain, f"{stage}_training", perceptual_weight=2.0)
    without, with_it = (
        VaeTask(c, toy_corpus) if stage == "vae" else DenoiserTask(c, toy_corpus, embed) for c in (plain, wanted)
    )
    batch = without.batch([0, 1])
    loss, facts = without.loss(without.model, batch)
    more, told = with_it.loss(with_it.model, batch)
    assert "perceptual" not in facts and without.frozen == () and len(with_it.frozen) == 1
    assert more.item() == pytest.approx(loss.item() + 2 * told["perceptual"], abs=1e-4)


def planes_of(toy_corpus: Corpus, k: int) -> tuple[np.ndarray, np.ndarray]:
    window = WindowConfig(resolution_px=64, min_side_px=32)
    source = ExampleSource(toy_corpus, toy_corpus.records("val"), ExampleConfig(), window, 1, planes=True)
    example = source.plain(source.records[0], k)
    assert example is not None and example.planes is not None
    return example.planes, example.mask


def test_planes_show_labels_and_what_lies_in_front(toy_corpus: Corpus) -> None:
    planes, mask = planes_of(toy_corpus, 1)
    assert planes.shape == (64, 64, 4) and planes.dtype == np.uint8
    inner = mask & (planes[..., 3] == HERE)
    assert inner.any() and (planes[inner][:, :3] == label_colour("red ball")).all()
    sky = planes[0, 0]
    assert tuple(sky[:3]) == label_colour("sky") and 0 < sky[3] < HERE
    in_front, _ = planes_of(toy_corpus, 0)
    assert (in_front[..., 3] > HERE).any(), "balls lie in front of the sky"


def test_planes_change_nothing_else_about_an_example(toy_corpus: Corpus) -> None:
    window = WindowConfig(resolution_px=64, min_side_px=32)
    bare, full = (
        ExampleSource(toy_corpus, toy_corpus.records("train"), ExampleConfig(), window, 1, planes=planes)
        for planes in (False, True)
    )
    for number in range(8):
        one, other = bare.example(number), full.example(number)
        assert one.planes is None and other.planes is not None
        assert np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)
        shown = other.planes[..., 3] == HERE
        assert not (shown & ~other.mask).any(), "mirrored together with the mask"


def test_planes_come_after_the_picture() -> None:
    image, mask, planes = torch.rand(1, 3, 4, 4), torch.ones(1, 1, 4, 4), torch.rand(1, 4, 4, 4)
    control = control_image(image, mask, planes=planes)
    assert control.shape == (1, 7, 4, 4) and torch.equal(control[:, 3:], planes)
    assert (control[:, :3] == -1).all()


@pytest.fixture(scope="module")
def wide(
    toy_corpus: Corpus, tiny_vae: Path, task: DenoiserTask, tmp_path_factory: pytest.TempPathFactory
) -> DenoiserTask:
    """A ControlNet that sees layout and order, started from one that does not."""
    folder = tmp_path_factory.mktemp("narrow")
    task.export(task.model, folder)
    config = changed(tiny_config("denoiser", tiny_vae), "denoiser", control_inputs="order")
    return DenoiserTask(config.model_copy(update={"initial_weights": str(folder)}), toy_corpus, embed)


def test_more_planes_start_without_any_effect(task: DenoiserTask, wide: DenoiserTask) -> None:
    batch = wide.batch([0, 1])
    assert batch["control"].shape[1] == CONTROL_CHANNELS["order"] == 3 + PLANES["order"]
    given = (batch["noise"], torch.tensor([999, 500]), batch["text"])
    with torch.no_grad():
        ours = wide.model(*given, batch["control"])
        theirs = task.model(*given, batch["control"][:, :3])
    assert torch.allclose(ours, theirs, atol=2e-2), "but for half precision"
    loss, _ = wide.loss(wide.model, batch)
    loss.backward()
    stem: nn.Conv2d = wide.model.controlnet.controlnet_cond_embedding.conv_in  # type: ignore[assignment, union-attr]
    assert stem.weight.grad is not None and bool(stem.weight.grad[:, 3:].abs().sum() > 0), "and they learn"


def test_a_wider_controlnet_draws_in_training_and_is_refused_at_run_time(wide: DenoiserTask, tmp_path: Path) -> None:
    side = 32
    image, mask = np.full((side, side, 3), 90, np.uint8), np.zeros((side, side), bool)
    mask[8:20, 8:20] = True
    planes = np.zeros((side, side, 4), np.uint8)
    drawn = draw_windows(
        wide.pipeline(wide.model), [image], [mask], [embed("ball")], embed(""), [7], wide.config.sampler,
        dilate_px=2, planes=[planes],
    )  # fmt: skip
    assert drawn[0].shape == image.shape
    wide.sheet(wide.model, tmp_path / "sheet.png")
    wide.export(wide.model, tmp_path / "export")
    with pytest.raises(UserError, match="control_inputs=mask"):
        ControlNetInpainter.from_pretrained(tmp_path / "export")


def test_a_narrower_controlnet_cannot_go_on_from_a_wider_one(
    wide: DenoiserTask, toy_corpus: Corpus, tiny_vae: Path, tmp_path: Path
) -> None:
    wide.export(wide.model, tmp_path)
    config = tiny_config("denoiser", tiny_vae).model_copy(update={"initial_weights": str(tmp_path)})
    with pytest.raises(UserError, match=r"do not fit this model \(controlnet_cond_embedding.conv_in.weight\)"):
        DenoiserTask(config, toy_corpus, embed)
