"""Fitting of what tells which readings to take (`planner.acceptance`): `smartscene train planner`, stage `acceptance`.

It reads marked prompts (`planner.frames`) with a world's parser and reverse dictionary, neither of which may have
learned from them, and asks of every part of a prompt that the dictionary was asked about whether it covers a marked
thing and means it. Loss: cross entropy, and the squared weights of standardised facts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from planner.acceptance import EVIDENCE, NAME, Candidate, candidates
from planner.circumlocution import LEAST
from planner.descriptions import ReverseDictionary
from planner.frames import Frame, Thing
from planner.parser import PromptParser
from planner.text_sheets import text_sheet
from runtime.config import Config
from runtime.files import write_json
from runtime.fit_config import FitConfig
from scene.errors import UserError
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary

AGAINST = ("nothing", "bare", "kind_last", "kind_of_person", "kind_verb", "with_name", "beside", "unfinished", "who")
"""Facts that never speak for a reading; a few hundred prompts can make it seem so."""
COVERED = 0.6  # intersection over union, in letters, from which on a part stands for a marked thing


class AcceptanceTrainConfig(Config):
    """Root config of the acceptance stage of `smartscene train planner` (configs/planner/acceptance_home.yaml)."""

    stage: Literal["acceptance"] = "acceptance"
    world: Path
    """World file: names of things."""
    weights: Path
    """Folder with the world's parser and reverse dictionary."""
    held_out: int = Field(default=0, ge=0)
    """Every so manieth prompt is measured on instead of learned from; 0 = learn from all."""
    shrink: float = Field(default=2e-3, ge=0)
    """Times the squared weights of the standardised facts."""
    seed: int = 0
    """Data order."""
    fit: FitConfig = FitConfig(batch_size=1024, total_samples=800_000, learning_rate=0.02, ema_decay=None)


class AcceptanceTask:
    """`runtime.training.TrainingTask` of the acceptance.

    Args:
        config: settings.
        frames: marked prompts.
        parser, dictionary: the world's; None = those of `config.weights`.
    """

    def __init__(
        self,
        config: AcceptanceTrainConfig,
        frames: Sequence[Frame],
        parser: PromptParser | None = None,
        dictionary: ReverseDictionary | None = None,
    ) -> None:
        self.config = config
        parser, dictionary = (
            parser or PromptParser.load(config.weights),
            dictionary or ReverseDictionary.load(config.weights),
        )
        if parser is None or dictionary is None:
            raise UserError(f"{config.weights} holds no parser and reverse dictionary; train these first")
        vocabulary = Vocabulary.load(config.world)
        facts: tuple[list[Sequence[float]], ...] = ([], [])
        right: tuple[list[float], ...] = ([], [])
        for number, frame in enumerate(tqdm(frames, "reading the prompts, once", disable=None, leave=False)):
            apart = bool(config.held_out) and number % config.held_out == 0
            for candidate, truth in judged(frame, parser, dictionary, vocabulary):
                facts[apart].append(candidate.evidence)
                right[apart].append(truth)
        if len(set(right[0])) < 2:
            raise UserError("too few marked prompts: no part of them is described, or nothing else is")
        self.facts, self.unseen = (torch.tensor(rows).view(-1, len(EVIDENCE)) for rows in facts)
        self.right, self.unseen_right = (torch.tensor(rows) for rows in right)
        self.mean, self.spread = self.facts.mean(0), self.facts.std(0) + 1e-3
        self.order = lru_cache(maxsize=2)(self._shuffled)
        self.against = [EVIDENCE.index(name) for name in AGAINST]
        self.linear = nn.Linear(len(EVIDENCE), 1)
        for parameter in self.linear.parameters():
            nn.init.zeros_(parameter)
        self.model: nn.Module = self.linear

    def batch(self, samples: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Standardised facts (N, facts) and whether the reading is right (N,); every one once an epoch."""
        rows = []
        for number in samples:
            epoch, index = divmod(number, len(self.right))
            rows.append(self.order(epoch)[index])
        return (self.facts[rows] - self.mean) / self.spread, self.right[rows]

    def _shuffled(self, epoch: int) -> list[int]:
        rng = random.Random(derive_seed(self.config.seed, "order", epoch))
        return rng.sample(range(len(self.right)), len(self.right))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Cross entropy and size of the weights."""
        facts, right = batch
        with torch.no_grad():
            self.linear.weight[:, self.against] = self.linear.weight[:, self.against].clamp(max=0)
        entropy = functional.binary_cross_entropy_with_logits(model(facts)[:, 0], right)
        return entropy + self.config.shrink * self.linear.weight.square().sum(), {"entropy": entropy.item()}

    @torch.no_grad()
    def validation(self) -> dict[str, float]:
        """Of the readings of prompts held out: how many of the right ones are taken, and how many of those taken are
        right."""
        if not len(self.unseen_right):
            return {}
        taken = self.linear((self.unseen - self.mean) / self.spread)[:, 0].sigmoid() >= LEAST
        hits = float((taken * self.unseen_right).sum())
        found = {
            "recall": hits / max(1.0, float(self.unseen_right.sum())),
            "precision": hits / max(1, int(taken.sum())),
        }
        return {name: round(value, 4) for name, value in found.items()}

    def sheet(self, model: nn.Module, path: Path) -> None:
        """The weights of the standardised facts; figures in `validation.jsonl`."""
        rows = zip(EVIDENCE, self.linear.weight[0].tolist(), strict=True)
        lines = [f"{name:16} {weight:+.2f}" for name, weight in sorted(rows, key=lambda row: -abs(row[1]))]
        text_sheet(path, lines, "", self.validation(), 300)

    def export(self, model: nn.Module, out: Path) -> None:
        """Write `acceptance.json`, for facts as they are."""
        out.mkdir(parents=True, exist_ok=True)
        weights = (self.linear.weight[0] / self.spread).detach()
        weights[self.against] = weights[self.against].clamp(max=0)
        bias = float(self.linear.bias[0].detach() - (weights * self.mean).sum())
        told = {name: round(weight, 5) for name, weight in zip(EVIDENCE, weights.tolist(), strict=True)}
        write_json(out / NAME, {"weights": told, "bias": round(bias, 5)})


def judged(
    frame: Frame, parser: PromptParser, dictionary: ReverseDictionary, vocabulary: Vocabulary
) -> Iterator[tuple[Candidate, float]]:
    """Candidates of a marked prompt and whether they are right, 1 or 0. A thing told by its label needs no reading, so
    one that comes to the same is neither."""
    marked = list(_placed(frame))
    known = [(start, end, thing.label) for start, end, thing in marked if thing.how != "label" and thing.label]
    for found in candidates(frame.prompt, parser.spans(frame.prompt), vocabulary, dictionary, known):
        meant = [thing for start, end, thing in marked if _overlap(found, start, end) >= COVERED]
        right = any(found.label in (thing.label, *thing.also) for thing in meant)
        if found.label in [each.label for each in found.within] or (right and meant[0].how == "label"):
            continue
        yield found, float(right)


def _placed(frame: Frame) -> Iterator[tuple[int, int, Thing]]:
    at = 0
    for thing in frame.things:
        start = frame.prompt.index(thing.said, at)
        at = start + len(thing.said)
        yield start, at, thing


def _overlap(found: Candidate, start: int, end: int) -> float:
    """Intersection over union of two parts, in letters."""
    return max(0, min(end, found.end) - max(start, found.start)) / (max(end, found.end) - min(start, found.start))
