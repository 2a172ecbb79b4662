"""The networks: diffusers `AutoencoderKL`, `UNet2DConditionModel`, `ControlNetModel`, and their weight folder.

The folder has diffusers' own layout (`vae/`, `unet/`, `controlnet/`, `scheduler/`, `model_index.json`), one file more,
`inpainter.json`, which holds what a pipeline cannot know: the window and the sampler; and perhaps `appearance/`, the
model that draws drafts.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import diffusers
import torch
from diffusers import AutoencoderKL, ControlNetModel, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor, nn

from inpainter.appearance import Appearance, load_appearance, save_appearance
from inpainter.config import DenoiserConfig, NoiseConfig, SamplerConfig, VaeConfig, WindowConfig
from runtime.config import Config
from scene.errors import UserError

# mypy cannot look into diffusers' lazy modules; these names are for readers.
Vae: TypeAlias = Any  # AutoencoderKL
UNet: TypeAlias = Any  # UNet2DConditionModel
ControlNet: TypeAlias = Any  # ControlNetModel
Scheduler: TypeAlias = Any  # DPMSolverMultistepScheduler

LATENT_CHANNELS = 4
MASKED = -1.0  # the control image's value where something is to be drawn
START_LOG_VARIANCE = -5.0
CONTROL_CHANNELS = {"mask": 3, "layout": 6, "order": 7}  # of the control image, by `DenoiserConfig.control_inputs`
START_POOLED_GAIN = 0.2  # small beside the time embedding, which shares its 4 x channels


class InpainterFile(Config):
    """`inpainter.json` beside the weights.

    Attributes:
        window: the crop that the networks were trained on.
        sampler: how to draw.
        noise: the schedule that the denoiser was trained with.
        world: name of the corpus that the weights know.
        licence: of the weights.
    """

    schema_version: int = 1
    window: WindowConfig
    sampler: SamplerConfig
    noise: NoiseConfig
    world: str
    licence: str


def build_vae(config: VaeConfig) -> Vae:
    """A fresh `AutoencoderKL`: RGB in [-1, 1], (B, 3, H, W) -> latents (B, 4, H / f, W / f).

    Its posterior starts narrow: with the usual standard deviation of 1 the decoder sees mostly noise for the first
    thousands of samples and learns brightness long before colour (measured, docs/experiments/inpainter.md).
    """
    levels = len(config.block_channels)
    vae: Vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=config.block_channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_groups,
        mid_block_add_attention=config.mid_attention,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )
    with torch.no_grad():
        vae.quant_conv.weight[LATENT_CHANNELS:].zero_()
        vae.quant_conv.bias[LATENT_CHANNELS:] = START_LOG_VARIANCE
    return vae


def build_unet(config: DenoiserConfig, latent_side: int) -> UNet:
    """A fresh `UNet2DConditionModel` on latents (B, 4, `latent_side`, `latent_side`) and text tokens (B, T, C)."""
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attention)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(config.attention))
    unet: UNet = UNet2DConditionModel(
        sample_size=latent_side,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=config.block_channels,
        layers_per_block=config.layers_per_block,
        down_block_types=down,
        up_block_types=up,
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=config.text_channels,
        norm_num_groups=config.norm_groups,
        # diffusers kept an old name: for this class the argument is the number of heads per level
        attention_head_dim=tuple(channels // config.head_channels for channels in config.block_channels),
        addition_embed_type="text" if config.pooled_text else None,
    )
    if config.pooled_text:
        nn.init.constant_(unet.add_embedding.norm2.weight, START_POOLED_GAIN)
    return unet


def build_controlnet(config: DenoiserConfig, unet: UNet) -> ControlNet:
    """A `ControlNetModel` that copies the U-Net's encoder; control images are as `control_image` makes them.

    diffusers starts its outgoing convolutions at zero, which protects a U-Net that is trained already. Ours learns at
    the same time and sees the canvas through the ControlNet only, so they start like any other convolution.
    """
    controlnet: ControlNet = ControlNetModel.from_unet(
        unet,
        conditioning_embedding_out_channels=config.control_channels,
        conditioning_channels=CONTROL_CHANNELS[config.control_inputs],
    )
    outgoing = [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]
    for convolution in (*outgoing, controlnet.controlnet_cond_embedding.conv_out):
        convolution.reset_parameters()
    return controlnet


def build_scheduler(config: NoiseConfig) -> Scheduler:
    """The few-step sampler; "trailing" spacing starts at the very last timestep, which zero terminal SNR needs."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=config.train_timesteps,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule=config.schedule,
        prediction_type=config.prediction,
        rescale_betas_zero_snr=config.zero_terminal_snr,
        timestep_spacing="trailing",
        use_flow_sigmas=config.prediction == "flow_prediction",
        algorithm_type="dpmsolver++",
        solver_order=2,
        lower_order_final=True,
    )


def control_image(image: Tensor, mask: Tensor, masked: float = MASKED, planes: Tensor | None = None) -> Tensor:
    """The ControlNet's picture: RGB in [0, 1] with the pixels to draw at `masked`, and more planes if there are any.

    By default the same convention as `lllyasviel/control_v11p_sd15_inpaint`, so that its weights fit.

    Args:
        image: (B, 3, H, W) in [0, 1].
        mask: (B, 1, H, W), above 0.5 = draw here.
        masked: other ControlNets want white (1) there.
        planes: (B, P, H, W) in [0, 1], see `inpainter.planes`.
    """
    picture = torch.where(mask > 0.5, torch.full_like(image, masked), image)
    return picture if planes is None else torch.cat([picture, planes], dim=1)


