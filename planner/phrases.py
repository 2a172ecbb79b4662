"""Training prompts in many words: lists, numbers, relations, people, themes that name nothing, and slips of the pen.

The corpus brings four or five prompts a scene, all by one hand; a planner that has read only those takes any other
wording badly. A `Phraser` words the same scene anew for every sample, from a YAML file of carriers. All that it says is
true of the scene. Counts come from scenes in which `with_copies` has set further copies of an object.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import Field

from planner.prompt import PlannedObject
from runtime.config import Config, validate
from scene.corpus.language import NUMBERS, join
from scene.corpus.records import LayerRecord
from scene.corpus.store import Corpus
from scene.errors import UserError
from scene.geometry import Box
from scene.relations import box_relations
from scene.vocabulary import Vocabulary

DATA = Path(__file__).parent / "data"
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
LIVING = ("person", "animal")
MAX_COPIES = 6
MAX_TWIN_IOU = 0.05


class PhraseBook(Config):
    """The YAML file; see planner/data/home_phrases.yaml for the meaning of each part."""

    lists: tuple[str, ...] = Field(min_length=1)
    counts: tuple[str, ...] = Field(min_length=1)
    relations: tuple[str, ...] = Field(min_length=1)
    people: tuple[str, ...] = Field(min_length=1)
    themed: tuple[str, ...] = Field(min_length=1)
    places: dict[str, tuple[str, ...]]
    themes: dict[str, tuple[str, ...]]
    words: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    links: dict[str, tuple[str, ...]]


@lru_cache
def load_phrases(path: Path) -> PhraseBook:
    """Read a phrase book.

    Raises:
        UserError: no such file, or a part is missing.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read phrases {path} ({error.strerror}); see planner/data/home_phrases.yaml") from None
    return validate(PhraseBook, data, str(path))


