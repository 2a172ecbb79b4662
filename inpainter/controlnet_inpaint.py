"""`ControlNetInpainter`: draws one object into a picture, inside its mask, in its own window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inpainter.tiles import blend, tiles
from inpainter.window import Window, crop, crop_mask, cut_out, place, resize_image, resize_mask, window_around
from scene.errors import ModelError, UserError
from scene.geometry import Box, Size
from scene.layers import composite
from scene.seeds import StepSeed

if TYPE_CHECKING:
    from inpainter.appearance import Appearance
    from inpainter.config import SamplerConfig, WindowConfig
    from inpainter.pipeline import Paint

EmbedText = Callable[[str], Any]
"""Words -> what the pipeline's family takes for text: (T, C) tokens, or a tuple of tensors."""
BEYOND_PX = 32  # canvas pixels; a multiple of 16
TILE_BATCH = 4  # a large surface has at least four tiles, so hardly any row of the fixed batch is padding


@dataclass(frozen=True, eq=False)
class Drawing:
    """An object to draw.

    Attributes:
        image: uint8 (H, W, 3), the picture beneath it.
        mask: bool (H, W), its amodal mask, True = draw here.
        label: category, drawn when there is no description.
        description: `T_obj`.
        seed: all noise comes from it.
    """

    image: np.ndarray
    mask: np.ndarray
    label: str
    description: str
    seed: StepSeed

    @property
    def words(self) -> str:
        """What the model is told."""
        return self.description.strip() or self.label

    def check(self) -> None:
        """Raises ModelError for an empty mask and ValueError for shapes or types that do not fit."""
        image, mask = self.image, self.mask
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image is {image.dtype} {image.shape}; need uint8 (H, W, 3)")
        if mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
            raise ValueError(f"mask is {mask.dtype} {mask.shape}; need bool {image.shape[:2]}")
        if not mask.any():
            raise ModelError(f"the mask of {self.label!r} is empty; nothing can be drawn")


