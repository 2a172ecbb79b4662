"""Configuration of the mask model's parts; the root models of the training stages are in `masker.stage_config`.

Defaults live only here; `configs/masker/*.yaml` override them. The resolved config is saved in the run
folder and, for inference, inside the exported weights folder.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from masker.guides import GuideForm
from runtime.config import Config


class MaskVAEConfig(Config):
    """The mask codec and the loss it is trained with."""

    resolution: int = Field(64, description="Cells along one side of a view.")
    latent_channels: int = Field(16, description="Channels of the latents.")
    channels: tuple[int, ...] = Field((32, 64, 128), description="Widths from half resolution down to the latents.")
    encoder_blocks: int = Field(1, description="Residual blocks per level of the encoder.")
    decoder_blocks: int = Field(2, description="Residual blocks per level of the decoder.")
    kl_weight: float = Field(1e-3, description="Weight of the KL term against the cross entropy per cell.")
    dice_weight: float = Field(0.2, description="Weight of the soft Dice term.")
    boundary_weight: float = Field(2.0, description="Added weight of cells at the object's boundary.")
    noise_floor: float = Field(0.1, description="Standard deviation added to the latents in training.")

    @property
    def latent_size(self) -> int:
        """Latent cells along one side."""
        return self.resolution // 2 ** len(self.channels)


class LayoutEncoderConfig(Config):
    """The trainable layout encoder `E_phi`."""

    labels: Literal["text", "palette"] = Field(
        "text",
        description="What S is painted with: learned projections of the labels' text embeddings, or fixed RGB colours, "
        "which a guide whitens as in the paper.",
    )
    painted_channels: int = Field(16, description="Channels of S painted with text embeddings, after the sigmoid.")
    widths: tuple[int, ...] = Field((32, 48, 64), description="Widths of the stride-2 convolutions.")
    alpha: float = Field(0.7, gt=0, le=1, description="Strength of the guidance in Eq. 5 [paper].")

    @property
    def layout_channels(self) -> int:
        """Channels of S, the guide's coordinate included."""
        return 1 + (3 if self.labels == "palette" else self.painted_channels)


class TransformerConfig(Config):
    """`PixArtTransformer2DModel`: learns from fewer samples; the small models use it."""

    kind: Literal["transformer"] = "transformer"
    width: int = Field(256, description="Token width; a multiple of `head_width`.")
    head_width: int = Field(64, description="Channels of one attention head.")
    layers: int = Field(8, description="Transformer blocks.")
    patch: int = Field(1, description="Latent cells per token and axis.")


class UNetConfig(Config):
    """`UNet2DConditionModel`: for full size, so that Stable Diffusion weights can be the starting point."""

    kind: Literal["unet"] = "unet"
    channels: tuple[int, ...] = Field((128, 256), description="Widths, latent resolution downwards.")
    blocks: int = Field(2, description="Residual blocks per level.")
    head_width: int = Field(32, description="Channels of one attention head.")
    groups: int = Field(32, description="Groups of the normalisation; divides every width.")


class StableDiffusionConfig(Config):
    """The U-Net of Stable Diffusion 1.x, its first convolution widened, see `masker.stable_diffusion`."""

    kind: Literal["stable_diffusion"] = "stable_diffusion"
    unet: dict[str, Any] = Field({}, description="The U-Net's own config; read off `public` when a training starts.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations backwards: less memory, slower.")


DenoiserConfig = Annotated[TransformerConfig | UNetConfig | StableDiffusionConfig, Field(discriminator="kind")]


