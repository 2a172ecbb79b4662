"""Root config models of the mask model's training stages: what a YAML file with `stage: ...` holds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from masker.config import (
    DenoiserConfig,
    DiffusionConfig,
    DropoutConfig,
    ExamplesConfig,
    LayoutEncoderConfig,
    MaskVAEConfig,
    MemoryConfig,
    PlacementConfig,
    PublicConfig,
    RefinerConfig,
    SamplingConfig,
    ShapePriorConfig,
    SurfaceConfig,
    TextConfig,
    TracerConfig,
    TransformerConfig,
)
from runtime.config import Config
from runtime.fit_config import FitConfig


class MaskerConfig(Config):
    """Root config of a mask model.

    Stage `silhouette` trains the shape prior alone, `codes` no more of it than what draws codes, `denoiser` everything,
    `refiner` the refiner alone; `oneshot` trains the baseline without diffusion, which draws its mask in one call of
    the network.
    """

    stage: Literal["silhouette", "codes", "denoiser", "refiner", "oneshot"] = "denoiser"
    codec: str | None = Field(
        None,
        description="Weights folder of the trained codec, or an exported masker folder; null: the VAE of `public`.",
    )
    public: PublicConfig | None = Field(None, description="Start from Stable Diffusion; null: from nothing.")
    placement: str | None = Field(None, description="Weights folder of the placement prior; null: none.")
    surface: str | None = Field(None, description="Weights folder of the surface prior; null: none.")
    memory: str | None = Field(None, description="Folder of remembered shapes; null: none.")
    tracer: str | None = Field(None, description="Folder of the scribble tracer; what `stage: tracer` exported.")
    start_from: str | list[str] | None = Field(
        None,
        description="Masker folders whose weights a new training starts from; later ones prevail. Of FOLDER#PREFIX, "
        "only weights whose names start so.",
    )
    layout_encoder: LayoutEncoderConfig = LayoutEncoderConfig()
    denoiser: DenoiserConfig = TransformerConfig()
    text: TextConfig = TextConfig()
    shape_prior: ShapePriorConfig | None = Field(ShapePriorConfig(), description="null: the model has none.")
    refiner: RefinerConfig | None = None
    diffusion: DiffusionConfig = DiffusionConfig()
    dropout: DropoutConfig = DropoutConfig()
    examples: ExamplesConfig = ExamplesConfig()
    sampling: SamplingConfig = SamplingConfig()
    fit: FitConfig

    @model_validator(mode="after")
    def _one_codec(self) -> MaskerConfig:
        if (self.codec is None) == (self.public is None):
            raise ValueError("give either codec (a folder of ours) or public (Stable Diffusion's VAE)")
        if (self.public is None) != (self.denoiser.kind != "stable_diffusion"):
            raise ValueError("denoiser kind stable_diffusion and public go together")
        if self.public is not None and (self.stage != "denoiser" or self.shape_prior or self.refiner):
            raise ValueError("with public, only stage denoiser, with shape_prior and refiner null")
        return self

    @model_validator(mode="after")
    def _silhouettes_need_a_prior(self) -> MaskerConfig:
        if self.stage in ("silhouette", "codes") and self.shape_prior is None:
            raise ValueError(f"stage {self.stage} trains the shape prior: shape_prior must not be null")
        return self


class CodecConfig(Config):
    """Root config of the codec stage (`stage: codec`)."""

    stage: Literal["codec"] = "codec"
    start_from: str | None = Field(None, description="Codec folder whose weights a new training starts from.")
    codec: MaskVAEConfig = MaskVAEConfig()
    examples: ExamplesConfig = ExamplesConfig()
    fit: FitConfig


class PlacementStageConfig(Config):
    """Root config of the placement stage (`stage: placement`)."""

    stage: Literal["placement"] = "placement"
    text: TextConfig = TextConfig()
    placement: PlacementConfig = PlacementConfig()
    examples: ExamplesConfig = ExamplesConfig()
    fit: FitConfig


class SurfaceStageConfig(Config):
    """Root config of the surface stage (`stage: surface`)."""

    stage: Literal["surface"] = "surface"
    text: TextConfig = TextConfig()
    surface: SurfaceConfig = SurfaceConfig()
    examples: ExamplesConfig = ExamplesConfig()
    box_share: float = Field(0.5, ge=0, le=1, description="Share of samples that are told the outline's box.")
    box_jitter: float = Field(0.04, ge=0, description="Deviation of its edges over the canvas's sides.")
    pool: int = Field(20000, ge=1, description="It learns on so many prepared surfaces, 5 kB each.")
    fit: FitConfig


class TracerStageConfig(Config):
    """Root config of the tracer stage (`stage: tracer`)."""

    stage: Literal["tracer"] = "tracer"
    tracer: TracerConfig = TracerConfig()
    examples: ExamplesConfig = ExamplesConfig()
    stretch: float = Field(0.25, ge=0, description="Objects are stretched by up to so much, log, along either axis.")
    pool: int = Field(12000, ge=1, description="It learns on so many prepared scribbles, 150 bytes each.")
    fit: FitConfig


class MemoryStageConfig(Config):
    """Root config of the memory stage (`stage: memory`)."""

    stage: Literal["memory"] = "memory"
    masker: str = Field(description="Exported masker folder whose codes are remembered.")
    memory: MemoryConfig = MemoryConfig()
    examples: ExamplesConfig = ExamplesConfig()
    objects: int = Field(24000, ge=1, description="So many objects are remembered, 150 bytes each.")
    seed: int = Field(0, description="Which ones.")


STAGES: dict[str, type[Config]] = {
    "codec": CodecConfig,
    "silhouette": MaskerConfig,
    "codes": MaskerConfig,
    "placement": PlacementStageConfig,
    "surface": SurfaceStageConfig,
    "tracer": TracerStageConfig,
    "memory": MemoryStageConfig,
    "denoiser": MaskerConfig,
    "refiner": MaskerConfig,
    "oneshot": MaskerConfig,
}
