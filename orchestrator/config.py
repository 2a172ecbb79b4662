"""Configuration of a composition: `configs/compose/<preset>.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from inpainter.config import DiffusersConfig
from planner.chat_config import ChatConfig
from runtime.assets import asset_dir
from runtime.config import Config, load_config, read_values
from runtime.hardware import HardwareConfig
from scene.errors import UserError
from scene.geometry import Size

DEFAULT_PRESET = "home"
MAX_PROMPT_CHARACTERS = 2000
PINS = {
    "planner.path": "planner.llava.revision",
    "planner.adapter": "planner.llava.adapter_revision",
    "inpainter.path": "inpainter.diffusers.revision",
    "inpainter.diffusers.controlnet": "inpainter.diffusers.controlnet_revision",
    "inpainter.diffusers.lora": "inpainter.diffusers.lora_revision",
    "segmenter.path": "segmenter.revision",
}
"""Which setting names public weights -> which names their revision."""


class PlannerSettings(Config):
    """Which planner."""

    path: str | None = None
    """Weight folder; None = the preset's own, `pretrained/<world>/planner`. With `llava`: hub id or folder."""
    llava: ChatConfig | None = None
    """A public LLaVA of full size, asked by a prompt; None = a planner of ours."""
    adapter: str | None = None
    """Folder that `smartscene train planner` wrote; replaces the trained parts. With `llava`: a peft LoRA."""
    use_box: bool = True
    """Guide the masker with the planner's coarse box. False: the planner decides none either, but where the prompt
    relates two things or one of the label is there (`planner.decoding.PlannerConfig.write_boxes`)."""
    max_implied: int = Field(3, ge=0)
    """How many objects the planner may add that the prompt does not name."""
    min_objects: int = Field(2, ge=0)
    """It does not stop before so many."""
    box_draws: int = Field(1, ge=1)
    """A box is the most typical of so many draws (`planner.decoding.PlannerConfig.box_draws`)."""
    keep_visible: bool = False
    """An object that would hide a smaller one goes behind it, as people draw: trees behind children."""

    @model_validator(mode="after")
    def _public_weights_are_named(self) -> PlannerSettings:
        if self.llava is not None and self.path is None:
            raise ValueError("llava needs path: a hub id or a folder of a LLaVA")
        return self


class MaskerSettings(Config):
    """Which masker."""

    path: str | None = None
    """Weight folder; None = `pretrained/<world>/masker`."""
    candidates: int = Field(4, ge=1, le=16)
    """Masks predicted per step; the best one is taken."""


class InpainterSettings(Config):
    """Which inpainter."""

    path: str | None = None
    """Weight folder; None = `pretrained/<world>/inpainter`. With `diffusers`: hub id or folder of the base weights."""
    diffusers: DiffusersConfig | None = None
    """Public weights of full size; None = an inpainter of ours."""

    @model_validator(mode="after")
    def _public_weights_are_named(self) -> InpainterSettings:
        if self.diffusers is not None and self.path is None:
            raise ValueError("diffusers needs path: a hub id or a folder of base weights")
        return self


class Needs(Config):
    """What a preset needs, for `smartscene check`: computed from parameters, not measured (docs/presets.md)."""

    gpu_gb: float = Field(0, ge=0)
    """GPU memory with everything on the GPU; 0 = none is needed."""
    offload_gpu_gb: float = Field(0, ge=0)
    """GPU memory with hardware.offload=model."""
    ram_gb: float = Field(2, ge=0)
    """Main memory, in 16 bits where a GPU is needed."""
    download_gb: float = Field(0, ge=0)
    """Size of the public weights on disk."""


class SegmenterSettings(Config):
    """Which model says what a photo shows (`smartscene insert IMAGE` without --panoptic)."""

    path: str | None = None
    """Folder, or id on a model hub, of a panoptic Mask2Former or OneFormer in the transformers format; None = none."""
    revision: str | None = None
    """Commit on the hub."""
    device: str = "cpu"
    """torch device."""
    threshold: float = Field(0.5, ge=0, le=1)
    """Regions that the model is less sure of are left out."""


