"""Public inpainters on tiny random checkpoints: loaded as the real ones are, and equal to diffusers' own pipelines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    LCMScheduler,
    UNet2DConditionModel,
    ZImageControlNetModel,
    ZImageTransformer2DModel,
)
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from inpainter.config import DiffusersConfig
from inpainter.controlnet_inpaint import ControlNetInpainter, Drawing
from inpainter.full_size import load
from inpainter.models import control_image
from inpainter.pipeline import WindowBatch, cell_mask, draw_windows
from inpainter.sources import sources
from orchestrator.config import load_preset
from runtime.hardware import HardwareConfig
from runtime.hub import present
from runtime.seeding import torch_generator
from scene.errors import UserError
from scene.seeds import StepSeed
from tests.presets.conftest import local_settings

FAMILIES = ("sd15", "sdxl", "zimage")
CPU = HardwareConfig(device="cpu")
SIDE = 64


def inpainter_of(preset: str, checkpoints: Path, *more: str) -> ControlNetInpainter:
    config = load_preset(preset, None, [*local_settings(preset, checkpoints), *more])
    assert config.inpainter.diffusers is not None and config.inpainter.path is not None
    return load(folders_of(config.inpainter.path, config.inpainter.diffusers), config.inpainter.diffusers, CPU)


def folders_of(path: str, config: DiffusersConfig) -> dict[str, Path]:
    found = {part: present(source) for part, source in sources(path, config).items()}
    return {part: folder for part, folder in found.items() if folder is not None}


def window(side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    mask = np.zeros((side, side), bool)
    mask[20:44, 16:40] = True
    return rng.integers(0, 256, (side, side, 3), dtype=np.uint8), mask


def stock_arguments(image: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    unit = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    cells = torch.from_numpy(cell_mask(mask, 8, 8))[None, None].float()
    return {"unit": unit, "cells": cells, "mask": torch.from_numpy(mask)[None, None].float()}


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_equal_the_stock_pipeline_told_in_plain_words(family: str, checkpoints: Path) -> None:
    """Same weights, same noise, words instead of embeddings: largest difference 1 of 255."""
    inpainter = inpainter_of(family, checkpoints)
    image, mask = window()
    words, negative = "a red sofa", inpainter.sampler.negative
    ours = draw_windows(
        inpainter.pipeline, [image], [mask], [inpainter.embed(words)], inpainter.embed(negative), [7],
        inpainter.sampler, dilate_px=8, paint=inpainter.paint,
    )[0]  # fmt: skip
    given = stock_arguments(image, mask)
    common = {
        "prompt": words,
        "mask_image": given["cells"],
        "height": SIDE,
        "width": SIDE,
        "num_inference_steps": 2,
        "controlnet_conditioning_scale": inpainter.sampler.control_scale,
        "generator": [torch_generator(7)],
        "output_type": "np",
    }
    if family == "zimage":
        stock = inpainter.pipeline(
            image=given["unit"] * 2 - 1, control_image=torch.zeros(1, 3, SIDE, SIDE), guidance_scale=0.0, **common
        )
    else:
        stock = inpainter.pipeline(
            image=given["unit"],
            control_image=control_image(given["unit"], given["mask"], -1.0 if family == "sd15" else 1.0),
            negative_prompt=negative,
            guidance_scale=inpainter.sampler.guidance_scale,
            strength=0.99 if family == "sdxl" else 1.0,  # as the card of SDXL's inpainting weights asks
            **common,
        )
    differences = np.abs(ours.astype(int) - (stock.images[0] * 255 + 0.5).astype(np.uint8))
    # The stock pipeline reads both texts in one batch, which moves last bits: here and there a pixel rounds otherwise.
    assert differences.max() <= 1 and differences.mean() < 0.01
    assert ours.std() > 1  # the random networks do draw something


def test_steps_equal_a_loop_written_out(checkpoints: Path) -> None:
    """SD 1.5, step by step from U-Net, ControlNet, scheduler and VAE: pixels differ by less than 1e-5 of 1."""
    inpainter = inpainter_of("sd15", checkpoints, "inpainter.diffusers.sampler.steps=3")
    pipe, sampler = inpainter.pipeline, inpainter.sampler
    image, mask = window()
    given = stock_arguments(image, mask)
    text = torch.stack([inpainter.embed(sampler.negative), inpainter.embed("a red sofa")])
    generator = torch_generator(5)
    control = control_image(given["unit"], given["mask"]).repeat(2, 1, 1, 1)
    with torch.no_grad():
        known = pipe.vae.encode(given["unit"] * 2 - 1).latent_dist.sample(generator) * pipe.vae.config.scaling_factor
        noise = torch.randn(known.shape, generator=generator)
        pipe.scheduler.set_timesteps(3)
        steps, latents = pipe.scheduler.timesteps, noise * pipe.scheduler.init_noise_sigma
        small = torch.nn.functional.interpolate(given["cells"], size=known.shape[-2:])
        for number, step in enumerate(steps):
            pair = pipe.scheduler.scale_model_input(torch.cat([latents] * 2), step)
            down, mid = pipe.controlnet(
                pair, step, encoder_hidden_states=text, controlnet_cond=control, return_dict=False
            )
            without, with_text = pipe.unet(
                pair, step, encoder_hidden_states=text, down_block_additional_residuals=down,
                mid_block_additional_residual=mid, return_dict=False,
            )[0].chunk(2)  # fmt: skip
            predicted = without + sampler.guidance_scale * (with_text - without)
            latents = pipe.scheduler.step(predicted, step, latents, return_dict=False)[0]
            last = number == len(steps) - 1
            kept = known if last else pipe.scheduler.add_noise(known, noise, steps[number + 1 : number + 2])
            latents = (1 - small) * kept + small * latents
        picture = (pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    batch = WindowBatch(
        given["unit"], given["unit"], given["mask"], given["cells"], [text[1]], text[0], [torch_generator(5)], 1.0
    )
    assert inpainter.paint is not None
    ours = inpainter.paint(pipe, batch, sampler)
    assert np.abs(ours[0] - picture[0].permute(1, 2, 0).numpy()).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_outside_the_mask_changes(family: str, checkpoints: Path) -> None:
    inpainter = inpainter_of(family, checkpoints)
    image, mask = window(96)
    drawing = Drawing(image, mask, "sofa", "a red sofa", StepSeed(1, 2))
    first = inpainter.render(image, mask, "sofa", "a red sofa", "a room", seed=StepSeed(1, 2))
    assert np.array_equal(first[~mask], image[~mask]) and not np.array_equal(first[mask], image[mask])
    assert np.array_equal(first, inpainter.render(image, mask, "sofa", "a red sofa", "a room", seed=StepSeed(1, 2)))
    assert not np.array_equal(first, inpainter.render(image, mask, "sofa", "a red sofa", "", seed=StepSeed(1, 3)))
    refined = inpainter.refine(drawing)  # one last step from what is there
    assert not refined[~mask].any() and refined[mask][:, 3].all()


def test_masked_pixels_reach_the_controlnet_as_its_weights_want(checkpoints: Path) -> None:
    seen: list[torch.Tensor] = []
    for family, more in (("sd15", ()), ("sdxl", ()), ("sdxl", ("inpainter.diffusers.masked=0",))):
        inpainter = inpainter_of(family, checkpoints, *more)
        inpainter.pipeline.controlnet.register_forward_pre_hook(
            lambda module, arguments, given: seen.append(given["controlnet_cond"]), with_kwargs=True
        )
        image, mask = window()
        inpainter.draw([Drawing(image, mask, "sofa", "a sofa", StepSeed(0, 0))])
        inside = seen[-1][0, :, 32, 32]
        assert (inside == {"sd15": -1.0, "sdxl": 0.0 if more else 1.0}[family]).all()
        assert float(seen[-1][0, :, 2, 2].min()) >= 0


def test_zimage_sees_no_control_picture(checkpoints: Path) -> None:
    inpainter = inpainter_of("zimage", checkpoints)
    seen: list[torch.Tensor] = []
    inpainter.pipeline.controlnet.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[3]))
    image, mask = window()
    inpainter.draw([Drawing(image, mask, "sofa", "a sofa", StepSeed(0, 0))])
    channels = inpainter.pipeline.transformer.in_channels
    assert seen[0].shape[1] == 2 * channels + 1
    assert not seen[0][:, :channels].any() and seen[0][:, channels + 1 :].any()
    assert {0.0, 1.0} == set(seen[0][:, channels].unique().tolist())


def test_union_controlnet_from_its_bare_file_equals_the_converted_folder(checkpoints: Path, tmp_path: Path) -> None:
    from tests.presets.checkpoints import write_zimage

    folder = write_zimage(tmp_path / "zimage", single_file=False)
    bare = inpainter_of("zimage", checkpoints)
    converted = inpainter_of("zimage", checkpoints, f"inpainter.diffusers.controlnet={folder / 'controlnet'}")
    for name, value in converted.pipeline.controlnet.state_dict().items():
        assert torch.equal(value, bare.pipeline.controlnet.state_dict()[name]), name


def test_version_one_of_the_union_controlnet_is_refused(checkpoints: Path, tmp_path: Path) -> None:
    from tests.presets.checkpoints import write_zimage

    folder = write_zimage(tmp_path / "zimage", single_file=False) / "controlnet"
    config = json.loads((folder / "config.json").read_text())
    shutil.rmtree(folder)
    first = {key: value for key, value in config.items() if not key.startswith("_")} | {"control_in_dim": 16}
    ZImageControlNetModel(**first).save_pretrained(folder)
    with pytest.raises(UserError, match=r"needs 33: use version 2\.0 or 2\.1"):
        inpainter_of("zimage", checkpoints, f"inpainter.diffusers.controlnet={folder}")


def test_few_step_lora_changes_the_denoiser_for_good(checkpoints: Path, tmp_path: Path) -> None:
    plain = inpainter_of("sd15", checkpoints)
    unet = UNet2DConditionModel.from_pretrained(checkpoints / "sd15" / "base" / "unet")
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights="gaussian"))
    state = {f"unet.{name}": value + 0.05 for name, value in get_peft_model_state_dict(unet).items()}
    save_file(state, tmp_path / "pytorch_lora_weights.safetensors")
    few = inpainter_of("sd15", checkpoints, f"inpainter.diffusers.lora={tmp_path}", "inpainter.diffusers.scheduler=lcm")
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    assert not torch.equal(few.pipeline.unet.state_dict()[name], plain.pipeline.unet.state_dict()[name])
    assert isinstance(few.pipeline.scheduler, LCMScheduler)
    image, mask = window()
    layer = few.draw([Drawing(image, mask, "sofa", "a sofa", StepSeed(0, 0))])[0]
    assert layer[mask].any()
    with pytest.raises(UserError, match="does not fit"):
        inpainter_of("zimage", checkpoints, f"inpainter.diffusers.lora={tmp_path}")


def test_a_folder_with_its_own_controlnet_needs_no_other(checkpoints: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoints / "sd15" / "base", tmp_path / "whole")
    shutil.copytree(checkpoints / "sd15" / "controlnet", tmp_path / "whole" / "controlnet")
    config = load_preset("sd15", None, [f"inpainter.path={tmp_path / 'whole'}"])
    assert config.inpainter.path and config.inpainter.diffusers
    folders = folders_of(config.inpainter.path, config.inpainter.diffusers)
    assert folders["controlnet"] == tmp_path / "whole" / "controlnet"


def test_savings_and_precision_come_from_the_config(checkpoints: Path) -> None:
    config = load_preset("sd15", None, local_settings("sd15", checkpoints))
    assert config.inpainter.diffusers and config.inpainter.path
    hardware = HardwareConfig(
        device="cpu", dtype="bfloat16", attention_slicing=True, vae_tiling=True, vae_slicing=True, compile=True
    )
    folders = folders_of(config.inpainter.path, config.inpainter.diffusers)
    pipe = load(folders, config.inpainter.diffusers, hardware).pipeline
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.controlnet.dtype, pipe.text_encoder.dtype} == {torch.bfloat16}
    assert pipe.vae.use_tiling and pipe.vae.use_slicing
    assert pipe.unet._compiled_call_impl is not None and pipe.controlnet._compiled_call_impl is not None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"device": "cuda:7"}, "torch sees"),
        ({"device": "cpu", "offload": "model"}, "offload"),
    ],
)
def test_hardware_that_is_not_there(settings: dict[str, Any], reason: str, checkpoints: Path) -> None:
    config = load_preset("sd15", None, local_settings("sd15", checkpoints))
    assert config.inpainter.diffusers and config.inpainter.path
    with pytest.raises(UserError, match=reason):
        load(
            folders_of(config.inpainter.path, config.inpainter.diffusers),
            config.inpainter.diffusers,
            HardwareConfig(**settings),
        )


def test_a_controlnet_of_another_family_is_told_apart(checkpoints: Path) -> None:
    other = f"inpainter.diffusers.controlnet={checkpoints / 'sdxl' / 'controlnet'}"
    with pytest.raises(UserError, match="attends to text of width 32, the U-Net of 16"):
        inpainter_of("sd15", checkpoints, other)


SD15_UNET = {
    "sample_size": 64, "in_channels": 4, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768,
    "attention_head_dim": 8,
}  # fmt: skip
SDXL_UNET = {
    "sample_size": 128, "in_channels": 9, "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20), "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4, "sample_size": 512,
}  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "unet_config", "millions", "controlnet_millions"),
    [("sd15", SD15_UNET, 859.5, 361.3), ("sdxl", SDXL_UNET, 2567.5, 1251.0)],
)
def test_full_size_shapes_on_the_meta_device(
    preset: str, unet_config: dict[str, Any], millions: float, controlnet_millions: float
) -> None:
    """Public configs, no memory: one step of both networks at the preset's own window."""
    diffusers = load_preset(preset).inpainter.diffusers
    assert diffusers is not None
    side = diffusers.window.resolution_px
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config)
        control_config = {key: value for key, value in unet_config.items() if key != "sample_size"} | {"in_channels": 4}
        shape = {key: value for key, value in control_config.items() if key != "up_block_types"}
        controlnet = ControlNetModel(**shape)
        vae = AutoencoderKL(**VAE)
        latents = vae.encode(torch.empty(1, 3, side, side)).latent_dist.mode()
        assert latents.shape == (1, 4, side // 8, side // 8)
        text = torch.empty(2, 77, unet_config["cross_attention_dim"])
        pair = torch.empty(2, 4, side // 8, side // 8)
        added = {"text_embeds": torch.empty(2, 1280), "time_ids": torch.empty(2, 6)} if preset == "sdxl" else None
        step = torch.empty((), dtype=torch.long)
        down, mid = controlnet(
            pair, step, encoder_hidden_states=text, controlnet_cond=torch.empty(2, 3, side, side),
            added_cond_kwargs=added, return_dict=False,
        )  # fmt: skip
        wide = torch.empty(2, unet_config["in_channels"], side // 8, side // 8)
        output = unet(
            wide, step, encoder_hidden_states=text, down_block_additional_residuals=down,
            mid_block_additional_residual=mid, added_cond_kwargs=added, return_dict=False,
        )[0]  # fmt: skip
        assert output.shape == pair.shape and vae.decode(latents).sample.shape == (1, 3, side, side)
    assert sum(p.numel() for p in unet.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert sum(p.numel() for p in controlnet.parameters()) / 1e6 == pytest.approx(controlnet_millions, abs=0.1)


def test_zimage_parameters_on_the_meta_device() -> None:
    """Billions, as docs/presets.md states them: diffusers' defaults are the public transformer's shape."""
    with torch.device("meta"):
        transformer = ZImageTransformer2DModel()
        controlnet = ZImageControlNetModel(
            control_layers_places=list(range(0, transformer.config.n_layers, 2)),
            control_refiner_layers_places=[0, 1],
            control_in_dim=2 * transformer.in_channels + 1,
            add_control_noise_refiner="control_noise_refiner",
        )
    assert sum(p.numel() for p in transformer.parameters()) / 1e9 == pytest.approx(6.155, abs=0.001)
    assert sum(p.numel() for p in controlnet.parameters()) / 1e9 == pytest.approx(3.356, abs=0.001)
