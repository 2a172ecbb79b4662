"""Drawing: parity with the stock diffusers pipeline, polarity of the mask, determinism, folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionControlNetInpaintPipeline

from inpainter.controlnet_inpaint import ControlNetInpainter, Drawing
from inpainter.denoiser_task import DenoiserTask
from inpainter.models import build_scheduler, control_image, load_folder
from inpainter.pipeline import cell_mask, draw_windows
from runtime.seeding import torch_generator
from scene.errors import ModelError, UserError
from scene.seeds import StepSeed
from tests.inpainter.conftest import SAMPLER, embed


def scene() -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    mask = np.zeros((256, 256), bool)
    mask[100:160, 90:130] = True
    return image, mask


def test_cell_mask_covers_the_mask_in_whole_cells() -> None:
    mask = np.zeros((32, 32), bool)
    mask[9, 17] = True  # one pixel survives the pipeline's nearest-neighbour shrinking
    cells = cell_mask(mask, 0, 4)
    assert cells.sum() == 16 and cells[8:12, 16:20].all()
    assert cell_mask(mask, 4, 4).sum() == 9 * 16


def test_control_image_puts_minus_one_where_the_mask_is_white() -> None:
    image = torch.rand(1, 3, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:4, 2:4] = 1
    control = control_image(image, mask)
    assert (control[..., 2:4, 2:4] == -1).all()
    assert torch.equal(control[..., 5:, 5:], image[..., 5:, 5:])


def test_thin_pipeline_equals_the_stock_one(task: DenoiserTask) -> None:
    image, mask = scene()
    image, mask = image[:32, :32].copy(), np.zeros((32, 32), bool)
    mask[8:20, 8:20] = True
    ours = draw_windows(
        task.pipeline(task.model), [image], [mask], [embed("ball")], embed(""), [7], SAMPLER, dilate_px=2
    )[0]
    stock = StableDiffusionControlNetInpaintPipeline(
        vae=task.vae,
        text_encoder=None,
        tokenizer=None,
        unet=task.model.unet,
        controlnet=task.model.controlnet,
        scheduler=build_scheduler(task.config.noise),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    stock.set_progress_bar_config(disable=True)
    unit = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    output = stock(
        image=unit,
        mask_image=torch.from_numpy(cell_mask(mask, 2, 4))[None, None].float(),
        control_image=control_image(unit, torch.from_numpy(mask)[None, None].float()),
        prompt_embeds=embed("ball")[None],
        negative_prompt_embeds=embed("")[None],
        num_inference_steps=2,
        guidance_scale=2.0,
        controlnet_conditioning_scale=1.0,
        generator=[torch_generator(7)],
        output_type="np",
    ).images[0]
    assert np.array_equal(ours, (output * 255 + 0.5).astype(np.uint8))


def test_drawing_does_not_depend_on_what_is_drawn_beside_it(task: DenoiserTask) -> None:
    image, mask = scene()
    images = [image[:32, :32].copy(), image[32:64, :32].copy()]
    masks = [mask[95:127, 80:112].copy(), mask[90:122, 100:132].copy()]
    texts = [embed("red ball"), embed("blue ball")]
    pipeline = task.pipeline(task.model)
    for batch in (1, 3):
        both = draw_windows(pipeline, images, masks, texts, embed(""), [1, 2], SAMPLER, dilate_px=2, batch=batch)
        alone = draw_windows(
            pipeline, images[1:], masks[1:], texts[1:], embed(""), [2], SAMPLER, dilate_px=2, batch=batch
        )
        assert len(both) == 2 and np.array_equal(both[1], alone[0])


def test_refining_starts_from_the_drawing_given(task: DenoiserTask) -> None:
    image, mask = np.full((32, 32, 3), 128, np.uint8), np.ones((32, 32), bool)
    pipeline, words = task.pipeline(task.model), [embed("ball")]

    def refined(start: int) -> np.ndarray:
        return draw_windows(
            pipeline, [image], [mask], words, embed(""), [1], SAMPLER.model_copy(update={"steps": 4}), dilate_px=0,
            starts=[np.full_like(image, start)], last_steps=1,
        )[0]  # fmt: skip

    assert not np.array_equal(refined(0), refined(255))


def tiled(inpainter: ControlNetInpainter, feather_px: float = 0.0) -> ControlNetInpainter:
    config = inpainter.window_config.model_copy(update={"tile_px": 96, "tile_above_px": 200, "feather_px": feather_px})
    return ControlNetInpainter(inpainter.pipeline, embed, config, SAMPLER)


def test_large_surfaces_are_refined_in_tiles_and_small_objects_are_not(inpainter: ControlNetInpainter) -> None:
    image, small = scene()
    large = np.zeros((256, 256), bool)
    large[120:] = True
    for mask, same in ((small, True), (large, False)):
        job = [Drawing(image, mask, "sky", "a blue sky", StepSeed(1, 1))]
        assert np.array_equal(inpainter.draw(job)[0], tiled(inpainter).draw(job)[0]) == same
    layer = tiled(inpainter).draw([Drawing(image, large, "sky", "", StepSeed(1, 1))])[0]
    assert not layer[~large].any() and (layer[large][:, 3] == 255).all()


def test_objects_drawn_together_equal_objects_drawn_alone(inpainter: ControlNetInpainter) -> None:
    image, small = scene()
    large = np.zeros((256, 256), bool)
    large[150:] = True
    model = tiled(inpainter, feather_px=1.0)
    model.sampler = SAMPLER.model_copy(update={"batch": 2})
    jobs = [
        Drawing(image, mask, "ball", words, StepSeed(1, step))
        for step, (mask, words) in enumerate([(small, "a red ball"), (large, "a field"), (small[::-1].copy(), "")])
    ]
    together = model.draw(jobs)
    for job, layer in zip(jobs, together, strict=True):
        assert np.array_equal(layer, model.draw([job])[0])
        assert not layer[~job.mask].any()
    assert 0 < together[0][100, 90, 3] < 255, "feathered inside the mask"


def test_render_draws_into_the_mask_and_nowhere_else(inpainter: ControlNetInpainter) -> None:
    image, mask = scene()
    before = image.copy()
    result = inpainter.render(image, mask, "red ball", "a red ball", "two balls", seed=StepSeed(7, 1))
    assert np.array_equal(result[~mask], before[~mask])
    assert (result[mask] != before[mask]).any(axis=1).mean() > 0.9, "True in the mask must mean: draw here"
    assert np.array_equal(image, before)


def test_render_repeats_with_the_seed_and_differs_with_another(inpainter: ControlNetInpainter) -> None:
    image, mask = scene()
    first = inpainter.render(image, mask, "ball", "", "", seed=StepSeed(7, 1))
    torch.manual_seed(99)  # global state must not matter
    assert np.array_equal(first, inpainter.render(image, mask, "ball", "", "", seed=StepSeed(7, 1)))
    assert not np.array_equal(first, inpainter.render(image, mask, "ball", "", "", seed=StepSeed(7, 2)))


def test_render_on_the_whole_canvas(inpainter: ControlNetInpainter) -> None:
    image, _ = scene()
    result = inpainter.render(image, np.ones((256, 256), bool), "sky", "a blue sky", "", seed=StepSeed(0, 0))
    assert result.shape == image.shape and result.dtype == np.uint8


def test_render_refuses_what_it_cannot_draw(inpainter: ControlNetInpainter) -> None:
    image, mask = scene()
    with pytest.raises(ModelError, match="mask of 'ball' is empty"):
        inpainter.render(image, np.zeros_like(mask), "ball", "", "", seed=StepSeed(0, 0))
    with pytest.raises(ValueError, match="need bool"):
        inpainter.render(image, mask.astype(np.uint8), "ball", "", "", seed=StepSeed(0, 0))
    with pytest.raises(ValueError, match="need uint8"):
        inpainter.render(image[..., :2], mask, "ball", "", "", seed=StepSeed(0, 0))


def test_exported_folder_draws_the_same_picture_within_half_precision(task: DenoiserTask, tmp_path: Path) -> None:
    task.export(task.model, tmp_path)
    vae, unet, controlnet, scheduler, facts, appearance = load_folder(tmp_path)
    assert appearance is None
    assert facts.world == "toy" and facts.window == task.config.window
    assert scheduler.config.timestep_spacing == "trailing" and scheduler.config.rescale_betas_zero_snr
    for name, tensor in task.model.unet.state_dict().items():
        assert torch.allclose(unet.state_dict()[name], tensor, atol=2e-3), name
    stock = StableDiffusionControlNetInpaintPipeline.from_pretrained(
        tmp_path, text_encoder=None, tokenizer=None, safety_checker=None, local_files_only=True
    )
    assert type(stock.scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert next(iter(controlnet.parameters())).dtype == torch.float32 and not any(
        p.requires_grad for p in vae.parameters()
    )


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"inpainter\.json is missing"):
        load_folder(tmp_path)


def test_a_mask_that_the_canvas_cuts_goes_on_beyond_it(
    inpainter: ControlNetInpainter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the white beyond the canvas bleeds into the picture's edge."""
    seen: list[np.ndarray] = []

    def watch(
        pipeline: object, images: list[np.ndarray], masks: list[np.ndarray], *rest: object, **more: object
    ) -> object:
        seen.extend(masks)
        return images

    monkeypatch.setattr("inpainter.pipeline.draw_windows", watch)
    image, mask = np.full((128, 256, 3), 200, np.uint8), np.zeros((128, 256), bool)
    mask[:, 20:240] = True  # its square window is higher than the canvas
    inpainter.draw([Drawing(image, mask, "sky", "blue sky", StepSeed(1, 0))])
    assert seen[0][[0, -1], seen[0].shape[1] // 2].all()
