"""Prompts with what they name, to measure a planner by: our held-out ones, NSR-1K, T2I-CompBench and GenEval files.

Sources: NSR-1K: Feng et al., "LayoutGPT", arXiv 2305.15393; T2I-CompBench: Huang et al., arXiv 2307.06350; GenEval:
Ghosh et al., arXiv 2310.11513. Only prompts whose objects the world knows can be asked of its planner; the rest is
counted, not hidden.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scene.corpus.claims import relation_claims
from scene.errors import UserError
from scene.geometry import DEFAULT_SIZE, Box, Size
from scene.vocabulary import Vocabulary

NSR_RELATIONS = {"left": "left of", "right": "right of", "top": "above", "bottom": "below", "next to": "next to"}
GENEVAL_RELATIONS = {"left of": "left of", "right of": "right of", "above": "above", "below": "below"}


@dataclass(frozen=True)
class Mention:
    """An object that a prompt names.

    Attributes:
        any_of: labels that satisfy it.
        count: how many.
        exact: the prompt says how many, so more is wrong.
        implied: meant, but not named.
        attribute: its colour, where the prompt names one.
    """

    any_of: tuple[str, ...]
    count: int = 1
    exact: bool = False
    implied: bool = False
    attribute: str = ""


@dataclass(frozen=True)
class PromptCase:
    """A prompt and what it asks for.

    Attributes:
        id: within its set.
        prompt: the text.
        objects: named or implied.
        relations: (labels, word of `planner.grammar.LINKS`, labels).
        size: canvas.
        truth: label and box of a person's or photo's own layout, where there is one.
    """

    id: str
    prompt: str
    objects: tuple[Mention, ...]
    relations: tuple[tuple[tuple[str, ...], str, tuple[str, ...]], ...] = ()
    size: Size = DEFAULT_SIZE
    truth: tuple[tuple[str, Box], ...] = ()

    @property
    def named(self) -> tuple[Mention, ...]:
        """What the prompt names, implied objects left out."""
        return tuple(mention for mention in self.objects if not mention.implied)


@dataclass(frozen=True)
class PromptSet:
    """Prompts out of one file; `unknown` of them name something that the world has not."""

    name: str
    cases: tuple[PromptCase, ...]
    unknown: int = 0


def read_prompts(file: Path, vocabulary: Vocabulary) -> PromptSet:
    """Read a prompt file; its form is recognised by its content.

    Args:
        file: our JSONL (objects, relations), GenEval's JSONL (tag, include), NSR-1K's JSON array (obj1, relation, obj2,
            boxes xywh from 0 to 1), or T2I-CompBench's plain text, a prompt a line.
        vocabulary: the world's words.

    Raises:
        UserError: not readable, or an entry is none of these; the message names it.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read prompts {file} ({getattr(error, 'strerror', None) or error})") from None
    if text.lstrip().startswith("["):
        entries: Iterable[Any] = _parsed(file, 1, text)
    elif text.lstrip().startswith("{"):
        lines = enumerate(text.splitlines(), start=1)
        entries = [_parsed(file, number, line) for number, line in lines if line.strip()]
    else:
        entries = [line.strip() for line in text.splitlines() if line.strip()]
    cases, unknown = [], 0
    for number, entry in enumerate(entries, start=1):
        try:
            case = _case(str(number), entry, vocabulary)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{file}, entry {number} is no prompt of a known form ({error!r})") from None
        if case is None:
            unknown += 1
        else:
            cases.append(case)
    return PromptSet(file.stem, tuple(cases), unknown)


def _parsed(file: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{file}, line {number} is not JSON ({error})") from None


def _case(number: str, entry: Any, vocabulary: Vocabulary) -> PromptCase | None:
    if isinstance(entry, str):
        return plain_case(number, entry, vocabulary)
    if "obj1" in entry:
        return _nsr(entry, vocabulary)
    if "tag" in entry:
        return _geneval(number, entry, vocabulary)
    objects = [
        Mention(
            tuple(item["any_of"]),
            _least(item, vocabulary),
            bool(item["exact"]),
            bool(item["implied"]),
            str(item.get("attribute", "")),
        )
        for item in entry["objects"]
    ]
    relations = [(tuple(r["subject"]), str(r["relation"]), tuple(r["object"])) for r in entry["relations"]]
    return PromptCase(str(entry["id"]), str(entry["prompt"]), tuple(objects), tuple(relations))


def _least(item: Any, vocabulary: Vocabulary) -> int:
    """How many are asked for. Where no number is said, one object of a kind that is several by itself ("tulips") is
    enough, although the plural stands for two with others ("chairs")."""
    several = all(vocabulary.entries.get(label, {}).get("plural_only") for label in item["any_of"])
    return 1 if several and not item["exact"] else int(item["count"])


def plain_case(number: str, text: str, vocabulary: Vocabulary) -> PromptCase | None:
    """A prompt read by the vocabulary alone; None when it names an object that the world does not know, or none."""
    if vocabulary.unknown(text) or not vocabulary.find(text):
        return None
    objects = tuple(Mention((label,), count, exact=True) for label, count in vocabulary.counts(text).items())
    claims = tuple(((c.first,), str(c.relation), (c.second,)) for c in relation_claims(text, vocabulary))
    return PromptCase(number, text, objects, claims)


def _nsr(entry: Mapping[str, Any], vocabulary: Vocabulary) -> PromptCase | None:
    names, boxes, size = [], [], DEFAULT_SIZE
    for key in ("obj1", "obj2"):
        name, (x, y, width, height) = entry[key]
        label = vocabulary.canonical(str(name))
        if label is None:
            return None
        names.append(label)
        corners = (x * size.width, y * size.height, (x + width) * size.width, (y + height) * size.height)
        boxes.append(Box(*(round(value) for value in corners)))
    relation = NSR_RELATIONS[entry["relation"]]
    relations = (((names[0],), relation, (names[1],)),)
    mentions = tuple(Mention((name,)) for name in dict.fromkeys(names))
    truth = tuple(zip(names, boxes, strict=True))
    return PromptCase(str(entry["id"]), str(entry["prompt"]).strip(), mentions, relations, size, truth)


def _geneval(number: str, entry: Mapping[str, Any], vocabulary: Vocabulary) -> PromptCase | None:
    mentions, relations = [], []
    labels = [vocabulary.canonical(str(item["class"])) for item in entry["include"]]
    if None in labels:
        return None
    for label, item in zip(labels, entry["include"], strict=True):
        mentions.append(Mention((str(label),), int(item.get("count", 1)), exact=entry["tag"] == "counting"))
        if item.get("position"):
            word, other = item["position"]
            relations.append(((str(label),), GENEVAL_RELATIONS[word], (str(labels[other]),)))
    return PromptCase(number, str(entry["prompt"]), tuple(mentions), tuple(relations))
