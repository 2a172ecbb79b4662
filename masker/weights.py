"""Building, exporting and loading the mask model's parts: safetensors and YAML, nothing else.

An exported masker folder holds `masker.yaml` (resolved config), `codec.yaml`, `labels.json`, `codec.safetensors` and
`model.safetensors`. Where it can place objects by itself, it also holds `placement.yaml`, `placement.safetensors` and
`statistics.json` (what things rest on, their sizes); where it draws surfaces by their outlines, `surfaces.yaml` and
`surfaces.safetensors`; where it remembers shapes, `memory.yaml`, `memory.json` (labels) and `memory.safetensors`. A
codec folder holds the two codec files, a placement, surface or memory folder its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from torch import nn

from masker.codec import KLCodec, MaskCodec, MaskVAE
from masker.memory import ShapeMemory
from masker.model import MaskModel
from masker.placement import PlacementPrior
from masker.stable_diffusion import load_kl_codec
from masker.stage_config import (
    CodecConfig,
    MaskerConfig,
    MemoryStageConfig,
    PlacementStageConfig,
    SurfaceStageConfig,
    TracerStageConfig,
)
from masker.support import SupportStatistics
from masker.surfaces import SurfacePrior
from masker.tracer import ScribbleTracer
from runtime.config import Config, load_config, save_config
from runtime.files import write_json
from runtime.hub import HUB_ID
from runtime.weights import load_weights, read_weights, save_weights
from scene.corpus.shards import AnyCorpus
from scene.errors import UserError

C = TypeVar("C", bound=Config)
P = TypeVar("P", bound=nn.Module)
STATISTICS_FILE = "statistics.json"
PLACEMENT_FILES = ("placement.yaml", "placement.safetensors", STATISTICS_FILE)
SURFACE_FILES = ("surfaces.yaml", "surfaces.safetensors")
TRACER_FILES = ("tracer.yaml", "tracer.safetensors")
MEMORY_FILES = ("memory.yaml", "memory.json", "memory.safetensors")


def build_model(config: MaskerConfig, codec: MaskCodec) -> MaskModel:
    """An untrained mask model that fits a codec."""
    return MaskModel(
        config.layout_encoder,
        config.denoiser,
        config.text,
        config.shape_prior,
        config.refiner,
        codec,
        one_shot=config.stage == "oneshot",
    )


def export_codec(codec: nn.Module, config: CodecConfig, out: Path) -> None:
    """Writes `codec.yaml` and `codec.safetensors` (fp16)."""
    _export_part("codec", codec, config, out)


def _export_part(name: str, part: nn.Module, config: Config, out: Path) -> None:
    """Writes a part's `NAME.safetensors` and `NAME.yaml`."""
    out.mkdir(parents=True, exist_ok=True)
    save_weights(part, out / f"{name}.safetensors")
    save_config(config, out / f"{name}.yaml")


def _load_prior(name: str, folder: Path, kind: type[C], build: Callable[[C], P]) -> P | None:
    """A frozen part of `_export_part`, built by its config; None where the folder holds none."""
    if not (folder / f"{name}.yaml").is_file():
        return None
    prior = build(load_config(kind, folder / f"{name}.yaml"))
    load_weights(prior, folder / f"{name}.safetensors")
    return prior.eval().requires_grad_(False)


def load_codec(folder: Path) -> MaskVAE:
    """The mask VAE of a codec folder or an exported masker folder.

    Raises:
        UserError: there is none, or its weights do not fit.
    """
    if not (folder / "codec.yaml").is_file():
        raise UserError(
            f"no mask codec in {folder}; train one: smartscene train masker --config configs/masker/codec_park.yaml"
        )
    codec = MaskVAE(load_config(CodecConfig, folder / "codec.yaml").codec)
    load_weights(codec, folder / "codec.safetensors")
    return codec.eval().requires_grad_(False)


def export_masker(
    model: nn.Module, codec: nn.Module, config: MaskerConfig, corpora: Sequence[AnyCorpus], out: Path
) -> None:
    """Writes a masker folder (fp16), complete but for parts of public weights, see `masker.stable_diffusion`."""
    out.mkdir(parents=True, exist_ok=True)
    if config.codec is not None:
        export_codec(codec, load_config(CodecConfig, Path(config.codec) / "codec.yaml"), out)
    save_weights(model, out / "model.safetensors")
    # Where a training started from is nobody's business who uses its weights; a public model is named.
    public = config.public
    if public is not None and not HUB_ID.fullmatch(public.path):
        public = public.model_copy(update={"path": "a local folder"})
    save_config(config.model_copy(update={"start_from": None, "public": public}), out / "masker.yaml")
    parts = (
        (config.placement, PLACEMENT_FILES),
        (config.surface, SURFACE_FILES),
        (config.memory, MEMORY_FILES),
        (config.tracer, TRACER_FILES),
    )
    for folder, names in parts:
        if folder is not None:
            for name in names:
                shutil.copyfile(Path(folder) / name, out / name)
    labels = dict.fromkeys(label for corpus in corpora for label in corpus.labels)
    movable = {
        label for corpus in corpora for label in corpus.labels if corpus.vocabulary.kind(label) != "surface"
    }  # a table top that one world stands things on is a thing in another
    facts = {
        "world": "+".join(corpus.name for corpus in corpora),
        "licence": " and ".join(dict.fromkeys(corpus.licence for corpus in corpora)),
        "labels": list(labels),
        "surfaces": [label for label in labels if label not in movable],
    }
    write_json(out / "labels.json", facts)


