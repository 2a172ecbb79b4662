"""Global prompts for a rendered scene, from a few words to full sentences; every count and relation is true of it.

A relation is stated only when picture and plan agree: masks and boxes bear it out (see `scene.relations`), and in three
dimensions the two things are where the words put them. Each prompt carries its claims, so that they can be checked.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scene.corpus.claims import RelationClaim, false_claims, holds
from scene.corpus.home.plan import Placed, ScenePlan
from scene.corpus.language import NUMBERS, join
from scene.geometry import Box
from scene.relations import Relation, box_relations, mask_relations
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary

SYNONYM_CHANCE, DESCRIPTION_CHANCE, FACT_CHANCE = 0.3, 0.75, 0.4
NEAR_M = 0.6  # free space up to which two things are next to each other
MAX_CLAUSES, MAX_ATTEMPTS = 3, 12
_WORDS: dict[Relation, tuple[str, ...]] = {
    "on": ("on", "on", "on top of"),
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "next to": ("next to", "beside", "near"),
    "in front of": ("in front of",),
    "above": ("above", "over"),
}
_LIST_OPENINGS = ("", "", "{place} with ", "{place} with ", "draw ", "a picture of ", "show me ", "{place}: ")
_REQUESTS = (
    "Please draw {place}.",
    "I would like {place}.",
    "Make me {place}.",
    "Can you draw {place}?",
    "Imagine {place}.",
)
_THERE = ("There should be {things}.", "Put in {things}.", "It has {things}.", "I want to see {things}.")
_ALSO = ("Also {things}.", "And {things}, please.", "Don't forget {things}.", "Add {things} too.")


@dataclass(frozen=True)
class Prompt:
    """A prompt and what it claims.

    Attributes:
        text: the words.
        counts: (label, how many) for every countable category of which it names all things.
        relations: (first, relation, second), labels.
    """

    text: str
    counts: tuple[tuple[str, int], ...]
    relations: tuple[tuple[str, Relation, str], ...] = ()


_Style = Callable[[], Prompt]


@dataclass(frozen=True, eq=False)
class Seen:
    """An object of the plan as it came out of the renderer; a sequence of them is ordered back to front.

    Attributes:
        index: into `ScenePlan.objects`.
        mask: amodal mask on the whole canvas, bool (H, W), not empty.
        size_m: width, depth, height.
    """

    index: int
    mask: np.ndarray
    size_m: tuple[float, float, float]

    @cached_property
    def box(self) -> Box:
        """Tight box of the mask."""
        return Box.from_mask(self.mask) or Box(0, 0, 0, 0)


def home_prompts(
    plan: ScenePlan, seen: Sequence[Seen], surfaces: Sequence[tuple[str, np.ndarray]], vocabulary: Vocabulary
) -> tuple[Prompt, ...]:
    """At least four prompts of rising detail; the same plan and picture give the same prompts.

    Args:
        plan: seeds the choice of words by its id, and says what carries what.
        seen: its visible objects, back to front.
        surfaces: label and mask, bool (H, W), of the surfaces in the picture, back to front.
        vocabulary: words of the world.

    Returns:
        sentence with descriptions and relations, terse, list of everything with counts, conversation.
    """
    rng = random.Random(derive_seed("home prompts", plan.id))
    teller = _Teller(plan, seen, surfaces, vocabulary, rng)
    styles = (teller.sentence, teller.terse, teller.listing, teller.conversation, teller.sentence)
    prompts = [teller.truthful(style) for style in styles]
    return tuple({prompt.text: prompt for prompt in prompts}.values())


def false_statements(prompts: Sequence[Prompt], labels: Sequence[str], masks: Sequence[np.ndarray]) -> list[str]:
    """One line for every recorded claim that the layers do not bear out.

    Args:
        labels, masks: categories and amodal masks, bool (H, W), of all layers, back to front.
    """
    wrong = []
    for prompt in prompts:
        for label, count in prompt.counts:
            if labels.count(label) != count:
                wrong.append(f"{prompt.text!r} counts {count} x {label}, the scene has {labels.count(label)}")
        for first, relation, second in prompt.relations:
            if not holds(RelationClaim(first, relation, second, prompt.text), labels, masks):
                wrong.append(f"{prompt.text!r}: no {first} is {relation} a {second}")
    return wrong


class _Teller:
    """Finds words for one scene."""

    def __init__(
        self,
        plan: ScenePlan,
        seen: Sequence[Seen],
        surfaces: Sequence[tuple[str, np.ndarray]],
        vocabulary: Vocabulary,
        rng: random.Random,
    ) -> None:
        self._plan, self._seen, self._vocabulary, self._rng = plan, seen, vocabulary, rng
        self._placed = [plan.objects[each.index] for each in seen]
        self._counts = Counter(placed.label for placed in self._placed)
        self._place, self._facts = plan.facts[0], plan.facts[1:]
        self._labels = [label for label, _ in surfaces] + [placed.label for placed in self._placed]
        self._masks = [mask for _, mask in surfaces] + [each.mask for each in seen]
        self._shown = {label for label, _ in surfaces}

    def truthful(self, style: _Style) -> Prompt:
        """A prompt of a style in which a reader finds nothing false; plain labels where words would mislead."""
        for _ in range(MAX_ATTEMPTS):
            prompt = style()
            if not false_claims(prompt.text, self._vocabulary, self._labels, self._masks):
                return prompt
        words = [self._number(label, count, label) for label, count in self._counts.items()]
        return Prompt(join(words), self._claimed(list(self._counts)))

    def terse(self) -> Prompt:
        """A few categories, without adjectives: "a living room with a couch and two chairs"."""
        labels = list(self._counts)
        chosen = self._rng.sample(labels, k=min(len(labels), self._rng.randint(2, 4)))
        opening = self._rng.choice(("{place} with ", "{place} with ", "", "{place}, "))
        return self._list(chosen, opening)

    def listing(self) -> Prompt:
        """Every category with its number."""
        chosen = list(self._counts)
        self._rng.shuffle(chosen)
        return self._list(chosen, self._rng.choice(_LIST_OPENINGS))

    def sentence(self) -> Prompt:
        """Relations between described things, then the rest, then where it all is."""
        clauses, relations, used = self._clauses()
        rest = [label for label in self._counts if label not in used]
        self._rng.shuffle(rest)
        rest = rest[: self._rng.randint(0, 3)] if clauses else rest[:4]
        parts = clauses + [self._described(label) for label in rest]
        text = join(parts) + self._rng.choice((f" in {self._place}", "", f", {self._place}"))
        if self._rng.random() < 0.5:
            text += self._surface_words()
        return Prompt(text + self._fact(), self._claimed(rest), tuple(relations))

    def conversation(self) -> Prompt:
        """What someone might type into a chat window."""
        clauses, relations, used = self._clauses(2)
        rest = [label for label in self._counts if label not in used]
        self._rng.shuffle(rest)
        first, then = rest[:2], rest[2 : 2 + self._rng.randint(0, 2)]
        things = [*(self._described(label) for label in first), *clauses]
        sentences = [self._rng.choice(_REQUESTS).format(place=self._place + self._fact())]
        if things:
            sentences.append(self._rng.choice(_THERE).format(things=join(things)))
        if then:
            sentences.append(self._rng.choice(_ALSO).format(things=join([self._described(label) for label in then])))
        return Prompt(" ".join(sentences), self._claimed(first + then), tuple(relations))

    def _list(self, labels: Sequence[str], opening: str) -> Prompt:
        words = join([self._number(label, self._counts[label], self._noun(label)) for label in labels])
        text = opening.format(place=self._place) + words + self._fact()
        return Prompt(text, self._claimed(labels))

    def _fact(self) -> str:
        return f" {self._rng.choice(self._facts)}" if self._facts and self._rng.random() < FACT_CHANCE else ""

    def _surface_words(self) -> str:
        options = [surface for surface in self._plan.surfaces if surface.label in self._shown - {"ceiling"}]
        chosen = self._rng.sample(options, k=min(len(options), self._rng.randint(1, 2)))
        return f", with {join([surface.description for surface in chosen])}" if chosen else ""

    def _noun(self, label: str) -> str:
        """The label or a synonym of the same number."""
        plural = self._vocabulary.entries[label].get("plural_only")
        fitting = [
            word
            for word in self._vocabulary.synonyms(label)
            if plural or not word.endswith("s") or word.endswith("ss")
        ]  # fmt: skip
        return self._rng.choice(fitting) if fitting and self._rng.random() < SYNONYM_CHANCE else label

    def _countable(self, label: str) -> bool:
        entry = self._vocabulary.entries[label]
        return not (entry.get("plural_only") or entry.get("mass"))

    def _claimed(self, labels: Sequence[str]) -> tuple[tuple[str, int], ...]:
        return tuple((label, self._counts[label]) for label in labels if self._countable(label))

    def _number(self, label: str, count: int, noun: str) -> str:
        if not self._countable(label):
            return noun
        if count > 1:
            return f"{NUMBERS[min(count, 10)]} {self._vocabulary.plural(label)}"
        return self._vocabulary.with_article(label, noun)

    def _described(self, label: str) -> str:
        """All things of a label, with their description where they share one."""
        things = [placed for placed in self._placed if placed.label == label]
        descriptions = {placed.description for placed in things}
        if len(descriptions) > 1 or self._rng.random() >= DESCRIPTION_CHANCE:
            return self._number(label, len(things), self._noun(label))
        description = things[0].description
        if len(things) == 1 or not self._countable(label):
            return description
        noun = description.split(" ", 1)[1].replace(label, self._vocabulary.plural(label), 1)
        return f"{NUMBERS[min(len(things), 10)]} {noun}"

    def _one(self, placed: Placed) -> str:
        """One thing that its label or description tells from all others."""
        if self._counts[placed.label] > 1 or self._rng.random() < DESCRIPTION_CHANCE:
            return placed.description
        return self._number(placed.label, 1, self._noun(placed.label))

    def _clauses(self, most: int = MAX_CLAUSES) -> tuple[list[str], list[tuple[str, Relation, str]], set[str]]:
        """Up to `most` clauses "A left of B" over things that can be told apart, their claims, and labels used."""
        descriptions = Counter(placed.description for placed in self._placed)
        free = [i for i, placed in enumerate(self._placed) if descriptions[placed.description] == 1]
        self._rng.shuffle(free)
        clauses: list[str] = []
        claims: list[tuple[str, Relation, str]] = []
        used: set[str] = set()
        pairs = [(i, j) for i in free for j in free if i != j and self._placed[i].label != self._placed[j].label]
        pairs.sort(
            key=lambda pair: self._seen[pair[1]].index != self._placed[pair[0]].supporter
        )  # carried things first
        for i, j in pairs:
            if len(clauses) == most:
                break
            first, second = self._placed[i], self._placed[j]
            if {first.label, second.label} & used:
                continue
            options = self._relations(i, j)
            if not options:
                continue
            relation = options[0] if options[0] == "on" else self._rng.choice(options)
            clauses.append(f"{self._one(first)} {self._rng.choice(_WORDS[relation])} {self._one(second)}")
            claims.append((first.label, relation, second.label))
            used |= {first.label, second.label}
        return clauses, claims, used

    def _relations(self, i: int, j: int) -> list[Relation]:
        """What may be said of thing `i` to thing `j`."""
        a, b = self._seen[i], self._seen[j]
        first, second = self._placed[i], self._placed[j]
        flat = set(box_relations(a.box, b.box))
        deep = set(mask_relations(a.mask, b.mask, i > j))
        if first.supporter == b.index:
            return ["on"] if "on" in deep else []
        if second.supporter == a.index:
            return []
        found: list[Relation] = [relation for relation in ("left of", "right of") if relation in flat]
        if "next to" in flat and self._gap_m(a, b) <= NEAR_M:
            found.append("next to")
        if "in front of" in deep and first.support == second.support == "floor":
            found.append("in front of")
        hangs = first.support in ("wall", "ceiling") and second.support in ("floor", "object")
        if hangs and "above" in flat and min(a.box.x1, b.box.x1) > max(a.box.x0, b.box.x0):
            found = ["above"]
        return found

    def _gap_m(self, a: Seen, b: Seen) -> float:
        """Free space between two things, by circles round their footprints, metres; 0 when those meet."""
        (ax, ay, az), (bx, by, bz) = (self._plan.objects[each.index].position for each in (a, b))
        distance = float(np.hypot(ax - bx, ay - by))
        apart = max(az - (bz + b.size_m[2]), bz - (az + a.size_m[2]), 0.0)
        reach = sum(min(each.size_m[0], each.size_m[1]) + max(each.size_m[0], each.size_m[1]) for each in (a, b)) / 4
        return max(distance - reach, 0.0) + apart
