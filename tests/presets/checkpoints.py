"""Tiny random checkpoints in the public models' folder layout, written by their own `save_pretrained`.

Nothing here is a stand-in: configs have the public models' structure (levels, text encoders, extra channels,
schedulers), only narrower, and tokenizers have the public files.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
    ZImageControlNetModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
)

from planner.chat import onevision_processor

WIDTH = 16
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def seeded(build: Callable[[], Any], seed: int = 0) -> Any:
    """`build()` with torch's global generator seeded for its duration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer on single bytes, from its public files `vocab.json` and `merges.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*BYTES, *(f"{byte}</w>" for byte in BYTES), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder)


def clip_text(tokenizer: CLIPTokenizer, projected: bool = False, width: int = WIDTH) -> Any:
    """A one-layer CLIP text encoder."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def vae(levels: int = 4, latent_channels: int = 4, **further: Any) -> AutoencoderKL:
    """A VAE that shrinks by 8."""
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=latent_channels,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        **further,
    ).eval()


def sd15_unet(channels: int = 4) -> UNet2DConditionModel:
    """SD 1.5's four levels."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
        norm_num_groups=4,
    ).eval()


def controlnet_of(unet: UNet2DConditionModel, channels: int = 4) -> ControlNetModel:
    """A ControlNet whose outgoing convolutions are not zero, so that what it sees shows."""
    made = ControlNetModel(
        in_channels=channels,
        block_out_channels=unet.config.block_out_channels,
        down_block_types=unet.config.down_block_types,
        layers_per_block=unet.config.layers_per_block,
        attention_head_dim=unet.config.attention_head_dim,
        cross_attention_dim=unet.config.cross_attention_dim,
        norm_num_groups=unet.config.norm_num_groups,
        conditioning_embedding_out_channels=(4, 4, 8, 8),
        addition_embed_type=unet.config.addition_embed_type,
        addition_time_embed_dim=unet.config.addition_time_embed_dim,
        projection_class_embeddings_input_dim=unet.config.projection_class_embeddings_input_dim,
        transformer_layers_per_block=unet.config.transformer_layers_per_block,
    )
    for layer in (*made.controlnet_down_blocks, made.controlnet_mid_block, made.controlnet_cond_embedding.conv_out):
        layer.reset_parameters()
    return made.eval()


def _edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=2))


def write_sd15(folder: Path) -> Path:
    """`stable-diffusion-v1-5/stable-diffusion-v1-5` in `folder/base`, `lllyasviel/control_v11p_sd15_inpaint` in
    `folder/controlnet`."""

    def build() -> None:
        tokenizer = clip_tokenizer(folder / "base" / "tokenizer")
        unet = sd15_unet()
        scheduler = PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            set_alpha_to_one=False,
            steps_offset=1,
        )
        StableDiffusionPipeline(
            vae(), clip_text(tokenizer), tokenizer, unet, scheduler, None, None, requires_safety_checker=False
        ).save_pretrained(folder / "base")
        controlnet_of(unet).save_pretrained(folder / "controlnet")

    seeded(build)
    for tokenizer in folder.glob("base/tokenizer*/tokenizer.json"):
        tokenizer.unlink()  # the public folders have only vocabulary and merges
    # The public index names a safety checker, which ships as a pickle-free folder too; it is not asked for here.
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    _edit_json(folder / "base" / "model_index.json", safety_checker=checker, requires_safety_checker=True)
    return folder


def write_sdxl(folder: Path) -> Path:
    """`diffusers/stable-diffusion-xl-1.0-inpainting-0.1` in `base/`, an SDXL ControlNet in `controlnet/`."""

    def build() -> None:
        first = clip_tokenizer(folder / "base" / "tokenizer")
        second = clip_tokenizer(folder / "base" / "tokenizer_2")
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=9,
            block_out_channels=(8, 16, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            transformer_layers_per_block=(1, 1, 2),
            attention_head_dim=(2, 4, 4),
            cross_attention_dim=2 * WIDTH,
            norm_num_groups=4,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + 6 * 8,
        )
        scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        StableDiffusionXLInpaintPipeline(
            vae(scaling_factor=0.13025, force_upcast=True),
            clip_text(first),
            clip_text(second, projected=True),
            first,
            second,
            unet,
            scheduler,
            add_watermarker=False,
        ).save_pretrained(folder / "base")
        controlnet_of(unet).save_pretrained(folder / "controlnet")

    seeded(build)
    for tokenizer in folder.glob("base/tokenizer*/tokenizer.json"):
        tokenizer.unlink()  # the public folders have only vocabulary and merges
    return folder


QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen_tokenizer(folder: Path, template: str = QWEN_TEMPLATE, extra: tuple[str, ...] = ()) -> Qwen2Tokenizer:
    """Qwen2's tokenizer on bytes; a space merges with the letter or bar that follows."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {byte: number for number, byte in enumerate(BYTES)}
    merges = [("Ġ", char) for char in "|" + string.ascii_letters]
    vocab |= {first + second: len(vocab) + number for number, (first, second) in enumerate(merges)}
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *extra)
    tokenizer = Qwen2Tokenizer(
        vocab=vocab | {word: len(vocab) + number for number, word in enumerate(special)},
        merges=merges,
        additional_special_tokens=list(special[1:]),
        model_max_length=4096,
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_zimage(folder: Path, *, single_file: bool = True) -> Path:
    """`Tongyi-MAI/Z-Image-Turbo` in `folder/base`; its union ControlNet 2.1 in `folder/controlnet`: one bare file as
    published, or with `single_file=False` in diffusers' layout."""
    heads = {"n_heads": 2, "n_kv_heads": 2, "dim": 32, "n_refiner_layers": 1}

    def build() -> None:
        tokenizer = qwen_tokenizer(folder / "base" / "tokenizer")
        text = Qwen3Model(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                num_hidden_layers=3,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
            )
        ).eval()
        transformer = ZImageTransformer2DModel(
            cap_feat_dim=WIDTH, n_layers=4, axes_dims=[8, 4, 4], axes_lens=[1024, 64, 64], **heads
        )
        _shake(transformer)
        ZImagePipeline(
            FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159),
            text,
            tokenizer,
            transformer,
        ).save_pretrained(folder / "base")
        controlnet = ZImageControlNetModel(
            control_layers_places=[0, 2],
            control_refiner_layers_places=[0],
            control_in_dim=33,
            add_control_noise_refiner="control_noise_refiner",
            **heads,
        )
        _shake(controlnet)
        if single_file:
            (folder / "controlnet").mkdir(parents=True)
            weights = {name: value.contiguous() for name, value in controlnet.state_dict().items()}
            save_file(weights, folder / "controlnet" / "Z-Image-Turbo-Fun-Controlnet-Union-2.1.safetensors")
        else:
            controlnet.save_pretrained(folder / "controlnet")

    seeded(build)
    return folder


def _shake(module: torch.nn.Module) -> None:
    """Random numbers in all matrices, also in those that start at zero or uninitialised."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.05)
            elif not torch.isfinite(parameter).all() or not parameter.any():
                parameter.zero_()


VICUNA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: {% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<image>\n{% else %}{{ content['text'] }}{% endif %}{% endfor %} "
    "{% else %}ASSISTANT: {{ message['content'] }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def llama_tokenizer() -> Tokenizer:
    """Llama 2's kind: pieces of text with "▁" for spaces, digits apart, bytes (line ends too) as a last resort."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(256))]
    text = [f"{first} |" for first in string.ascii_letters] * 3 + ["a wall of the sofa lamp cat with legs in red"] * 4
    trainer = trainers.BpeTrainer(
        vocab_size=len(special) + 140,
        special_tokens=special,
        initial_alphabet=["▁", *string.ascii_letters, *string.digits, *string.punctuation],
        show_progress=False,
    )
    splitting = pre_tokenizers.Split(" ", "merged_with_next")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([splitting, pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.pre_tokenizer = None  # as in Llama 2's file
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special[:3]])
    return tokenizer


TOWER = {
    "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
LLAMA = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip


def vicuna_tokenizer() -> Any:
    """`llama_tokenizer` with a picture's placeholder, as transformers loads it."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = llama_tokenizer()
    tokenizer.add_special_tokens([AddedToken("<image>", special=True, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


def write_llava(folder: Path) -> Path:
    """`llava-hf/llava-1.5-7b-hf`: CLIP tower, Llama, Llama's tokenizer, chat template beside the processor."""
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = vicuna_tokenizer()
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=VICUNA_TEMPLATE,
        num_additional_image_tokens=1,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**TOWER),
        text_config=LlamaConfig(vocab_size=len(tokenizer) + 3, **LLAMA),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    seeded(lambda: LlavaForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_llava_next(folder: Path) -> Path:
    """`llava-hf/llava-v1.6-vicuna-7b-hf`: as LLaVA 1.5, with pictures in tiles."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessorPil,
        LlavaNextProcessor,
    )

    pinpoints = [[28, 56], [56, 28], [56, 56]]
    tokenizer = vicuna_tokenizer()
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=VICUNA_TEMPLATE,
        num_additional_image_tokens=1,
    )
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**TOWER),
        text_config=LlamaConfig(vocab_size=len(tokenizer) + 3, **LLAMA),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
    )
    seeded(lambda: LlavaNextForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


ONEVISION_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }} {% for content in message.content %}"
    "{% if content.type == 'image' %}<image>\n{% endif %}{% endfor %}{% for content in message.content %}"
    "{% if content.type == 'text' %}{{ content.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_onevision(folder: Path) -> Path:
    """`llava-hf/llava-onevision-qwen2-0.5b-ov-hf`: SigLIP tower, Qwen2, pictures in tiles."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessorPil,
        Qwen2Config,
        SiglipVisionConfig,
    )

    tokenizer = qwen_tokenizer(folder, ONEVISION_TEMPLATE, ("<image>", "<video>"))
    pinpoints = [[28, 28], [28, 56], [56, 28]]
    processor = onevision_processor()(
        image_processor=LlavaOnevisionImageProcessorPil(
            size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints
        ),
        tokenizer=tokenizer,
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=ONEVISION_TEMPLATE,
    )
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**TOWER),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer) + 1,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints,
        vision_feature_select_strategy="full",
    )
    seeded(lambda: LlavaOnevisionForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
