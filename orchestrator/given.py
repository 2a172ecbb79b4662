"""A layout of one's own to start from (`generate --layout PNG,JSON`): its masks come first, then the planner goes on.

The files are COCO panoptic ones: a PNG whose pixel value R + 256 G + 65536 B is a segment's id, and a JSON with the
segments, back to front. They go into `run.json` whole, so that a run never depends on files outside its folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orchestrator.ports import Masker, Models, Planner
from orchestrator.request import name_object
from scene.candidates import MaskCandidate
from scene.corpus.outlines import from_counts
from scene.errors import UserError
from scene.geometry import Size
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary

MAX_SEGMENTS = 64
MAX_BYTES = 32 * 2**20
_WANTED = 'need {"segments": [{"id": 1, "words": "a wooden floor"}, {"id": 2, "words": "a red sofa"}]}, rearmost first'


@dataclass(frozen=True, eq=False)
class GivenObject:
    """An object of a given layout: its proposal and its mask, bool (H, W)."""

    proposal: Proposal
    mask: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """For `run.json`: words, and the mask as uncompressed COCO run lengths."""
        return {"label": self.proposal.label, "words": self.proposal.description, "counts": run_lengths(self.mask)}

    @classmethod
    def from_json(cls, data: dict[str, Any], size: Size) -> GivenObject:
        """Inverse of `to_json`.

        Raises:
            UserError: broken.
        """
        try:
            proposal = Proposal(data["label"], data["words"], reason="in the layout")
            return cls(proposal, from_run_lengths(data["counts"], size))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"run.json holds a broken layout ({error}); restore it or start a new run") from None


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed RLE of a bool mask (H, W): lengths of runs in column order, the first of them False."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def from_run_lengths(counts: Sequence[int], size: Size) -> np.ndarray:
    """Inverse of `run_lengths`.

    Raises:
        ValueError: the lengths do not fill the canvas.
    """
    return from_counts(counts, size.shape)


def read_layout(text: str, size: Size, vocabulary: Vocabulary, preset: str) -> tuple[GivenObject, ...]:
    """Reads `PNG,JSON`, back to front.

    Args:
        text: two paths with a comma between them.
        size: the canvas; the PNG must have it.
        vocabulary, preset: words that the preset knows, and its name.

    Raises:
        UserError: files that cannot be used; names the segment.
    """
    parts = [Path(part.strip()) for part in text.split(",") if part.strip()]
    if len(parts) != 2:
        raise UserError(f"--layout {text[:60]!r} is not PNG,JSON; give both files with a comma between them")
    ids = _ids(parts[0], size)
    segments = _segments(parts[1])
    given = []
    for number, segment in enumerate(segments, start=1):
        where = f"{parts[1]} segment {number}"
        words = segment.get("words") if isinstance(segment, dict) else None
        if not isinstance(words, str) or not isinstance(segment.get("id"), int):
            raise UserError(f"{where} lacks id or words; {_WANTED}")
        mask = ids == segment["id"]
        if not mask.any():
            raise UserError(f"{where}: no pixel of {parts[0]} has the id {segment['id']} (R + 256 G + 65536 B)")
        try:
            proposal = replace(name_object(words, vocabulary, preset), reason="in the layout")
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        given.append(GivenObject(proposal, mask))
    return tuple(given)


def _ids(path: Path, size: Size) -> np.ndarray:
    """Segment ids, int32 (H, W)."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} has more than {MAX_BYTES // 2**20} MiB; a layout needs far less")
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.size != tuple(size):
                raise UserError(f"{path} is {picture.size}, the canvas {tuple(size)}; scale one, see --size")
            rgb = np.asarray(picture.convert("RGB")).astype(np.int32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read {path} as PNG ({str(error)[:80]})") from None
    return np.asarray(rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2])


def _segments(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} has more than {MAX_BYTES // 2**20} MiB; a layout needs far less")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({str(error)[:80]}); {_WANTED}") from None
    segments = data.get("segments") if isinstance(data, dict) else None
    if not isinstance(segments, list) or not 1 <= len(segments) <= MAX_SEGMENTS:
        raise UserError(f"{path} does not hold 1 to {MAX_SEGMENTS} segments; {_WANTED}")
    return segments


def with_given(models: Models, given: Sequence[GivenObject]) -> Models:
    """The same models, but the first objects and their masks are the given ones."""
    return replace(models, planner=_GivenFirst(given, models.planner), masker=_GivenMasks(given, models.masker))


def _missing(given: Sequence[GivenObject], scene: LayeredScene) -> list[GivenObject]:
    """Given objects that are not in the scene yet."""
    there = Counter((layer.label, layer.description) for layer in scene.layers)
    missing = []
    for item in given:
        key = item.proposal.label, item.proposal.description
        if there[key]:
            there[key] -= 1
        else:
            missing.append(item)
    return missing


class _GivenFirst:
    """The `Planner` role: the given objects, then what the planner says."""

    def __init__(self, given: Sequence[GivenObject], then: Planner) -> None:
        self.given, self.then = given, then

    def propose(
        self, scene: LayeredScene, prompt: str, *, seed: StepSeed, turn: str | None = None, rejected: Sequence[str] = ()
    ) -> Proposal:
        """See `orchestrator.ports.Planner`."""
        for item in _missing(self.given, scene):
            if item.proposal.label not in rejected:
                return item.proposal
        return self.then.propose(scene, prompt, seed=seed, turn=turn, rejected=rejected)


class _GivenMasks:
    """The `Masker` role: a given object has its own mask, without candidates."""

    def __init__(self, given: Sequence[GivenObject], then: Masker) -> None:
        self.given, self.then = given, then

    def predict(
        self,
        scene: LayeredScene,
        label: str,
        description: str,
        context: str,
        *,
        guidance: Guidance | None,
        count: int,
        seed: StepSeed,
    ) -> list[MaskCandidate]:
        """See `orchestrator.ports.Masker`."""
        for item in _missing(self.given, scene):
            if (item.proposal.label, item.proposal.description) == (label, description) and guidance is None:
                return [MaskCandidate(item.mask, 1.0, {"given": 1.0})]
        return self.then.predict(scene, label, description, context, guidance=guidance, count=count, seed=seed)