def copy_denoiser(model: Denoiser, unet: UNet, controlnet: ControlNet) -> str | None:
    """Copies weights into `model`, whose ControlNet may see more planes: those start at zero, so nothing changes yet.

    Returns:
        The name of a weight that does not fit; None: all do. Layers of pooled text that the source lacks stay.
    """
    given = dict(controlnet.state_dict())
    name = "controlnet_cond_embedding.conv_in.weight"
    wider = torch.zeros_like(model.controlnet.state_dict()[name])
    if given[name].shape[1] <= wider.shape[1]:
        wider[:, : given[name].shape[1]] = given[name]
        given[name] = wider
    for part, weights in ((model.unet, unet.state_dict()), (model.controlnet, given)):
        own = part.state_dict()
        shapes = [key for key in weights if key in own and own[key].shape != weights[key].shape]
        if shapes:
            return shapes[0]
        fit = part.load_state_dict(weights, strict=False)
        foreign = fit.unexpected_keys + [key for key in fit.missing_keys if not key.startswith("add_embedding.")]
        if foreign:
            return str(foreign[0])
    return None


class Denoiser(nn.Module):
    """U-Net and ControlNet as one trainable module."""

    def __init__(self, config: DenoiserConfig, latent_side: int) -> None:
        super().__init__()
        self.unet = build_unet(config, latent_side)
        self.controlnet = build_controlnet(config, self.unet)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPU

    def forward(self, noisy: Tensor, timesteps: Tensor, text: Tensor, control: Tensor) -> Tensor:
        """Predicts what the schedule's `prediction` names.

        Args:
            noisy: (B, 4, h, w) noised latents.
            timesteps: (B,) int64.
            text: (B, T, C) tokens, padding zeroed.
            control: (B, C, H, W) as `control_image` makes it.

        Returns:
            (B, 4, h, w).
        """
        down, mid = self.controlnet(
            noisy, timesteps, encoder_hidden_states=text, controlnet_cond=control, return_dict=False
        )
        return self.unet(
            noisy,
            timesteps,
            encoder_hidden_states=text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]


def save_component(model: Any, folder: Path) -> None:
    """Writes one diffusers model as fp16 safetensors; `model` itself keeps its precision."""
    half = copy.deepcopy(model).to(memory_format=torch.contiguous_format).half()
    half.save_pretrained(folder, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)  # where this machine read it from is nobody's business
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes 0600, which an installed wheel would keep


def save_folder(
    out: Path,
    *,
    vae: Vae,
    denoiser: Denoiser,
    scheduler: Scheduler,
    facts: InpainterFile,
    appearance: Appearance | None = None,
) -> None:
    """Writes the deployable folder."""
    out.mkdir(parents=True, exist_ok=True)
    save_component(vae, out / "vae")
    save_component(denoiser.unet, out / "unet")
    save_component(denoiser.controlnet, out / "controlnet")
    scheduler.save_pretrained(out / "scheduler")
    if appearance is not None:
        save_appearance(appearance, out / "appearance")
    (out / "inpainter.json").write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionControlNetInpaintPipeline",
        "_diffusers_version": diffusers.__version__,
        "requires_safety_checker": False,
        "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "controlnet": ["diffusers", "ControlNetModel"],
        "scheduler": ["diffusers", type(scheduler).__name__],
    }
    for absent in ("text_encoder", "tokenizer", "safety_checker", "feature_extractor", "image_encoder"):
        index[absent] = [None, None]
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def load_vae(folder: Path) -> Vae:
    """Reads a frozen float32 VAE from safetensors.

    Raises:
        UserError: no VAE there.
    """
    return _load(AutoencoderKL, folder)


def _load(kind: Any, folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        raise UserError(f"no {kind.__name__} weights in {folder}; train them or name another folder")
    model = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    return model.eval().requires_grad_(False)


class InpainterFolder(NamedTuple):
    """What a weight folder holds; `appearance` is None where drawings start from pure noise."""

    vae: Vae
    unet: UNet
    controlnet: ControlNet
    scheduler: Scheduler
    facts: InpainterFile
    appearance: Appearance | None


def load_folder(path: Path) -> InpainterFolder:
    """Reads a folder that `save_folder` wrote, as float32 models in evaluation mode.

    Raises:
        UserError: the folder or a part of it is missing or of another schema version.
    """
    try:
        facts = InpainterFile.model_validate_json((path / "inpainter.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no inpainter weights in {path} (inpainter.json is missing); train them first") from None
    except ValueError as error:
        raise UserError(f"cannot read {path / 'inpainter.json'}: {str(error).splitlines()[0]}") from None
    vae = load_vae(path / "vae")
    unet, controlnet = _load(UNet2DConditionModel, path / "unet"), _load(ControlNetModel, path / "controlnet")
    for model in (unet, controlnet):
        model.to(memory_format=torch.channels_last)
    scheduler = DPMSolverMultistepScheduler.from_pretrained(path / "scheduler", local_files_only=True)
    appearance = load_appearance(path / "appearance") if facts.sampler.draft_steps else None
    return InpainterFolder(vae, unet, controlnet, scheduler, facts, appearance)
