"""How an object of a text looks, roughly: a draft inside its mask, drawn from a short code or recalled.

A denoiser of latents learns colours within minutes and insides not for days: after 38 k samples a washing machine was a
white cloud (docs/experiments/inpainter.md). An appearance is the object's picture stretched to a square, its colours
run on smoothly beyond the outline; 128 principal components show a door, a face, the slats of a screen. A code
(`perception.codes`) is drawn from the words and the mask's shape within milliseconds, and the denoiser starts from the
draft, noised half-way (SDEdit, Meng et al., arXiv 2108.01073), instead of from pure noise.

Source: ours. Letters: R = window side, S = side of the square, T tokens of width C.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor

from inpainter.config import AppearanceConfig
from inpainter.memory import AppearanceMemory, load_memory
from inpainter.window import resize_image
from perception.codes import CodeModel
from runtime.seeding import torch_generator
from runtime.weights import load_weights, save_weights
from scene.errors import UserError
from scene.geometry import Box

TEXT_GAIN = 8.0  # a text's summary has unit length; this brings its numbers near the others' size
FILL_SIGMAS = (1.0, 3.0, 9.0)  # cells over which colours run on beyond the outline, nearest first; then their mean
KNOWN_FROM = 0.1  # share of a cell that has to lie inside the mask


class Appearance(CodeModel):
    """Codes of appearances: read off pictures, or drawn from words and masks.

    Args:
        config: sizes.
        text_channels: C.

    Attributes:
        memory: what drafts are recalled from; None: they are drawn.
    """

    memory: AppearanceMemory | None = None

    def __init__(self, config: AppearanceConfig, text_channels: int) -> None:
        known = text_channels + config.mask_cells**2 + 1
        sizes = {"hidden": config.hidden, "layers": config.layers, "steps": config.steps}
        super().__init__(3 * config.side**2, config.code, known, **sizes)
        self.config, self.text_channels = config, text_channels

    def known(self, tokens: Tensor, masks: Sequence[np.ndarray]) -> Tensor:
        """What codes are drawn from, (B, F).

        Args:
            tokens: (B, T, C), padding zeroed.
            masks: bool (R, R) each, not empty.
        """
        shapes = torch.stack([torch.from_numpy(shape_in_box(mask, self.config.mask_cells)) for mask in masks])
        boxes = [box_of(mask) for mask in masks]
        proportions = torch.tensor([[box.width / box.height] for box in boxes]).log()
        text = TEXT_GAIN * F.normalize(tokens.sum(1), dim=1)
        return torch.cat([text, 2 * shapes.flatten(1) - 1, proportions], dim=1)

    def examples(self, pictures: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> Tensor:
        """Pictures uint8 (R, R, 3) of objects inside masks, bool (R, R), as codes are read off them: (B, S, S, 3)."""
        side = self.config.side
        return torch.stack(
            [torch.from_numpy(stretched(p, m, side)) for p, m in zip(pictures, masks, strict=True)]
        )  # fmt: skip

    def paint(self, code: Tensor, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The draft that a code (C,) stands for, inside a mask.

        Args:
            code: (C,).
            image: uint8 (R, R, 3), the canvas in the window.
            mask: bool (R, R), not empty.

        Returns:
            uint8 (R, R, 3): `image` outside the mask.
        """
        side = self.config.side
        colours = self.stand_for(code[None]).view(side, side, 3).clamp(0, 1).cpu().numpy()
        return _laid_into(mask, (colours * 255 + 0.5).astype(np.uint8), image)

    @torch.no_grad()
    def draft(
        self, image: np.ndarray, mask: np.ndarray, tokens: Tensor, *, seed: int, temperature: float
    ) -> np.ndarray:
        """Draws an appearance into a window, or recalls one; always alone, so that it depends on no other.

        Args:
            image: uint8 (R, R, 3), the canvas in the window.
            mask: bool (R, R); an empty one gets nothing.
            tokens: (T, C), padding zeroed.
            seed: of its noise, or of what is recalled.
            temperature: how much of the noise; less is plainer and safer, and 0 the mean of what fits: nothing is
                recalled then.

        Returns:
            uint8 (R, R, 3): `image` outside the mask.
        """
        if not mask.any():
            return image.copy()
        if self.memory is not None and temperature > 0:
            box, chance = box_of(mask), float(np.random.default_rng(seed).random())
            shape, proportion = shape_in_box(mask, self.config.mask_cells), math.log(box.width / box.height)
            recalled = self.memory.recall(tokens, shape, proportion, chance=chance, temperature=temperature)
            return _laid_into(mask, recalled, image)
        noise = temperature * torch.randn(1, self.code_width, generator=torch_generator(seed))
        return self.paint(self.draw(noise, self.known(tokens[None], [mask]))[0], image, mask)


