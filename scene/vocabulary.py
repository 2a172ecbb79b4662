"""The words of a world: categories, synonyms, plurals, counts; and which words of a prompt it does not know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

NUMBER_WORDS = {
    "a": 1, "an": 1, "one": 1, "another": 1, "two": 2, "both": 2, "couple": 2, "pair": 2, "three": 3, "several": 3,
    "few": 3, "some": 2, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
}  # fmt: skip

# Function words, verbs and adjectives that never name an object; the rest of the words after a determiner
# or a preposition are taken for one. A closed list on purpose: no tagger weights ship in any package here.
_NOT_OBJECTS = frozenset(
    """
    a an the this that these those his her their its my your our one two three four five six seven eight nine ten
    some several few many another other both all each every any no not of in on at by to from with without under
    over above below beneath behind beside besides near next between among around across along through inside
    outside into onto upon off out up down left right top bottom middle center centre front back side corner edge
    and or but while as is are was were be been being has have had do does there it he she they who which where
    it's there's very so too just only also then than like together alone facing looking lying laying
    standing sitting running walking kicking playing jumping flying holding wearing eating drinking throwing
    catching waving smiling laughing crying sleeping kneeling raining falling growing burning shining hanging
    swimming riding driving watching hiding chasing flies runs sits stands kicks plays holds wears eats
    big small large little tiny huge tall short long wide young old happy sad angry surprised scared mad
    red green blue yellow orange purple pink brown black white grey gray colorful colourful bright dark
    sunny beautiful nice good lovely quiet busy empty full round wooden draw please show me
    scene picture image drawing photo view park day time morning evening afternoon night background foreground
    air way distance them him something someone nothing everything everyone group row fun piece
    """.split()
)
_DETERMINERS = frozenset(NUMBER_WORDS) | frozenset("the his her their its my your our this these those some".split())
_PREPOSITIONS = frozenset(
    "under over above below beneath behind beside near in on at by with inside into onto around of between".split()
)
_WORD = re.compile(r"[a-z0-9][a-z0-9'-]*")


@dataclass(frozen=True)
class Mention:
    """A category named in a text: how many, and where (character offsets, half-open)."""

    label: str
    count: int
    start: int
    end: int


class Vocabulary:
    """Categories of one world.

    Args:
        name: name of the world.
        entries: label -> {kind, synonyms, plural, plural_only, mass}; see `configs/worlds/park.yaml`.
    """

    def __init__(self, name: str, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self.name = name
        self.entries = {label: dict(entry or {}) for label, entry in entries.items()}

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Reads a world file (YAML with `name` and `labels`)."""
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return cls(data["name"], data["labels"])

    @property
    def labels(self) -> tuple[str, ...]:
        """All categories, in file order."""
        return tuple(self.entries)

    def kind(self, label: str) -> str:
        """surface, sky, large, person, animal, clothing, food or toy."""
        return str(self.entries[label]["kind"])

    def synonyms(self, label: str) -> tuple[str, ...]:
        """Other words for a category, the label itself not included."""
        return tuple(self.entries[label].get("synonyms", ()))

    def plural(self, label: str) -> str:
        """Plural form of a category."""
        entry = self.entries[label]
        if entry.get("plural_only") or entry.get("mass"):
            return label
        return str(entry.get("plural") or pluralise(label))

    def with_article(self, label: str, text: str | None = None) -> str:
        """`text` (default: the label) with "a", "an", or nothing for mass and plural-only words."""
        text, entry = text or label, self.entries.get(label, {})
        if entry.get("mass") or (entry.get("plural_only") and text == label):
            return text
        return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"

    @cached_property
    def _forms(self) -> dict[str, tuple[str, bool]]:
        """Surface form -> (label, is plural)."""
        forms: dict[str, tuple[str, bool]] = {}
        for label, entry in self.entries.items():
            for word in (label, *entry.get("synonyms", ())):
                forms.setdefault(pluralise(word), (label, True))
        for label, entry in self.entries.items():
            forms[self.plural(label)] = (label, True)
            for word in entry.get("synonyms", ()):
                forms[word] = (label, False)
        for label, entry in self.entries.items():
            forms[label] = (label, bool(entry.get("plural_only")))
        return forms

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        words = sorted(self._forms, key=len, reverse=True)
        joined = "|".join(re.escape(word).replace(r"\ ", r"[\s-]+") for word in words)
        return re.compile(rf"(?<![\w'-])(?:{joined})(?![\w-])")

    def find(self, text: str) -> list[Mention]:
        """Categories named in `text`, in order; longest form wins; "two dogs" counts 2, a bare plural 2.

        The same label named twice with a definite article ("the dog") or a bare word counts once:
        only indefinite or numbered mentions add up.
        """
        lowered = text.lower()
        found = []
        for match in self._pattern.finditer(lowered):
            label, is_plural = self._forms[_normal(match.group(), self._forms)]
            count = self._count_before(lowered[: match.start()], is_plural and not self._fixed_number(label))
            found.append(Mention(label, count, match.start(), match.end()))
        return found

    def counts(self, text: str) -> dict[str, int]:
        """How many of each category a text asks for; repeated mentions of one object do not add up."""
        wanted: dict[str, int] = {}
        for mention in self.find(text):
            before = _WORD.findall(text.lower()[: mention.start])
            adds = bool(before) and before[-1] == "another"
            wanted[mention.label] = (
                wanted.get(mention.label, 0) + 1 if adds else max(wanted.get(mention.label, 0), mention.count)
            )
        return wanted

    def canonical(self, text: str) -> str | None:
        """The category of a short description: exact form first, else its last known noun; None if unknown."""
        lowered = " ".join(text.lower().split())
        if lowered in self._forms:
            return self._forms[lowered][0]
        mentions = self.find(lowered)
        return mentions[0].label if mentions else None

    def exact(self, text: str) -> str | None:
        """The category whose name, synonym or plural a text is, word for word; None if it is none."""
        return self._forms.get(" ".join(text.lower().split()), (None, False))[0]

    def unknown(self, text: str) -> list[str]:
        """Words that seem to name an object but belong to no category, in order, each once.

        A word counts when it follows a determiner, number or preposition (adjectives between are skipped).
        """
        lowered = text.lower()
        spans = [(mention.start, mention.end) for mention in self.find(lowered)]
        unknown: list[str] = []
        expects = True  # a prompt may open with a bare noun
        for match in _WORD.finditer(lowered):
            word = match.group()
            inside = any(start <= match.start() < end for start, end in spans)
            if inside:
                expects = False
            elif word in _DETERMINERS or word in _PREPOSITIONS or word == "and":
                expects = True
            elif word in _NOT_OBJECTS or word.isdigit():
                continue
            elif expects:
                if word not in unknown and not word.endswith("ly"):
                    unknown.append(word)
                expects = False
        return unknown

    def _fixed_number(self, label: str) -> bool:
        entry = self.entries[label]
        return bool(entry.get("mass") or entry.get("plural_only"))

    @staticmethod
    def _count_before(before: str, is_plural: bool) -> int:
        words = _WORD.findall(before)[-4:]
        for word in reversed(words):
            if word.isdigit():
                return max(1, min(int(word), 20))
            if word in NUMBER_WORDS and (is_plural or NUMBER_WORDS[word] == 1):
                return max(NUMBER_WORDS[word], 2 if is_plural else 1)
            if word in _DETERMINERS or word in _PREPOSITIONS or word == "and":
                break
        return 2 if is_plural else 1


def _normal(text: str, forms: Mapping[str, object]) -> str:
    """`text` as it stands in `forms`: as written ("t-shirt"), else with single spaces ("hot-dog" -> "hot dog")."""
    return text if text in forms else re.sub(r"[\s-]+", " ", text)


def pluralise(word: str) -> str:
    """Regular English plural."""
    if word.endswith(("s", "x", "ch", "sh")):
        return word if word.endswith("s") else word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"
