"""A mask model of full size: Stable Diffusion 1.x as starting point, as in the paper.

| part | from | trained |
|---|---|---|
| mask codec | the VAE (`masker.codec.KLCodec`) | no |
| text | the CLIP text encoder, token features of its last layer | no |
| denoiser | the U-Net; `conv_in` gets a channel per condition, zero at first | yes |
| layout encoder `E_phi` | nothing | yes |

Source: Singh et al., "SmartMask", arXiv 2312.05039, section 3.2 (the paper starts from Stable Diffusion, too; how it
widens the network is not published, this is ours).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from masker.codec import KLCodec
from masker.config import PublicConfig, StableDiffusionConfig, TextConfig
from masker.stage_config import MaskerConfig
from masker.texts import TextBook
from perception.text import TextFeatures
from runtime.hub import Source, fetch, present
from runtime.weights import save_weights
from scene.errors import UserError

PARTS = {"tokenizer": False, "text_encoder": True, "unet": True, "vae": True}
VAE, TEXT, TOKENIZER = "vae", "text_encoder", "tokenizer"


def find_weights(config: PublicConfig) -> Path:
    """The folder with Stable Diffusion's parts.

    Raises:
        UserError: not on this machine (`offline`), or not to be had.
    """
    source = Source("public.path", config.path, config.revision, parts=PARTS, pin="public.revision")
    folder = present(source) if config.offline else fetch(source)
    if folder is None:
        at = f" at revision {config.revision} (public.revision)" if config.revision else ""
        raise UserError(
            f"{config.path} (public.path){at} is not on this machine; fetch it with --set public.offline=false, "
            "or name a local folder: --set public.path=DIR"
        )
    return folder


def with_unet_config(config: MaskerConfig, folder: Path) -> MaskerConfig:
    """The config with the U-Net's own one filled in, so that an exported folder can be built without the hub."""
    assert isinstance(config.denoiser, StableDiffusionConfig)
    values = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in values.items() if not key.startswith("_")}
    return config.model_copy(update={"denoiser": config.denoiser.model_copy(update={"unet": kept})})


def load_kl_codec(folder: Path, resolution: int) -> KLCodec:
    """The frozen mask codec on the VAE in `folder/vae`."""
    from diffusers import AutoencoderKL

    vae: Any = AutoencoderKL.from_pretrained(
        folder / VAE, use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    return KLCodec(vae, resolution).eval().requires_grad_(False)


class ClipText:
    """Frozen CLIP text encoder with the interface of `perception.text.TextEncoder.encode`.

    Args:
        folder: with `text_encoder/` and `tokenizer/`.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPTextModel, CLIPTokenizer

        self.tokenizer = CLIPTokenizer.from_pretrained(folder / TOKENIZER, local_files_only=True)
        self.model = CLIPTextModel.from_pretrained(
            folder / TEXT, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
        self.model.eval().requires_grad_(False)
        self.width = int(self.model.config.hidden_size)

    @torch.no_grad()
    def encode(self, text: str, max_tokens: int) -> TextFeatures:
        """Features of one text, cut or padded to `max_tokens`; padding is zero, and so is the empty text."""
        text = " ".join(text.split())
        tokens, mask = torch.zeros(max_tokens, self.width), torch.zeros(max_tokens, dtype=torch.bool)
        if not text:
            return TextFeatures(tokens, mask, torch.zeros(self.width))
        ids = self.tokenizer(text, truncation=True, max_length=max_tokens, return_tensors="pt").input_ids
        hidden = self.model(input_ids=ids).last_hidden_state[0]
        tokens[: len(hidden)], mask[: len(hidden)] = hidden, True
        return TextFeatures(tokens, mask, nn.functional.normalize(hidden.mean(0), dim=0))


def clip_texts(folder: Path, config: TextConfig) -> TextBook:
    """A book of CLIP's features.

    Raises:
        UserError: `text.width` is not the encoder's.
    """
    encoder = ClipText(folder)
    if encoder.width != config.width:
        raise UserError(f"text.width is {config.width}; this text encoder's tokens have {encoder.width}")
    return TextBook(config, encoder.encode)


@torch.no_grad()
def start_from_unet(denoiser: nn.Module, folder: Path) -> list[str]:
    """Copies the public U-Net's weights into a `StableDiffusionDenoiser`; new channels of `conv_in` are zero.

    Returns:
        Names of weights that the public U-Net does not have and that keep their start.

    Raises:
        UserError: it does not fit otherwise.
    """
    from diffusers import UNet2DConditionModel

    unet: Any = UNet2DConditionModel.from_pretrained(
        folder / "unet", use_safetensors=True, local_files_only=True, dtype=torch.float32
    )
    net: Any = denoiser.net
    state: dict[str, Tensor] = dict(unet.state_dict())
    narrow, wide = state["conv_in.weight"], torch.zeros_like(net.conv_in.weight)
    wide[:, : narrow.shape[1]] = narrow
    state["conv_in.weight"] = wide
    try:
        missing, unexpected = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f"{folder / 'unet'} does not fit: {' '.join(str(error).split())[:160]}") from None
    if unexpected or any(not name.startswith("class_embedding.") for name in missing):
        raise UserError(f"{folder / 'unet'} does not fit: missing {missing[:3]}, unexpected {unexpected[:3]}")
    return list(missing)


def export_public_parts(codec: KLCodec, source: Path, out: Path) -> None:
    """Writes what an exported masker folder needs besides our weights: VAE (fp16), text encoder and tokenizer."""
    (out / VAE).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / VAE / "config.json", out / VAE / "config.json")
    save_weights(codec.vae, out / VAE / "diffusion_pytorch_model.safetensors")
    for part in (TEXT, TOKENIZER):
        shutil.copytree(
            source / part, out / part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.bin", "*.msgpack", "*.h5")
        )
