"""Panoptic segmentation of a photograph by a Mask2Former or OneFormer of transformers: what is where, as segments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from scene.errors import UserError
from scene.geometry import Size
from scene.panoptic import VOID, PanopticMap, Segment, category_named

if TYPE_CHECKING:
    import torch

LONG_SIDE_PX = 1024  # masks come out at a quarter of the model's 384 to 1024 pixels; more would only cost memory
KINDS = ("mask2former", "oneformer")


class PanopticSegmenter:
    """Says what each pixel of a picture shows.

    Args:
        model: `Mask2FormerForUniversalSegmentation` or `OneFormerForUniversalSegmentation`, in evaluation mode.
        processor: its image processor (of OneFormer: its processor, which also tokenizes the task).
        threshold: queries below this probability are left out, 0 to 1.
    """

    def __init__(self, model: Any, processor: Any, threshold: float = 0.5) -> None:
        self.model, self.processor, self.threshold = model, processor, threshold
        self.categories = {int(id): category_named(int(id), name) for id, name in model.config.id2label.items()}

    @classmethod
    def from_pretrained(cls, folder: Path, *, device: str = "cpu", threshold: float = 0.5) -> PanopticSegmenter:
        """Loads a folder in the transformers format: safetensors only, no remote code, no network.

        Args:
            folder: config.json, preprocessor_config.json, model.safetensors; of a OneFormer its tokenizer too.
            device: torch device.
            threshold: see the class.

        Raises:
            UserError: files are missing or broken, or it is another kind of model.
        """
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForUniversalSegmentation, OneFormerProcessor

        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(folder, **local)
            if config.model_type not in KINDS:
                raise UserError(f"{folder} is a {config.model_type}; need one of {', '.join(KINDS)} for panoptic maps")
            model = AutoModelForUniversalSegmentation.from_pretrained(folder, use_safetensors=True, **local)
            loader = OneFormerProcessor if config.model_type == "oneformer" else AutoImageProcessor
            processor = loader.from_pretrained(folder, **local)
        except (OSError, ValueError, ImportError) as error:
            said = " ".join(str(error).split())[:160]
            raise UserError(
                f"cannot load the segmentation model in {folder} ({said}); it needs config.json, "
                "preprocessor_config.json and model.safetensors"
            ) from None
        return cls(model.eval().to(device), processor, threshold)

    def segment(self, image: np.ndarray) -> PanopticMap:
        """The segments of a picture.

        Args:
            image: uint8 (H, W, 3) of any size; the model sees it at most 1024 pixels long.

        Returns:
            A map of the picture's size. A picture in which the model finds nothing has no segments.
        """
        import torch

        size = Size(image.shape[1], image.shape[0])
        scale = min(1.0, LONG_SIDE_PX / max(size))
        small = Size(max(1, round(size.width * scale)), max(1, round(size.height * scale)))
        shown = Image.fromarray(image).resize(small, Image.Resampling.LANCZOS)
        oneformer = self.model.config.model_type == "oneformer"
        task: dict[str, Any] = {"task_inputs": ["panoptic"]} if oneformer else {}
        inputs = self.processor(images=[shown], return_tensors="pt", **task).to(self.model.device)
        with torch.inference_mode():
            outputs = self.model(**inputs)
        post = getattr(self.processor, "image_processor", self.processor).post_process_panoptic_segmentation
        stuff = {id for id, category in self.categories.items() if not category.thing}
        # OneFormer's own scaling needs torchvision; its map comes at the model's resolution instead.
        scaled: dict[str, Any] = {} if oneformer else {"target_sizes": [small.shape]}
        found = post(outputs, threshold=self.threshold, label_ids_to_fuse=stuff, **scaled)[0]
        ids = self._ids(found["segmentation"], found["segments_info"])
        listed = tuple(
            Segment(number, self.categories[int(entry["label_id"])])
            for number, entry in enumerate(found["segments_info"], start=1)
            if (ids == number).any()
        )
        return _same_size(PanopticMap(ids, listed), size)

    def _ids(self, segmentation: torch.Tensor, listed: list[dict[str, Any]]) -> np.ndarray:
        """Ids 1, 2, ... int32 (H, W) in the order of the list; the models' own start at 0 or 1, depending on kind."""
        raw = segmentation.cpu().numpy().astype(np.int32)
        ids = np.full(raw.shape, VOID, dtype=np.int32)
        for number, entry in enumerate(listed, start=1):
            ids[raw == int(entry["id"])] = number
        return ids


def _same_size(found: PanopticMap, size: Size) -> PanopticMap:
    """The map at the picture's size; rounding may have changed the proportions a little, which is no matter here."""
    if found.size == size:
        return found
    ids = np.asarray(Image.fromarray(found.ids).resize(size, Image.Resampling.NEAREST))
    return PanopticMap(ids, found.segments)
