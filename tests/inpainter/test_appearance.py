"""Codes of appearances: what is read off pictures, drafts, their training, and drawings that start from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from inpainter.appearance import Appearance, load_appearance, run_on, save_appearance, stretched
from inpainter.appearance_task import AppearanceTask
from inpainter.config import InpainterTraining, SamplerConfig
from inpainter.controlnet_inpaint import ControlNetInpainter
from inpainter.denoiser_task import DenoiserTask
from inpainter.models import load_folder
from inpainter.pipeline import draw_windows
from inpainter.train import build_task
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.seeds import StepSeed
from tests.inpainter.conftest import embed, tiny_config

SIZES = {"side": 8, "code": 4, "mask_cells": 4, "hidden": 32, "layers": 2, "steps": 4}


def config_of(vae: Path, stage: str = "appearance", **fit: object) -> InpainterTraining:
    raw = tiny_config(stage, vae, **fit).model_dump()
    raw["appearance"] = SIZES
    raw["appearance_training"] = {"pool": 24, "component_examples": 24}
    raw["examples"].update(surface_share=0.0, rough=0.0, bare=True)
    return InpainterTraining.model_validate(raw)


@pytest.fixture(scope="module")
def learned(toy_corpus: Corpus, tiny_vae: Path) -> AppearanceTask:
    task = AppearanceTask(config_of(tiny_vae), toy_corpus, embed)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    for step in range(150):
        loss, _ = task.loss(task.model, task.batch(range(24 * step, 24 * step + 24)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    task.model.eval()
    return task


def window_with_ball() -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[0:32, 0:32] - 15.5
    return np.full((32, 32, 3), 250, np.uint8), np.hypot(rows, columns) < 11


def test_colours_run_on_beyond_the_outline_and_nothing_leaks_in() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    mask = np.zeros((40, 40), bool)
    mask[10:30, 5:35] = np.tri(20, 30, 5, dtype=bool)
    picture[mask] = (200, 100, 0)
    picture[~mask] = (0, 0, 255)
    seen = stretched(picture, mask, 16)
    assert seen.shape == (16, 16, 3) and seen.dtype == np.float32
    assert np.abs(seen - np.array([200, 100, 0]) / 255).max() < 0.02


def test_known_colours_stay_and_a_single_one_fills_everything() -> None:
    colours = np.random.default_rng(0).random((12, 12, 3), dtype=np.float32)
    known = np.zeros((12, 12), bool)
    known[3, 4] = True
    filled = run_on(colours, known)
    assert np.array_equal(filled[3, 4], colours[3, 4])
    assert np.allclose(filled, colours[3, 4], atol=1e-5)


def test_a_code_paints_what_it_was_read_off(toy_corpus: Corpus, learned: AppearanceTask) -> None:
    example = learned.source.example(3)
    code = learned.looks.read(learned.looks.examples([example.target], [example.mask]))[0]
    painted = learned.looks.paint(code, example.image, example.mask)
    assert np.array_equal(painted[~example.mask], example.image[~example.mask])
    error = painted[example.mask].astype(float) - example.target[example.mask]
    assert np.sqrt((error**2).mean()) < 40


def test_drafts_have_the_colour_of_the_words(learned: AppearanceTask) -> None:
    image, mask = window_with_ball()
    for text, channel in (("a round red ball", 0), ("a round blue ball", 2)):
        draft = learned.looks.draft(image, mask, embed(text), seed=1, temperature=0.5)
        inner = draft[10:22, 10:22].reshape(-1, 3).mean(0)
        assert inner.argmax() == channel and inner[channel] > 1.5 * inner[2 - channel]
        assert np.array_equal(draft[~mask], image[~mask])


def test_drafts_repeat_with_the_seed(learned: AppearanceTask) -> None:
    image, mask = window_with_ball()
    first, again, other = (
        learned.looks.draft(image, mask, embed("a round red ball"), seed=seed, temperature=1.0) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(
        learned.looks.draft(image, np.zeros_like(mask), embed("x"), seed=1, temperature=1.0), image
    )  # fmt: skip


def test_a_folder_gives_the_same_drafts_within_half_precision(learned: AppearanceTask, tmp_path: Path) -> None:
    learned.export(learned.model, tmp_path)
    image, mask = window_with_ball()
    drafts = [
        looks.draft(image, mask, embed("a round red ball"), seed=1, temperature=0.5).astype(int)
        for looks in (learned.looks, load_appearance(tmp_path / "appearance"))
    ]
    assert np.abs(drafts[0] - drafts[1]).max() <= 3


def test_a_broken_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json.*train stage appearance"):
        load_appearance(tmp_path)


def test_more_numbers_than_objects_are_refused(toy_corpus: Corpus, tiny_vae: Path) -> None:
    config = config_of(tiny_vae)
    config = config.model_copy(update={"appearance": config.appearance.model_copy(update={"code": 50})})
    with pytest.raises(UserError, match="codes of 50 numbers need more than 24 objects"):
        AppearanceTask(config, toy_corpus, embed).batch([0])


def drafting(learned: AppearanceTask, corpus: Corpus, vae: Path, folder: Path, **sampler: object) -> DenoiserTask:
    learned.export(learned.model, folder)
    raw = config_of(vae, "denoiser").model_dump()
    raw["denoiser_training"].update(appearance=str(folder / "appearance"), draft_share=1.0)
    raw["sampler"].update(steps=4, draft_steps=2, guidance_scale=1.0, **sampler)
    return DenoiserTask(InpainterTraining.model_validate(raw), corpus, embed)


def test_the_denoiser_learns_to_finish_drafts(
    toy_corpus: Corpus, tiny_vae: Path, learned: AppearanceTask, tmp_path: Path
) -> None:
    task = drafting(learned, toy_corpus, tiny_vae, tmp_path)
    batch = task.batch(range(4))
    assert batch["drafted"].all()
    assert not torch.equal(batch["drafts"], batch["latents"])
    early = {**batch, "timesteps": torch.full((4,), 100)}
    late = {**batch, "timesteps": torch.full((4,), 900)}
    for which, differs in ((early, True), (late, False)):
        undrafted = {**which, "drafted": torch.zeros(4, dtype=torch.bool)}
        with torch.no_grad():
            losses = [task.loss(task.model, one)[0].item() for one in (which, undrafted)]
        assert (losses[0] != losses[1]) == differs


def test_drawings_start_from_the_draft(
    toy_corpus: Corpus, tiny_vae: Path, learned: AppearanceTask, tmp_path: Path
) -> None:
    task = drafting(learned, toy_corpus, tiny_vae, tmp_path)
    image, mask = window_with_ball()
    seen: list[np.ndarray] = []

    class Watched(Appearance):
        def draft(self, *arguments: object, **named: object) -> np.ndarray:
            seen.append(super().draft(*arguments, **named))  # type: ignore[arg-type]
            return seen[-1]

    watched = Watched(learned.looks.config, learned.looks.text_channels)
    watched.load_state_dict(learned.looks.state_dict())

    def draw(sampler: SamplerConfig, appearance: Appearance | None, **more: object) -> np.ndarray:
        arguments = ([image], [mask], [embed("a round red ball")], embed(""), [7], sampler)
        return draw_windows(
            task.pipeline(task.model), *arguments, dilate_px=2, appearance=appearance, **more
        )[0]  # type: ignore[arg-type]  # fmt: skip

    sampler = task.config.sampler
    drawn = draw(sampler, watched)
    assert len(seen) == 1
    assert np.array_equal(drawn, draw(sampler, None, starts=seen, last_steps=2))
    assert not np.array_equal(drawn, draw(sampler, None))
    assert np.array_equal(draw(sampler.model_copy(update={"draft_steps": None}), watched), draw(sampler, None))


def test_a_shipped_folder_draws_with_drafts_and_misses_them_clearly(
    toy_corpus: Corpus, tiny_vae: Path, learned: AppearanceTask, tmp_path: Path
) -> None:
    task = drafting(learned, toy_corpus, tiny_vae, tmp_path / "looks")
    task.export(task.model, tmp_path / "out")
    folder = load_folder(tmp_path / "out")
    assert folder.appearance is not None
    inpainter = ControlNetInpainter(
        task.pipeline(task.model), embed, folder.facts.window, folder.facts.sampler, folder.appearance
    )
    image = np.full((256, 256, 3), 90, np.uint8)
    mask = np.zeros((256, 256), bool)
    mask[100:160, 90:130] = True
    drawn = inpainter.render(image, mask, "red ball", "a round red ball", "", seed=StepSeed(0, 0))
    assert np.array_equal(drawn[~mask], image[~mask])
    (tmp_path / "out" / "appearance" / "appearance.safetensors").unlink()
    with pytest.raises(UserError, match=r"appearance\.safetensors"):
        load_folder(tmp_path / "out")


def test_the_stage_is_found_by_its_name(toy_corpus: Corpus, tiny_vae: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inpainter.appearance_task.TextTokens", lambda tokens: embed)
    assert isinstance(build_task(config_of(tiny_vae), toy_corpus), AppearanceTask)


def test_saved_sizes_come_back(tmp_path: Path, learned: AppearanceTask) -> None:
    save_appearance(learned.looks, tmp_path)
    assert load_appearance(tmp_path).config == learned.looks.config
