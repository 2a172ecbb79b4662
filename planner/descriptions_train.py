"""Training of the reverse dictionary (`planner.descriptions`): `smartscene train planner`, stage `descriptions`.

It learns from written descriptions (`planner/data/home_descriptions`, a YAML file a writer), from things called by
their names in all sorts of company (so that "a chair with a red cushion" stays a chair), and from what marked prompts
(`planner.frames`) describe or call by another name. With most of them stand other things, as they do in those prompts.
W starts from the mean vector of every label's texts (of "none": from K-means) and is held near it; without that, rows
of 50 sentences learn these by heart.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import yaml
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from planner.descriptions import MOST_COMPANY, NAME, DictionarySize, ReverseDictionary, company
from planner.frames import load_frames
from planner.phrases import DATA
from planner.text_sheets import text_sheet
from planner.tuned_encoder import WIDTH
from runtime.config import Config
from runtime.files import write_json
from runtime.fit_config import FitConfig
from runtime.weights import save_weights
from scene.errors import UserError
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary
from scene.words import reading_words

SHEET_ROWS = 40
ARTICLES = ("a", "the", "that", "one", "some", "those", "my", "our", "his")
KINDS = (
    "red", "blue", "green", "white", "black", "grey", "yellow", "old", "new", "big", "small", "tiny", "huge", "tall",
    "long", "little", "wooden", "plain", "striped", "shabby", "lovely",
)  # fmt: skip
COMPANY = (
    "with a", "with two", "without a", "next to a", "beside the", "near the", "by the", "on a", "on top of a",
    "in front of the", "behind a", "under the", "below the", "above a", "facing the", "for the", "and a", "and the",
)  # fmt: skip
AFTERWARDS = (
    "in the corner", "by the window", "against the wall", "in the middle", "on the left", "at the back", "in front",
    "for the kids", "that my aunt gave us", "we bought last year", "that nobody uses", "which is broken", "I like best",
    "from the flea market", "",
)  # fmt: skip
_FILE = TypeAdapter(dict[str, list[str]])


class Told(NamedTuple):
    """A description, what it means ("" = nothing), and whose it is."""

    label: str
    said: str
    writer: str


def read_descriptions(folder: Path) -> list[Told]:
    """All descriptions of a folder of YAML files, one a writer: `label: ["...", "..."]`, under "" what is none.

    Raises:
        UserError: no such folder, or a file is not of that form.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise UserError(
            f"no descriptions in {folder}; give a folder of YAML files, such as planner/data/home_descriptions"
        )
    found = []
    for file in files:
        try:
            said = _FILE.validate_python(yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader))
        except (OSError, yaml.YAMLError, ValidationError) as error:
            problem = str(error).splitlines()[0]
            raise UserError(f"{file} must hold lists of texts by label ({problem[:80]})") from None
        found += [Told(label, text, file.stem) for label, texts in said.items() for text in texts]
    return found


def by_label(told: Iterable[Told]) -> dict[str, list[str]]:
    """Label -> descriptions; what means nothing is left out."""
    found: dict[str, list[str]] = {}
    for each in told:
        if each.label:
            found.setdefault(each.label, []).append(each.said)
    return found


