"""Configuration of the inpainter: one root model per YAML file in `configs/inpainter/`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from runtime.config import Config
from runtime.fit_config import FitConfig


class VaeConfig(Config):
    """Sizes of the `AutoencoderKL`; 4 latent channels, because the diffusers pipeline blends only those."""

    block_channels: tuple[int, ...] = (16, 32, 64)
    """Channels per level, finest first; n levels shrink each side by 2 ** (n - 1)."""
    layers_per_block: int = Field(1, ge=1)
    norm_groups: int = Field(8, ge=1)
    mid_attention: bool = False


class DenoiserConfig(Config):
    """Sizes of the `UNet2DConditionModel`; the `ControlNetModel` copies its encoder."""

    block_channels: tuple[int, ...] = (32, 64, 128, 192)
    attention: tuple[bool, ...] = (False, False, True, True)
    """Which levels attend to the text, finest first."""
    layers_per_block: int = Field(1, ge=1)
    head_channels: int = Field(32, ge=8)
    norm_groups: int = Field(8, ge=1)
    text_channels: int = 384
    """Width of a text token (all-MiniLM-L6-v2: 384)."""
    pooled_text: bool = True
    """Also add the pooled text to the time embedding (diffusers' `addition_embed_type="text"`): which object it is then
    reaches every layer at once. Needs text_channels in multiples of 64. Off for Stable Diffusion's layout."""
    control_channels: tuple[int, ...] = (8, 16, 32)
    """Channels of the ControlNet's image stem; as many levels as the VAE has."""
    control_inputs: Literal["mask", "layout", "order"] = "mask"
    """What the ControlNet sees: the canvas with the mask, also the scene's layout in colours, also which layers lie in
    front, see `inpainter.planes`. For comparisons: when it draws, an inpainter is given no layout, so weights of the
    last two are refused there."""


class NoiseConfig(Config):
    """The noise schedule, shared by training and sampling."""

    train_timesteps: int = Field(1000, ge=1)
    beta_start: float = 0.00085
    beta_end: float = 0.012
    schedule: Literal["scaled_linear", "squaredcos_cap_v2", "linear"] = "scaled_linear"
    prediction: Literal["v_prediction", "sample", "epsilon", "flow_prediction"] = "v_prediction"
    """"flow_prediction": noise minus latents, on a straight line between both instead of the schedule above."""
    zero_terminal_snr: bool = True
    """The last timestep is pure noise (Lin et al. 2024), so that flat colours keep their exact mean."""


class WindowConfig(Config):
    """The square crop in which an object is drawn."""

    resolution_px: int = Field(128, ge=16)
    """Side of the window in model pixels."""
    context: float = Field(1.4, ge=1)
    """Side of the window over the longer side of the mask's box."""
    min_side_px: int = Field(64, ge=8)
    """Smallest window side in canvas pixels."""
    dilate_px: int = Field(4, ge=0)
    """The mask that the model repaints is grown by so many model pixels; the paste uses the exact one."""
    tile_px: int | None = Field(None, ge=32)
    """Side in canvas pixels of the tiles that a large surface is drawn in; None draws it in one window."""
    tile_above_px: int = Field(512, ge=64)
    """A mask whose window is at least so large is drawn in tiles: 512 is four times the model's resolution."""
    feather_px: float = Field(0.0, ge=0)
    """The object's edge fades inwards over so many canvas pixels; 0 cuts it hard."""
    fringe: float = Field(0.0, ge=0)
    """Edges this many model pixels wide take the colours from farther inside; 0 leaves them as drawn."""


class SamplerConfig(Config):
    """How a picture is drawn; stored with the weights."""

    steps: int = Field(8, ge=1)
    guidance_scale: float = Field(2.0, ge=1)
    """Classifier-free guidance; 1 switches it off and halves the work."""
    draft_steps: int | None = Field(None, ge=1)
    """Of these steps, so many last ones run, from a draft (`inpainter.appearance`); None: all of them, from noise."""
    draft_temperature: float = Field(0.7, ge=0)
    """How much drafts vary: the share of noise that their codes are drawn from; 0 also recalls nothing."""
    detail_px: float = Field(0.0, ge=0)
    """What is finer than so many model pixels is kept from a recalled draft, see `inpainter.memory.keep_detail`; 0
    keeps nothing."""
    tile_steps: int = Field(2, ge=0)
    """Of these steps, so many last ones refine a tile of a large surface, which is first drawn in one window; 0: it
    stays so."""
    batch: int = Field(1, ge=1)
    """Windows per network call; a shorter batch is padded to it, so that no picture depends on its neighbours."""
    control_scale: float = Field(1.0, ge=0)
    negative: str = ""
    """Words of the unconditional half; weights of ours were trained on none."""
    max_tokens: int = Field(16, ge=2)
    """Text is cut or padded to so many tokens; padding is zero."""


class DiffusersConfig(Config):
    """Public weights of full size in place of a folder of ours, see `inpainter.full_size`."""

    family: Literal["sd15", "sdxl", "zimage"]
    """Which diffusers pipeline: `StableDiffusionControlNetInpaintPipeline`, its XL variant, or
    `ZImageControlNetInpaintPipeline`."""
    revision: str | None = None
    """Branch, tag or commit of the base weights on the hub; pin a commit for results that can be repeated."""
    variant: str | None = None
    """"fp16" reads the half-precision files of a repository that has both."""
    controlnet: str
    """Hub id or folder of the ControlNet; a base folder's own `controlnet/` goes before a hub id."""
    controlnet_revision: str | None = None
    controlnet_variant: str | None = None
    controlnet_file: str | None = None
    """The ControlNet's one safetensors file, in repositories without diffusers' layout (Z-Image's union ControlNet)."""
    lora: str | None = None
    """Hub id or folder of a LoRA, such as a few-step one (LCM, Lightning); None = none."""
    lora_revision: str | None = None
    lora_file: str | None = None
    """Its safetensors file; needed where there are several."""
    lora_scale: float = 1.0
    scheduler: Literal["stored", "dpm", "euler", "lcm"] = "stored"
    """"stored" with the base weights; "dpm": DPM-Solver++ multistep; "euler": with trailing timesteps, for Lightning;
    "lcm": for LCM LoRAs."""
    masked: float | None = Field(None, ge=-1, le=1)
    """The control image's value where the object goes; None = -1 for sd15, 1 (white) for sdxl; zimage takes none."""
    window: WindowConfig = WindowConfig()
    sampler: SamplerConfig = SamplerConfig()

    @model_validator(mode="after")
    def _family_fits(self) -> DiffusersConfig:
        step = {"sd15": 8, "sdxl": 8, "zimage": 16}[self.family]
        if self.window.resolution_px % step:
            raise ValueError(f"window.resolution_px must be a multiple of {step} for {self.family}")
        if self.family == "zimage" and self.scheduler != "stored":
            raise ValueError("zimage has a scheduler of its own: leave scheduler at stored")
        return self


class AppearanceConfig(Config):
    """Sizes of the model of appearances, see `inpainter.appearance`."""

    side: int = Field(48, ge=4)
    """Cells of an appearance along one side."""
    code: int = Field(128, ge=1)
    """Numbers in a code."""
    mask_cells: int = Field(20, ge=1)
    """It sees the mask in its box, so many cells a side."""
    hidden: int = Field(512, ge=8)
    """Width of the network that draws codes."""
    layers: int = Field(5, ge=1)
    """Its residual blocks."""
    steps: int = Field(10, ge=1)
    """Steps of the solver that draws codes."""


class MemoryConfig(Config):
    """How remembered appearances come to mind, see `inpainter.memory`, and how they are kept."""

    text_numbers: int = Field(96, ge=1)
    """Numbers that a text's embedding is kept in."""
    word_scale: float = Field(0.03, gt=0)
    """Of cosine similarity below that of the likest words: an object so far off is recalled 1 / e as often."""
    proportion_scale: float = Field(0.4, gt=0)
    """Of log(width / height): a deviation."""
    shape_scale: float = Field(0.1, gt=0)
    """Of the overlap (IoU) of the shapes in their boxes: an object so much worse is recalled 1 / e as often."""
    quality: int = Field(75, ge=1, le=100)
    """Of the WebP files that pictures are kept as."""


class ExampleConfig(Config):
    """How training examples are drawn from corpus records."""

    surface_share: float = Field(0.08, ge=0, le=1)
    """Share of examples whose layer is a background surface (sky, grass)."""
    context: tuple[float, float] = (1.15, 1.9)
    """Range of the window's context."""
    shift_frac: float = 0.12
    """The window's centre moves by up to so much of the slack and of its side."""
    tile_share: float = Field(0.0, ge=0, le=1)
    """Share of the layers larger than a tile of which only a tile is shown, as large surfaces are drawn."""
    tile_px: tuple[int, int] = (160, 384)
    """Range of a tile's side in canvas pixels."""
    mirror: float = 0.5
    subset: float = Field(0.3, ge=0, le=1)
    """Share of examples whose canvas is a random subset of the layers behind instead of all of them."""
    bare: bool = False
    """The canvas behind is left white: for stages that look at nothing but the object."""
    warp: float = Field(0.5, ge=0, le=1)
    """Share whose object and mask are bent together: predicted masks have other proportions than real ones."""
    warp_px: float = 5.0
    """Largest bend in model pixels."""
    stretch: float = 0.12
    """Largest relative stretch of one axis against the other."""
    rough: float = Field(0.5, ge=0, le=1)
    """Share whose mask edge is moved off the object's by up to `rough_px`: predicted edges are never exact."""
    rough_px: float = 3.0
    label_text: float = Field(0.2, ge=0, le=1)
    """Share whose text is the bare label instead of the description."""
    drop_text: float = Field(0.1, ge=0, le=1)
    """Share without text, for classifier-free guidance."""


class VaeTraining(Config):
    """Losses and crops of the `vae` stage."""

    crop_px: int = Field(64, ge=16)
    """Side of the training crops in model pixels."""
    squared_weight: float = 1.0
    """Weight of the mean squared error beside the L1: large errors (wrong colours) go first."""
    gradient_weight: float = 0.5
    """Weight of the L1 between image gradients at two scales: sharp outlines."""
    colour_weight: float = Field(0.0, ge=0)
    """Weight of the squared error of colour differences, see `colour_distance`: hue is little of a picture's energy,
    and a young VAE leaves an axis of it out."""
    kl_weight: float = 1e-4
    perceptual_weight: float = Field(0.0, ge=0)
    """Weight of the distance of EfficientNet-Lite0 features, see `inpainter.perceptual`."""
    object_share: float = Field(0.9, ge=0, le=1)
    """Share of crops centred inside an object's box."""
    freeze_encoder: bool = False
    """Train the decoder alone: latents, and so every denoiser on them, stay as they are. Needs `initial_weights`."""
    flat_share: float = Field(0.15, gt=0, le=1)
    """Share of crops without detail that is kept."""


class AppearanceTraining(Config):
    """Data of the `appearance` stage."""

    pool: int = Field(40_000, ge=2)
    """So many distinct objects are looked at and kept in memory (2 kB each); sample n is object n % pool."""
    component_examples: int = Field(3000, ge=2)
    """Principal components are those of so many of them."""


class MemoryTraining(Config):
    """What the `memory` stage remembers."""

    appearance: str
    """Folder that the `appearance` stage exported; the memory is added to a copy of it."""
    objects: int = Field(9_000, ge=1)
    """So many objects are remembered, of at most four times as many that are looked at."""
    per_text: int = Field(16, ge=1)
    """At most so many of one description."""
    side: int = Field(64, ge=8)
    """Pictures are kept with so many pixels a side."""


class DenoiserTraining(Config):
    """Losses of the `denoiser` stage."""

    vae: str
    """Folder of the trained VAE (what the `vae` stage exported)."""
    decoder: str | None = None
    """VAE folder to ship instead of `vae`: same encoder, decoder trained further (`freeze_encoder`); None = `vae`."""
    outside_weight: float = 0.1
    """Loss weight of latents outside the dilated mask; inside it is 1."""
    perceptual_weight: float = Field(0.0, ge=0)
    """Weight of the distance of EfficientNet-Lite0 features between the decoded estimate and the decoded target, inside
    the mask, see `inpainter.perceptual`; 0 decodes nothing."""
    perceptual_share: float = Field(0.25, gt=0, le=1)
    """Share of each batch, its first samples, for which that is worked out: one costs as much as training on two."""
    timestep_power: float = Field(0.5, gt=0, le=1)
    """Timesteps are T * u ** power, u uniform; below 1 the noisy end, which decides the picture, comes more often."""
    appearance: str | None = None
    """Folder that the `appearance` stage exported, shipped with the weights; drafts of true looks are then denoised,
    too, since a drawing starts from one. None: drawings start from pure noise."""
    draft_share: float = Field(0.6, ge=0, le=1)
    """Share of the samples up to `draft_until` that start from a draft instead of from the real picture. Exact for the
    prediction "sample" alone: targets of the others are those of the real picture's path."""
    draft_until: float = Field(0.65, gt=0, le=1)
    """Share of the timesteps up to which a draft may be noised."""
    draft_blur: float = Field(0.3, ge=0)
    """Noise on the true looks' codes, in deviations: drawn ones are not exact either."""
    pool: int = Field(6000, ge=1)
    """So many distinct examples are made and kept in memory (70 kB each); sample n uses example n % pool."""


class InpainterTraining(Config):
    """Root of `configs/inpainter/*.yaml`."""

    stage: Literal["vae", "appearance", "memory", "denoiser"]
    fit: FitConfig
    vae: VaeConfig = VaeConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    noise: NoiseConfig = NoiseConfig()
    window: WindowConfig = WindowConfig()
    sampler: SamplerConfig = SamplerConfig()
    examples: ExampleConfig = ExampleConfig()
    appearance: AppearanceConfig = AppearanceConfig()
    vae_training: VaeTraining = VaeTraining()
    memory: MemoryConfig = MemoryConfig()
    appearance_training: AppearanceTraining = AppearanceTraining()
    memory_training: MemoryTraining | None = None
    denoiser_training: DenoiserTraining | None = None
    initial_weights: str | None = None
    """Folder of weights to start from instead of random ones; None starts fresh."""
