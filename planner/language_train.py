"""Fine-tuning of the planner on layout sequences: stage `language` of `smartscene train planner`.

One optimiser step sees `fit.batch_size` scenes; every scene brings its text-only answers (the trunk) and `branches`
answers that follow a picture (see `planner.examples.pack`). Only tower, projector and LoRA adapters are trained.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image, ImageDraw
from pydantic import Field
from torch import Tensor, nn

from planner.brief import Item
from planner.examples import Packed, pack
from planner.frames import load_frames
from planner.grammar import LINKS, Answer, Boxes
from planner.language_model import load_tokenizer, prepare
from planner.lessons import CorpusLessons, Lesson, Lessons
from planner.llava import LoraSettings, VisionConfig, add_lora, load_base, pixel_values
from planner.phrases import DATA, Phraser, load_phrases
from planner.places import PlaceConfig
from planner.prompt import Listing, PromptEncoder
from planner.weights import PlannerCard, export_planner, load_adapters, load_vision, read_card
from runtime.config import Config
from runtime.training import FitConfig
from runtime.weights import load_weights
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.seeds import derive_seed

if TYPE_CHECKING:
    from peft import PeftModel

log = logging.getLogger(__name__)


class PlannerTrainConfig(Config):
    """Root config of the language stage of `smartscene train planner` (configs/planner/park.yaml)."""

    stage: Literal["language"] = "language"
    vision: VisionConfig = VisionConfig()
    lora: LoraSettings = LoraSettings()
    tower: Path | None = None
    """Folder with `tower.safetensors` from stage 0 (`stage: vision`); None = start from nothing."""
    start: Path | None = None
    """Weight folder to go on from (tower, projector and adapters), such as pretrained/park/planner; None = afresh."""
    start_vision: bool = True
    """False: only adapters are taken from `start`; tower and projector come from `tower`."""
    freeze_vision: bool = False
    """Tower and projector stay as they are. At the adapters' learning rate they ran away on home: features of norm 133
    beside words of norm 3, and no picture was read any more (docs/experiments/planner.md)."""
    listing: Listing = "boxes"
    """What the list of objects so far tells; "names" leaves the boxes out: they must be read off the picture."""
    links: bool = False
    """Answers say how the new object stands to one that is there ("on coffee table"), before its box."""
    phrases: str | None = None
    """Phrase book in planner/data for further wordings ("home_phrases.yaml"); None = the corpus's prompts alone."""
    rephrase_share: float = Field(default=0.6, ge=0, le=1)
    """How often a prompt is worded by the phrase book, where there is one."""
    copies_share: float = Field(default=0.35, ge=0, le=1)
    """How often, of these, an object is repeated and its number told."""
    prune_share: float = Field(default=0.0, ge=0, le=1)
    """How often, where a prompt worded anew names something, the scene keeps little that it does not name: half of a
    corpus scene is not named, and a planner that learns from whole scenes puts the common before what is asked."""
    boxes: Boxes = "written"
    """"pointed": answers hold no digits, a place head decides (`stage: places`); give its folder as `places`."""
    places: Path | None = None
    """Folder of the place head's training run (its `export`), which becomes part of the weight folder."""
    brief: bool = False
    """The model writes down first what the prompt asks for (`planner.brief`)."""
    imagine_share: float = Field(default=0.0, ge=0, lt=1)
    """With `brief` and `phrases`: this share of the samples is about imagined objects, without pictures."""
    lexicon_share: float = Field(default=0.45, ge=0, le=1)
    """How many of these are a mere list of words."""
    frames: str | None = None
    """Natural prompts in planner/data whose things are exchanged ("home_frames.jsonl"); None = carriers alone."""
    frame_share: float = Field(default=0.6, ge=0, le=1)
    """With `frames`: this share of the other imagined lessons is worded by them."""
    branches: int = Field(default=3, ge=1)
    """Answers with a picture per scene."""
    trunk_weight: float = Field(default=0.5, ge=0)
    """Loss weight of the text-only answers beside 1 for those with a picture."""
    label_weight: float = Field(default=2.0, gt=0)
    """Further weight of tokens that decide the label or stop."""
    common_tokens: int = Field(default=4096, ge=0)
    """The loss normalises over every token that occurs in answers and this many of the most common ones (BPE ids count
    up from the most frequent), not over all 49152: an eighth of a step's time. Decoding is bound to the grammar anyway.
    0 = the whole vocabulary."""
    max_prompt_tokens: int = Field(default=96, ge=8)
    """Longer prompts are cut, in training and in use."""
    seed: int = 0
    """Initial weights and data order."""
    fit: FitConfig = FitConfig(
        batch_size=2, total_samples=1_000, learning_rate=5e-4, warmup_samples=40, ema_decay=None, weight_decay=0.0
    )


@dataclass(frozen=True)
class PackedScene:
    """A packed scene with the tower's input for each branch: pixels float32 (branches, 3, S, S)."""

    packed: Packed
    pixels: Tensor


