"""Global prompts for a scene whose layers are known: from terse lists to sentences with counts and true relations."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from scene.corpus.records import LayerRecord
from scene.geometry import Box
from scene.relations import Relation, box_relations
from scene.seeds import derive_seed
from scene.vocabulary import Vocabulary

NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_OPENINGS = (
    "",
    "",
    "",
    "a park with ",
    "a scene with ",
    "draw ",
    "show me ",
    "a picture of ",
    "please draw ",
    "there is ",
)
_PLACE_OPENINGS = ("", "", "{} with ", "{} with ", "draw {} with ", "show me {} with ", "a picture of ", "please draw ")
_SUNNY = (" on a sunny day", " in the sunshine", " under the sun")
_RELATION_WORDS: dict[Relation, tuple[str, ...]] = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "next to": ("next to", "near", "beside", "by"),
}
MAX_DIALOGUE_WORDS = 60


def global_prompts(
    scene_id: str,
    layers: Sequence[LayerRecord],
    boxes: Sequence[tuple[int, int, int, int]],
    teller: Sequence[str],
    vocabulary: Vocabulary,
    place: str = "",
) -> tuple[str, ...]:
    """Several prompts of rising detail; the same scene id gives the same prompts.

    Args:
        scene_id: seeds the choice of words.
        layers: objects back to front, background surfaces left out.
        boxes: their boxes in canvas pixels.
        teller: what a human said about the scene, turn by turn; may be empty.
        vocabulary: words of the world.
        place: what the whole scene shows ("a meadow"); empty = a park or nothing in particular.

    Returns:
        relational sentence, terse list of some objects, list of all objects, and (if any) the human's own words.
    """
    rng = random.Random(derive_seed("prompts", scene_id))
    placed = [Box(*box) for box in boxes]
    everything = list(range(len(layers)))
    openings = tuple(opening.format(place) for opening in _PLACE_OPENINGS) if place else _OPENINGS
    some = sorted(rng.sample(everything, k=min(len(everything), rng.randint(2, 4))))
    prompts = [
        _relational(rng, layers, placed, vocabulary, openings),
        _listing(rng, [layers[i] for i in some], vocabulary, openings),
        _listing(rng, [layers[i] for i in everything], vocabulary, openings),
    ]
    words = " ".join(text for text in teller if len(text.split()) > 2).split()
    if len(words) >= 5:
        prompts.append(" ".join(words[:MAX_DIALOGUE_WORDS]))
    return tuple(prompts)


def _word(rng: random.Random, label: str, vocabulary: Vocabulary) -> str:
    """The label, or now and then one of its synonyms that can stand with an article."""
    nouns = [word for word in vocabulary.synonyms(label) if not word.endswith(("y", "ing", "day", "shine"))]
    return rng.choice(nouns) if nouns and rng.random() < 0.25 else label


def _counted(rng: random.Random, label: str, count: int, vocabulary: Vocabulary) -> str:
    if count > 1:
        return f"{NUMBERS[min(count, 10)]} {vocabulary.plural(label)}"
    word = _word(rng, label, vocabulary)
    return vocabulary.with_article(label, word)


def join(parts: Sequence[str]) -> str:
    """Words in a row: "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _listing(rng: random.Random, layers: Sequence[LayerRecord], vocabulary: Vocabulary, openings: Sequence[str]) -> str:
    counts = Counter(layer.label for layer in layers)
    sunny = counts.get("sun") == 1 and len(counts) > 1 and rng.random() < 0.5
    if sunny:
        del counts["sun"]
    parts = [_counted(rng, label, count, vocabulary) for label, count in counts.items()]
    rng.shuffle(parts)
    return rng.choice(openings) + join(parts) + (rng.choice(_SUNNY) if sunny else "")


def _phrase(rng: random.Random, layer: LayerRecord, vocabulary: Vocabulary) -> str:
    """A single object: its full description, or only its name."""
    if rng.random() < 0.5:
        return layer.description
    posed = f" {layer.label} " in layer.description
    if posed and vocabulary.kind(layer.label) == "person" and rng.random() < 0.6:
        return " ".join([vocabulary.with_article(layer.label), layer.description.split(f" {layer.label} ", 1)[-1]])
    return vocabulary.with_article(layer.label, _word(rng, layer.label, vocabulary))


def _relational(
    rng: random.Random,
    layers: Sequence[LayerRecord],
    boxes: Sequence[Box],
    vocabulary: Vocabulary,
    openings: Sequence[str],
) -> str:
    """Clauses "A left of B" over objects that occur once, every relation true by geometry."""
    counts = Counter(layer.label for layer in layers)
    single = [i for i, layer in enumerate(layers) if counts[layer.label] == 1]
    sunny = any(layers[i].label == "sun" for i in single) and rng.random() < 0.6
    movable = [i for i in single if not (sunny and layers[i].label == "sun")]
    rng.shuffle(movable)
    clauses: list[str] = []
    while len(movable) >= 2 and len(clauses) < 3:
        first = movable.pop()
        options = [(j, relation) for j in movable for relation in box_relations(boxes[first], boxes[j])]
        near = [option for option in options if option[1] == "next to"]
        if not options:
            clauses.append(_phrase(rng, layers[first], vocabulary))
            continue
        second, relation = rng.choice(near or options)
        movable.remove(second)
        words = rng.choice(_RELATION_WORDS[relation])
        clauses.append(f"{_phrase(rng, layers[first], vocabulary)} {words} {_phrase(rng, layers[second], vocabulary)}")
    several = [(label, count) for label, count in counts.items() if count > 1]
    clauses += [_counted(rng, label, count, vocabulary) for label, count in several[:2]]
    if not clauses:
        return _listing(rng, layers, vocabulary, openings)
    return join(clauses) + (rng.choice(_SUNNY) if sunny else "")
