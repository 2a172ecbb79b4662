"""Training of the prompt parser (`planner.parser`): `smartscene train planner`, stage `parser`.

It learns from prompts with their things marked (`planner.frames`), put into other words for every sample
(`planner.marked`); every `held_out`-th frame is kept for the figures. Loss: cross entropy of the tags, and of the
relations of the related pairs and of as many as `UNRELATED` others a prompt.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from planner.frames import load_frames
from planner.marked import Marked, marked_anew, marked_as_is
from planner.parser import (
    FIRST,
    FURTHER,
    NAME,
    OUTSIDE,
    RELATIONS,
    ParserSize,
    Phrase,
    PromptParser,
    marked,
    tokens_of,
)  # fmt: skip
from planner.phrases import DATA, Phraser, load_phrases
from planner.text_sheets import text_sheet
from planner.tuned_encoder import WIDTH
from runtime.config import Config
from runtime.files import write_json
from runtime.fit_config import FitConfig
from runtime.weights import save_weights
from scene.errors import UserError
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary

UNRELATED = 3
SHEET_ROWS = 40
IGNORED = -100


class ParserTrainConfig(Config):
    """Root config of the parser stage of `smartscene train planner` (configs/planner/parser_home.yaml)."""

    stage: Literal["parser"] = "parser"
    size: ParserSize = ParserSize()
    world: Path
    """World file: names of things."""
    phrases: str = "home_phrases.yaml"
    """Phrase book in planner/data: other names."""
    frames: str = "home_frames.jsonl"
    """Marked prompts in planner/data."""
    held_out: int = Field(default=20, ge=0)
    """Every so manieth frame is measured on instead of learned from; 0 = learn from all."""
    seed: int = 0
    """Of weights, words and order."""
    fit: FitConfig = FitConfig(batch_size=24, total_samples=40_000, learning_rate=1.5e-3, ema_decay=None)


class Batch(NamedTuple):
    """States (N, T, 384) with their lengths and tags (N, T), `IGNORED` behind them; of each pair (P,) its row in
    these, its marks (P, T) and its relation."""

    lower: Tensor
    lengths: Tensor
    tags: Tensor
    rows: Tensor
    marks: Tensor
    relations: Tensor


class ParserTask:
    """`runtime.training.TrainingTask` of the prompt parser.

    Args:
        config: settings.
        told: label -> descriptions of it.
    """

    def __init__(self, config: ParserTrainConfig, told: Mapping[str, Sequence[str]]) -> None:
        vocabulary = Vocabulary.load(config.world)
        self.config, self.told = config, told
        self.phraser = Phraser(load_phrases(DATA / config.phrases), vocabulary)
        frames = load_frames(DATA / config.frames)
        if any(thing.label and thing.label not in vocabulary.labels for frame in frames for thing in frame.things):
            raise UserError(f"{config.frames} names things that {config.world} does not have; give the world it is of")
        kept = [bool(config.held_out) and number % config.held_out == 0 for number in range(len(frames))]
        self.frames = [frame for frame, apart in zip(frames, kept, strict=True) if not apart]
        self.unseen = [marked_as_is(frame) for frame, apart in zip(frames, kept, strict=True) if apart]
        self.order = lru_cache(maxsize=2)(self._shuffled)
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(config.seed, "parser"))
            self.model: nn.Module = PromptParser(config.size)

    def sample(self, number: int) -> Marked:
        """Prompt of a global sample number."""
        rng = random.Random(derive_seed(self.config.seed, "marked", number))
        epoch, at = divmod(number, len(self.frames))
        return marked_anew(self.frames[self.order(epoch)[at]], self.phraser, self.told, rng)

    def _shuffled(self, epoch: int) -> list[int]:
        """Frames of an epoch in its order."""
        order = list(range(len(self.frames)))
        random.Random(derive_seed(self.config.seed, "order", epoch)).shuffle(order)
        return order

    def batch(self, samples: Sequence[int]) -> Batch:
        """See `Batch`."""
        return self._batch([self.sample(number) for number in samples], random.Random(samples[0]))

    def _batch(self, prompts: Sequence[Marked], rng: random.Random) -> Batch:
        assert isinstance(self.model, PromptParser)
        encoded = self.model.encoded([prompt.text for prompt in prompts])
        longest = max(len(each.offsets) for each in encoded)
        lower = torch.zeros(len(prompts), longest, WIDTH)
        tags = torch.full((len(prompts), longest), IGNORED)
        rows, marks, relations = [], [], []
        for row, (prompt, each) in enumerate(zip(prompts, encoded, strict=True)):
            places = [tokens_of(each.offsets, *phrase) for phrase in prompt.phrases]
            lower[row, : len(each.offsets)] = each.states
            tags[row, : len(each.offsets)] = _tags(len(each.offsets), places)
            for pair in self._pairs(prompt, places, rng):
                rows.append(row)
                marks.append(marked(longest, places, *pair))
                relations.append(prompt.relations.get(pair, 0))
        lengths = torch.tensor([len(each.offsets) for each in encoded])
        shown = torch.stack(marks) if marks else torch.zeros(0, longest, dtype=torch.long)
        return Batch(lower, lengths, tags, torch.tensor(rows, dtype=torch.long), shown, torch.tensor(relations))

    def _pairs(self, prompt: Marked, places: Sequence[Phrase | None], rng: random.Random) -> list[tuple[int, int]]:
        known = [number for number, place in enumerate(places) if place is not None]
        pairs = [(i, j) for at, i in enumerate(known) for j in known[at + 1 :]]
        others = [pair for pair in pairs if pair not in prompt.relations]
        related = [pair for pair in pairs if pair in prompt.relations]
        return related + rng.sample(others, min(UNRELATED, len(others)))

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Cross entropy of tags and relations."""
        some = bool(len(batch.rows))  # a GRU reads at least one pair
        rows = batch.rows if some else torch.zeros(1, dtype=torch.long)
        marks = batch.marks if some else torch.zeros(1, batch.tags.shape[1], dtype=torch.long)
        tags, told = model(batch.lower, batch.lengths, rows, marks)
        cut = functional.nll_loss(tags.flatten(0, 1), batch.tags.flatten(), ignore_index=IGNORED)
        related = functional.nll_loss(told, batch.relations) if some else told.sum() * 0
        return cut + related, {"cut": cut.item(), "related": related.item()}

    @torch.no_grad()
    def validation(self) -> dict[str, float]:
        """On the frames held out, as they were written: recall and precision of things (exactly the phrase) and of
        relations (between the phrases as they are marked)."""
        assert isinstance(self.model, PromptParser)
        right, truth, found = [0, 0], [0, 0], [0, 0]  # things, relations
        for prompt in self.unseen:
            best = {(span.start, span.end) for span in self.model.best(prompt.text)}
            told, said = self.model.related(prompt.text, prompt.phrases), _as_told(prompt)
            right[0] += len(best & set(prompt.phrases))
            right[1] += sum(said.get(pair) == word for pair, (word, _) in told.items())
            truth = [truth[0] + len(prompt.phrases), truth[1] + len(said)]
            found = [found[0] + len(best), found[1] + len(told)]
        figures = {}
        for number, name in enumerate(("thing", "relation")):
            figures[f"{name}_recall"] = round(right[number] / max(1, truth[number]), 4)
            figures[f"{name}_precision"] = round(right[number] / max(1, found[number]), 4)
        return figures

    def sheet(self, model: nn.Module, path: Path) -> None:
        """What some of the frames held out are taken to say; figures in `validation.jsonl`."""
        assert isinstance(self.model, PromptParser)
        self.model.eval()
        lines = []
        for prompt in self.unseen[:SHEET_ROWS]:
            spans = self.model.best(prompt.text)
            related = self.model.related(prompt.text, [(span.start, span.end) for span in spans])
            lines += [prompt.text, "    " + " | ".join(prompt.text[span.start : span.end] for span in spans)]
            lines.append("    " + ", ".join(f"{i + 1} {word} {j + 1}" for (i, j), (word, _) in related.items()))
        text_sheet(path, [line[:190] for line in lines], "no frame held out", self.validation(), 1200)
        self.model.train()

    def export(self, model: nn.Module, out: Path) -> None:
        """Write `parser.safetensors`, what has been learned alone, and the sizes beside it."""
        assert isinstance(self.model, PromptParser)
        out.mkdir(parents=True, exist_ok=True)
        save_weights(self.model.learned(), out / f"{NAME}.safetensors")
        write_json(out / f"{NAME}.json", self.config.size.model_dump())


def _tags(length: int, places: Sequence[Phrase | None]) -> Tensor:
    """int64 (length,)."""
    tags = torch.full((length,), OUTSIDE)
    for place in places:
        if place is not None:
            tags[place[0]], tags[place[0] + 1 : place[1]] = FIRST, FURTHER
    return tags


def _as_told(prompt: Marked) -> dict[tuple[int, int], str]:
    """Relations as `PromptParser.related` gives them."""
    found = {}
    for (i, j), place in prompt.relations.items():
        word = RELATIONS[place]
        found[(j, i) if word.endswith(" <") else (i, j)] = word.removesuffix(" <")
    return found
