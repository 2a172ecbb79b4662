"""What the planner's language model reads, as token ids in an order that keeps prefixes stable.

Order: instruction, global prompt, its brief (`planner.brief`, where the weights know one), objects so far (a list that
is only ever appended to), picture, what of the brief is left, answer. Everything up to the picture of step k is a
prefix of step k + 1; only what follows is new. Every line is encoded on its own, so text that follows can never change
the tokens before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from planner.brief import LEFT, OPENING, Item, brief_text, remaining
from planner.grammar import END, SEPARATOR, Answer, Boxes, Link, box_to_cells
from planner.llava import IMAGE_TOKEN_ID
from scene.geometry import Box, Size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from scene.layers import LayeredScene

INSTRUCTION = "Plan a picture back to front, one object a line.\nScene:"
START_ID = 1  # "<|im_start|>"
Listing = Literal["boxes", "names"]
"""What a line of the list of objects so far tells: label, box and description, or no box: then where things are is seen
in the picture only."""


@dataclass(frozen=True)
class PlannedObject:
    """An object of a plan; `box` in canvas pixels."""

    label: str
    description: str
    box: Box


def scene_objects(scene: LayeredScene) -> tuple[PlannedObject, ...]:
    """The layers of a scene as the planner lists them; layers with an empty mask are left out."""
    return tuple(
        PlannedObject(layer.label, layer.description, layer.box) for layer in scene.layers if layer.box is not None
    )


def scene_answers(scene: LayeredScene, fixed_descriptions: Mapping[str, str]) -> dict[int, Answer]:
    """The list's lines: index of a layer -> its line; layers of which nothing is on the canvas have none."""
    found = {}
    for index, layer in enumerate(scene.layers):
        if layer.box is not None:
            item = PlannedObject(layer.label, layer.description, layer.box)
            found[index] = object_answer(item, scene.size, fixed_descriptions)
    return {index: answer for index, answer in found.items() if answer is not None}


def object_answer(
    item: PlannedObject, size: Size, fixed_descriptions: Mapping[str, str], link: Link | None = None
) -> Answer | None:
    """The answer that proposes this object; None when no part of it is on the canvas.

    Args:
        item: label, description and box.
        size: canvas.
        fixed_descriptions: labels whose only description need not be spelt out.
        link: how it stands to an object before it.
    """
    cells = box_to_cells(item.box, size)
    if cells is None:
        return None
    said = plain_words(item.description)
    fixed = fixed_descriptions.get(item.label, item.label)
    return Answer(label=item.label, cells=cells, link=link, description=None if said in ("", fixed) else said)


def plain_words(text: str) -> str:
    """Only letters, "'" and "-", single spaces: the alphabet of descriptions in the grammar."""
    kept = "".join(char if char.isascii() and (char.isalpha() or char in "'-") else " " for char in text)
    words = [word for word in kept.split() if any(char.isalpha() for char in word)]
    joined = " ".join(words)[:120].strip()
    return joined.lstrip("'- ")


class PromptEncoder:
    """Turns prompt, object lines and picture into token ids.

    Args:
        tokenizer: SmolLM2's.
        image_tokens: placeholders per picture.
        max_prompt_tokens: longer prompts are cut here (the caller notes it).
        listing: what the lines of placed objects tell.
        boxes: whether answers write boxes, or point.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        image_tokens: int,
        max_prompt_tokens: int = 96,
        listing: Listing = "boxes",
        boxes: Boxes = "written",
    ) -> None:
        # "<|im_end|>" or "<empty_output>" typed by a user is text, not a control token.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._max_prompt_tokens = max_prompt_tokens
        self.listing: Listing = listing
        self.boxes: Boxes = boxes
        self.picture: tuple[int, ...] = (*[IMAGE_TOKEN_ID] * image_tokens, *self._encode(END))
        self._instruction = (START_ID, *self._encode(INSTRUCTION))

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def plain(self, text: str) -> list[int]:
        """Any text as tokens."""
        return self._encode(text)

    def is_rare(self, word: str) -> bool:
        """Whether a word is so uncommon that the tokenizer cuts it up."""
        return len(self._encode(f" {word}")) > 1

    def fits(self, prompt: str) -> bool:
        """Whether the whole prompt is read."""
        return len(self._encode(f" {_one_line(prompt)}")) <= self._max_prompt_tokens

    def head(self, prompt: str) -> list[int]:
        """Instruction and global prompt, up to and with the line end."""
        words = self._encode(f" {_one_line(prompt)}")[: self._max_prompt_tokens]
        return [*self._instruction, *words, *self._encode(END)]

    def line(self, answer: Answer) -> list[int]:
        """An object line or the answer itself, with its line end."""
        return self._encode(answer.line(self.boxes) + END)

    def listed(self, answer: Answer) -> list[int]:
        """A line of the list of objects so far, with its line end."""
        return self.line(answer) if self.listing == "boxes" else self._encode(answer.listed() + END)

    def label_tokens(self, answer: Answer) -> int:
        """How many leading tokens of the line decide the label (its separator included) or stop."""
        text = answer.line() if answer.stop else answer.label + SEPARATOR
        return len(self._encode(text))

    @property
    def brief_opening(self) -> list[int]:
        """What a brief's line begins with."""
        return self._encode(OPENING)

    def brief(self, items: Sequence[Item]) -> list[int]:
        """What follows the opening, with the line end."""
        return self._encode(OPENING + brief_text(items) + END)[len(self.brief_opening) :]

    def left(self, items: Sequence[Item], placed: Iterable[str]) -> list[int]:
        """The line that repeats, after the picture, what of a brief is not there yet."""
        return self._encode(LEFT + brief_text(remaining(items, placed)) + END)

    def chunks(self, prompt: str, answers: Sequence[Answer], brief: Sequence[Item] | None = None) -> list[list[int]]:
        """Everything before the picture in the pieces in which a growing list is read: instruction, prompt, the brief
        of planners that have one, then a line per object. Joined they are `trunk`."""
        head = self.head(prompt)
        cut = len(self._instruction)
        briefed = [[*self.brief_opening, *self.brief(brief)]] if brief is not None else []
        return [head[:cut], head[cut:], *briefed, *(self.listed(answer) for answer in answers)]

    def trunk(self, prompt: str, answers: Sequence[Answer]) -> list[int]:
        """Everything before the picture."""
        return [token for chunk in self.chunks(prompt, answers) for token in chunk]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of answer tokens, line end removed."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False).removesuffix(END)


def _one_line(text: str) -> str:
    return " ".join(text.split())