class ComposeConfig(Config):
    """Root config of `generate`, `step` and `resume`."""

    preset: str
    world: str
    """Folder under `pretrained/` and file under `configs/worlds/`."""
    notice: str = ""
    """Said once per run: licence of the weights."""
    width: int = 640
    height: int = 512
    max_objects: int = Field(8, ge=1, le=64)
    """Objects besides surfaces (sky, grass); the loop stops there."""
    max_named: int = Field(0, ge=0, le=64)
    """What the prompt names may be more than `max_objects`, up to so many; 0 where `max_objects` is set by hand."""
    max_rejections: int = Field(4, ge=1, le=32)
    """Consecutive unusable answers of the models after which the run stops."""
    corrections: int = Field(2, ge=0, le=2)
    """Tries beyond the first masks to keep a relation that the prompt asks for: move the object, ask the planner."""
    style: str = Field("", max_length=200)
    """Words added to each object's description when it is drawn."""
    mode: Literal["per-object", "layout-first"] = "per-object"
    """Draw each object once its mask is there, or all of them once the layout is complete."""
    overlap: bool = False
    """Per-object: plan and mask the next object in a second thread while this one is drawn; the same results, to the
    bit. Off where it was not measured to gain time (docs/architecture.md)."""
    threads: int = Field(2, ge=1, le=64)
    """Torch threads; part of what byte-identical results depend on."""
    needs: Needs = Needs()
    """Told by `smartscene check`."""
    offline: bool = True
    """Public weights must be on this machine (a folder, or the hub's cache); False downloads what is missing."""
    hardware: HardwareConfig = HardwareConfig()
    """Where public weights run; ours always run on the CPU."""
    planner: PlannerSettings = PlannerSettings()
    masker: MaskerSettings = MaskerSettings()
    inpainter: InpainterSettings = InpainterSettings()
    segmenter: SegmenterSettings = SegmenterSettings()

    @field_validator("preset", "world")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not value.replace("-", "").replace("_", "").isalnum():
            raise ValueError("must be a plain name")
        return value

    @property
    def size(self) -> Size:
        return Size(self.width, self.height)


def presets() -> list[str]:
    """Names of all shipped presets."""
    return sorted(path.stem for path in (asset_dir("configs") / "compose").glob("*.yaml"))


def load_preset(preset: str, config: Path | None = None, overrides: Sequence[str] = ()) -> ComposeConfig:
    """Loads a preset, or a config file in its place, with overrides.

    Raises:
        UserError: unknown preset, unreadable file, wrong field, unsupported size.
    """
    if config is None:
        if preset not in presets():
            raise UserError(f"unknown preset {preset[:60]!r}; there are: {', '.join(presets())}")
        config = asset_dir("configs") / "compose" / f"{preset}.yaml"
    loaded = load_config(ComposeConfig, config, [*_loosened(config, overrides), *_bounded(overrides), *overrides])
    loaded.size.check()
    return loaded


def _bounded(overrides: Sequence[str]) -> list[str]:
    """Whoever says how many objects there may be means it, whatever the prompt names."""
    return ["max_named=0"] if "max_objects" in _named(overrides) else []


def _named(overrides: Sequence[str]) -> set[str]:
    """Which settings they change."""
    return {override.partition("=")[0].strip() for override in overrides}


def _loosened(config: Path, overrides: Sequence[str]) -> list[str]:
    """Settings that drop a preset's revision where other weights are named: they have commits of their own."""
    named = _named(overrides)
    loose = [pin for path, pin in PINS.items() if path in named and pin not in named]
    if not loose:
        return []
    values = read_values(config)

    def given(pin: str) -> bool:
        part: Any = values
        for key in pin.split("."):
            part = part.get(key) if isinstance(part, dict) else None
        return part is not None

    return [f"{pin}=null" for pin in loose if given(pin)]


def with_style(config: ComposeConfig, style: str | None) -> ComposeConfig:
    """The same settings with other style words; None = as they are.

    Raises:
        UserError: more than 200 characters.
    """
    if style is None:
        return config
    words = " ".join("".join(c if c.isprintable() else " " for c in style).split())
    if len(words) > 200:
        raise UserError(f"--style has {len(words):,} characters; say it in at most 200")
    return config.model_copy(update={"style": words})


def clean_prompt(prompt: str) -> str:
    """The prompt with single spaces.

    Raises:
        UserError: empty, or longer than 2,000 characters.
    """
    cleaned = " ".join("".join(c if c.isprintable() else " " for c in prompt).split())
    if not cleaned:
        raise UserError('the prompt is empty; say what the scene shows, like "a boy flying a kite"')
    if len(cleaned) > MAX_PROMPT_CHARACTERS:
        raise UserError(
            f"the prompt has {len(cleaned):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are allowed, shorten it"
        )
    return cleaned
