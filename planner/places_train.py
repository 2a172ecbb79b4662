"""Stage `places`: the place head learns where objects stand in the layout pictures of a corpus."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageDraw
from pydantic import Field
from torch import Tensor, nn

from perception.boxes import Places, stack_boxes
from planner.geneva import counted_turns
from planner.grammar import CELLS, Cells
from planner.language_model import load_state, load_tokenizer, prepare
from planner.lessons import CorpusLessons
from planner.links import prompt_links
from planner.listener import Said, said_about
from planner.phrases import DATA, Phraser, load_phrases
from planner.pictures import layout_steps
from planner.places import WEIGHTS, PlaceConfig, PlaceHead, Sought, Words
from planner.prompt import PlannedObject, object_answer
from runtime.config import Config
from runtime.seeding import seeded, torch_generator
from runtime.training import FitConfig
from runtime.weights import load_weights, save_weights
from scene.corpus.records import SceneRecord
from scene.corpus.store import Corpus
from scene.seeds import derive_seed

SHEET_TILES, SHEET_PX, SHEET_DRAWS = 24, 192, 6
VALIDATION_SCENES = 48
MAPPED = ("planes", "words", "links", "said", "seen")


class PlacesTrainConfig(Config):
    """Root config of the places stage of `smartscene train planner` (configs/planner/places_home.yaml).

    A sample is a scene; `steps` of its objects are placed, each in the picture before it.
    """

    stage: Literal["places"] = "places"
    places: PlaceConfig = PlaceConfig()
    start: str | None = None
    """Exported folder of such a head to go on from; None = from nothing."""
    steps: int = Field(default=6, ge=1)
    """Objects that a scene gives."""
    dialogues: bool = False
    """Objects are those that a turn of the scene's dialogue adds to the drawer's canvas, told by its words; of corpora
    with dialogues."""
    unheard_share: float = Field(default=0.0, ge=0, lt=1)
    """Of the words round a name, so many are left out: other people leave out others."""
    phrases: str | None = None
    """As in the language stage: scenes are pruned and copied to what a prompt names."""
    rephrase_share: float = Field(default=0.6, ge=0, le=1)
    """How often they are."""
    copies_share: float = Field(default=0.25, ge=0, le=1)
    """How often, of these, an object is repeated."""
    prune_share: float = Field(default=0.6, ge=0, le=1)
    """How often what is not named is left out."""
    seed: int = 0
    """Data order and initial weights."""
    fit: FitConfig = FitConfig(batch_size=8, total_samples=8_000, learning_rate=1e-3)


class PlacesTask:
    """`runtime.training.TrainingTask` of the place head.

    Args:
        config: settings.
        corpus: scenes.
        words: embeddings; None = SmolLM2's.
    """

    def __init__(self, config: PlacesTrainConfig, corpus: Corpus, words: Words | None = None) -> None:
        self.config = config
        self.lessons, self.held_out = (self._lessons(corpus, split) for split in ("train", "val"))
        self.words = words or base_words()
        self.head = seeded(lambda: PlaceHead(config.places, self.words.width), config.seed)
        if config.start is not None:
            load_weights(self.head, Path(config.start) / WEIGHTS)
        self.model: nn.Module = self.head

    def _lessons(self, corpus: Corpus, split: str) -> CorpusLessons:
        config, phraser = self.config, None
        if config.phrases is not None:
            phraser = Phraser(load_phrases(DATA / config.phrases), corpus.vocabulary)
        shares = {name: getattr(config, name) for name in ("rephrase_share", "copies_share", "prune_share")}
        return CorpusLessons(corpus, split, links=True, phraser=phraser, **shares)

    def examples(self, lessons: CorpusLessons, number: int) -> list[Sought]:
        """Objects of one scene, each with the picture before it; half of the scenes are mirrored."""
        mirrored = derive_seed(self.config.seed, "mirror", number) % 2 == 1
        if self.config.dialogues:
            found = self._spoken(lessons, number)
        else:
            found = self._planned(lessons, number)
        return [each.flipped() for each in found] if mirrored else found

    def _spoken(self, lessons: CorpusLessons, number: int) -> list[Sought]:
        record, _, rng = lessons.source.sampled(number, self.config.seed)
        found = spoken_examples(lessons.corpus, record)
        chosen = rng.sample(found, k=min(len(found), self.config.steps))
        if lessons is self.held_out or not self.config.unheard_share:
            return chosen
        return [replace(each, said=misheard(each.said, self.config.unheard_share, rng)) for each in chosen]

    def _planned(self, lessons: CorpusLessons, number: int) -> list[Sought]:
        lesson = lessons.lesson(number, self.config.seed, self.config.steps)
        return [
            Sought(picture, lesson.answers[step])
            for step, picture in zip(lesson.steps, lesson.pictures, strict=True)
            if not lesson.answers[step].stop
        ]

    def batch(self, samples: Sequence[int]) -> dict[str, Any]:
        """What `PlaceHead.maps` takes (`MAPPED`) and boxes (N, 4) of the samples' objects."""
        return self._batch([each for number in samples for each in self.examples(self.lessons, number)])

    def _batch(self, sought: Sequence[Sought]) -> dict[str, Any]:
        boxes = stack_boxes([unit_box(each.answer.cells) for each in sought if each.answer.cells is not None])
        return dict(zip(MAPPED, self.head.inputs(sought, self.words), strict=True)) | {"boxes": boxes}

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """Cross entropies of base, height and width, in nats an object."""
        where, features, vector = model.maps(*(batch[name] for name in MAPPED))  # type: ignore[operator]
        terms = {
            name: term.mean()
            for name, term in self.head.cross_entropies(where, features, vector, batch["boxes"]).items()
        }
        return torch.stack(list(terms.values())).sum(), {name: term.item() for name, term in terms.items()}

    def validation(self, model: nn.Module) -> dict[str, float]:
        """Nats of held-out objects under their own picture, and under the picture of the next scene in the list."""
        scenes = [self.examples(self.held_out, number) for number in range(VALIDATION_SCENES)]
        found: dict[str, list[float]] = {"own": [], "another": []}
        for scene, other in zip(scenes, [*scenes[1:], scenes[0]], strict=True):
            for name, pictures in (("own", scene), ("another", other)):
                if scene and other:
                    seen = [replace(each, picture=pictures[i % len(pictures)].picture) for i, each in enumerate(scene)]
                    found[name].append(self.loss(model, self._batch(seen))[0].item())
        return {name: round(sum(values) / len(values), 4) for name, values in found.items()}

    def sheet(self, model: nn.Module, path: Path) -> None:
        """Held-out objects with drawn boxes (white) and the true one (black); nats in `validation.jsonl`."""
        sought = [each for number in range(SHEET_TILES) for each in self.examples(self.held_out, number)[-1:]]
        tiles = [self._tile(model, each, number) for number, each in enumerate(sought)]
        tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 6)
        rows = [np.concatenate(tiles[start : start + 6], axis=1) for start in range(0, len(tiles), 6)]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(rows, axis=0)).save(path)
        with (path.parent / "validation.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"sheet": path.stem, **self.validation(model)}) + "\n")

    def _tile(self, model: nn.Module, sought: Sought, number: int) -> np.ndarray:
        picture = Image.fromarray(sought.picture).resize((SHEET_PX, SHEET_PX), Image.Resampling.BOX)
        pen = ImageDraw.Draw(picture)
        places = Places(self.head, *model.maps(*self.head.inputs([sought], self.words)))  # type: ignore[operator]
        generator = torch_generator(derive_seed(self.config.seed, "places sheet", number))
        drawn = [places.sample(generator, top_p=0.5).tolist() for _ in range(SHEET_DRAWS)]
        for box, colour in [*((box, "white") for box in drawn), (unit_box(sought.answer.cells), "black")]:
            x0, y0, x1, y1 = (round(edge * SHEET_PX) for edge in box)
            pen.rectangle([x0, y0, max(x0, x1), max(y0, y1)], outline=colour)
        link = " ".join(sought.answer.link) if sought.answer.link else ""
        pen.text((2, 0), f"{sought.answer.label} {link}", fill="black")
        return np.asarray(picture)

    def export(self, model: nn.Module, out: Path) -> None:
        """Write `places.safetensors` and its sizes."""
        out.mkdir(parents=True, exist_ok=True)
        save_weights(model, out / WEIGHTS)
        (out / "places.json").write_text(self.config.places.model_dump_json(indent=1) + "\n", encoding="utf-8")


def spoken_examples(corpus: Corpus, record: SceneRecord) -> list[Sought]:
    """Every object that a counted turn adds to the drawer's canvas, with the canvas before it and the turn's words;
    every description spelt out, those of labels that have only one, too."""
    surfaces = corpus.surfaces(record)
    known: frozenset[str] = frozenset()
    found: list[Sought] = []
    for turn in counted_turns(record.turns):
        links = prompt_links(turn.text, corpus.vocabulary)
        old = [layer for layer in turn.layers if layer.label in known]
        new = [layer for layer in turn.layers if layer.label not in known]
        pictures = layout_steps(corpus, [*surfaces, *old, *new], len(surfaces) + len(old))
        there = {layer.label for layer in old}
        for layer, picture in zip(new, pictures, strict=False):
            box = corpus.box(layer)
            link = next((each for each in links.get(layer.label, ()) if each[1] in there), None)
            item = PlannedObject(layer.label, layer.description, box) if box is not None else None
            answer = object_answer(item, corpus.size, {}, link) if item is not None else None
            if answer is not None:
                found.append(Sought(picture, answer, said_about(turn.text, layer.label, corpus.vocabulary)))
            there.add(layer.label)
        known = turn.classes
    return found


def misheard(said: Said, share: float, rng: random.Random) -> Said:
    """What is said, with a share of its words left out; names stay."""
    before, after = (tuple(word for word in words if word[0] == "<" or rng.random() >= share) for words in said)
    return before, after


def base_words() -> Words:
    """SmolLM2's embeddings."""
    base = prepare()
    return Words(load_tokenizer(base), load_state(base)["model.embed_tokens.weight"])


def unit_box(cells: Cells | None) -> tuple[float, float, float, float]:
    """Per-cent cells, both corners inclusive, as a box from 0 to 1.

    Raises:
        ValueError: there are none.
    """
    if cells is None:
        raise ValueError("the answer has no box")
    x0, y0, x1, y1 = cells
    return x0 / CELLS, y0 / CELLS, (x1 + 1) / CELLS, (y1 + 1) / CELLS
