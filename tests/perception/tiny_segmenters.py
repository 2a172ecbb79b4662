"""Tiny random panoptic models, saved in the folder layout of the public checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import torch

NAMES = ("person", "dog", "sky-other-merged", "grass-merged")
_BACKBONE = {
    "image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 2,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip


def save_mask2former(folder: Path) -> Path:
    """A panoptic Mask2Former with four categories."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessorPil,
        SwinConfig,
    )

    torch.manual_seed(0)
    labels = dict(enumerate(NAMES))
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(**_BACKBONE), feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16,
        num_queries=6, id2label=labels, label2id={name: id for id, name in labels.items()},
    )  # fmt: skip
    model = Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():  # or every query would say "nothing here"
        model.class_predictor.bias[-1] = -20
        model.class_predictor.weight.mul_(40)
    model.save_pretrained(folder)
    Mask2FormerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def save_oneformer(folder: Path) -> Path:
    """A panoptic OneFormer with four categories, its tokenizer a handful of words."""
    from transformers import (
        CLIPTokenizer,
        OneFormerConfig,
        OneFormerForUniversalSegmentation,
        OneFormerImageProcessorPil,
        OneFormerProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    labels = dict(enumerate(NAMES))
    config = OneFormerConfig(
        backbone_config=SwinConfig(**_BACKBONE), num_queries=6, conv_dim=32, mask_dim=32, hidden_dim=32,
        encoder_feedforward_dim=16, encoder_layers=1, decoder_layers=2, dim_feedforward=16, num_attention_heads=2,
        query_dec_layers=1, task_seq_len=8, text_encoder_width=32, text_encoder_context_length=8,
        text_encoder_num_layers=1, text_encoder_vocab_size=600, text_encoder_proj_layers=1, text_encoder_n_ctx=2,
        is_training=False, id2label=labels, label2id={name: id for id, name in labels.items()},
    )  # fmt: skip
    model = OneFormerForUniversalSegmentation(config)
    with torch.no_grad():
        head = model.model.transformer_module.decoder.class_embed
        head.bias[-1] = -20
        head.weight.mul_(40)
    model.save_pretrained(folder)
    classes = {str(id): {"name": name, "isthing": int(id < 2)} for id, name in labels.items()}
    (folder / "classes.json").write_text(json.dumps(classes))
    images = OneFormerImageProcessorPil(
        size={"height": 64, "width": 64}, class_info_file="classes.json", repo_path=str(folder), num_text=4
    )
    letters = [chr(code) for code in range(97, 123)]
    words = {token: id for id, token in enumerate([*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>",
                                                   "<|endoftext|>"])}  # fmt: skip
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=8)
    OneFormerProcessor(images, tokenizer, max_seq_length=8, task_seq_length=8).save_pretrained(folder)
    return folder
