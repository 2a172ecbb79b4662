"""A public LLaVA as planner, untuned: instructions and worked examples in its own chat format, answers by our grammar.

Any `llava`, `llava_next` or `llava_onevision` of transformers will do. The model's turn is the list of objects so far;
it writes the next line, bound to the same grammar and checked by the same guards as the small planner's, so an answer
is well-formed whatever the model would have said. A LoRA may be given; none is needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from planner.chat_config import ChatConfig
from planner.decoding import PlannerConfig
from planner.drafting import Drafts
from planner.grammar import END, LINKS, Answer, AnswerTokens, parse_answer
from planner.llava_planner import LlavaPlanner
from planner.prefix import Cursor, PrefixCache
from planner.prompt import scene_answers
from planner.server import neutral
from planner.situation import SceneReader
from runtime.config import Config, validate
from runtime.hardware import HardwareConfig, resolve_device, resolve_dtype
from scene.errors import ModelError, UserError
from scene.layout import layout_picture
from scene.vocabulary import Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import torch

    from planner.brief import Item
    from scene.layers import LayeredScene

MODEL_TYPES = ("llava", "llava_next", "llava_onevision")
TASK = (
    "You plan pictures object by object, from the back to the front; what carries something comes before it. The "
    "picture shows the layout so far, each object in a flat colour. Write the objects one a line, as\n"
    "label | x0y0x1y1 | description\n"
    "where x0y0x1y1 are the corners of its box in per cent of the canvas, two digits each without spaces: 00006099 is "
    "the left part, 00509999 the lower half. A relation to an earlier object may stand between, as in\n"
    "label | on sofa | x0y0x1y1 | description\n"
    f"with one of: {', '.join(LINKS)}. Begin with surfaces (wall, floor, sky, ground). Name everything that the scene "
    "asks for, in the right number and place, add little else, then write stop."
)


class Shot(Config):
    """A worked example.

    Attributes:
        prompt: what the scene shows.
        lines: its objects, rearmost first, as the grammar has them.
    """

    prompt: str
    lines: tuple[str, ...]

    def text(self) -> str:
        """As the prompt shows it."""
        return f"Scene: {self.prompt}\n" + "\n".join([*self.lines, "stop"])


class Shots(Config):
    """Root of `configs/planner/shots_<world>.yaml`."""

    shots: tuple[Shot, ...]


def load_shots(path: Path, vocabulary: Vocabulary) -> tuple[Shot, ...]:
    """Worked examples of a world, each line checked against the grammar.

    Raises:
        UserError: no such file, or a line that is no answer.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(
            f"cannot read worked examples {path} ({type(error).__name__}); set planner.llava.shots=0"
        ) from None
    shots = validate(Shots, data, str(path)).shots
    for shot in shots:
        for line in shot.lines:
            try:
                parse_answer(line, vocabulary.labels)
            except ModelError as error:
                raise UserError(f"{path}: {error}") from None
    return shots


class ChatPrompt:
    """Turns scene and prompt into what the model reads.

    Args:
        processor: the model's own, with its chat template.
        vocabulary: the world's words.
        shots: worked examples.
        config: whether to name all categories, and how long a prompt may be.

    Raises:
        UserError: the processor has no chat template.
    """

    def __init__(self, processor: Any, vocabulary: Vocabulary, shots: Sequence[Shot], config: ChatConfig) -> None:
        if not getattr(processor, "chat_template", None):
            raise UserError("this LLaVA's processor has no chat template; use a repository in the transformers format")
        self.processor, self.config = processor, config
        examples = "\n\n".join(["", *(shot.text() for shot in shots)])
        labels = f"\nLabels: {', '.join(vocabulary.labels)}." if config.list_labels else ""
        self.task = TASK + labels + examples

    def text(self, prompt: str, answers: Sequence[Answer]) -> str:
        """Everything up to the line that the model is to write; what a user typed cannot pose as control tokens."""
        asked = f"{self.task}\n\nScene: {neutral(' '.join(prompt.split()))}"
        content = [{"type": "image"}, {"type": "text", "text": asked}]
        opened = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        lines = "".join(answer.line() + END for answer in answers)
        return f"{str(opened).rstrip()}{END}{lines}"

    def inputs(self, prompt: str, answers: Sequence[Answer], picture: np.ndarray) -> dict[str, Any]:
        """`input_ids` (1, T), `pixel_values` and what else the model wants to know of a picture uint8 (H, W, 3).

        Raises:
            ModelError: longer than the model can read.
        """
        from PIL import Image

        shown = Image.fromarray(picture)
        if self.config.picture_px is not None:
            shown.thumbnail((self.config.picture_px, self.config.picture_px), Image.Resampling.BOX)
        inputs = dict(self.processor(images=shown, text=self.text(prompt, answers), return_tensors="pt"))
        length = inputs["input_ids"].shape[1]
        if length > self.config.max_prompt_tokens:
            raise ModelError(
                f"the planner's prompt has {length} tokens; planner.llava.max_prompt_tokens allows "
                f"{self.config.max_prompt_tokens}: fewer shots, or list_labels=false"
            )
        return inputs

    def fits(self, prompt: str) -> bool:
        """Prompts are never cut: too long a one is an error."""
        return True

    def decode(self, ids: Sequence[int]) -> str:
        """Text of answer tokens, line end removed."""
        return str(self.processor.tokenizer.decode(list(ids), skip_special_tokens=False)).removesuffix(END)


