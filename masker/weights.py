"""Building, exporting and loading the mask model's parts: safetensors and YAML, nothing else.

An exported masker folder holds `masker.yaml` (resolved config), `codec.yaml`, `labels.json`, `codec.safetensors` and
`model.safetensors`; a codec folder holds the two codec files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from masker.codec import MaskCodec, MaskVAE
from masker.config import CodecConfig, MaskerConfig
from masker.model import MaskModel
from runtime.config import load_config, save_config
from runtime.files import write_json
from runtime.weights import load_weights, save_weights
from scene.corpus.store import Corpus
from scene.errors import UserError


def build_model(config: MaskerConfig, codec: MaskCodec) -> MaskModel:
    """An untrained mask model that fits a codec."""
    return MaskModel(config.layout_encoder, config.denoiser, config.text, config.shape_prior, codec)


def export_codec(codec: nn.Module, config: CodecConfig, out: Path) -> None:
    """Writes `codec.yaml` and `codec.safetensors` (fp16)."""
    out.mkdir(parents=True, exist_ok=True)
    save_weights(codec, out / "codec.safetensors")
    save_config(config, out / "codec.yaml")


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
    model: nn.Module, codec: MaskVAE, config: MaskerConfig, labels: Sequence[str], corpus: Corpus, out: Path
) -> None:
    """Writes a complete masker folder (fp16)."""
    out.mkdir(parents=True, exist_ok=True)
    save_weights(codec, out / "codec.safetensors")
    codec_config = load_config(CodecConfig, Path(config.codec) / "codec.yaml")
    save_config(codec_config, out / "codec.yaml")
    save_weights(model, out / "model.safetensors")
    # Where a training started from is nobody's business who uses its weights.
    save_config(config.model_copy(update={"start_from": None}), out / "masker.yaml")
    surfaces = [label for label in corpus.labels if corpus.vocabulary.kind(label) == "surface"]
    write_json(
        out / "labels.json",
        {"world": corpus.name, "licence": corpus.licence, "labels": list(labels[1:]), "surfaces": surfaces},
    )


def load_masker(folder: Path) -> tuple[MaskerConfig, MaskVAE, MaskModel, dict[str, object]]:
    """Config, codec, model and world facts of an exported masker folder.

    Raises:
        UserError: files are missing or do not fit.
    """
    if not (folder / "masker.yaml").is_file():
        raise UserError(f"no mask model in {folder}; name a folder made by: smartscene train masker")
    config = load_config(MaskerConfig, folder / "masker.yaml")
    codec = load_codec(folder)
    model = build_model(config, codec)
    load_weights(model, folder / "model.safetensors")
    facts = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    return config, codec, model.eval().requires_grad_(False), facts