@dataclass(frozen=True)
class Phraser:
    """Words a scene.

    Attributes:
        book: carriers.
        vocabulary: words of the world.
        typo_chance: share of prompts with slips of the pen.
        word_chance: how often a label is said in another word.
    """

    book: PhraseBook
    vocabulary: Vocabulary
    typo_chance: float = 0.12
    word_chance: float = 0.3

    def prompt(
        self, objects: Sequence[PlannedObject], recipe: str, rng: random.Random, counted: str = ""
    ) -> tuple[str, frozenset[str]]:
        """One prompt, true of the scene and without slips, and the labels that it names.

        Args:
            objects: of the scene, surfaces included.
            recipe: "living_room/dining"; gives place and themes.
            rng: draws the words.
            counted: a label whose number the prompt should tell; "" = as it comes.
        """
        things = [item for item in objects if self.vocabulary.kind(item.label) != "surface"]
        if not things:
            return self._place(recipe, rng), frozenset()
        kinds = {"lists": 4.0, "relations": 3.0, "people": 1.0, "themed": 1.5, "counts": 0.5}
        kind = "counts" if counted else rng.choices(list(kinds), list(kinds.values()))[0]
        text = getattr(self, f"_{kind}")(things, recipe, rng, counted)
        return text, self._names(text, things)

    def slipped(self, text: str, rng: random.Random) -> str:
        """The prompt as it may be typed."""
        return slip(text, rng) if rng.random() < self.typo_chance else text

    def _names(self, text: str, things: Sequence[PlannedObject]) -> frozenset[str]:
        """Labels of which a text holds a word or a description."""
        lowered = text.lower()

        def forms(item: PlannedObject) -> Iterator[str]:
            yield from (item.description, item.label, self.vocabulary.plural(item.label))
            yield from self.vocabulary.synonyms(item.label)
            yield from self.book.words.get(item.label, ())

        return frozenset(item.label for item in things if any(form.lower() in lowered for form in forms(item)))

    def _place(self, recipe: str, rng: random.Random) -> str:
        return rng.choice(self.book.places.get(recipe.split("/")[0]) or ("a room",))

    def filled(self, carrier: str, recipe: str, rng: random.Random, **parts: str) -> str:
        """A carrier with its parts, beginning with a capital letter or not."""
        text = carrier.format(place=self._place(recipe, rng), **parts)
        return text[0].upper() + text[1:] if rng.random() < 0.5 else text

    def _lists(self, things: Sequence[PlannedObject], recipe: str, rng: random.Random, counted: str) -> str:
        return self.filled(rng.choice(self.book.lists), recipe, rng, things=self._some(things, rng, rng.randint(1, 5)))

    def _counts(self, things: Sequence[PlannedObject], recipe: str, rng: random.Random, counted: str) -> str:
        counts = Counter(item.label for item in things)
        label = counted or rng.choice([label for label, n in counts.items() if n == max(counts.values())])
        rest = [item for item in things if item.label != label]
        carriers = [c for c in self.book.counts if rest or "{things}" not in c]
        others = self._some(rest, rng, rng.randint(1, 3)) if rest else ""
        number = self._number(label, counts[label], rng)
        return self.filled(rng.choice(carriers), recipe, rng, count=number, things=others)

    def _relations(self, things: Sequence[PlannedObject], recipe: str, rng: random.Random, counted: str) -> str:
        found = self._true_relation(things, rng)
        if found is None:
            return self._lists(things, recipe, rng, counted)
        first, word, second = found
        rest = [item for item in things if item.label not in (first.label, second.label)]
        carriers = [c for c in self.book.relations if rest or "{things}" not in c]
        others = self._some(rest, rng, rng.randint(1, 2)) if rest else ""
        link = rng.choice(self.book.links[word])
        parts = {"first": self._one(first, rng), "second": self._one(second, rng), "link": link, "things": others}
        return self.filled(rng.choice(carriers), recipe, rng, **parts)

    def _people(self, things: Sequence[PlannedObject], recipe: str, rng: random.Random, counted: str) -> str:
        counts = Counter(item.label for item in things)
        living = [i for i in things if self.vocabulary.kind(i.label) in LIVING and counts[i.label] == 1]
        if not living:
            return self._themed(things, recipe, rng, counted)
        someone = rng.choice(living)
        rest = [item for item in things if item.label != someone.label] or [someone]
        some = self._some(rest, rng, rng.randint(1, 3))
        return self.filled(rng.choice(self.book.people), recipe, rng, someone=self._one(someone, rng), things=some)

    def _themed(self, things: Sequence[PlannedObject], recipe: str, rng: random.Random, counted: str) -> str:
        themes = self.book.themes.get(recipe)
        if not themes:
            return self._lists(things, recipe, rng, counted)
        some = self._some(things, rng, rng.randint(1, 3))
        return self.filled(rng.choice(self.book.themed), recipe, rng, theme=rng.choice(themes), things=some)

    def _some(self, things: Sequence[PlannedObject], rng: random.Random, most: int) -> str:
        """Up to `most` categories with all their things, in any order."""
        counts = Counter(item.label for item in things)
        chosen = rng.sample(list(counts), k=min(most, len(counts)))
        return join([self._named([i for i in things if i.label == label], rng) for label in chosen])

    def _named(self, same: Sequence[PlannedObject], rng: random.Random) -> str:
        """All things of one label; one alone may be described."""
        return self._one(same[0], rng) if len(same) == 1 else self._number(same[0].label, len(same), rng)

    def _one(self, item: PlannedObject, rng: random.Random) -> str:
        if rng.random() < 0.35:
            return item.description
        words = [*self.vocabulary.synonyms(item.label), *self.book.words.get(item.label, ())]
        plural = self.vocabulary.plural(item.label) == item.label
        fitting = words if plural else [word for word in words if not word.endswith("s") or word.endswith("ss")]
        word = rng.choice(fitting) if fitting and rng.random() < self.word_chance else item.label
        text = self.vocabulary.with_article(item.label, word)
        return text.replace("a ", "one ", 1) if text.startswith("a ") and rng.random() < 0.05 else text

    def _number(self, label: str, count: int, rng: random.Random) -> str:
        entry = self.vocabulary.entries[label]
        if entry.get("mass") or entry.get("plural_only") or count == 1:
            return self.vocabulary.with_article(label)
        number = str(count) if count > 10 or rng.random() < 0.3 else NUMBERS[count]
        if count == 2 and rng.random() < 0.15:
            number = "a couple of"
        return f"{number} {self.vocabulary.plural(label)}"

    def _true_relation(
        self, things: Sequence[PlannedObject], rng: random.Random
    ) -> tuple[PlannedObject, str, PlannedObject] | None:
        """Two single things and a relation that their boxes bear out."""
        counts = Counter(item.label for item in things)
        single = [item for item in things if counts[item.label] == 1]
        pairs = [(a, b) for a in single for b in single if a is not b]
        rng.shuffle(pairs)
        for a, b in pairs[:20]:
            words: list[str] = [word for word in box_relations(a.box, b.box) if word in self.book.links]
            if self._carried(a, b, things):
                words = ["on"]
            if words:
                return a, rng.choice(words), b
        return None

    def _carried(self, a: PlannedObject, b: PlannedObject, things: Sequence[PlannedObject]) -> bool:
        """Whether `a` plainly stands on the furniture `b`: painted after it, its foot on the upper half of it."""
        kinds = self.vocabulary.kind(a.label), self.vocabulary.kind(b.label)
        if kinds[1] != "furniture" or kinds[0] in ("furniture", "fixture") or things.index(a) < things.index(b):
            return False
        (x, _), middle = a.box.center, b.box.center[1]
        return b.box.x0 <= x <= b.box.x1 and b.box.y0 < a.box.y1 <= middle


