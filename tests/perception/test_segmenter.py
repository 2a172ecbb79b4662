"""Panoptic segmentation through the real `from_pretrained`, on tiny random checkpoints in the public folder layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perception.segmenter import PanopticSegmenter
from scene.errors import UserError
from scene.geometry import Size
from scene.panoptic import category_named
from tests.perception.tiny_segmenters import NAMES, save_mask2former, save_oneformer


@pytest.mark.parametrize("save", [save_mask2former, save_oneformer])
def test_a_checkpoint_is_loaded_and_segments_a_picture(save: Callable[[Path], Path], tmp_path: Path) -> None:
    segmenter = PanopticSegmenter.from_pretrained(save(tmp_path / "model"), threshold=0.3)
    assert [segmenter.categories[id].name for id in range(4)] == list(NAMES)
    picture = np.random.default_rng(0).integers(0, 255, (97, 1300, 3), dtype=np.uint8)
    found = segmenter.segment(picture)
    assert found.size == Size(1300, 97) and found.segments
    assert set(np.unique(found.ids)) - {0} == {segment.id for segment in found.segments}
    again = segmenter.segment(picture)
    assert np.array_equal(found.ids, again.ids) and found.segments == again.segments


def test_a_picture_in_which_nothing_is_found_has_no_segments(tmp_path: Path) -> None:
    segmenter = PanopticSegmenter.from_pretrained(save_mask2former(tmp_path), threshold=1.0)
    found = segmenter.segment(np.zeros((40, 60, 3), dtype=np.uint8))
    assert found.segments == () and not found.ids.any()


def test_other_models_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load the segmentation model"):
        PanopticSegmenter.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(UserError, match="is a vit; need one of mask2former, oneformer"):
        PanopticSegmenter.from_pretrained(tmp_path)


def test_names_tell_things_from_stuff() -> None:
    assert [category_named(0, name).thing for name in ("dog", "wall-brick", "sky", "water, river", "dining table")] == [
        True, False, False, False, True,
    ]  # fmt: skip
