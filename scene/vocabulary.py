"""The words of a world: categories, synonyms, plurals, counts; and which words of a prompt it does not know."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import yaml

from scene.reading import DETERMINERS, PREPOSITIONS, WORD, Mention, Name, mentions, stated
from scene.words import plurals, reading_words

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
_START, _INNER = re.compile(r"(?<![\w'])\w"), re.compile(r"(?<=[\s-])\w")
"""Where a name may begin, and another word within it."""
_RUN = re.compile(r"\w+")


class Vocabulary:
    """Categories of one world.

    Args:
        name: name of the world; the words that `scene.words.reading_words` has for it are understood, too.
        entries: label -> {kind, synonyms, plural, plural_only, mass}; see `configs/worlds/park.yaml`.
        plain: whether only the words of the entries are understood, name by name and without regard to what a sentence
            makes of them: the reader that convicts generated prompts (`scene.corpus.claims`), and that no corpus's
            bytes may depend on.
    """

    def __init__(self, name: str, entries: Mapping[str, Mapping[str, Any]], plain: bool = False) -> None:
        self.name, self._is_plain = name, plain
        self.entries = {label: dict(entry or {}) for label, entry in entries.items()}
        self._reading = reading_words("" if plain else name)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Reads a world file (YAML with `name` and `labels`)."""
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return cls(data["name"], data["labels"])

    @cached_property
    def plain(self) -> Self:
        """The same categories, read word by word (see `plain` above)."""
        return self if self._is_plain else type(self)(self.name, self.entries, plain=True)

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
        """Surface form -> (label, is plural); "" for phrases that name nothing. Later ones outrank earlier ones."""
        forms: dict[str, tuple[str, bool]] = {}
        for word in self._reading.nothing:
            forms.update(dict.fromkeys((word, *plurals(word)), ("", False)))
        others = {
            word.lower(): label
            for label, found in self._reading.words.items()
            if label in self.entries
            for word in found
        }
        if not self._is_plain:
            own = ((label, (label, *entry.get("synonyms", ()))) for label, entry in self.entries.items())
            others |= {word: label for label, found in own for word in found}
        for word, label in others.items():
            forms.update(dict.fromkeys(plurals(word), (label, True)))
        forms.update({word: (label, False) for word, label in others.items()})
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
    def _by_first(self) -> dict[str, list[str]]:
        """First word -> forms that begin with it, longest first."""
        found: dict[str, list[str]] = {}
        for form in sorted(self._forms, key=len, reverse=True):
            if first := _RUN.match(form):
                found.setdefault(first.group(), []).append(form)
        return found

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        """First word -> pattern of its forms; filled as words occur, since thousands take a second to compile."""
        return {}

    def _match(self, lowered: str, start: int) -> re.Match[str] | None:
        """The longest form that begins there."""
        first = _RUN.match(lowered, start)
        if first is None or first.group() not in self._by_first:
            return None
        word = first.group()
        if word not in self._patterns:
            joined = "|".join(re.escape(form).replace(r"\ ", r"[\s-]+") for form in self._by_first[word])
            self._patterns[word] = re.compile(rf"(?:{joined})(?![\w-])")
        return self._patterns[word].match(lowered, start)

    def find(self, text: str) -> list[Mention]:
        """Categories named in `text`, in order; longest form wins; "two dogs" counts 2, a bare plural 2.

        The same label named twice with a definite article ("the dog") or a bare word counts once:
        only indefinite or numbered mentions add up.
        """
        lowered = text.lower()
        return (stated if self._is_plain else mentions)(lowered, self._names(lowered))

    def _names(self, lowered: str) -> list[Name]:
        """Every name in a text, asked for or not."""
        found = []
        for match in self._matches(lowered):
            label, is_plural = self._forms[_normal(match.group(), self._forms)]
            label = self._sense(label, match.group(), lowered)
            entry = self.entries.get(label, {})
            collective = bool(entry.get("mass")) or label in self._reading.collective
            found.append(
                Name(
                    label,
                    match.start(),
                    match.end(),
                    plural=is_plural and not (entry.get("mass") or entry.get("plural_only")),
                    counted=not collective,
                    pairs=bool(entry.get("plural_only")),
                    person=entry.get("kind") == "person",
                    verb=match.group() in self._reading.verbs,
                    part_after=tuple(word for word, parts in self._reading.parts.items() if match.group() in parts),
                    own=self.plain.exact(match.group()) is not None,
                )
            )
        return found

    def _matches(self, lowered: str) -> Iterator[re.Match[str]]:
        """Forms in a text, longest first; of two that share words the later one: what a phrase ends in is what it
        names ("wooden table", "table tennis bat")."""
        at = 0
        for word in _START.finditer(lowered):
            match = self._match(lowered, word.start()) if word.start() >= at else None
            compound = lowered[: word.start()].endswith("-")  # "nappy-changing station", not "tom-cat"
            if match is None or (compound and (self._is_plain or " " not in match.group())):
                continue
            later: re.Match[str] | None = match
            while later is not None:
                match = later
                starts = (inner.start() for inner in _INNER.finditer(lowered, match.start(), match.end()))
                found = (self._match(lowered, start) for start in starts)
                later = next((each for each in found if each and each.end() > match.end()), None)
            yield match
            at = match.end()

    def _sense(self, label: str, word: str, lowered: str) -> str:
        """What a single word means in the company of others: "glasses" beside a newspaper."""
        for meaning, company in self._reading.senses.get(label, {}).items() if " " not in word else ():
            if (not meaning or meaning in self.entries) and re.search(rf"\b(?:{'|'.join(company)})\b", lowered):
                return meaning
        return label

    def counts(self, text: str) -> dict[str, int]:
        """How many of each category a text asks for; repeated mentions of one object do not add up."""
        wanted: dict[str, int] = {}
        for mention in self.find(text):
            before = wanted.get(mention.label, 0)
            wanted[mention.label] = before + mention.count if mention.adds else max(before, mention.count)
        return wanted

    def canonical(self, text: str) -> str | None:
        """The category of a short description: exact form first, else its last known noun; None if unknown."""
        lowered = " ".join(text.lower().split())
        if exact := self.exact(lowered):
            return exact
        named = [each.label for each in self.find(lowered) or self._names(lowered) if each.label]
        return named[0] if named else None

    def exact(self, text: str) -> str | None:
        """The category whose name, synonym or plural a text is, word for word; None if it is none."""
        return self._form(text)[0] or None

    def is_plural(self, name: str) -> bool:
        """Whether a name is written as a plural."""
        return self._form(name)[1]

    def _form(self, text: str) -> tuple[str, bool]:
        """What `_forms` has for a text; "" and False where it has nothing."""
        return self._forms.get(" ".join(text.lower().split()), ("", False))

    @property
    def has_everyday_words(self) -> bool:
        """Whether more words are understood than the world file has."""
        return bool(self._reading.words)

    @property
    def ordinary(self) -> frozenset[str]:
        """English words that look like slips of names and are none."""
        return self._reading.ordinary

    def forms(self) -> Collection[str]:
        """Every name as it may be written, plurals included, and phrases that name nothing."""
        return self._forms.keys()

    def unknown(self, text: str) -> list[str]:
        """Words that seem to name an object but belong to no category, in order, each once.

        A word counts when it follows a determiner, number or preposition (adjectives between are skipped).
        """
        lowered = text.lower()
        spans = [(mention.start, mention.end) for mention in self._names(lowered)]
        unknown: list[str] = []
        expects = True  # a prompt may open with a bare noun
        for match in WORD.finditer(lowered):
            word = match.group()
            inside = any(start <= match.start() < end for start, end in spans)
            if inside:
                expects = False
            elif word in DETERMINERS or word in PREPOSITIONS or word == "and":
                expects = True
            elif word in _NOT_OBJECTS or word.isdigit():
                continue
            elif expects:
                if word not in unknown and not word.endswith("ly"):
                    unknown.append(word)
                expects = False
        return unknown


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
