"""Codes of shapes: read off masks, drawn for new objects, and drawn to fit a guide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from masker.codec import MaskVAE
from masker.config import ShapePriorConfig
from masker.layout_encoder import GuideFrame
from masker.shape_code import ShapeCode, in_frame
from masker.shape_prior import ShapePrior
from masker.smartmask import SmartMask
from masker.stages import CodeTask, RefinerTask, SilhouetteTask
from masker.tasks import DenoiserTask
from masker.texts import TextBook
from masker.weights import build_model, load_codec
from runtime.seeding import torch_generator
from scene.corpus.store import Corpus
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.seeds import StepSeed

from .conftest import SIZE, masker_config

SIDE = 16
CODED = {"side": 12, "hidden": 32, "code": 4, "code_hidden": 32, "code_layers": 1, "guide_cells": 8, "code_masks": 40}


def halves() -> Tensor:
    """A left half and a right half of the middle box of a view, (2, 1, SIDE, SIDE)."""
    masks = torch.zeros(2, 1, SIDE, SIDE)
    masks[0, :, 4:12, 4:8] = 1
    masks[1, :, 4:12, 8:12] = 1
    return masks


@pytest.fixture(scope="module")
def trained() -> tuple[ShapePrior, GuideFrame]:
    """A prior that saw both halves under the same facts, half of the time with a guide that shows which."""
    torch.manual_seed(0)
    prior = ShapePrior(ShapePriorConfig(**CODED), text_width=3, painted_channels=2)
    assert prior.code is not None
    some = halves().repeat(16, 1, 1, 1) + 0.1 * torch.randn(32, 1, SIDE, SIDE, generator=torch_generator(2))
    prior.code.learn_components(prior.seen_in_frame(some, box_frame(32)))
    optimizer = torch.optim.Adam(prior.parameters(), lr=4e-3)
    frame = box_frame(16)
    generator = torch_generator(1)
    for step in range(800):
        masks = halves().repeat(8, 1, 1, 1)
        guides = torch.where(torch.arange(16)[:, None, None, None] % 4 < 2, box_guide(16), masks)
        facts = prior.facts(torch.ones(16, 3), frame, torch.zeros(16, 4, SIDE, SIDE), torch.zeros(16, 2, SIDE, SIDE))
        code = prior.read_codes(masks, frame)
        drawn = torch.nn.functional.binary_cross_entropy_with_logits(prior(facts, code, frame, SIDE), masks)
        timesteps = (torch.arange(16) * 61 + step * 7) % 1000
        foreseen = prior.code.loss(
            code,
            torch.randn(16, 4, generator=generator),
            timesteps,
            torch.cat([facts, prior.hints(facts, guides, frame)], dim=1),
        )
        average = prior.in_view(prior.mean_maps(facts), frame, SIDE)
        mean_loss = torch.nn.functional.binary_cross_entropy_with_logits(average, masks)
        loss = drawn + mean_loss + foreseen.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return prior, box_frame(1)


def box_guide(count: int) -> Tensor:
    guide = torch.zeros(count, 1, SIDE, SIDE)
    guide[:, :, 4:12, 4:12] = 1
    return guide


def box_frame(count: int) -> GuideFrame:
    return GuideFrame.of(box_guide(count))


def shares(prior: ShapePrior, frame: GuideFrame, guide: Tensor, draws: int, seed: int) -> tuple[float, float]:
    """How full a drawn silhouette's left and right half are."""
    facts = prior.facts(torch.ones(1, 3), frame, torch.zeros(1, 4, SIDE, SIDE), torch.zeros(1, 2, SIDE, SIDE))
    with torch.no_grad():
        code = prior.draw_codes(torch.randn(1, draws, 4, generator=torch_generator(seed)), facts, guide, frame)
        soft = prior(facts, code, frame, SIDE).sigmoid()
    return float(soft[0, 0, 4:12, 4:8].mean()), float(soft[0, 0, 4:12, 8:12].mean())


def test_a_box_gives_either_shape_and_no_mean_of_both(trained: tuple[ShapePrior, GuideFrame]) -> None:
    prior, frame = trained
    found = [shares(prior, frame, box_guide(1), 1, seed) for seed in range(24)]
    left = [one > 0.8 and other < 0.2 for one, other in found]
    right = [one < 0.2 and other > 0.8 for one, other in found]
    assert sum(left) + sum(right) >= 20
    assert sum(left) >= 4 and sum(right) >= 4


