"""Whether a part of a prompt means what the reverse dictionary takes it for: how sure parser and dictionary are, and
what is named within ("a seat that spins" is named a seat, "somewhere to hang coats" names coats in passing).

A logistic regression over a few facts (`EVIDENCE`), fitted by `planner.acceptance_train` to marked prompts from which
neither parser nor dictionary learned:

    P(right) = sigmoid(w x + b)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from planner.descriptions import ReverseDictionary, company
from planner.parser import LEAST, Span
from scene.colours import plain_colour
from scene.corpus.language import NUMBERS
from scene.errors import UserError
from scene.vocabulary import Mention, Vocabulary

NAME = "acceptance.json"
SHORT, LONG = 2, 8  # words beside articles
DETERMINERS = (
    "a", "an", "the", "that", "those", "this", "these", "some", "one", "another", "my", "our", "his", "her", "their",
    "your", "its", *NUMBERS[2:], "pair", "pairs", "couple", "few", "set", "of", "exactly", "just", "any", "several",
    "other",
)  # fmt: skip
TELLING = (
    "that", "which", "who", "where", "what", "whatever", "with", "without", "for", "to", "you", "we", "i", "they", "on",
    "in", "like", "used", "when", "from", "something", "somewhere", "thing", "things", "those",
)  # fmt: skip  # where a name stands behind one of these, it is not what is meant
PEOPLE = ("someone", "somebody", "anyone", "anybody", "everyone", "everybody", "nobody", "people")
VAGUE = ("something", "somewhere", "what", "whatever", "where", "anything", "which")
PLACING = ("on", "in", "under", "at", "to", "near", "beside", "behind", "above", "below", "over")
UNFINISHED = ("the", "a", "an", "of", "with", "and", "or", "next", "by")
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_WHO = re.compile(r"(?:(?!for\b|to\b|with\b|that\b)[\w'-]+\s+){1,4}(?:who|whose)\b", re.IGNORECASE)
_OWN = "|".join(("a", "an", "one", *NUMBERS[2:], "my", "our", "his", "her", "their"))
_BESIDE = re.compile(
    r"\b(?:with|and|near|beside|next to|under|above|below|behind|in front of)"
    rf"\s+(?:{_OWN})\s+(?:[A-Za-z'-]+\s+){{0,2}}$",
    re.IGNORECASE,
)  # "... beside a (little old)", before a name

EVIDENCE = (
    "span",  # log-odds of the parser that exactly this is a thing
    "label",  # log-odds of the dictionary's likeliest label,
    "nothing",  # of its being none,
    "margin",  # and how far ahead of the next it is (logarithm)
    "named",  # log-odds of the likeliest of what is named within; as of 0 where nothing is
    "length",  # words beside articles, up to eight
    "short",  # no more than two of them
    "bare",  # one word without an article
    "telling",  # a word tells that it is a description ("something to ...")
    "kind",  # its kind is named ("a seat that spins"), not something in passing,
    "kind_last",  # with nothing after that ("a tiny old-looking tree"),
    "kind_of_person",  # a person's
    "kind_verb",  # or with what looks like a verb after it ("the bed takes up most of the space")
    "same_kind",  # what is named within is of the label's kind
    "with_name",  # beside what is named there is no more than one word
    "beside",  # a thing of its own seems to be named within ("a table with an armchair")
    "unfinished",  # it ends with a word that wants another
    "who",  # it tells of a person, the label does not
)


class Candidate(NamedTuple):
    """A part of a text and what the dictionary takes it for.

    Attributes:
        start, end: of the part.
        likely: probability of the parser that exactly this part is a thing.
        label, chance: likeliest label and its probability.
        within: what is named within.
        evidence: see `EVIDENCE`.
    """

    start: int
    end: int
    likely: float
    label: str
    chance: float
    within: tuple[Mention, ...]
    evidence: tuple[float, ...]


class Acceptance:
    """See the module.

    Args:
        weights: of `EVIDENCE`.
        bias: added.
    """

    def __init__(self, weights: Mapping[str, float], bias: float) -> None:
        self.weights, self.bias = [weights[name] for name in EVIDENCE], bias

    def __call__(self, candidate: Candidate) -> float:
        """Probability that the candidate is right."""
        score = sum(weight * fact for weight, fact in zip(self.weights, candidate.evidence, strict=True))
        return 1 / (1 + math.exp(-score - self.bias))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """That of a weight folder; None where it has none.

        Raises:
            UserError: the file is none.
        """
        file = folder / NAME
        if not file.is_file():
            return None
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            return cls(data["weights"], float(data["bias"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{file} does not fit this version; reinstall the weights") from None


def candidates(
    text: str,
    spans: Iterable[Span],
    vocabulary: Vocabulary,
    dictionary: ReverseDictionary,
    known: Sequence[tuple[int, int, str]] = (),
) -> Iterator[Candidate]:
    """What parts of a text the dictionary may be asked of, with its answers; what is just a name is left out.

    Args:
        text: a prompt.
        spans: where the parser sees things.
        vocabulary: the world's words.
        dictionary: the world's.
        known: (start, end, label) of parts that are known to mean something, beside what is named.
    """
    things = [found for found in vocabulary.find(text.lower()) if vocabulary.kind(found.label) != "surface"]
    named_too = [
        (found.start, found.end, found.label)
        for found in things
        if not any(start < found.end and found.start < end for start, end, _ in known)
    ]
    for span in spans:
        within = tuple(found for found in things if _apart(found.start, found.end, span) < 0)
        said, words = text[span.start : span.end], content(text[span.start : span.end])
        named = [word for found in within for word in content(text[found.start : found.end])]
        if (
            span.score < LEAST
            or any(found.start < span.start or span.end < found.end for found in within)
            or not said.strip()
            or not said[-1].isalnum()
            or text.startswith(("'s", "’s"), span.end)  # "my neighbour's van" shows no neighbour
            or vocabulary.exact(said.lower())
            or len(named) == len(words)
            or (len(words) == 1 and words[0] in PEOPLE)
        ):
            continue
        apart = [(_apart(start, end, span), label) for start, end, label in (*known, *named_too)]
        others = [label for distance, label in sorted(apart) if distance >= 0]
        chances = dictionary.chances(said, company(others))
        if (found := _weighed(text, span, within, chances, vocabulary)) is not None:
            yield found


def _weighed(
    text: str, span: Span, within: tuple[Mention, ...], chances: Mapping[str, float], vocabulary: Vocabulary
) -> Candidate | None:
    said, words = text[span.start : span.end], content(text[span.start : span.end])
    named = [word for found in within for word in content(text[found.start : found.end])]
    spoken = [word.lower() for word in WORD.findall(said)]
    is_kind, after, behind = False, "", text[span.end :]
    if within:
        first = within[0]
        before = [word.lower() for word in WORD.findall(text[span.start : first.start])]
        is_kind = not any(word in TELLING for word in before[1:]) and not (before and before[0] in VAGUE)
        after = next(iter(WORD.findall(text[first.end : span.end])), "").lower()
    passing = {found.label for found in within[is_kind:]}  # "something to hang coats on" is no coat
    ranked = sorted(
        ((chance, label) for label, chance in chances.items() if label and label not in passing), reverse=True
    )
    if not ranked:
        return None
    (chance, label), second = ranked[0], ranked[1][0] if len(ranked) > 1 else 0.0
    follows = next(iter(WORD.findall(behind[:40].lstrip())), "").lower() if behind[:1] == " " else ""
    hanging = UNFINISHED + (PLACING if follows in DETERMINERS else ())
    person = vocabulary.kind(label) == "person"
    evidence = (
        _odds(span.score),
        _odds(chance),
        _odds(chances[""]),
        math.log((chance + 1e-4) / (second + 1e-4)),
        _odds(max((chances.get(found.label, 0.0) for found in within), default=0.0)),
        min(len(words), LONG) / LONG,
        len(words) <= SHORT,
        len(words) < 2 and " " not in said,
        any(word in TELLING for word in spoken),
        is_kind,
        is_kind and not after,
        is_kind and vocabulary.kind(within[0].label) == "person",
        is_kind and after.endswith("s") and after not in TELLING,
        bool(within) and vocabulary.kind(within[0].label) == vocabulary.kind(label),
        bool(within) and len(words) - len(named) < 2,
        any(_BESIDE.search(text[span.start : found.start]) for found in within),
        bool(spoken) and spoken[-1] in hanging,
        bool(_WHO.match(said)) and not person,
    )
    return Candidate(span.start, span.end, span.score, label, chance, within, tuple(float(fact) for fact in evidence))


def content(said: str) -> list[str]:
    """Words of a phrase beside articles, numbers, owners and colours."""
    words = [word.lower() for word in WORD.findall(said)]
    return [word for word in words if word not in DETERMINERS and not plain_colour(word)]


def _odds(chance: float) -> float:
    chance = min(max(chance, 1e-4), 1 - 1e-4)
    return math.log(chance / (1 - chance))


def _apart(start: int, end: int, span: Span) -> int:
    """Letters between two parts of a text; negative where they share some."""
    return max(start - span.end, span.start - end)
