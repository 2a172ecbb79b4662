"""How a new object stands to what is there: relations for training answers, those a prompt asks for, and boxes that
hold them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from planner.grammar import INVERSE, Link
from scene.corpus.claims import relation_claims
from scene.corpus.records import LayerRecord
from scene.corpus.sequences import RelationOf
from scene.corpus.store import Corpus
from scene.geometry import Box, Size
from scene.relations import DIRECTIONS, box_relations, mask_relations, points
from scene.vocabulary import Vocabulary

Wish = Callable[[Box], bool]
"""What a box should meet."""
ROOM = 0.15  # of the canvas, for what is to stand beside an object


def prompt_links(text: str, vocabulary: Vocabulary) -> dict[str, list[Link]]:
    """Label -> how the prompt wants it to stand to other labels, both ways round ("a cat left of a dog" also says that
    the dog is right of the cat); "on" has no way back."""
    return both_ways([(claim.first, claim.relation, claim.second) for claim in relation_claims(text, vocabulary)])


def both_ways(claims: Iterable[tuple[str, str, str]]) -> dict[str, list[Link]]:
    """Label -> its relations, of (first, relation, second)."""
    found: dict[str, list[Link]] = {}
    for first, relation, second in claims:
        found.setdefault(first, []).append((relation, second))
        if relation in INVERSE:
            found.setdefault(second, []).append((INVERSE[relation], first))
    return found


def true_link(
    labels: Sequence[str],
    masks: Sequence[np.ndarray],
    surfaces: Collection[str],
    wanted: Sequence[Link] = (),
) -> Link | None:
    """How the last object stands to those before it, by geometry; what a training answer says.

    In this order: what the prompt claims; the smallest thing that carries it; the nearest thing, by "in front of" where
    it hides some of it, else by boxes. Surfaces are no partners, nor are objects of its own label.

    Args:
        labels, masks: of all objects so far, bool (H, W), the new one last.
        surfaces: labels to leave out.
        wanted: links of the new object's label that the prompt claims.
    """
    last, box = len(labels) - 1, Box.from_mask(masks[-1])
    others = [i for i in range(last) if labels[i] not in surfaces and labels[i] != labels[last]]
    boxes = {i: found for i in others if (found := Box.from_mask(masks[i])) is not None}
    if box is None or not boxes:
        return None
    deep = {i: mask_relations(masks[last], masks[i], True) for i in boxes if meet(box, boxes[i])}
    for link in wanted:
        for i, other in boxes.items():
            if labels[i] == link[1] and (link[0] in deep.get(i, ()) or link[0] in box_relations(box, other)):
                return link
    carriers = [i for i, found in deep.items() if "on" in found]
    if carriers:
        return "on", labels[min(carriers, key=lambda i: boxes[i].area)]
    nearest = min(boxes, key=lambda i: _distance(box, boxes[i]))
    if "in front of" in deep.get(nearest, ()):
        return "in front of", labels[nearest]
    flat = box_relations(box, boxes[nearest])
    return (flat[0], labels[nearest]) if flat else None


def corpus_relations(corpus: Corpus) -> RelationOf:
    """`true_link` for `scene.corpus.sequences.export_sequences`."""
    surfaces = {label for label in corpus.labels if corpus.vocabulary.kind(label) == "surface"}

    def relation_of(prompt: str, layers: Sequence[LayerRecord]) -> Link | None:
        labels = [layer.label for layer in layers]
        wanted = prompt_links(prompt, corpus.vocabulary).get(labels[-1], ())
        return true_link(labels, [corpus.mask(layer) for layer in layers], surfaces, wanted)

    return relation_of


def meet(a: Box, b: Box) -> bool:
    """Whether two boxes share a pixel."""
    return a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


def _distance(a: Box, b: Box) -> float:
    (ax, ay), (bx, by) = a.center, b.center
    return float(np.hypot(ax - bx, ay - by))


def holds(link: str, box: Box, other: Box) -> bool:
    """Whether a box stands so to another, as far as boxes tell; "behind" and "inside" are left to the masks."""
    if link == "on":
        (x, _), lowest = box.center, box.y1
        return other.x0 <= x <= other.x1 and other.y0 < lowest <= other.y1
    if link == "in front of":
        return box.y1 >= other.y1 and meet(box, other)
    if link in ("behind", "inside"):
        return meet(box, other)
    return link in box_relations(box, other)


def stands(link: str, box: Box, other: Box) -> bool:
    """Whether a box stands so to another as `holds` says, and directions within 45 degrees."""
    return holds(link, box, other) and (link not in DIRECTIONS or points(box, other, link))


def sides_to_come(links: Iterable[Link], there: Collection[str]) -> list[str]:
    """Sides of an object on which the prompt wants others that are not there yet.

    Args:
        links: of the object's label.
        there: labels on the canvas.
    """
    return [INVERSE[word] for word, other in links if word in DIRECTIONS and other not in there]


def leaves_room(box: Box, side: str, size: Size) -> bool:
    """Whether something has room beside a box, on a side of `scene.relations.DIRECTIONS`."""
    free = {
        "left of": box.x0 / size.width, "right of": 1 - box.x1 / size.width,
        "above": box.y0 / size.height, "below": 1 - box.y1 / size.height,
    }  # fmt: skip
    return free[side] >= ROOM


def moved_to_hold(link: str, box: Box, other: Box, size: Size) -> Box:
    """The box moved (and where the canvas leaves no room, shrunk) until it stands so to `other`; its size is kept
    where possible. Unchanged when it holds already.

    Args:
        link: one of `planner.grammar.LINKS`.
        box, other: canvas pixels.
        size: canvas; the result lies on it.
    """
    if stands(link, box, other):
        return box
    for share in (1.0, 0.75, 0.5, 0.35):
        width, height = max(4, round(box.width * share)), max(4, round(box.height * share))
        moved = _beside(link, box, other, width, height, size)
        if stands(link, moved, other):
            return moved
    return box


def _beside(link: str, box: Box, other: Box, width: int, height: int, size: Size) -> Box:
    """A box of this size where the link wants it, pushed onto the canvas."""
    (cx, cy), (ox, oy) = box.center, other.center
    apart_x, apart_y = (width + other.width) / 2, (height + other.height) / 2
    if link in ("left of", "right of"):
        away = max(apart_x, abs(cy - oy) + 2)
        cx = min(max(ox - away if link == "left of" else ox + away, width / 2), size.width - width / 2)
        reach = max(abs(cx - ox) - 2, 0)
        cy = min(max(cy, oy - reach), oy + reach)
    elif link in ("above", "below"):
        cx, cy = ox, oy - apart_y if link == "above" else oy + apart_y
    elif link == "next to":
        cx, cy = ox + (apart_x if cx >= ox else -apart_x), other.y1 - height / 2
    elif link == "on":
        cx = min(max(cx, other.x0 + other.width / 4), other.x1 - other.width / 4)
        cy = other.y0 + min(other.height / 3, height / 2) - height / 2
    elif link == "in front of":
        cx, cy = min(max(cx, other.x0), other.x1), max(other.y1, oy + 1) + 2 - height / 2
    else:
        cx, cy = ox, oy
    x0 = min(max(0, round(cx - width / 2)), max(0, size.width - width))
    y0 = min(max(0, round(cy - height / 2)), max(0, size.height - height))
    return Box(x0, y0, min(x0 + width, size.width), min(y0 + height, size.height))