class ChatCache(PrefixCache):
    """A cache that is read afresh for every proposal: most chat templates put the picture, which changes, first."""

    def start(self, inputs: dict[str, torch.Tensor]) -> Cursor:
        """The cache after a whole prompt with its picture."""
        from transformers import DynamicCache

        device, dtype = self.llava.device, self.llava.dtype
        image = {
            name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
            for name, value in inputs.items()
            if name not in ("input_ids", "attention_mask", "pixel_values", "token_type_ids", "mm_token_type_ids")
        }
        ids = inputs["input_ids"][0].tolist()
        self.read_tokens += len(ids)
        empty = Cursor(DynamicCache(config=self.llava.config.get_text_config()), 0)
        return self.feed(empty, ids, inputs["pixel_values"].to(device, dtype), **image)

    def scores(self, cursor: Cursor, tokens: Sequence[int]) -> torch.Tensor:
        """Logits of these tokens, float32 on the CPU; the head is called as a module, since it may be offloaded."""
        import torch

        assert cursor.hidden is not None
        with torch.inference_mode():
            logits: torch.Tensor = self.llava.lm_head(cursor.hidden)
        return logits.float().cpu()[torch.as_tensor(tokens)]


class ChatPlanner(LlavaPlanner):
    """`Planner` on a public LLaVA.

    Args:
        llava: the model, in evaluation mode.
        processor: its own.
        vocabulary: the world's words; proposals are bound to its labels.
        shots: worked examples.
        chat: prompt settings.
        config: decoding and guards.

    Raises:
        UserError: its tokenizer cannot write the grammar, or there is no chat template.
    """

    encoder: Any  # a ChatPrompt
    prefix: ChatCache

    def __init__(
        self,
        llava: Any,
        processor: Any,
        vocabulary: Vocabulary,
        shots: Sequence[Shot],
        chat: ChatConfig,
        config: PlannerConfig | None = None,
    ) -> None:
        self.llava, self.vocabulary = llava, vocabulary
        self.fixed_descriptions: dict[str, str] = {}
        self.links, self.boxes, self.placer, self.brief = True, "written", None, False
        config = config or PlannerConfig()
        self.config = config.model_copy(update={"max_description_tokens": chat.max_description_tokens})
        self.encoder = ChatPrompt(processor, vocabulary, shots, chat)
        try:
            self.tokens = AnswerTokens(processor.tokenizer.backend_tokenizer, vocabulary.labels)
        except (ValueError, IndexError, AttributeError):
            raise UserError(
                "this LLaVA's tokenizer does not keep digits, ' |' and line ends apart; choose one with single digits "
                "(Llama 2, Vicuna, Mistral, Qwen2)"
            ) from None
        self.reader = SceneReader(vocabulary)
        self.prefix = ChatCache(llava)
        self.drafts = Drafts(self.tokens, vocabulary, {})

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        vocabulary: Vocabulary,
        *,
        shots: Path,
        chat: ChatConfig,
        hardware: HardwareConfig,
        adapter: Path | None = None,
        config: PlannerConfig | None = None,
    ) -> Self:
        """Load a LLaVA.

        Args:
            folder: in the layout of `llava-hf/llava-1.5-7b-hf`.
            vocabulary: the world's words.
            shots: file of worked examples; the first `chat.shots` are used.
            chat: prompt settings.
            hardware: device and precision.
            adapter: folder of a peft LoRA, merged for good.
            config: decoding and guards.

        Raises:
            UserError: not a LLaVA, weights missing or not fitting.
        """
        llava, processor = load_llava(folder, hardware, adapter)
        examples = load_shots(shots, vocabulary)[: chat.shots] if chat.shots else ()
        return cls(llava, processor, vocabulary, examples, chat, config)

    def read(
        self,
        scene: LayeredScene,
        prompt: str,
        picture: np.ndarray | None = None,
        brief: Sequence[Item] | None = None,
    ) -> Cursor:
        """Instructions, examples, prompt, layout picture and the list of objects so far."""
        answers = [*scene_answers(scene, {}).values()]
        seen = layout_picture(scene.layout) if picture is None else picture
        return self.prefix.start(self.encoder.inputs(prompt, answers, seen))


def load_llava(folder: Path, hardware: HardwareConfig, adapter: Path | None = None) -> tuple[Any, Any]:
    """Model (evaluation mode) and processor of a folder; safetensors only, no code of the folder is run.

    Raises:
        UserError: not one of `MODEL_TYPES`, or anything missing or not fitting.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    device = resolve_device(hardware)
    placing = {"device_map": "auto"} if hardware.offload != "none" else {}
    try:
        kind = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).model_type
        if kind not in MODEL_TYPES:
            raise UserError(f"planner.path {folder} holds a {kind!r}; it must be one of {', '.join(MODEL_TYPES)}")
        model: Any = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=resolve_dtype(hardware, device),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            **placing,
        )
        processor: Any = (onevision_processor() if kind == "llava_onevision" else AutoProcessor).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, backend="pil"
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise UserError(f"cannot load a LLaVA from {folder}: {' '.join(str(error).split())[:200]}") from None
    if adapter is not None:
        model = merge_adapter(model, adapter)
    if not placing:
        model = model.to(device)
    return model.eval().requires_grad_(False), processor


def onevision_processor() -> Any:
    """LLaVA-OneVision's processor without its part for videos, which needs torchvision."""
    from transformers import LlavaOnevisionProcessor

    class PictureProcessor(LlavaOnevisionProcessor):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return ["image_processor", "tokenizer"]

    return PictureProcessor


def merge_adapter(model: Any, adapter: Path) -> Any:
    """The model with a peft LoRA added to its weights.

    Raises:
        UserError: no safetensors there, or it does not fit.
    """
    from peft import PeftModel

    if not (adapter / "adapter_model.safetensors").is_file():
        raise UserError(f"planner.adapter {adapter} has no adapter_model.safetensors; name a peft LoRA folder")
    try:
        return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise UserError(f"planner.adapter {adapter} does not fit this LLaVA: {reason}") from None
