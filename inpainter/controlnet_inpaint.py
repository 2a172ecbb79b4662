"""`ControlNetInpainter`: draws one object into a picture, inside its mask, in its own window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inpainter.window import crop, crop_mask, resize_image, resize_mask, stitch, window_around
from scene.errors import ModelError
from scene.geometry import Box, Size
from scene.seeds import StepSeed

if TYPE_CHECKING:
    from torch import Tensor

    from inpainter.config import SamplerConfig, WindowConfig

EmbedText = Callable[[str], "Tensor"]


class ControlNetInpainter:
    """The `Inpainter` role on a diffusers ControlNet-inpaint pipeline.

    Args:
        pipeline: a `StableDiffusionControlNetInpaintPipeline` or subclass, on CPU or GPU.
        embed: text -> (T, C) float32 tokens with the padding zeroed; "" gives the unconditional tokens.
        window: the crop that the networks were trained on.
        sampler: steps and guidance.
    """

    def __init__(
        self,
        pipeline: Any,
        embed: EmbedText,
        window: WindowConfig,
        sampler: SamplerConfig,
    ) -> None:
        self.pipeline, self.embed, self.window, self.sampler = pipeline, embed, window, sampler

    @classmethod
    def from_pretrained(cls, path: Path, sampler: SamplerConfig | None = None) -> ControlNetInpainter:
        """Loads a weight folder of ours; reads nothing else but the text encoder's package.

        Args:
            path: for example `pretrained/park/inpainter`.
            sampler: replaces the one stored with the weights.

        Raises:
            UserError: the folder is missing or broken.
        """
        from inpainter.models import load_folder
        from inpainter.pipeline import WindowPipeline
        from inpainter.text import TextTokens

        vae, unet, controlnet, scheduler, facts = load_folder(Path(path))
        sampler = sampler or facts.sampler
        pipeline = WindowPipeline(vae, unet, controlnet, scheduler)
        return cls(pipeline, TextTokens(sampler.max_tokens), facts.window, sampler)

    def render(
        self, image: np.ndarray, mask: np.ndarray, label: str, description: str, context: str, *, seed: StepSeed
    ) -> np.ndarray:
        """Draws the object into the picture.

        Args:
            image: uint8 (H, W, 3).
            mask: bool (H, W), True = draw here.
            label: category, used when there is no description.
            description: `T_obj`.
            context: caption of the scene; these weights were trained on the object's words alone and ignore it.
            seed: where in the run this is; all noise comes from it.

        Returns:
            A new uint8 (H, W, 3); identical to `image` wherever the mask is False.

        Raises:
            ModelError: the mask is empty.
            ValueError: shapes or types do not fit.
        """
        from inpainter.pipeline import draw_windows

        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image is {image.dtype} {image.shape}; need uint8 (H, W, 3)")
        if mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
            raise ValueError(f"mask is {mask.dtype} {mask.shape}; need bool {image.shape[:2]}")
        box = Box.from_mask(mask)
        if box is None:
            raise ModelError(f"the mask of {label!r} is empty; nothing can be drawn")
        window = window_around(
            box,
            Size(image.shape[1], image.shape[0]),
            context=self.window.context,
            min_side_px=self.window.min_side_px,
        )
        side = self.window.resolution_px
        drawn = draw_windows(
            self.pipeline,
            [resize_image(crop(image, window), side)],
            [resize_mask(crop_mask(mask, window), side)],
            [self.embed(description.strip() or label)],
            self.embed(""),
            [seed.derive("inpaint")],
            self.sampler,
            dilate_px=self.window.dilate_px,
        )[0]
        return stitch(image, drawn, mask, window)