def test_a_guide_decides_which(trained: tuple[ShapePrior, GuideFrame]) -> None:
    prior, frame = trained
    for side in (0, 1):
        found = [shares(prior, frame, halves()[side : side + 1], 1, seed) for seed in range(8)]
        assert sum(pair[side] > pair[1 - side] for pair in found) >= 7


def test_of_many_draws_the_common_one_is_taken(trained: tuple[ShapePrior, GuideFrame]) -> None:
    prior, frame = trained
    several = shares(prior, frame, box_guide(1), 5, 3)
    assert several == shares(prior, frame, box_guide(1), 5, 3)
    facts = prior.facts(torch.ones(1, 3), frame, torch.zeros(1, 4, SIDE, SIDE), torch.zeros(1, 2, SIDE, SIDE))
    noise = torch.randn(1, 5, 4, generator=torch_generator(3))
    with torch.no_grad():
        codes = [prior.draw_codes(noise[:, i : i + 1], facts, box_guide(1), frame) for i in range(5)]
        soft = torch.cat([prior.maps(facts, code) for code in codes]).sigmoid().flatten(1)
        chosen = prior.draw_codes(noise, facts, box_guide(1), frame)
    best = int(torch.cdist(soft, soft).square().sum(1).argmin())
    assert torch.allclose(chosen, codes[best], atol=1e-5)


def test_what_lies_in_a_frame() -> None:
    values = torch.zeros(1, 1, 8, 8)
    values[0, 0, 2:4, 4:8] = 1
    seen = in_frame(values, torch.tensor([[0.5, -0.25]]), torch.tensor([[0.5, 0.25]]), 4)
    assert torch.equal(seen > 0.5, torch.ones(1, 1, 4, 4, dtype=torch.bool))
    beyond = in_frame(values, torch.tensor([[1.5, -0.25]]), torch.tensor([[0.5, 0.25]]), 4)
    assert beyond.max() == 0


def coded(codec_folder: Path, **more: object) -> dict[str, object]:
    return {"shape_prior": {**CODED, **more}}


