"""Configuration of the judges. Defaults live only here; `configs/judge/*.yaml` override them."""

from __future__ import annotations

from pydantic import Field

from runtime.config import Config
from runtime.training import FitConfig


class SilhouetteNetConfig(Config):
    """The convnet that tells silhouettes apart."""

    side: int = Field(64, ge=16, description="Cells of the picture along one side; divisible by 2 ** len(channels).")
    channels: tuple[int, ...] = Field((16, 32, 64, 128), description="Widths of the stride-2 convolutions.")
    blocks: tuple[int, ...] = Field((0, 0, 1, 1), description="Residual blocks after each of them.")
    hidden: int = Field(256, ge=1, description="Width of the layer before the labels.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout before and after that layer, in training.")


class AugmentConfig(Config):
    """How training silhouettes are varied, so that shape counts and not the edge of one mask generator."""

    mirror_share: float = Field(0.5, ge=0, le=1, description="Share mirrored left to right.")
    turn_deg: float = Field(5.0, ge=0, description="Turned by up to this many degrees.")
    shear: float = Field(0.08, ge=0, description="Sheared sideways by up to this share of the height.")
    stretch: float = Field(0.12, ge=0, description="Aspect ratio multiplied by exp of up to this.")
    rescale: float = Field(0.5, ge=0, description="Size on the canvas multiplied by 2 to the power of up to this.")
    cut_share: float = Field(0.12, ge=0, le=1, description="Share that a canvas edge cuts.")
    cut_frac: float = Field(0.3, ge=0, lt=1, description="It cuts off up to this share of the width or height.")
    outline_share: float = Field(0.5, ge=0, le=1, description="Share whose outline is smoothed and roughened.")
    outline_shift: float = Field(0.2, ge=0, description="Erosion or dilation: up to this, in coverage.")
    outline_noise: float = Field(0.2, ge=0, description="Deviation of the smooth noise added to the coverage.")
    facts_dropout: float = Field(0.25, ge=0, le=1, description="Share whose size on the canvas is withheld.")


class LeaveOutConfig(Config):
    """What a run that chooses the judged labels does not train on; see `perception.labels`."""

    models: float = Field(0.2, ge=0, lt=1, description="Share of each label's models (at least one), if it has three.")
    scenes: float = Field(0.1, ge=0, lt=1, description="Share of the scene groups.")


class JudgeConfig(Config):
    """Root config of the judge."""

    labels: tuple[str, ...] | None = Field(None, description="Labels it judges; null: all that training shows.")
    artists: dict[str, str] = Field(
        {}, description="Prefix of an asset source -> artist: drawings of one label by one artist are one model."
    )
    leave_out: LeaveOutConfig | None = Field(None, description="Only for the run that chooses the labels.")
    network: SilhouetteNetConfig = SilhouetteNetConfig()
    augment: AugmentConfig = AugmentConfig()
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    fit: FitConfig


class CropHeadConfig(Config):
    """The trained part of the crop judge."""

    hidden: int = Field(256, ge=1, description="Width of the layer before the labels.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Dropout before and after that layer, in training.")


class CropJudgeConfig(Config):
    """Root config of the crop judge."""

    head: CropHeadConfig = CropHeadConfig()
    fewest: int = Field(25, ge=1, description="Labels with fewer training crops are not judged.")
    most: int = Field(40, ge=1, description="So many crops of a label are used at most.")
    scenes: int | None = Field(1500, description="So many training scenes are looked at; null: all.")
    visible_frac: float = Field(0.6, ge=0, le=1, description="Objects that show less of themselves are left out.")
    context: tuple[float, float] = Field((1.0, 1.4), description="Range of a training crop's side over its box's.")
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    fit: FitConfig


class MatchTowersConfig(Config):
    """The trained part of the text-image score."""

    hidden: int = Field(192, ge=1, description="Width of the picture tower's hidden layer.")
    width: int = Field(128, ge=1, description="Of the space in which pictures and texts are compared.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Of features and of the hidden layer, in training.")


class MatchConfig(Config):
    """Root config of the text-image score."""

    towers: MatchTowersConfig = MatchTowersConfig()
    most: int = Field(60, ge=1, description="So many crops of a label are used at most.")
    scenes: int | None = Field(None, description="So many training scenes are looked at; null: all.")
    visible_frac: float = Field(0.6, ge=0, le=1, description="Objects that show less of themselves are left out.")
    context: tuple[float, float] = Field((1.0, 1.4), description="Range of a training crop's side over its box's.")
    fit: FitConfig
