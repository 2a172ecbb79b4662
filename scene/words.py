"""Words that are understood in prompts but never written: the everyday English for the labels of a world."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

DATA = Path(__file__).parent / "data"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, in C, where libyaml is there


@dataclass(frozen=True)
class ReadingWords:
    """What a prompt may say besides the labels and synonyms of a world file.

    Attributes:
        words: label -> other words for it.
        collective: labels of which one model shows many.
        verbs: words that are names only where they do not stand as verbs.
        nothing: phrases that hold a name and ask for no object ("bus stop").
        ordinary: English words that look like a slip of a name ("stroll" is no stroller).
        parts: preposition -> words that after it belong to what was named before ("a chair with a green seat").
        senses: label -> what its single word means instead ("" = nothing) -> words in whose company it does.
    """

    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    collective: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()
    nothing: tuple[str, ...] = ()
    ordinary: frozenset[str] = frozenset()
    parts: dict[str, frozenset[str]] = field(default_factory=dict)
    senses: dict[str, dict[str, frozenset[str]]] = field(default_factory=dict)


@cache
def reading_words(world: str) -> ReadingWords:
    """Those of a world by its name (`scene/data/WORLD_words.yaml`); none where nobody wrote any."""
    path = DATA / f"{world}_words.yaml"
    if not world.isidentifier() or not path.is_file():
        return ReadingWords()
    data = yaml.load(path.read_text(encoding="utf-8"), LOADER)
    words = {label: tuple(found) for label, found in data["words"].items()}
    return ReadingWords(
        words,
        frozenset(data["collective"]),
        frozenset(data["verbs"]),
        tuple(data["nothing"]),
        frozenset(data["ordinary"]),
        {word: frozenset(found) for word, found in data["parts"].items()},
        {
            label: {meaning: frozenset(company) for meaning, company in senses.items()}
            for label, senses in data["senses"].items()
        },
    )


def plurals(word: str) -> set[str]:
    """How the plural of a word may be written, usual irregular ones included; unlike `pluralise`, which writes one."""
    found = {word if word.endswith("s") and not word.endswith("ss") else word + "s"}
    if word.endswith(("ss", "us", "x", "ch", "sh", "z")):
        found.add(word + "es")
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        found.add(word[:-1] + "ies")
    if word.endswith("fe"):
        found.add(word[:-2] + "ves")
    elif word.endswith("f"):
        found.add(word[:-1] + "ves")
    if word.endswith("man"):
        found.add(word[:-3] + "men")
    if word.endswith("child"):
        found.add(word + "ren")
    if word.endswith("o"):
        found.add(word + "es")
    head, of, rest = word.partition(" of ")
    return found | {f"{form} of {rest}" for form in plurals(head)} if of else found