class PackedLlava(nn.Module):
    """The adapted LLaVA with the loss of packed scenes.

    Args:
        llava: a `LlavaForConditionalGeneration`, wrapped by peft or not.
        classes: token ids over which the loss normalises, ascending; None = the whole vocabulary.
    """

    def __init__(self, llava: nn.Module, classes: np.ndarray | None = None) -> None:
        super().__init__()
        self.llava = llava
        size = self.plain.config.text_config.vocab_size
        self.classes = torch.arange(size) if classes is None else torch.from_numpy(classes)
        self._column: Tensor = torch.full((size,), -1).scatter(0, self.classes, torch.arange(len(self.classes)))

    @property
    def plain(self) -> Any:
        """The LLaVA inside, adapters included."""
        unwrap: Any = getattr(self.llava, "get_base_model", None)
        return unwrap() if unwrap else self.llava

    def logits(self, scene: PackedScene) -> tuple[Tensor, Tensor, Tensor]:
        """Answer positions only, so that the 49152-way head runs on few tokens.

        Returns:
            logits (N, C) over `classes`, targets (N,) as columns of these, weights (N,).
        """
        packed = scene.packed
        hidden = self.plain.model(
            input_ids=torch.from_numpy(packed.ids)[None],
            pixel_values=scene.pixels if len(scene.pixels) else None,
            attention_mask=torch.from_numpy(packed.visible)[None, None],
            position_ids=torch.from_numpy(packed.positions)[None],
            use_cache=False,
        ).last_hidden_state[0]
        rows = torch.from_numpy(np.flatnonzero(packed.targets >= 0))
        targets, weights = torch.from_numpy(packed.targets)[rows], torch.from_numpy(packed.weights)[rows]
        head = self.plain.lm_head.weight
        head = head if len(self.classes) == len(head) else head[self.classes]
        return nn.functional.linear(hidden[rows], head), self._column[targets], weights

    def forward(self, scenes: Sequence[PackedScene]) -> tuple[Tensor, dict[str, float]]:
        """Weighted mean cross entropy over all answers of all scenes, and what to log.

        Scenes run one by one: they differ in length, and padding would cost more than batching saves on a CPU.
        """
        total, mass = torch.zeros(()), torch.zeros(())
        right, labels, nats, tokens = 0.0, 0, 0.0, 0
        for scene in scenes:
            logits, targets, weights = self.logits(scene)
            losses = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
            total, mass = total + (losses * weights).sum(), mass + weights.sum()
            heavy = weights >= 1.5  # label tokens of answers with a picture
            right += float((logits.argmax(-1) == targets)[heavy].sum())
            labels += int(heavy.sum())
            nats += float(losses.detach()[heavy].sum())
            tokens += len(scene.packed.ids)
        facts = {"label_accuracy": right / max(1, labels), "label_loss": nats / max(1, labels), "tokens": float(tokens)}
        return total / mass, facts