def export_placement(model: nn.Module, config: PlacementStageConfig, out: Path) -> None:
    """Writes `placement.yaml` and `placement.safetensors` (fp16)."""
    _export_part("placement", model, config, out)


def load_placement(folder: Path) -> PlacementPrior | None:
    """The placement prior of a folder; None where it holds none.

    Raises:
        UserError: its weights do not fit.
    """
    return _load_prior(
        "placement", folder, PlacementStageConfig, lambda config: PlacementPrior(config.placement, config.text.width)
    )


def export_surfaces(model: nn.Module, config: SurfaceStageConfig, out: Path) -> None:
    """Writes `surfaces.yaml` and `surfaces.safetensors` (fp16)."""
    _export_part("surfaces", model, config, out)


def load_surfaces(folder: Path) -> SurfacePrior | None:
    """The surface prior of a folder; None where it holds none.

    Raises:
        UserError: its weights do not fit.
    """
    return _load_prior(
        "surfaces", folder, SurfaceStageConfig, lambda config: SurfacePrior(config.surface, config.text.width)
    )


def export_memory(memory: ShapeMemory, config: MemoryStageConfig, out: Path) -> None:
    """Writes `memory.yaml`, `memory.json` (labels of its texts) and `memory.safetensors` (bits and fp16)."""
    _export_part("memory", memory, config, out)
    write_json(out / "memory.json", {"labels": list(memory.labels)})


def load_memory(folder: Path) -> ShapeMemory | None:
    """The remembered shapes of a folder; None where it holds none.

    Raises:
        UserError: the file does not fit.
    """
    if not (folder / "memory.yaml").is_file():
        return None
    config = load_config(MemoryStageConfig, folder / "memory.yaml")
    path = folder / "memory.safetensors"
    state = read_weights(path)
    try:
        labels = json.loads((folder / "memory.json").read_text(encoding="utf-8"))["labels"]
        (objects,), (size,), (texts, _), (_, width) = (
            state[name].shape for name in ("text", "shapes", "words", "basis")
        )
    except (KeyError, TypeError, ValueError, OSError):
        raise UserError(f"{path} or memory.json holds no remembered shapes; make it again: stage memory") from None
    if len(labels) != texts:
        raise UserError(f"{path} has {texts} texts, memory.json {len(labels)} labels; make them again: stage memory")
    memory = ShapeMemory(config.memory, objects, size, labels, width)
    load_weights(memory, path)
    return memory.eval()


def export_tracer(tracer: ScribbleTracer, config: TracerStageConfig, out: Path) -> None:
    """Writes `tracer.yaml` and `tracer.safetensors` (fp16)."""
    _export_part("tracer", tracer, config, out)


def load_tracer(folder: Path) -> ScribbleTracer | None:
    """The scribble tracer of a folder; None where it holds none.

    Raises:
        UserError: its weights do not fit.
    """
    return _load_prior("tracer", folder, TracerStageConfig, lambda config: ScribbleTracer(config.tracer))


def load_statistics(folder: Path) -> SupportStatistics | None:
    """The support statistics of a masker folder; None where it holds none."""
    path = folder / STATISTICS_FILE
    return SupportStatistics.load(path) if path.is_file() else None


def load_masker(folder: Path) -> tuple[MaskerConfig, MaskVAE | KLCodec, MaskModel, dict[str, object]]:
    """Config, codec, model and world facts of an exported masker folder.

    Raises:
        UserError: files are missing or do not fit.
    """
    if not (folder / "masker.yaml").is_file():
        raise UserError(f"no mask model in {folder}; name a folder made by: smartscene train masker")
    config = load_config(MaskerConfig, folder / "masker.yaml")
    public = config.public
    codec = load_codec(folder) if public is None else load_kl_codec(folder, public.resolution)
    model = build_model(config, codec)
    load_weights(model, folder / "model.safetensors")
    facts = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    return config, codec, model.eval().requires_grad_(False), facts