class PublicConfig(Config):
    """Public weights that a mask model of full size starts from: VAE (the codec), U-Net and CLIP text encoder."""

    path: str = Field(description="Hub id, or a folder in the layout of Stable Diffusion 1.5.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    offline: bool = Field(True, description="Weights must be on this machine; false downloads what is missing.")
    resolution: int = Field(512, ge=64, multiple_of=64, description="Cells of a view = pixels that the VAE sees.")


class TextConfig(Config):
    """How much text the denoiser attends to."""

    width: int = Field(384, description="Width of the text encoder's tokens.")
    object_tokens: int = Field(12, description="T_obj: tokens, start and end included; longer text is cut.")
    summary_channels: int = Field(
        32, description="Channels that carry the mean of T_obj's tokens to every latent cell."
    )
    context_tokens: int = Field(24, description="T_context: tokens, start and end included; longer text is cut.")


class ShapePriorConfig(Config):
    """The silhouette that a text draws, see `masker.shape_prior`."""

    side: int = Field(32, ge=2, description="Cells of the silhouette's map along one side.")
    hidden: int = Field(384, ge=1, description="Width of the layers between text and map.")
    layers: int = Field(1, ge=1, description="How many such layers.")
    place: bool = Field(False, description="It also sees where on the canvas the guide is, and how large.")
    layout_cells: int = Field(0, ge=0, description="It also sees the layout averaged over so many cells a side.")
    reach: float = Field(1.4, gt=0, description="The map covers so many half-sides of the guide, from its centre.")
    loss_weight: float = Field(
        0.5, ge=0, description="Weight of the silhouette's loss; 0: it stays as it is, with all that it reads."
    )
    code: int = Field(0, ge=0, description="Numbers in a shape's code, see `masker.shape_code`; 0: the mean shape.")
    code_hidden: int = Field(512, ge=1, description="Width of the networks that read and draw codes.")
    code_layers: int = Field(4, ge=1, description="Residual blocks of the network that draws codes.")
    code_steps: int = Field(8, ge=1, description="Steps of the solver that draws codes.")
    code_pool: int = Field(60000, ge=1, description="Stage codes learns on so many prepared objects, 3 kB each.")
    code_masks: int = Field(4000, ge=2, description="Principal components are those of so many training masks.")
    guide_cells: int = Field(24, ge=2, description="Codes see the guide in its own frame, so many cells a side.")


class RefinerConfig(Config):
    """The refiner, which draws the mask in cells finer than the codec's, see `masker.refiner`."""

    levels: int = Field(2, ge=1, le=2, description="1: cells of half the size; 2: then halved again, tile by tile.")
    fold: int = Field(4, ge=1, description="Fine cells folded into channels, per axis, before the first convolution.")
    widths: tuple[int, ...] = Field((48, 96, 128), description="Widths, from the folded resolution downwards.")
    blocks: int = Field(2, ge=1, description="Residual blocks per level, on the way down and on the way up.")
    loss_weight: float = Field(2.0, ge=0, description="Weight of the refined mask's loss; 0: it is not trained here.")
    learns_on: Literal["denoiser", "silhouette"] = Field(
        "denoiser",
        description="Stage refiner learns on the denoiser's estimates, or on what the shape prior draws.",
    )


class PlacementConfig(Config):
    """The placement prior: where an object goes and how large it is, see `masker.placement`."""

    resolution: int = Field(64, description="Cells along one side of the canvas view; places are drawn on them.")
    painted_channels: int = Field(16, description="Channels of the painted layout.")
    fold: int = Field(4, ge=1, description="Cells folded into channels, per axis, before the first convolution.")
    widths: tuple[int, ...] = Field((64, 128), description="Widths, from the folded resolution downwards.")
    text_width: int = Field(256, description="Width of the texts' summary that modulates every block.")
    size_bins: int = Field(32, ge=2, description="Bins of log height and of log width.")
    smallest: float = Field(2**-7, gt=0, description="Side of the first size bin's centre over the view's side.")


class SurfaceConfig(Config):
    """The surface prior: outlines of walls, floors and skies, see `masker.surfaces`."""

    columns: int = Field(33, ge=2, description="Columns of the canvas at which an outline has its two heights.")
    code: int = Field(16, ge=1, description="Numbers in an outline's code.")
    hidden: int = Field(192, ge=1, description="Width of the network that draws codes.")
    layers: int = Field(3, ge=1, description="Its residual blocks.")
    steps: int = Field(8, ge=1, description="Steps of its solver.")
    text_channels: int = Field(96, ge=1, description="Numbers that each text is summed up in.")
    painted_channels: int = Field(16, ge=1, description="Channels of the painted layout.")
    layout_cells: int = Field(4, ge=1, description="The layout is seen averaged over so many cells a side.")


class MemoryConfig(Config):
    """How remembered shapes come to mind, see `masker.memory`: deviations at which an object is half forgotten."""

    side: int = Field(96, ge=8, description="Cells along one side of a remembered silhouette.")
    text_numbers: int = Field(96, ge=1, description="Numbers that a text's embedding is kept in.")
    word_scale: float = Field(0.06, gt=0, description="Of cosine similarity below that of the likest words.")
    proportion_scale: float = Field(0.1, gt=0, description="Of log(width / height).")
    place_scale: float = Field(0.4, gt=0, description="Of the place on the canvas, which runs from -1 to 1.")
    size_scale: float = Field(1.0, gt=0, description="Of log2(view's share of the canvas).")
    label_cost: float = Field(6.0, ge=0, description="Of another label than the one asked for, nats.")
    cut_cost: float = Field(6.0, ge=0, description="Of every canvas edge that cuts it and not the one asked for.")
    whole_cost: float = Field(1.0, ge=0, description="Of every canvas edge that cuts the one asked for and not it.")
    aspect: float = Field(1.25, gt=0, description="Width over height of the canvases that shapes are remembered from.")


class TracerConfig(Config):
    """The network that reads off a scribble how thickly it was drawn, see `masker.tracer`."""

    cells: int = Field(128, ge=16, description="Along one side of its view.")
    window: float = Field(1.15, gt=1, description="Side of the view over the longer side of the scribble.")
    hidden: int = Field(64, ge=1, description="Width of the two hidden layers.")
    dropout: float = Field(0.1, ge=0, lt=1)


class DiffusionConfig(Config):
    """The noise process of training."""

    train_timesteps: int = 1000
    beta_schedule: Literal["squaredcos_cap_v2", "scaled_linear", "linear"] = "squaredcos_cap_v2"
    beta_range: tuple[float, float] = Field(
        (0.0001, 0.02), description="First and last beta of the linear schedules; Stable Diffusion has 0.00085, 0.012."
    )
    prediction: Literal["v_prediction", "sample", "epsilon"] = Field(
        "v_prediction", description="What the network outputs: v, the clean latents or the noise."
    )
    timestep_power: float = Field(1.0, gt=0, description="t = T u ** power, u uniform; below 1: more high noise.")
    snr_gamma: float | None = Field(None, description="Min-SNR loss weighting (5 is usual); null: uniform in v.")
    latent_loss_weight: float = Field(1.0, ge=0, description="Weight of the squared error in latents.")
    mask_loss_weight: float = Field(0.0, description="Weight of the mask loss on the decoded estimate of x0.")


class DropoutConfig(Config):
    """Condition dropout, so that guidance has unconditional branches. Shares of samples, 0 to 1."""

    layout: float = Field(0.1, description="E_phi(S) alone is dropped.")
    object: float = Field(0.1, description="T_obj alone is dropped.")
    context: float = Field(0.15, description="T_context alone is dropped.")
    all: float = Field(0.05, description="All three are dropped together.")


class ExamplesConfig(Config):
    """How training examples are drawn from a corpus."""

    form_shares: dict[GuideForm, float] = Field(
        {"none": 0.25, "box": 0.25, "blob": 0.25, "scribble": 0.25}, description="Forms of guidance, weights."
    )
    canvas_share: float = Field(0.1, ge=0, le=1, description="Share of guided samples seen on the whole canvas.")
    window: dict[Literal["box", "blob", "scribble"], float] = Field(
        {"box": 1.5, "blob": 2.0, "scribble": 1.4},
        description="Side of the window over the guide's longer side, in training and in use: guides frame their "
        "window, so that an object always fills about the same part of it.",
    )
    window_jitter: float = Field(0.06, ge=0, lt=1, description="Training windows differ from that by up to this.")
    corpus_shares: dict[str, float] = Field({}, description="Weight of each corpus, by name; 1 where not given.")
    shard_lanes: int = Field(
        8,
        ge=1,
        description="Corpora in shards: so many shards are open at a time. A multiple of the number of processes.",
    )
    shard_samples: int = Field(
        4096, ge=1, description="Corpora in shards: so many samples are taken from a shard before the next is opened."
    )
    amodal: bool = Field(
        True, description="The target is the whole object; false: only what the layers in front of it leave visible."
    )
    order: Literal["recorded", "random", "front_to_back"] = Field(
        "recorded",
        description="Which movable layers count as placed before the object: those behind it, a random set, or those "
        "in front of it. Surfaces always come first, and nearer layers always hide farther ones.",
    )
    complete_share: float = Field(0.0, description="Share whose layout holds later layers too, if none hides it.")
    surface_share: float = Field(0.06, description="Share of samples whose object is a surface (sky, grass).")
    mirror: bool = Field(True, description="Mirror half of the samples left to right.")
    subset_share: float = Field(0.3, description="Share whose earlier layers are a random subset.")
    shuffle_share: float = Field(0.15, description="Share whose earlier movable layers are shuffled.")
    label_only_share: float = Field(0.3, description="Share whose T_obj is the bare label.")
    prompts_per_scene: int = Field(
        1, ge=1, description="T_context variants per scene; each new text costs an encoding."
    )
    box_jitter: float = Field(0.10, description="Box edges move by up to this share of the side.")
    blob_sigma: tuple[float, float] = Field((0.25, 0.5), description="Blob sigma over the box side.")
    blob_jitter: float = Field(0.10, description="Blob centre moves by up to this share of the box side.")
    scribble_radius: tuple[float, float] = Field((0.03, 0.15), description="Dilation over sqrt(area).")
    scribble_noise: float = Field(0.04, description="Amplitude of the elastic noise over sqrt(area).")


class GuidanceWeights(Config):
    """Classifier-free guidance weights; chained or joint, 1 everywhere is the plain conditional model."""

    layout: float = 1.0
    object: float = 1.0
    context: float = 1.0


class SamplingConfig(Config):
    """Sampling and readout."""

    solver_steps: int = Field(6, ge=1, description="Steps of DPM-Solver++.")
    temperature: float = Field(0.4, ge=0, le=1, description="Scale of the first noise, guided and zoom passes.")
    free_temperature: float = Field(1.0, ge=0, le=1, description="The same for mask-free first passes.")
    composition: Literal["chained", "one_text", "joint"] = Field(
        "chained",
        description="How the weights compose: each condition on top of the one before, each text alone on top of the "
        "layout, or one weight for all three. See `masker.diffusion.guidance_branches`.",
    )
    weights: GuidanceWeights = Field(default=GuidanceWeights(), description="With a box, blob or scribble.")
    free_weights: GuidanceWeights = Field(default=GuidanceWeights(), description="Mask-free.")
    refine: Literal["none", "free", "all"] = Field("free", description="Which predictions get the zoom pass.")
    refine_dilation: float = Field(0.06, description="First mask as scribble: dilation over sqrt(area).")
    threshold: float = Field(0.5, description="Soft mask above this is the object.")
    code_temperature: float = Field(
        1.0, ge=0, le=1, description="Scale of the noise that shapes' codes are drawn from."
    )
    likeliest_first: bool = Field(True, description="Guided: the first candidate's code is drawn from no noise at all.")
    code_draws: int = Field(
        1, ge=1, description="Guided: so many shapes are drawn, and the one most like the others is taken."
    )
    recalled: int = Field(
        300,
        ge=1,
        description="Guided: of so many remembered shapes the first candidate shows the one that overlaps most with "
        "what is likely; all others show what comes to mind first.",
    )
    placement_top_p: float = Field(0.9, gt=0, le=1, description="Mask-free places and sizes: the likeliest so much.")
    speck_share: float = Field(0.02, description="Components below this share of the largest are dropped.")
    attempts: int = Field(3, ge=1, description="Draws per candidate before an empty mask is an error.")

    @model_validator(mode="after")
    def _one_weight_if_joint(self) -> SamplingConfig:
        for weights in (self.weights, self.free_weights):
            if self.composition == "joint" and not weights.layout == weights.object == weights.context:
                raise ValueError("composition joint has one weight: set layout, object and context to the same number")
        return self