def test_the_silhouette_stage_teaches_codes(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    config = masker_config(codec_folder, stage="silhouette", **coded(codec_folder))
    task = SilhouetteTask(config, [corpus], texts=texts)
    task.begin()
    batch = task.batch(range(8))
    optimizer = torch.optim.Adam([p for p in task.model.parameters() if p.requires_grad], lr=3e-3)
    first = task.loss(task.model, batch)[1]
    for _ in range(60):
        loss, facts = task.loss(task.model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert facts["silhouette_loss"] < 0.9 * first["silhouette_loss"]
    assert facts["code_loss"] < first["code_loss"]


def test_later_stages_leave_a_finished_prior_alone(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    config = masker_config(codec_folder, **coded(codec_folder, loss_weight=0, layout_cells=2))
    task = DenoiserTask(config, [corpus], texts=texts)
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in task.model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for start in (0, 4):
        loss, facts = task.loss(task.model, task.batch(range(start, start + 4)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert "silhouette_loss" not in facts
    kept = ("shape_prior.", "layout_encoder.project", "layout_encoder.empty", "roles", "no_object")
    for name, value in task.model.state_dict().items():
        if name.startswith(kept):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(
        before["denoiser.net.proj_out.weight"], task.model.state_dict()["denoiser.net.proj_out.weight"]
    )


def test_the_refiner_learns_on_drawn_silhouettes(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    refiner = {"levels": 1, "fold": 2, "widths": [8, 16], "blocks": 1, "learns_on": "silhouette"}
    config = masker_config(codec_folder, stage="refiner", refiner=refiner, **coded(codec_folder))
    task = RefinerTask(config, [corpus], texts=texts)
    loss, facts = task.loss(task.model, task.batch(range(4)))
    loss.backward()
    assert facts["refined_loss"] > 0
    assert all(p.grad is None for p in task.whole.denoiser.parameters())


def test_codes_keep_what_tells_masks_apart(codec_folder: Path, corpus: Corpus, texts: TextBook) -> None:
    config = masker_config(codec_folder, stage="silhouette", **coded(codec_folder, code=8, code_masks=64))
    task = SilhouetteTask(config, [corpus], texts=texts)
    task.begin()
    batch = task.batch(range(100, 132))
    prior = task.whole.shape_prior
    assert prior is not None and prior.code is not None
    codes = task.whole.read_codes(batch.conditions, batch.masks)
    assert 0.5 < float(codes[:, :4].std()) < 2
    _, _, frame = task.whole.known(batch.conditions, batch.kept)
    seen = prior.seen_in_frame(batch.masks, frame)[frame.present]
    sketched = prior.code.sketch(codes)[frame.present] > 0
    overlap = ((seen > 0.5) & sketched).sum() / ((seen > 0.5) | sketched).sum()
    blank = prior.code.sketch(torch.zeros_like(codes))[frame.present] > 0
    assert overlap > 0.8 > ((seen > 0.5) & blank).sum() / ((seen > 0.5) | blank).sum()


def test_too_few_masks_have_no_components() -> None:
    code = ShapeCode(ShapePriorConfig(**CODED), facts=3)
    with pytest.raises(ValueError, match="no 4 components"):
        code.learn_components(torch.rand(4, 1, 12, 12))


@pytest.mark.parametrize("draws", [1, 3])
def test_candidates_do_not_depend_on_their_number(
    codec_folder: Path, texts: TextBook, draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    config = masker_config(codec_folder, sampling={"solver_steps": 2, "code_draws": draws}, **coded(codec_folder))
    codec: MaskVAE = load_codec(codec_folder).eval()
    model = build_model(config, codec).eval()
    monkeypatch.setattr("masker.smartmask.MIN_MASK_PX", 0)
    smart = SmartMask(config, codec, model, texts)
    scene = LayeredScene(SIZE, "a ball", ())
    guide = Guidance.from_blob(150, 120, 60, 40, SIZE)

    def masks(count: int) -> dict[float, np.ndarray]:
        found = smart.predict(scene, "ball", "a red ball", "", guidance=guide, count=count, seed=StepSeed(1, 0))
        return {one.details["candidate"]: one.mask for one in found}

    alone, five = masks(1), masks(5)
    assert np.array_equal(alone[0.0], five[0.0])


def test_the_first_candidate_is_the_likeliest_shape(
    codec_folder: Path, texts: TextBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = masker_config(codec_folder, sampling={"solver_steps": 2}, **coded(codec_folder))
    model = build_model(config, load_codec(codec_folder).eval()).eval()
    smart = SmartMask(config, load_codec(codec_folder).eval(), model, texts)
    monkeypatch.setattr("masker.smartmask.MIN_MASK_PX", 0)
    seen: list[Tensor] = []
    draw = type(model).draw_codes

    def watch(self: object, conditions: object, noise: Tensor) -> object:
        seen.append(noise)
        return draw(self, conditions, noise)  # type: ignore[arg-type]

    monkeypatch.setattr(type(model), "draw_codes", watch)
    scene = LayeredScene(SIZE, "a ball", ())
    guide = Guidance.from_blob(150, 120, 60, 40, SIZE)
    smart.predict(scene, "ball", "a red ball", "", guidance=guide, count=3, seed=StepSeed(1, 0))
    still = [bool((row == 0).all()) for row in seen[0]]
    assert still[:3] == [True, False, False]


def test_the_codes_stage_trains_nothing_but_what_draws_codes(
    codec_folder: Path, corpus: Corpus, texts: TextBook
) -> None:
    config = masker_config(codec_folder, stage="codes", **coded(codec_folder, code_pool=8))
    task = CodeTask(config, [corpus], texts=texts)
    task.begin()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    first, again = task.batch(range(8)), task.batch(range(8, 16))
    assert torch.equal(first.codes, again.codes) and torch.equal(first.facts, again.facts)
    assert not torch.equal(first.noise, again.noise) and not torch.equal(first.timesteps, again.timesteps)
    optimizer = torch.optim.Adam([p for p in task.model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for step in range(150):
        loss, _ = task.loss(task.model, task.batch(range(8 * step, 8 * step + 8)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
    for name, value in task.model.state_dict().items():
        drawing = name.startswith("whole.shape_prior.code.") and not name.endswith((".mean", ".basis", ".spread"))
        assert torch.equal(value, before[name]) != drawing, name
