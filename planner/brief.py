"""The brief: what a prompt asks for, in the world's own words, written once before the first object.

    brief := " nothing" | item ("," item)*        at most `MAX_ITEMS`
    item  := " " [count " "] label [" " relation " " other]        count = 2 to 9; "2 crib, mug on coffee table"

Before each answer the program repeats what of the brief is not there yet ("Left: crib, coffee table"): keeping a list
is no matter of language.

A small language model that names the next object straight from a prompt in anybody's words repeats what is common and
forgets what is rare. With the brief it translates once, and then copies from one short list what the other list does
not have yet. The model writes it inside this grammar; where guards are on, the prompt reader (`scene.reading`) does.

Source: ours; the idea is a chain of thought (Wei et al., arXiv 2201.11903), cut down to what can be checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.grammar import INVERSE, AnswerTokens, Link, next_of
from scene.corpus.claims import relation_claims
from scene.vocabulary import Vocabulary

OPENING, LEFT = "Needs:", "Left:"
NOTHING = " nothing"
COMMA = ","
MAX_ITEMS = 10
MAX_COUNT = 9


@dataclass(frozen=True)
class Item:
    """So many objects of a label, and how they are to stand to another."""

    label: str
    count: int = 1
    link: Link | None = None

    def __str__(self) -> str:
        number = f"{min(self.count, MAX_COUNT)} " if self.count > 1 else ""
        return f" {number}{self.label}{' ' + ' '.join(self.link) if self.link else ''}"


def brief_text(items: Sequence[Item]) -> str:
    """Items as the grammar writes them, without opening and line end."""
    return COMMA.join(str(item) for item in items[:MAX_ITEMS]) or NOTHING


def completed(items: Sequence[Item]) -> tuple[Item, ...]:
    """A brief with the partners of its relations: who writes "mug on coffee table" asks for a coffee table, too."""
    listed = {item.label for item in items}
    partners = dict.fromkeys(item.link[1] for item in items if item.link and item.link[1] not in listed)
    return (*items, *(Item(label) for label in partners))


def remaining(items: Sequence[Item], placed: Iterable[str]) -> tuple[Item, ...]:
    """What of a brief is not there yet, given the labels that are. A relation to it of what is there is told from its
    side: of "lamp above sofa", with a lamp there, "sofa below lamp" is left."""
    there = Counter(placed)
    turned = {
        item.link[1]: (INVERSE[item.link[0]], item.label)
        for item in items
        if item.link and item.link[0] in INVERSE and there[item.label]
    }
    counts = [(item, item.count - there[item.label]) for item in items]
    return tuple(
        replace(item, count=count, link=item.link or turned.get(item.label)) for item, count in counts if count > 0
    )


def brief_of(text: str, vocabulary: Vocabulary, there: Mapping[str, int] | None = None) -> tuple[Item, ...]:
    """What a prompt asks for, as far as the reader of prompts understands it, in the order of its words.

    Args:
        text: the prompt, its slips mended.
        vocabulary: the world's words.
        there: label -> how many a finished scene has: nothing else is listed, and no more of it. None = no bounds.
    """
    links: dict[str, Link] = {}
    for claim in relation_claims(text, vocabulary):
        links.setdefault(claim.first, (claim.relation, claim.second))
    counts = vocabulary.counts(text)
    ordered = sorted(vocabulary.find(text), key=lambda mention: mention.start)
    items = []
    for label in dict.fromkeys(mention.label for mention in ordered if counts.get(mention.label)):
        count = counts[label] if there is None else min(counts[label], there.get(label, 0))
        link = links.get(label)
        if link is not None and there is not None and link[1] not in there:
            link = None
        if count:
            items.append(Item(label, count, link))
    return tuple(items)


class BriefAutomaton:
    """Which tokens may come next in a brief. Feed it with `advance` until `done`.

    Args:
        tokens: the grammar's pieces.
    """

    def __init__(self, tokens: AnswerTokens) -> None:
        self._tokens = tokens
        self._labels = {tokens.encode(f" {label}", OPENING): label for label in tokens.labels}
        self._links = {path[:-1]: link for link, path in tokens.link_paths.items()}
        self._nothing = tokens.encode(NOTHING, OPENING)
        self._comma = tokens.encode(COMMA, "a")[0]
        self._digits = tokens.digits[2 : MAX_COUNT + 1]
        self.ids: list[int] = []
        self.items: list[Item] = []
        self._count: int | None = 1  # None = its digit comes next
        self._label: tuple[int, ...] = ()
        self._link: tuple[int, ...] = ()
        self.done = False

    def allowed(self) -> tuple[int, ...]:
        """Ids that may follow; never empty while not `done`."""
        if self._count is None:
            return self._digits
        if self._label == self._nothing:
            return (self._tokens.end,)
        if self._link:
            ending = self._ending if self._link in self._links else ()
            return (*next_of(self._links, self._link), *ending)
        taken = {item.label for item in self.items}
        paths = [path for path, label in self._labels.items() if label not in taken]
        if not self.items and self._count == 1:
            paths.append(self._nothing)
        going = next_of(paths, self._label)
        if self._labels.get(self._label, "") in (*taken, ""):
            number = (self._tokens.space,) if not self._label and self._count == 1 else ()
            return tuple(dict.fromkeys((*going, *number)))
        return (*going, *next_of(self._links, ()), *self._ending)

    @property
    def _ending(self) -> tuple[int, ...]:
        more = len(self.items) + 1 < MAX_ITEMS
        return (self._comma, self._tokens.end) if more else (self._tokens.end,)

    def advance(self, token: int) -> None:
        """Append a token.

        Raises:
            ValueError: the token is not allowed here (a bug of the caller).
        """
        if self.done or token not in self.allowed():
            raise ValueError(f"token {token} is not allowed after {self.ids}")
        self.ids.append(token)
        if token in (self._comma, self._tokens.end):
            if self._label in self._labels:
                self.items.append(Item(self._labels[self._label], self._count or 1, self._links.get(self._link)))
            self._count, self._label, self._link = 1, (), ()
            self.done = token == self._tokens.end
        elif self._count is None:
            self._count = self._tokens.digits.index(token)
        elif token == self._tokens.space and not self._label:
            self._count = None
        elif self._link or (self._label in self._labels and token not in next_of(self._labels, self._label)):
            self._link = (*self._link, token)
        else:
            self._label = (*self._label, token)
