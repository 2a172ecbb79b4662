"""What one training sample shows: a scene's prompt, all its answers, and the pictures before some of them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from planner.brief import Item, brief_of
from planner.examples import Plan, PlanSource, choose_steps, fixed_descriptions, usual_descriptions
from planner.frames import Frame, worded
from planner.grammar import LINKS, Answer
from planner.imagined import imagined, lexicon
from planner.links import both_ways, meet, prompt_links, true_link
from planner.phrases import Phraser, with_copies
from planner.pictures import layout_steps
from planner.prompt import PlannedObject, object_answer, plain_words
from scene.corpus.records import LayerRecord, SceneRecord
from scene.corpus.sequences import LayoutSequence, SequenceObject, entry_picture, read_sequences
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.geometry import Box, Size
from scene.relations import mask_relations
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary

IMPLIED = 3  # as many as the guards let a planner add


@dataclass(frozen=True)
class Lesson:
    """One scene under one prompt.

    Attributes:
        prompt: global prompt.
        answers: of the whole plan in order, stop last.
        steps: which of them follow a picture, ascending.
        pictures: uint8 (H, W, 3), one for each of `steps`; none at all of imagined objects.
        brief: what the prompt asks for; None = not told.
    """

    prompt: str
    answers: tuple[Answer, ...]
    steps: tuple[int, ...]
    pictures: tuple[np.ndarray, ...]
    brief: tuple[Item, ...] | None = None


class Lessons(Protocol):
    """Where samples come from: a corpus or a file of layout sequences."""

    vocabulary: Vocabulary
    fixed: dict[str, str]
    usual: dict[str, tuple[str, ...]]
    licence: str

    def lesson(self, number: int, seed: int, branches: int) -> Lesson:
        """Lesson of global sample `number`, a function of its arguments alone."""
        ...

    def answers(self) -> Sequence[Answer]:
        """One answer for every label and description that occurs."""
        ...


class CorpusLessons:
    """Lessons drawn from a corpus.

    Args:
        corpus: an imported or built corpus.
        split: train, val, test or all.
        links: answers say how the object stands to another.
        phraser: words prompts anew; None = the corpus's own prompts.
        rephrase_share: how often it does.
        copies_share: how often, of these, an object is repeated and the prompt tells the number.
        prune_share: how often, where a prompt worded anew names something, most of what it does not name is left out.
        briefs: lessons tell what their prompt asks for.
        imagine_share: with `briefs`, how often a lesson is about imagined objects: prompt, brief, a plan in words.
        lexicon_share: how often an imagined lesson is a mere list of words.
        frames: prompts in natural language for imagined objects (`planner.frames`).
        frame_share: how often an imagined lesson that is no list of words takes one of these.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        *,
        links: bool = False,
        phraser: Phraser | None = None,
        rephrase_share: float = 0.0,
        copies_share: float = 0.0,
        prune_share: float = 0.0,
        briefs: bool = False,
        imagine_share: float = 0.0,
        lexicon_share: float = 0.45,
        frames: Sequence[Frame] = (),
        frame_share: float = 0.0,
    ) -> None:
        self.briefs, self.imagine_share = briefs, imagine_share if briefs and phraser is not None else 0.0
        self.corpus, self.source, self.links, self.phraser = corpus, PlanSource(corpus, split), links, phraser
        self.rephrase_share, self.copies_share = rephrase_share, copies_share
        self.prune_share = prune_share
        self.lexicon_share, self.frames, self.frame_share = lexicon_share, frames, frame_share if frames else 0.0
        self.vocabulary, self.licence = corpus.vocabulary, corpus.licence
        self.fixed = fixed_descriptions(corpus)
        self.usual = usual_descriptions(self.source.described(), self.fixed)
        self.surfaces = {label for label in corpus.labels if corpus.vocabulary.kind(label) == "surface"}

    def lesson(self, number: int, seed: int, branches: int) -> Lesson:
        """See `Lessons`."""
        record, plan, rng = self.source.sampled(number, seed)
        if self.phraser is not None and self.imagine_share and rng.random() < self.imagine_share:
            return self._imagined(record, rng, branches)
        said = plan.prompt
        if self.phraser is not None and rng.random() < self.rephrase_share:
            record, plan, said = self._reworded(record, rng)
        answers = [object_answer(item, plan.size, self.fixed) for item in plan.objects]
        kept = [at for at, answer in enumerate(answers) if answer is not None]
        layers = [record.layers[plan.layers[at]] for at in kept]
        done = [answer for answer in answers if answer is not None] + [Answer(stop=True)]
        steps = choose_steps(len(layers), branches, rng)
        if self.links:
            for step, link in self._links(layers, steps, plan).items():
                done[step] = done[step].model_copy(update={"link": link})
        wanted = set(steps)
        pictures = [picture for step, picture in enumerate(layout_steps(self.corpus, layers)) if step in wanted]
        there = Counter(answer.label for answer in done)
        brief = brief_of(said, self.vocabulary, there) if self.briefs else None
        return Lesson(plan.prompt, tuple(done), tuple(steps), tuple(pictures), brief)

    def _imagined(self, record: SceneRecord, rng: random.Random, branches: int) -> Lesson:
        """A prompt about imagined objects, its brief, and a plan in words: the record's surfaces, then what the brief
        lists, in about the order in which corpus scenes have it."""
        assert self.phraser is not None
        if rng.random() < self.lexicon_share:
            prompt, items = lexicon(self.phraser, rng)
            return Lesson(prompt, (), (), (), brief=items)
        if rng.random() < self.frame_share:
            prompt, items = worded(rng.choice(self.frames), self.phraser, rng)
        else:
            prompt, items = imagined(self.phraser, [layer.label for layer in record.layers], rng)
        labels = [layer.label for layer in record.layers if layer.label in self.surfaces]
        labels += [item.label for item in items if item.label in self.surfaces and item.label not in labels]
        things = [item for item in items if item.label not in self.surfaces]
        depth = {item.label: self._depth.get(item.label, 0.5) + rng.gauss(0, 0.1) for item in things}
        for item in things:
            if item.link and item.link[0] == "on":  # what carries comes first
                depth[item.label] = max(depth[item.label], depth.get(item.link[1], 0) + 0.01)
        things.sort(key=lambda item: depth[item.label])
        labels += [item.label for item in things for _ in range(item.count)]
        links = both_ways([(item.label, *item.link) for item in items if item.link])
        answers = [
            Answer(
                label=label,
                link=next((link for link in links.get(label, ()) if link[1] in labels[:at]), None),
                description=self._description(label, rng),
            )
            for at, label in enumerate(labels)
        ]
        steps = choose_steps(len(answers), branches, rng)
        return Lesson(prompt, (*answers, Answer(stop=True)), tuple(steps), (), brief=items)

    def _description(self, label: str, rng: random.Random) -> str | None:
        """One of the corpus's descriptions of a label, as answers say it."""
        known = self._described.get(label, ())
        said = plain_words(rng.choice(known)) if known else ""
        return None if said in ("", self.fixed.get(label, label)) else said

    @cached_property
    def _described(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for label, description in self.corpus.descriptions:
            found.setdefault(label, []).append(description)
        return found

    @cached_property
    def _depth(self) -> dict[str, float]:
        """Label -> how far from the back (0) to the front (1) it stands in training scenes, on average."""
        ranks: dict[str, list[float]] = {}
        for record in self.source.records:
            for at, layer in enumerate(record.layers):
                ranks.setdefault(layer.label, []).append(at / len(record.layers))
        return {label: sum(found) / len(found) for label, found in ranks.items()}

    def _reworded(self, record: SceneRecord, rng: random.Random) -> tuple[SceneRecord, Plan, str]:
        """The record as the prompt wants it, its plan, and the prompt without slips of the pen."""
        assert self.phraser is not None
        counted = ""
        if rng.random() < self.copies_share:
            copied = with_copies(self.corpus, record.layers, rng)
            if copied is not None:
                layers, counted = copied
                record = replace(record, layers=layers)
        plan = self.source.plan(record, "")
        said, named = self.phraser.prompt(plan.objects, record.recipe, rng, counted)
        prompt = self.phraser.slipped(said, rng)
        if named and rng.random() < self.prune_share:
            record = replace(record, layers=self._pruned(record.layers, named, rng))
            plan = self.source.plan(record, "")
        return record, replace(plan, prompt=prompt), said

    def _pruned(
        self, layers: Sequence[LayerRecord], named: Collection[str], rng: random.Random
    ) -> tuple[LayerRecord, ...]:
        """Surfaces, what is named, what carries it, and up to `IMPLIED` others; in the same order.

        Of a corpus scene a prompt names half: who learns from the whole scene puts what is common before what is asked.
        """
        kept = {at for at, layer in enumerate(layers) if layer.label in named or layer.label in self.surfaces}
        for at in sorted(kept, reverse=True):  # what lies on top first: its carrier may be carried itself
            if layers[at].label not in self.surfaces:
                kept |= self._carriers(layers, at)
        others = [at for at in range(len(layers)) if at not in kept]
        kept |= set(rng.sample(others, k=min(len(others), rng.randint(0, IMPLIED))))
        return tuple(layer for at, layer in enumerate(layers) if at in kept)

    def _carriers(self, layers: Sequence[LayerRecord], at: int) -> set[int]:
        """Positions of the things that the layer at `at` stands on, and what these stand on."""
        box, mask = self.corpus.box(layers[at]), self.corpus.mask(layers[at])
        for below in range(at):
            other = self.corpus.box(layers[below])
            if layers[below].label in self.surfaces or box is None or other is None or not meet(box, other):
                continue
            if "on" in mask_relations(mask, self.corpus.mask(layers[below]), True):
                return {below} | self._carriers(layers, below)
        return set()

    def _links(
        self, layers: Sequence[LayerRecord], steps: Sequence[int], plan: Plan
    ) -> dict[int, tuple[str, str] | None]:
        """Links of the answers at `steps`."""
        wanted = prompt_links(plan.prompt, self.vocabulary)
        last = max((step for step in steps if step < len(layers)), default=-1)
        masks = [self.corpus.mask(layer) for layer in layers[: last + 1]]
        labels = [layer.label for layer in layers]
        return {
            step: true_link(labels[: step + 1], masks[: step + 1], self.surfaces, wanted.get(labels[step], ()))
            for step in steps
            if step < len(layers)
        }

    def answers(self) -> list[Answer]:
        """See `Lessons`."""
        return spoken_answers(self.corpus.descriptions, self.fixed, self.links)


def spoken_answers(descriptions: Sequence[tuple[str, str]], fixed: Mapping[str, str], links: bool) -> list[Answer]:
    """An answer for every (label, description), and with `links` one for every relation to every label."""
    size = Size(100, 100)
    found = [object_answer(PlannedObject(label, text, Box(0, 0, *size)), size, fixed) for label, text in descriptions]
    answers = [answer for answer in found if answer is not None]
    if links:
        labels = sorted({label for label, _ in descriptions})
        answers += [Answer(label=label, cells=(0, 0, 99, 99), link=(word, label)) for label in labels for word in LINKS]
    return [*answers, Answer(stop=True)]


class SequenceLessons:
    """Lessons out of a file of layout sequences (`scene.corpus.sequences`), either format.

    Entries of one scene and prompt that continue each other make one lesson; others stand alone. Entries of split "val"
    or "test" are held out; where a file has none, every tenth scene is.

    Args:
        file: JSONL or LLaVA conversations.
        held_out: the held-out part instead of the training part.
        links: answers say how the object stands to another, where the file says so.
    """

    def __init__(self, file: Path, *, held_out: bool = False, links: bool = False) -> None:
        self.file, self.links = file, links
        entries = list(read_sequences(file))
        if not entries:
            raise UserError(f"{file} holds no layout sequence")
        marked = any(entry.split != "train" for entry in entries)
        scenes = list(dict.fromkeys(entry.scene_id for entry in entries))
        apart = set(scenes[9::10])
        chosen = [
            entry
            for entry in entries
            if ((entry.split != "train") if marked else (entry.scene_id in apart)) == held_out
        ]
        self.groups = _grouped(chosen)
        if not self.groups:
            part = "held out: give some entries split val, or ten scenes" if held_out else "in split train"
            raise UserError(f"{file} has no layout sequence {part}")
        described = {(item.label, item.description) for entry in entries for item in entry.objects}
        described |= {(e.answer.label, e.answer.description or "") for e in entries if e.answer.label is not None}
        self._described = sorted(described)
        labels = [label for label, _ in self._described]
        self.fixed = {label: text for label, text in self._described if labels.count(label) == 1}
        self.usual = usual_descriptions(
            ((item.label, item.description) for entries in self.groups for item in entries[-1].objects), self.fixed
        )
        self.vocabulary = Vocabulary(file.stem, {label: {"kind": "object"} for label in dict.fromkeys(labels)})
        self.licence = "of the data it was tuned on"

    def lesson(self, number: int, seed: int, branches: int) -> Lesson:
        """See `Lessons`."""
        epoch, index = divmod(number, len(self.groups))
        order = np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(len(self.groups))
        group = self.groups[int(order[index])]
        rng = random.Random(derive_seed(seed, "sample", number))
        size, last = Size(*group[-1].canvas), group[-1]
        items = [object_answer(_planned(item), size, self.fixed) for item in last.objects]
        answers = [*items, self._answer(last)]
        steps = sorted(rng.sample(group, k=min(branches, len(group))), key=lambda entry: entry.k)
        for entry in steps:
            answers[entry.k] = self._answer(entry)
        if any(answer is None for answer in answers):
            raise UserError(f"{self.file}: an object of scene {last.scene_id} lies off its canvas")
        pictures = [entry_picture(entry, self.file.parent) for entry in steps]
        done = tuple(answer for answer in answers if answer is not None)
        return Lesson(last.prompt, done, tuple(entry.k for entry in steps), tuple(pictures))

    def _answer(self, entry: LayoutSequence) -> Answer | None:
        said = entry.answer
        if said.stop:
            return Answer(stop=True)
        item = PlannedObject(str(said.label), str(said.description), Box(*(said.box or (0, 0, 0, 0))))
        link = said.relation if self.links and said.relation and said.relation[0] in LINKS else None
        return object_answer(item, Size(*entry.canvas), self.fixed, link)

    def answers(self) -> list[Answer]:
        """See `Lessons`."""
        return spoken_answers(self._described, self.fixed, self.links)


def _planned(item: SequenceObject) -> PlannedObject:
    return PlannedObject(item.label, item.description, Box(*item.box))


def _grouped(entries: Sequence[LayoutSequence]) -> list[list[LayoutSequence]]:
    """Entries of a scene that are steps of one plan together, in rising k; the rest one by one."""
    scenes: dict[tuple[str, str], list[LayoutSequence]] = {}
    for entry in entries:
        scenes.setdefault((entry.scene_id, entry.prompt), []).append(entry)
    groups = []
    for found in scenes.values():
        found.sort(key=lambda entry: entry.k)
        plan = found[-1].objects
        distinct = len({entry.k for entry in found}) == len(found)
        follows = all(
            entry.objects == plan[: entry.k]
            and (
                entry is found[-1] or (entry.answer.label, entry.answer.box) == (plan[entry.k].label, plan[entry.k].box)
            )
            for entry in found
        )
        groups += [found] if distinct and follows else [[entry] for entry in found]
    return groups