def _laid_into(mask: np.ndarray, square: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A square picture stretched over a mask's box; uint8 (R, R, 3), `image` outside the mask."""
    box, draft = box_of(mask), image.copy()
    draft[box.y0 : box.y1, box.x0 : box.x1] = resize_image(square, box.width, box.height)
    return np.where(mask[..., None], draft, image)


def box_of(mask: np.ndarray) -> Box:
    """The box of a mask that is not empty."""
    box = Box.from_mask(mask)
    if box is None:
        raise ValueError("an empty mask has no appearance")
    return box


def shape_in_box(mask: np.ndarray, cells: int) -> np.ndarray:
    """How full each cell of a mask's box is, float32 (cells, cells) in [0, 1]."""
    box = box_of(mask)
    inside = mask[box.y0 : box.y1, box.x0 : box.x1].astype(np.uint8) * 255
    return resize_image(inside, cells).astype(np.float32) / 255


def stretched(picture: np.ndarray, mask: np.ndarray, side: int) -> np.ndarray:
    """What lies inside a mask, its box stretched to a square and its colours run on over the rest.

    Args:
        picture: uint8 (R, R, 3).
        mask: bool (R, R), not empty.
        side: S.

    Returns:
        float32 (S, S, 3) in [0, 1].
    """
    box = box_of(mask)
    part = (slice(box.y0, box.y1), slice(box.x0, box.x1))
    weight = mask[part].astype(np.float32)
    paint = picture[part].astype(np.float32) / 255 * weight[..., None]
    planes: list[np.ndarray] = [weight, *(paint[..., channel] for channel in range(3))]
    seen, *colours = (
        np.asarray(Image.fromarray(plane).resize((side, side), Image.Resampling.BILINEAR)) for plane in planes
    )  # Pillow widens the filter when it shrinks
    known = seen >= min(KNOWN_FROM, float(seen.max()))
    return run_on(np.stack(colours, axis=-1) / np.maximum(seen, 1e-3)[..., None], known)


def run_on(colours: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fills unknown cells with smooth continuations of the known ones.

    Args:
        colours: float32 (S, S, 3), anything where unknown.
        known: bool (S, S), somewhere True.

    Returns:
        float32 (S, S, 3), equal to `colours` where known.
    """
    filled, have = np.where(known[..., None], colours, 0).astype(np.float32), known.astype(np.float32)
    for sigma in FILL_SIGMAS:
        spread = ndimage.gaussian_filter(filled * have[..., None], (sigma, sigma, 0))
        weight = ndimage.gaussian_filter(have, sigma)
        new = (have == 0) & (weight > 1e-3)
        filled[new] = spread[new] / weight[new][:, None]
        have[new] = 1
    filled[have == 0] = colours[known].mean(axis=0)
    return filled


def save_appearance(model: Appearance, folder: Path) -> None:
    """Writes `config.json` and `appearance.safetensors` (fp16), and the memory if there is one."""
    save_weights(model, folder / "appearance.safetensors")
    facts = {"text_channels": model.text_channels, **model.config.model_dump()}
    (folder / "config.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    if model.memory is not None:
        model.memory.save(folder)


def load_appearance(folder: Path) -> Appearance:
    """Reads what `save_appearance` wrote, frozen and in evaluation mode.

    Raises:
        UserError: missing or broken.
    """
    try:
        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        text_channels = int(facts.pop("text_channels"))
        model = Appearance(AppearanceConfig.model_validate(facts), text_channels)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot read {folder / 'config.json'} ({reason[:80]}); train stage appearance") from None
    load_weights(model, folder / "appearance.safetensors")
    model.memory = load_memory(folder)
    return model.eval().requires_grad_(False)