class DescriptionsTrainConfig(Config):
    """Root config of the descriptions stage of `smartscene train planner` (configs/planner/descriptions_home.yaml)."""

    stage: Literal["descriptions"] = "descriptions"
    size: DictionarySize = DictionarySize()
    held_out: str | None = None
    """A writer (file name without ending) to measure on instead of learning from; None = learn from all."""
    anchor: float = Field(default=1e-3, ge=0)
    """How strongly W is held to where it starts: times its squared distance."""
    world: Path | None = None
    """World file whose names for the labels go into the `plain` texts; None = neither these nor `frames`."""
    plain: int = Field(default=8, ge=0)
    """So many texts a label that call it by a name; needs `world`."""
    frames: str | None = None
    """Marked prompts in planner/data; things that they describe or call by another name are learned, too, and those
    that no label fits are none (`planner.frames`); needs `world`."""
    company: float = Field(default=0.6, ge=0, le=1)
    """So many of the texts have other things beside them, from a frame with the same label; needs `frames`."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """So much of the target is spread over all labels: descriptions are seldom of one thing alone."""
    seed: int = 0
    """Data order and the rows of "none"."""
    fit: FitConfig = FitConfig(batch_size=64, total_samples=200_000, learning_rate=1e-3, ema_decay=None)


class DescriptionsTask:
    """`runtime.training.TrainingTask` of the reverse dictionary.

    Args:
        config: settings.
        told: `read_descriptions`.
    """

    def __init__(self, config: DescriptionsTrainConfig, told: Sequence[Told]) -> None:
        self.config = config
        told = [*told, *_company(config, told)]
        labels = list(dict.fromkeys(each.label for each in told if each.label))
        if config.held_out is not None and config.held_out not in {each.writer for each in told}:
            raise UserError(f"held_out={config.held_out}: there is no such writer among the descriptions")
        self.told = [each for each in told if each.writer != config.held_out]
        self.unseen = [each for each in told if each.writer == config.held_out]
        self.company = _companies(config, labels)
        self.batches = lru_cache(maxsize=2)(self._batches)
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(config.seed, "dictionary"))
            self.dictionary = ReverseDictionary(labels, config.size)
        self.places = {label: at for at, label in enumerate((*labels, ""))}
        self._start()
        self.anchor = self.dictionary.weight.detach().clone()
        self.model: nn.Module = self.dictionary

    @torch.no_grad()
    def _start(self) -> None:
        """Rows at the means of what they should tell."""
        order = sorted(range(len(self.told)), key=lambda row: len(self.told[row].said))
        vectors, step = torch.zeros(len(order), WIDTH), 128
        for at in tqdm(range(0, len(order), step), "reading the descriptions, once", disable=None, leave=False):
            rows = order[at : at + step]
            vectors[rows] = self.dictionary.vectors([(self.told[row].said, "") for row in rows])
        count = len(self.dictionary.labels)
        targets = torch.tensor([self.places[each.label] for each in self.told])
        named, none = targets < count, vectors[targets == count]
        sums = torch.zeros(count, WIDTH).index_add(0, targets[named], vectors[named])
        self.dictionary.weight[:count] = functional.normalize(sums, dim=1)
        if len(none):
            self.dictionary.weight[count:] = _means(none, self.config.size.nothings, self.config.seed)

    def batch(self, samples: Sequence[int]) -> tuple[list[tuple[str, str]], Tensor]:
        """Descriptions with their company, and places of labels (N,); every description once an epoch."""
        texts, places = [], []
        for number in samples:
            epoch, index = divmod(number, len(self.told))
            each = self.told[self.batches(epoch)[index]]
            texts.append((each.said, self._beside(each.label, number)))
            places.append(self.places[each.label])
        return texts, torch.tensor(places)

    def _beside(self, label: str, number: int) -> str:
        """Things that stand with one of that label; with "none", with any."""
        rng = random.Random(derive_seed(self.config.seed, "company", number))
        around = self.company.get(label, ())
        if not around or rng.random() >= self.config.company:
            return ""
        others = rng.choice(around)
        return company(rng.sample(others, min(len(others), rng.randint(1, MOST_COMPANY))))

    def _batches(self, epoch: int) -> list[int]:
        """Rows of an epoch in its order; neighbours are about equally long, so that little is read for nothing."""
        rng, size = random.Random(derive_seed(self.config.seed, "order", epoch)), self.config.fit.batch_size
        order = rng.sample(range(len(self.told)), len(self.told))
        parts = [order[at : at + 20 * size] for at in range(0, len(order), 20 * size)]
        batches = [batch for part in parts for batch in self._alike(part, size)]
        rng.shuffle(batches)
        return [row for batch in batches for row in batch]

    def _alike(self, rows: Sequence[int], size: int) -> Iterator[list[int]]:
        by_length = sorted(rows, key=lambda row: len(self.told[row].said))
        for at in range(0, len(by_length), size):
            yield by_length[at : at + size]

    def loss(self, model: nn.Module, batch: tuple[list[tuple[str, str]], Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Cross entropy, and the distance from the start."""
        texts, targets = batch
        entropy = functional.cross_entropy(model(texts), targets, label_smoothing=self.config.label_smoothing)
        drift = (self.dictionary.weight - self.anchor).square().sum()
        return entropy + self.config.anchor * drift, {"entropy": entropy.item(), "drift": drift.item()}

    @torch.no_grad()
    def validation(self) -> dict[str, float]:
        """Of the held-out writer's descriptions, alone, the share with the label likeliest, or among the likeliest 3,
        10."""
        if not self.unseen:
            return {}
        self.dictionary.eval()
        truth = torch.tensor([self.places[each.label] for each in self.unseen])[:, None]
        texts = [(each.said, "") for each in self.unseen]
        read = torch.cat([self.dictionary(texts[at : at + 128]) for at in range(0, len(texts), 128)])
        best = read.topk(min(10, read.shape[1]), dim=1).indices == truth
        return {f"top_{k}": round(best[:, :k].any(1).float().mean().item(), 4) for k in (1, 3, 10)}

    def sheet(self, model: nn.Module, path: Path) -> None:
        """What some of the held-out writer's descriptions are taken for; figures in `validation.jsonl`."""
        self.dictionary.eval()
        lines = []
        for each in self.unseen[:: max(1, len(self.unseen) // SHEET_ROWS)]:
            chances = self.dictionary.chances.__wrapped__(each.said)
            label = max(chances, key=chances.__getitem__)
            right = "" if label == each.label else f"({each.label}) "
            lines.append(f"{chances[label]:.2f} {label or '-':20} {right}{each.said}"[:150])
        text_sheet(path, lines, "no writer held out", self.validation(), 1000)
        self.dictionary.train()

    def export(self, model: nn.Module, out: Path) -> None:
        """Write `descriptions.safetensors`, what has been learned alone, and labels and sizes beside it."""
        out.mkdir(parents=True, exist_ok=True)
        save_weights(self.dictionary.learned(), out / f"{NAME}.safetensors")
        write_json(
            out / f"{NAME}.json",
            {"labels": list(self.dictionary.labels), "size": self.config.size.model_dump()},
        )


def _companies(config: DescriptionsTrainConfig, labels: Sequence[str]) -> dict[str, list[list[str]]]:
    """Label -> what else the marked prompts with it name; under "" what any of them does."""
    found: dict[str, list[list[str]]] = {}
    for frame in load_frames(DATA / config.frames) if config.frames else ():
        named = [thing.label for thing in frame.things if thing.label in labels]
        for label in {*named, ""}:
            others = [other for other in named if other != label]
            if others:
                found.setdefault(label, []).append(others)
    return found


def _company(config: DescriptionsTrainConfig, told: Sequence[Told]) -> list[Told]:
    """Things called by their names, and what marked prompts call them."""
    if config.world is None:
        return []
    vocabulary, rng = Vocabulary.load(config.world), random.Random(derive_seed(config.seed, "plain"))
    known = reading_words(vocabulary.name).words
    labels = [label for label in dict.fromkeys(each.label for each in told) if label in vocabulary.labels]
    found = []
    for label in labels:
        names = [*[label] * 3, *vocabulary.synonyms(label), *known.get(label, ())]
        for _ in range(config.plain):
            said = f"{rng.choice(ARTICLES)} {f'{rng.choice(KINDS)} ' if rng.random() < 0.4 else ''}{rng.choice(names)}"
            chance = rng.random()
            if chance < 0.35:
                said += f" {rng.choice(COMPANY)} {rng.choice(labels)}"
            elif chance < 0.7:
                said += f" {rng.choice(AFTERWARDS)}"
            found.append(Told(label, said.strip(), ""))
    for frame in load_frames(DATA / config.frames) if config.frames else ():
        told_so = [thing for thing in frame.things if thing.how in ("described", "word")]
        found += [Told(thing.label, thing.said, "") for thing in told_so if thing.label in (*labels, "")]
    return found


def _means(vectors: Tensor, count: int, seed: int, rounds: int = 10) -> Tensor:
    """Spherical K-means: (count, D)."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "none"))
    means = vectors[torch.randint(len(vectors), (count,), generator=generator)]
    for _ in range(rounds):
        nearest = (vectors @ means.T).argmax(1)
        means = functional.normalize(torch.zeros_like(means).index_add(0, nearest, vectors) + 1e-6 * means, dim=1)
    return means
