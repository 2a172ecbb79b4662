"""The one-line answer of the planner: its grammar, a strict parser, and the automaton that keeps decoding inside it.

    answer      := "stop" | label " | " [link " | "] box [" | " description]
    label       := one of the world's categories, exactly as spelt there
    link        := relation " " other: how the object stands to one that is there ("on coffee table"); `LINKS` are the
                   relations, `other` is a category in the scene; planners of card version 1 know no links
    box         := x0 y0 x1 y1, two digits each, no separators: per cent of the canvas, both corners inclusive
                   (00 to 99; x0 <= x1, y0 <= y1), so "00479999" is the lower half; or "@" where a place head
                   (`planner.places`) decides it from the picture
    description := words of letters, "'" and "-", single spaces between; left out where the label has one fixed
    description

The parser never guesses: anything else is a `ModelError` that says what is wrong.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scene.errors import ModelError
from scene.geometry import Box, Size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

STOP = "stop"
SEPARATOR = " |"
END = "\n"
CELLS = 100
BOX_DIGITS = 8
POINTER = "@"
MAX_DESCRIPTION_CHARS = 120
LINKS: tuple[str, ...] = (
    "on", "left of", "right of", "next to", "in front of", "behind", "above", "below", "inside",
)  # fmt: skip
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above", "next to": "next to"}
INVERSE |= {"in front of": "behind", "behind": "in front of"}
"""Relations told from the other side; "on" and "inside" have none."""
_BOX = re.compile(r"[0-9]{8}")
_DESCRIPTION = re.compile(r"[A-Za-z][A-Za-z'-]*(?: [A-Za-z'-]+)*")
_DESCRIPTION_PIECE = re.compile(r" ?[A-Za-z'-]+")

Cells = tuple[int, int, int, int]
Boxes = Literal["written", "pointed"]
"""Who decides boxes: the language model in digits, or a place head where the answer says `POINTER`."""
Link = tuple[str, str]
"""How an object stands to another: (one of `LINKS`, the other's label)."""


class Answer(BaseModel):
    """A parsed answer: an object with a coarse box, or stop.

    `cells` = (x0, y0, x1, y1) in per cent of the canvas, both corners inclusive; None where a place head decides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = ""
    cells: Cells | None = None
    link: Link | None = None
    description: str | None = Field(default=None, max_length=MAX_DESCRIPTION_CHARS)
    stop: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Answer:
        if self.stop:
            if self.label or self.cells or self.link or self.description:
                raise ValueError("stop comes alone")
            return self
        if not self.label:
            raise ValueError("an object needs a label")
        x0, y0, x1, y1 = self.cells or (0, 0, 0, 0)
        if not (0 <= x0 <= x1 < CELLS and 0 <= y0 <= y1 < CELLS):
            raise ValueError(f"box {self.cells} is not ordered inside 0..{CELLS - 1}")
        if self.link is not None and self.link[0] not in LINKS:
            raise ValueError(f"relation {self.link[0]!r} is none of {', '.join(LINKS)}")
        if self.description is not None and not _DESCRIPTION.fullmatch(self.description):
            raise ValueError(f"description {self.description!r} is not plain words")
        return self

    def line(self, boxes: Boxes = "written") -> str:
        """The answer as text, without the line end."""
        if self.stop:
            return STOP
        box = cells_digits(self.cells) if boxes == "written" and self.cells is not None else POINTER
        link = f" {' '.join(self.link)}{SEPARATOR}" if self.link else ""
        text = f"{self.label}{SEPARATOR}{link} {box}"
        return f"{text}{SEPARATOR} {self.description}" if self.description else text

    def listed(self) -> str:
        """The object as a list without places names it: label and description; stop stays "stop"."""
        return f"{self.label}{SEPARATOR} {self.description}" if self.description else self.label or STOP


def cells_digits(cells: Cells) -> str:
    """A per-cent box as the grammar writes it, `BOX_DIGITS` digits."""
    return "".join(f"{cell:02d}" for cell in cells)


def box_to_cells(box: Box, size: Size) -> Cells | None:
    """The smallest per-cent box that covers `box` on the canvas; None where nothing of it is on the canvas."""
    clipped = box.clip(size)
    if clipped.area == 0:
        return None
    x0, y0 = CELLS * clipped.x0 // size.width, CELLS * clipped.y0 // size.height
    x1 = -(-CELLS * clipped.x1 // size.width) - 1
    y1 = -(-CELLS * clipped.y1 // size.height) - 1
    return x0, y0, max(x0, x1), max(y0, y1)


def cells_to_box(cells: Cells, size: Size) -> Box:
    """Canvas pixels of a per-cent box (half open, rounded outwards, never empty)."""
    x0, y0, x1, y1 = cells
    return Box(
        x0 * size.width // CELLS,
        y0 * size.height // CELLS,
        -(-(x1 + 1) * size.width // CELLS),
        -(-(y1 + 1) * size.height // CELLS),
    )


def parse_answer(text: str, labels: Iterable[str]) -> Answer:
    """Read one answer line.

    Args:
        text: what the model wrote, without the line end.
        labels: allowed categories.

    Raises:
        ModelError: the text does not follow the grammar; the message quotes it and says why.
    """
    if text == STOP:
        return Answer(stop=True)
    known = set(labels)
    parts = text.split(f"{SEPARATOR} ")
    link = parse_link(parts[1], known) if len(parts) > 2 and not _BOX.fullmatch(parts[1]) else None
    if link is not None:
        del parts[1]
    if len(parts) not in (2, 3):
        raise ModelError(f"answer {text[:120]!r} has {len(parts)} parts; need 'label | box' or 'label | box | words'")
    label, box = parts[0], parts[1]
    if label not in known:
        raise ModelError(f"answer {text[:120]!r} names {label[:40]!r}, which is no category of this world")
    if box != POINTER and not _BOX.fullmatch(box):
        raise ModelError(f"answer {text[:120]!r} has box {box[:40]!r}; need eight digits")
    cells = None if box == POINTER else tuple(int(box[start : start + 2]) for start in range(0, BOX_DIGITS, 2))
    try:
        return Answer(label=label, cells=cells, link=link, description=parts[2] if len(parts) == 3 else None)
    except ValueError as error:
        reason = "; ".join(str(item["msg"]) for item in getattr(error, "errors", list)()) or str(error)
        raise ModelError(f"answer {text[:120]!r}: {reason}") from None


def parse_link(text: str, labels: Collection[str]) -> Link | None:
    """ "on coffee table" as ("on", "coffee table"); None when it is no relation to a known category."""
    for word in LINKS:
        other = text.removeprefix(f"{word} ")
        if other != text and other in labels:
            return word, other
    return None


def plain_link(link: Link, labels: Collection[str]) -> bool:
    """Whether a relation is one of `LINKS` to one of `labels`."""
    return link[0] in LINKS and link[1] in labels


class AnswerTokens:
    """Token ids that the grammar needs, found once per tokenizer and label set.

    Args:
        tokenizer: every digit must be one token.
        labels: categories of the world.

    Raises:
        ValueError: the tokenizer merges digits, separators or line ends with their neighbours.
    """

    def __init__(self, tokenizer: Tokenizer, labels: Sequence[str]) -> None:
        def encode(text: str, before: str = END) -> tuple[int, ...]:
            """Ids of a text that follows another; sentencepiece writes a space before whatever stands alone."""
            whole, start = (tokenizer.encode(part, add_special_tokens=False).ids for part in (before + text, before))
            return tuple(whole[len(start) :])

        self.labels = tuple(labels)
        self.encode = encode
        self.digits = tuple(encode(str(digit))[0] for digit in range(10))
        self.end = encode(END, "0")[0]
        self.separator = encode(SEPARATOR)[0]
        self.space = encode(" 1", SEPARATOR)[0]
        self.pointer = encode(f" {POINTER}", SEPARATOR)
        self.stop = (*encode(STOP), self.end)
        self.label_paths: Mapping[str, tuple[int, ...]] = {
            label: (*encode(label), self.separator) for label in self.labels
        }
        self.link_paths: Mapping[Link, tuple[int, ...]] = {
            (word, label): (*encode(f" {word} {label}", SEPARATOR), self.separator)
            for label in self.labels
            for word in LINKS
        }
        if encode(f"boy{SEPARATOR} 12{END}") != (
            *encode("boy"), self.separator, self.space, self.digits[1], self.digits[2], self.end
        ):  # fmt: skip
            raise ValueError("this tokenizer does not keep digits, ' |' and line ends apart; the planner needs that")
        words: list[int] = []
        starts: list[int] = []
        before = tokenizer.decode([self.digits[0]], skip_special_tokens=True)
        for token in range(tokenizer.get_vocab_size()):
            piece = tokenizer.decode([self.digits[0], token], skip_special_tokens=True).removeprefix(before)
            if _DESCRIPTION_PIECE.fullmatch(piece):
                words.append(token)
                if piece.startswith(" ") and piece[1].isalpha():
                    starts.append(token)
        self.description_start = tuple(starts)
        self.description = (*words, self.end)
        self.description_members = frozenset(self.description)

    def label_of(self, path: Sequence[int]) -> str | None:
        """The label whose path this is; None for stop or an unfinished path."""
        return next((label for label, ids in self.label_paths.items() if ids == tuple(path)), None)


class AnswerAutomaton:
    """Which tokens may come next. Feed it with `advance` until `done`.

    Args:
        tokens: ids of the grammar's pieces.
        labels: categories allowed here.
        allow_stop: whether the answer may be "stop".
        max_description_tokens: longest description.
        plain: labels that are described only where there is an `opening`; every other label is always. None = either.
        links: relations that may be stated; empty = none.
        boxes: whether the model writes boxes, or points.

    Attributes:
        opens: the token that a box begins with.
        box: stands where a box is due, without a choice; None = the box is chosen.
        opening: tokens that the description has to begin with; empty = any.

    Raises:
        ModelError: nothing at all is allowed.
    """

    def __init__(
        self,
        tokens: AnswerTokens,
        labels: Iterable[str],
        allow_stop: bool,
        max_description_tokens: int = 16,
        plain: Collection[str] | None = None,
        links: Iterable[Link] = (),
        boxes: Boxes = "written",
    ) -> None:
        self._tokens = tokens
        # What opens a box, and how many digits follow.
        self._pointer = tokens.pointer if boxes == "pointed" else ()
        self.opens = self._pointer[0] if self._pointer else tokens.space
        self._digits = len(self._pointer) - 1 if self._pointer else BOX_DIGITS
        self.box: Cells | None = None
        self.opening: tuple[int, ...] = ()
        self._paths = [tokens.label_paths[label] for label in labels]
        if allow_stop:
            self._paths.append(tokens.stop)
        if not self._paths:
            raise ModelError("no label is left to propose and stopping is not allowed")
        self._links = {tokens.link_paths[link]: link for link in links}
        self._need_link = False
        self._max_description = max_description_tokens
        self._plain = plain
        self.ids: list[int] = []
        self._head = 0  # tokens of the label path with its separator; 0 while it is being written
        self._box = 0  # where the box's space stands; 0 while label or link are being written
        self.link: Link | None = None
        self.done = False

    @property
    def head_done(self) -> bool:
        """True once the label (with its separator) or stop is complete."""
        return self._head > 0

    @property
    def label(self) -> str | None:
        """The chosen label; None for stop, or before `head_done`."""
        return self._tokens.label_of(self.ids[: self._head]) if self._head else None

    @property
    def box_digit(self) -> int | None:
        """Which digit of the box (0 to 7) comes next; None while something else does."""
        position = len(self.ids) - self._box - 1
        inside = bool(self._box) and not self._pointer and not self.done
        return position if inside and 0 <= position < BOX_DIGITS else None

    @property
    def link_ids(self) -> list[int] | None:
        """Tokens of the relation so far; None where none is being written: before the label stands, or after the box
        began."""
        return self.ids[self._head :] if self._head and not self._box and not self.done else None

    @property
    def link_paths(self) -> Sequence[tuple[int, ...]]:
        """Tokens of the relations that may be stated, their separators included."""
        return tuple(self._links)

    @property
    def description_ids(self) -> list[int] | None:
        """Tokens of the description so far; None before the separator that it follows."""
        start = self._box + self._digits + 2
        return self.ids[start:] if self._box and len(self.ids) >= start else None

    def copy(self) -> AnswerAutomaton:
        """One that goes on from here by itself."""
        other = copy.copy(self)
        other.ids = [*self.ids]
        return other

    def limit_links(self, links: Iterable[Link]) -> None:
        """From now on just these relations, one of which must be stated; none = no relation at all.

        Raises:
            ValueError: the relation is written already (a bug of the caller).
        """
        if self._head and len(self.ids) > self._head:
            raise ValueError("the relation is written already")
        self._links = {self._tokens.link_paths[link]: link for link in links}
        self._need_link = bool(self._links)

    def allowed(self) -> tuple[int, ...]:
        """Ids that may follow, without repetition, digits in rising order; never empty while not `done`."""
        if self._head == 0:
            return next_of(self._paths, self.ids)
        if self._box == 0:
            written = self.ids[self._head :]
            if self.link is not None or not self._links:
                return (self.opens,)
            following = next_of(self._links, written)
            return following if written or self._need_link else (self.opens, *following)
        position = len(self.ids) - self._box
        if position <= self._digits:
            return self._allowed_digits(position - 1)
        if position == self._digits + 1:
            if self._plain is None and not self.opening:
                return (self._tokens.end, self._tokens.separator)
            described = self.opening or self.label not in (self._plain or ())
            return (self._tokens.separator,) if described else (self._tokens.end,)
        words = position - self._digits - 2
        if words < len(self.opening):
            return (self.opening[words],)
        if words == 0:
            return self._tokens.description_start
        if words >= self._max_description:
            return (self._tokens.end,)
        return self._tokens.description

    def allows(self, token: int) -> bool:
        """Whether it may follow."""
        allowed = self.allowed()
        return token in (self._tokens.description_members if allowed is self._tokens.description else allowed)

    def _allowed_digits(self, index: int) -> tuple[int, ...]:
        """Digit `index` (0 to 7) of the box: second corners must not lie before first ones."""
        digits = self._tokens.digits
        if self._pointer:
            return (self._pointer[index + 1],)
        if self.box is not None:
            return (digits[int(cells_digits(self.box)[index])],)
        if index < 4:
            return digits
        start = self._box + 1
        written = [digits.index(token) for token in self.ids[start:]]
        low_tens, low_ones = written[index - 4 - index % 2], written[index - 4 - index % 2 + 1]
        if index % 2 == 0:
            return digits[low_tens:]
        return digits[low_ones:] if written[-1] == low_tens else digits

    def advance(self, token: int) -> None:
        """Append a token.

        Raises:
            ValueError: the token is not allowed here (a bug of the caller).
        """
        if self.done or not self.allows(token):
            raise ValueError(f"token {token} is not allowed after {self.ids}")
        self.ids.append(token)
        if self._head == 0:
            if tuple(self.ids) in self._paths:
                self._head = len(self.ids)
                self.done = self.ids[-1] == self._tokens.end
        elif self._box == 0:
            written = tuple(self.ids[self._head :])
            if self.link is None and written in self._links:
                self.link = self._links[written]
            elif token == self.opens and (self.link is not None or len(written) == 1):
                self._box = len(self.ids) - 1
        elif token == self._tokens.end:
            self.done = True


def next_of(paths: Iterable[tuple[int, ...]], written: Sequence[int]) -> tuple[int, ...]:
    """Tokens that continue `written` towards any of the paths, each once."""
    position, start = len(written), tuple(written)
    return tuple(dict.fromkeys(path[position] for path in paths if path[:position] == start and len(path) > position))
