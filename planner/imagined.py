"""Prompts about objects that stand in no scene, each with its brief: what a planner learns to read prompts from.

A corpus holds so many scenes, and each names a handful of things in the company it always keeps. Reading must not
depend on that: here any objects of the world come together, in any word that the world file, the phrase book or the
reader (`scene.words`) has for them, with numbers, owners, colours, relations, and things that are *not* wanted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from planner.brief import MAX_ITEMS, Item
from planner.phrases import LIVING, Phraser
from scene.corpus.language import NUMBERS, join
from scene.vocabulary import pluralise
from scene.words import reading_words

MAX_THINGS = 5
NEAR_SHARE = 0.4  # so often the objects are those of one scene
SURFACE_SHARE = 0.1
WORD_SHARE = 0.5
COLOUR_SHARE = 0.25
OWNER_SHARE = 0.15
RELATION_SHARE = 0.45
ABSENT_SHARE = 0.06
NOTHING_SHARE = 0.04
COUNTS = (1,) * 22 + (2, 2, 2, 3, 3, 4, 5, 6)
OWNERS = ("my", "our", "the", "his", "her", "grandma's", "their")
COLOURS = "red green blue yellow white black grey brown orange pink purple beige silver dark big old new".split()
ABSENT = ("{text}, but no {other}", "{text} (no {other} please)", "{text}, without any {others}", "no {others}! {text}")
RELATIONS = (
    *["on"] * 5, "next to", "next to", "left of", "right of", "above", "below", "in front of", "behind", "inside",
)  # fmt: skip


def lexicon(phraser: Phraser, rng: random.Random) -> tuple[str, tuple[Item, ...]]:
    """A long list of things, each in a word that is not its label where there is one: a lesson in words alone."""
    things = [label for label in phraser.vocabulary.labels if phraser.vocabulary.kind(label) != "surface"]
    items = tuple(Item(label, _count(phraser, label, rng)) for label in rng.sample(things, k=rng.randint(6, MAX_ITEMS)))
    words = [_said(phraser, item, rng, word_share=1.0) for item in items]
    text = phraser.filled(
        rng.choice(phraser.book.lists), rng.choice(list(phraser.book.themes)), rng, things=", ".join(words)
    )
    return phraser.slipped(text, rng), items


def imagined(phraser: Phraser, labels: Sequence[str], rng: random.Random) -> tuple[str, tuple[Item, ...]]:
    """A prompt, perhaps with slips of the pen, and what it asks for in the order of its words.

    Args:
        phraser: carriers and words.
        labels: of some scene, which its objects often are drawn from.
        rng: draws everything.
    """
    text, said = _drawn(phraser, labels, rng)
    lowered = text.lower()
    items = sorted(said, key=lambda pair: lowered.find(pair[1].lower()))
    return phraser.slipped(text, rng), tuple(item for item, _ in items)


def _drawn(phraser: Phraser, labels: Sequence[str], rng: random.Random) -> tuple[str, list[tuple[Item, str]]]:
    """The text, and each item with its words."""
    vocabulary, book = phraser.vocabulary, phraser.book
    recipe = rng.choice(list(book.themes))
    if rng.random() < NOTHING_SHARE:
        theme = rng.choice(book.themes[recipe])
        if not vocabulary.counts(theme):
            return theme, []
    things = [label for label in vocabulary.labels if vocabulary.kind(label) != "surface"]
    near = [label for label in dict.fromkeys(labels) if label in set(things)]
    pool = near if near and rng.random() < NEAR_SHARE else things
    chosen = rng.sample(pool, k=min(len(pool), rng.randint(1, MAX_THINGS)))
    if rng.random() < SURFACE_SHARE:
        chosen.append(rng.choice([label for label in vocabulary.labels if vocabulary.kind(label) == "surface"]))
    items = [Item(label, _count(phraser, label, rng)) for label in chosen]
    words = [_said(phraser, item, rng) for item in items]
    said = list(zip(items, words, strict=True))
    pair = _pair(phraser, items, rng) if rng.random() < RELATION_SHARE else None
    if pair is not None:
        text, said = _related(phraser, said, pair, recipe, rng)
    else:
        text = _listed(phraser, said, recipe, rng)
    if rng.random() < ABSENT_SHARE:
        other = rng.choice([label for label in things if label not in chosen])
        text = rng.choice(ABSENT).format(text=text, other=other, others=vocabulary.plural(other))
    return text, said


def _count(phraser: Phraser, label: str, rng: random.Random) -> int:
    entry = phraser.vocabulary.entries[label]
    countable = not (entry.get("mass") or entry.get("plural_only") or entry["kind"] == "surface")
    collective = label in reading_words(phraser.vocabulary.name).collective
    return rng.choice(COUNTS) if countable and not collective else 1


def _said(phraser: Phraser, item: Item, rng: random.Random, word_share: float = WORD_SHARE) -> str:
    """One item in words, its number or article included."""
    vocabulary, label = phraser.vocabulary, item.label
    entry = vocabulary.entries[label]
    plural_name = bool(entry.get("mass") or entry.get("plural_only"))
    word = other_word(phraser, label, rng, word_share) or label
    colour = f"{rng.choice(COLOURS)} " if rng.random() < COLOUR_SHARE else ""
    if item.count > 1:
        many = vocabulary.plural(label) if word == label else pluralise(word)
        numbers = [NUMBERS[item.count], NUMBERS[item.count], str(item.count)]
        numbers += {2: ["a pair of", "a couple of"], 6: ["half a dozen"]}.get(item.count, [])
        return f"{rng.choice(numbers)} {colour}{many}"
    if rng.random() < OWNER_SHARE:
        return f"{rng.choice(OWNERS)} {colour}{word}"
    if plural_name:
        return f"{colour}{word}"
    text = f"{colour}{word}"
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}" if rng.random() < 0.93 else f"one {text}"


def other_word(phraser: Phraser, label: str, rng: random.Random, share: float) -> str:
    """A word for a label that is not the label, in singular; "" where there is none, or not drawn."""
    vocabulary, entry = phraser.vocabulary, phraser.vocabulary.entries[label]
    others = [
        *vocabulary.synonyms(label),
        *phraser.book.words.get(label, ()),
        *reading_words(vocabulary.name).words.get(label, ()),
    ]
    plural_name = bool(entry.get("mass") or entry.get("plural_only"))
    fitting = others if plural_name else [word for word in others if not word.endswith("s") or word.endswith("ss")]
    return rng.choice(fitting) if fitting and rng.random() < share else ""


def _pair(phraser: Phraser, items: Sequence[Item], rng: random.Random) -> tuple[int, int, str] | None:
    """Two items and a relation that people would state of such things."""
    kind = phraser.vocabulary.kind
    word = rng.choice(RELATIONS)
    pairs = [(a, b) for a in range(len(items)) for b in range(len(items)) if a != b and items[b].count == 1]
    if word in ("on", "inside"):
        carries = ("furniture",)
        pairs = [(a, b) for a, b in pairs if kind(items[b].label) in carries and kind(items[a].label) not in carries]
    pairs = [(a, b) for a, b in pairs if "surface" not in (kind(items[a].label), kind(items[b].label))]
    return (*rng.choice(pairs), word) if pairs else None


def _related(
    phraser: Phraser, said: list[tuple[Item, str]], pair: tuple[int, int, str], recipe: str, rng: random.Random
) -> tuple[str, list[tuple[Item, str]]]:
    """A sentence with a relation; an item that the carrier has no room for is not asked for."""
    first, second, word = pair
    rest = [each for at, each in enumerate(said) if at not in (first, second)]
    carriers = [c for c in phraser.book.relations if ("{things}" in c) == bool(rest)] or list(phraser.book.relations)
    carrier = rng.choice(carriers)
    related = (Item(said[first][0].label, said[first][0].count, (word, said[second][0].label)), said[first][1])
    parts = {
        "first": related[1],
        "second": said[second][1],
        "link": rng.choice(phraser.book.links[word]),
        "things": _joined([words for _, words in rest], rng),
    }
    kept = [related, said[second], *(rest if "{things}" in carrier else [])]
    return phraser.filled(carrier, recipe, rng, **parts), kept


def _listed(phraser: Phraser, said: Sequence[tuple[Item, str]], recipe: str, rng: random.Random) -> str:
    book, words = phraser.book, [words for _, words in said]
    living = [at for at, (item, _) in enumerate(said) if phraser.vocabulary.kind(item.label) in LIVING]
    many = [at for at, (item, _) in enumerate(said) if item.count > 1]
    if living and len(said) > 1 and rng.random() < 0.6:
        rest = _joined([each for at, each in enumerate(words) if at != living[0]], rng)
        return phraser.filled(rng.choice(book.people), recipe, rng, someone=words[living[0]], things=rest)
    if many and rng.random() < 0.5:
        carriers = [c for c in book.counts if ("{things}" in c) == (len(said) > 1) and c.count("{count}") == 1]
        rest = _joined([each for at, each in enumerate(words) if at != many[0]], rng)
        return phraser.filled(rng.choice(carriers), recipe, rng, count=words[many[0]], things=rest)
    if rng.random() < 0.1:
        theme = rng.choice(book.themes[recipe])
        carriers = [c for c in book.themed if "{things}" in c]
        if not phraser.vocabulary.counts(theme):
            return phraser.filled(rng.choice(carriers), recipe, rng, theme=theme, things=_joined(words, rng))
    return phraser.filled(rng.choice(book.lists), recipe, rng, things=_joined(words, rng))


def _joined(words: Sequence[str], rng: random.Random) -> str:
    """Words as a list, in one of the ways in which people write lists."""
    how = rng.random()
    if len(words) < 2 or how < 0.6:
        return join(list(words)) if words else ""
    if how < 0.75:
        return ", ".join(words)
    return f"{', '.join(words[:-1])}{rng.choice((' plus ', ', with ', '; also ', ' as well as ', ' & '))}{words[-1]}"