class ControlNetInpainter:
    """The `Inpainter` role on a diffusers ControlNet-inpaint pipeline.

    Args:
        pipeline: a diffusers ControlNet-inpaint pipeline, on CPU or GPU.
        embed: words -> text as the pipeline takes it; "" gives the unconditional text.
        window: the crop that the networks were trained on.
        sampler: steps and guidance.
        appearance: draws what objects start from; None: pure noise.
        paint: how that family of pipelines is called; None: as Stable Diffusion's.
    """

    def __init__(
        self,
        pipeline: Any,
        embed: EmbedText,
        window: WindowConfig,
        sampler: SamplerConfig,
        appearance: Appearance | None = None,
        paint: Paint | None = None,
    ) -> None:
        self.appearance, self.paint = appearance, paint
        self.pipeline, self.embed, self.window_config, self.sampler = pipeline, embed, window, sampler
        self._known: dict[str, Any] = {}

    @classmethod
    def from_pretrained(cls, path: Path, sampler: SamplerConfig | None = None) -> ControlNetInpainter:
        """Loads a weight folder of ours; reads nothing else but the text encoder's package.

        Args:
            path: for example `pretrained/park/inpainter`.
            sampler: replaces the one stored with the weights.

        Raises:
            UserError: the folder is missing or broken, or its ControlNet sees more than picture and mask.
        """
        from inpainter.models import CONTROL_CHANNELS, load_folder
        from inpainter.pipeline import WindowPipeline
        from inpainter.text import TextTokens

        folder = load_folder(Path(path))
        if folder.controlnet.config.conditioning_channels != CONTROL_CHANNELS["mask"]:
            raise UserError(
                f"the ControlNet in {path} also wants the scene's layout, which nothing gives it when drawing; "
                "train with denoiser.control_inputs=mask"
            )
        sampler = sampler or folder.facts.sampler
        pipeline = WindowPipeline(folder.vae, folder.unet, folder.controlnet, folder.scheduler)
        embed = TextTokens(sampler.max_tokens)
        return cls(pipeline, embed, folder.facts.window, sampler, folder.appearance)

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
        return composite(image, self.draw([Drawing(image, mask, label, description, seed)])[0])

    def window(self, mask: np.ndarray) -> Window:
        """The window in which an object with this mask (bool (H, W), not empty) is drawn."""
        box = Box.from_mask(mask)
        if box is None:
            raise ValueError("an empty mask has no window")
        config = self.window_config
        return window_around(
            box, Size(mask.shape[1], mask.shape[0]), context=config.context, min_side_px=config.min_side_px
        )

    def sees(self, mask: np.ndarray) -> Box:
        """The part of the canvas that a drawing with this mask depends on; tiles may reach over the whole canvas."""
        size = Size(mask.shape[1], mask.shape[0])
        window = self.window(mask)
        return Box(0, 0, *size) if self._is_tiled(window) else window.box.clip(size)

    def _is_tiled(self, window: Window) -> bool:
        return self.window_config.tile_px is not None and window.side >= self.window_config.tile_above_px

    def draw(self, drawings: Sequence[Drawing]) -> list[np.ndarray]:
        """Draws objects as whole layers; none sees another, and none depends on what is drawn beside it.

        Returns:
            uint8 (H, W, 4) each: zero outside its mask, feathered inwards unless it is drawn in tiles, hidden parts
            included.

        Raises:
            ModelError: a mask is empty.
            ValueError: shapes or types do not fit.
        """
        for drawing in drawings:
            drawing.check()
        windows = [self.window(drawing.mask) for drawing in drawings]
        alone = [number for number, window in enumerate(windows) if not self._is_tiled(window)]
        small = self._windows(
            [drawings[number] for number in alone], [windows[number] for number in alone], "inpaint", self.sampler.batch
        )
        pictures = dict(zip(alone, small, strict=True))
        layers = []
        for number, (drawing, window) in enumerate(zip(drawings, windows, strict=True)):
            if number in pictures:
                fringe_px = self.window_config.fringe * window.side / self.window_config.resolution_px
                feather_px = self.window_config.feather_px
                layers.append(cut_out(pictures[number], drawing.mask, feather_px, fringe_px))
            else:
                layers.append(self._large(drawing))
        return layers

    def _large(self, drawing: Drawing) -> np.ndarray:
        """A large object or surface as a layer, uint8 (H, W, 4): drawn as a whole, then refined in tiles.

        It is drawn on a canvas that goes on beyond its edges, as the surface does: where a picture ends, models draw a
        rim. Its own edge is not feathered, since surfaces meet, and two soft edges would show what lies behind both.
        """
        config = self.window_config
        assert config.tile_px is not None
        beyond = ((BEYOND_PX, BEYOND_PX), (BEYOND_PX, BEYOND_PX))
        framed = replace(
            drawing,
            image=np.pad(drawing.image, (*beyond, (0, 0)), mode="edge"),
            mask=np.pad(drawing.mask, beyond, mode="edge"),
        )
        calm = self.appearance is not None and self.appearance.memory is None
        whole = self._windows([framed], [self.window(framed.mask)], "inpaint", self.sampler.batch, calm=calm)[0]
        inside, steps = slice(BEYOND_PX, -BEYOND_PX), self.sampler.tile_steps
        picture = self._tiled(framed, whole, config.tile_px, "tile", steps) if steps else whole
        picture = picture[inside, inside]
        return cut_out(picture, drawing.mask, 0.0, config.fringe * config.tile_px / config.resolution_px)

    def _windows(
        self,
        drawings: Sequence[Drawing],
        windows: Sequence[Window],
        purpose: str,
        batch: int,
        start: np.ndarray | None = None,
        last_steps: int | None = None,
        calm: bool = False,
    ) -> list[np.ndarray]:
        """One canvas-sized picture (H, W, 3) per drawing, filled in its window; `start` (H, W, 3) is refined; `calm`
        drafts show the mean appearance."""
        from inpainter.pipeline import draw_windows, paint_stable_diffusion

        side = self.window_config.resolution_px
        drawn = draw_windows(
            self.pipeline,
            [resize_image(crop(d.image, w), side) for d, w in zip(drawings, windows, strict=True)],
            [resize_mask(crop(d.mask, w), side) for d, w in zip(drawings, windows, strict=True)],
            [self._tokens(drawing.words) for drawing in drawings],
            self._tokens(self.sampler.negative),
            [
                d.seed.derive(purpose) if start is None else d.seed.derive(purpose, *w)
                for d, w in zip(drawings, windows, strict=True)
            ],
            self.sampler.model_copy(update={"draft_temperature": 0.0}) if calm else self.sampler,
            dilate_px=self.window_config.dilate_px,
            batch=batch,
            appearance=self.appearance,
            starts=None if start is None else [resize_image(crop(start, w), side) for w in windows],
            last_steps=last_steps,
            paint=self.paint or paint_stable_diffusion,
        )
        return [place(p, w, Size(*d.image.shape[1::-1])) for p, w, d in zip(drawn, windows, drawings, strict=True)]

    def refine(self, drawing: Drawing) -> np.ndarray:
        """Repaints a mask with the sampler's last step, starting from what the picture shows there.

        Drawn in tiles of one canvas pixel to each of the model's, so that nothing is blurred.

        Returns:
            uint8 (H, W, 4): zero outside the mask.

        Raises:
            ModelError: the mask is empty.
            ValueError: shapes or types do not fit.
        """
        drawing.check()
        picture = self._tiled(drawing, drawing.image, self.window_config.resolution_px, "refine", 1)
        return cut_out(picture, drawing.mask)

    def _tiled(self, drawing: Drawing, start: np.ndarray, side_px: int, purpose: str, last_steps: int) -> np.ndarray:
        """Refines what `start` (H, W, 3) shows in the mask, in overlapping tiles; starting alike, they agree.

        Returns:
            uint8 (H, W, 3).
        """
        box = Box.from_mask(drawing.mask)
        assert box is not None
        windows = [w for w in tiles(box, Size(*start.shape[1::-1]), side_px) if crop_mask(drawing.mask, w).any()]
        shown = np.where(drawing.mask[..., None], start, drawing.image)
        pictures = self._windows([drawing] * len(windows), windows, purpose, TILE_BATCH, shown, last_steps)
        return blend(pictures, windows)

    def _tokens(self, words: str) -> Any:
        if words not in self._known:
            self._known[words] = self.embed(words)
        return self._known[words]