class PlannerTask:
    """`runtime.training.TrainingTask` of the planner.

    Args:
        config: settings.
        lessons: where samples come from.
        model: an adapted LLaVA; None = SmolLM2 from the cache with fresh adapters.
        encoder: tokens; None = SmolLM2's.
    """

    def __init__(
        self,
        config: PlannerTrainConfig,
        lessons: Lessons,
        *,
        model: PeftModel | None = None,
        encoder: PromptEncoder | None = None,
    ) -> None:
        self.config, self.lessons = config, lessons
        self.encoder = encoder or PromptEncoder(
            load_tokenizer(prepare()),
            config.vision.image_tokens,
            config.max_prompt_tokens,
            config.listing,
            config.boxes,
        )
        llava = model if model is not None else fresh_model(config)
        self.model: nn.Module = PackedLlava(llava, self._classes() if config.common_tokens else None)

    def _classes(self) -> np.ndarray:
        """Ids of every token in any answer, and the most common ones."""
        used = set(range(self.config.common_tokens))
        for answer in self.lessons.answers():
            used.update(self.encoder.line(answer))
            used.update(self.encoder.listed(answer))
        if self.config.brief:
            for label in self.lessons.vocabulary.labels:
                used.update(self.encoder.listed(Answer(label=label)))
                asked = [Item(label, 2, (word, label)) for word in LINKS]
                used.update(token for item in asked for token in self.encoder.brief([item, item]))
            used.update(self.encoder.brief([]))
        return np.asarray(sorted(used), dtype=np.int64)

    def scene(self, number: int) -> PackedScene:
        """Packed scene of global sample `number`."""
        return self.packed(self.lessons.lesson(number, self.config.seed, self.config.branches))

    def packed(self, lesson: Lesson) -> PackedScene:
        """A lesson as tokens and pixels."""
        packed = pack(
            self.encoder,
            lesson.prompt,
            lesson.answers,
            lesson.steps,
            self.config.trunk_weight,
            self.config.label_weight,
            brief=lesson.brief,
            pictured=bool(lesson.pictures),
        )
        side = self.config.vision.image_size_px
        pixels = [pixel_values(each, self.config.vision) for each in lesson.pictures]
        return PackedScene(packed, torch.stack(pixels) if pixels else torch.zeros(0, 3, side, side))

    def batch(self, samples: Sequence[int]) -> list[PackedScene]:
        """One packed scene per sample number."""
        return [self.scene(number) for number in samples]

    def loss(self, model: nn.Module, batch: list[PackedScene]) -> tuple[Tensor, dict[str, float]]:
        """Weighted mean cross entropy of the answers."""
        result: tuple[Tensor, dict[str, float]] = model(batch)
        return result

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Teacher-forced answers of four scenes as text: what the model would say where, and what was right."""
        lines = []
        for number in range(4):
            scene = self.scene(number)
            logits, targets, weights = model.logits(scene)  # type: ignore[operator]
            heavy = weights >= 1.0
            for name, ids in (("right", targets[heavy]), ("says ", logits.argmax(-1)[heavy])):
                tokens = model.classes[ids].tolist()  # type: ignore[operator, index]
                lines.append(f"{name}: {self.encoder.decode(tokens)!r}"[:190])
            lines.append("")
        image = Image.new("RGB", (1200, 14 * len(lines) + 12), (255, 255, 255))
        ImageDraw.Draw(image).multiline_text((6, 6), "\n".join(lines), fill=(0, 0, 0))
        image.save(path)

    def export(self, model: nn.Module, out: Path) -> None:
        """Write the weight folder (see `planner.weights`)."""
        vocabulary = self.lessons.vocabulary
        card = PlannerCard(
            vision=self.config.vision,
            lora=self.config.lora,
            max_prompt_tokens=self.config.max_prompt_tokens,
            world=vocabulary.name,
            vocabulary=vocabulary.entries,
            fixed_descriptions=dict(self.lessons.fixed),
            usual_descriptions=dict(self.lessons.usual),
            licence=self.lessons.licence,
            listing=self.config.listing,
            links=self.config.links,
            boxes=self.config.boxes,
            places=place_config(self.config.places) if self.config.places else None,
            brief=self.config.brief,
        )
        export_planner(model.llava, card, out, self.config.places)  # type: ignore[arg-type]


def place_config(folder: Path) -> PlaceConfig:
    """Sizes of an exported place head.

    Raises:
        UserError: there is none.
    """
    try:
        return PlaceConfig.model_validate_json((folder / "places.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"no place head in {folder}; train one (configs/planner/places_*.yaml), or set places=null"
        ) from None


def corpus_lessons(config: PlannerTrainConfig, corpus: Corpus, split: str = "train") -> CorpusLessons:
    """Lessons of a corpus as the config wants them."""
    phraser = None
    if config.phrases is not None:
        phraser = Phraser(load_phrases(DATA / config.phrases), corpus.vocabulary)
    return CorpusLessons(
        corpus,
        split,
        links=config.links,
        phraser=phraser,
        rephrase_share=config.rephrase_share,
        copies_share=config.copies_share,
        prune_share=config.prune_share,
        briefs=config.brief,
        imagine_share=config.imagine_share,
        lexicon_share=config.lexicon_share,
        frames=load_frames(DATA / config.frames) if config.frames is not None else (),
        frame_share=config.frame_share,
    )


def fresh_model(config: PlannerTrainConfig) -> PeftModel:
    """SmolLM2 with new adapters, and what `config.start` or else `config.tower` brings.

    Raises:
        UserError: a folder is missing or does not fit the config.
    """
    llava = load_base(config.vision, seed=derive_seed(config.seed, "llava") % 2**32)
    if config.start is not None:
        card = read_card(config.start)
        if card.vision != config.vision or card.lora != config.lora:
            raise UserError(f"{config.start} has other vision or lora settings; copy them from its planner.json")
        if config.start_vision:
            load_vision(llava, config.start)
    if config.tower is not None and not (config.start is not None and config.start_vision):
        file = config.tower / "tower.safetensors"
        if not file.is_file():
            raise UserError(f"no {file}; train it with configs/planner/vision.yaml first, or set tower=null")
        load_weights(llava.model.vision_tower, file)
        if (config.tower / "projector.safetensors").is_file():
            load_weights(llava.model.multi_modal_projector, config.tower / "projector.safetensors")
    if config.fit.precision == "bf16":
        llava.model.language_model.to(torch.bfloat16)  # frozen: half the memory traffic, and no cast at every use
    model = add_lora(llava, config.lora, seed=derive_seed(config.seed, "lora") % 2**32)
    if config.start is not None:
        load_adapters(model, config.start)
    if config.freeze_vision:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = parameter.requires_grad and "lora_" in name
    return model