def slip(text: str, rng: random.Random) -> str:
    """One to three slips of the pen in words of four letters on: swapped, dropped, doubled, or the next key."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    for i in rng.sample(long, k=min(len(long), rng.randint(1, 3))):
        word, at = words[i], rng.randrange(1, len(words[i]) - 1)
        change = rng.choice(("swap", "drop", "double", "key"))
        if change == "swap":
            words[i] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        elif change == "drop":
            words[i] = word[:at] + word[at + 1 :]
        elif change == "double":
            words[i] = word[:at] + word[at] + word[at:]
        else:
            row = next((row for row in KEYBOARD if word[at].lower() in row), word[at].lower())
            near = row[min(max(row.find(word[at].lower()) + rng.choice((-1, 1)), 0), len(row) - 1)]
            words[i] = word[:at] + near + word[at + 1 :]
    return " ".join(words)


def with_copies(
    corpus: Corpus, layers: Sequence[LayerRecord], rng: random.Random
) -> tuple[tuple[LayerRecord, ...], str] | None:
    """The scene with one to five further copies of an object beside it, and its label; None where nothing fits.

    Corpora seldom hold three or more of a thing, prompts often ask for them. Copies stand at the same height on the
    canvas (so at the same depth), apart from each other, next to their original in the order.
    """
    counts = Counter(layer.label for layer in layers)
    fitting = []
    for at, layer in enumerate(layers):
        entry, box = corpus.vocabulary.entries[layer.label], corpus.box(layer)
        countable = not (entry.get("mass") or entry.get("plural_only") or entry["kind"] == "surface")
        if countable and box and counts[layer.label] == 1 and box.width <= corpus.size.width // 4:
            fitting.append((at, box))
    if not fitting:
        return None
    at, box = rng.choice(fitting)
    wanted, boxes, copies = rng.randint(2, MAX_COPIES), [box], []
    for _ in range(8 * wanted):
        if len(boxes) == wanted:
            break
        x, y = rng.randint(0, corpus.size.width - box.width), box.y0 + rng.randint(-6, 6)
        y = min(max(y, 0), corpus.size.height - box.height)
        moved = Box(x, y, x + box.width, y + box.height)
        if all(moved.iou(other) <= MAX_TWIN_IOU for other in boxes):
            boxes.append(moved)
            shifted = replace(layers[at], x=layers[at].x + x - box.x0, y=layers[at].y + y - box.y0, effect=None)
            copies.append(shifted)
    if not copies:
        return None
    return (*layers[: at + 1], *copies, *layers[at + 1 :]), layers[at].label
