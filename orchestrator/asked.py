"""Relations that the words ask for against relations that the masks have, and where an object would have to go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np

from scene.corpus.claims import RelationClaim, holds, relation_claims
from scene.geometry import Box, Size
from scene.graph import add_asked, scene_graph
from scene.layers import Layer, LayeredScene
from scene.relations import DIRECTIONS, points
from scene.vocabulary import Vocabulary

BESIDE_GAP_FRAC = 0.1  # of both mean widths: gap left between two objects that are moved apart
DIRECT = 0.6  # of the distance along a direction: so far may the middle lie off it; 1 would be 45 degrees
FOOT_FRAC = 0.15  # of the supporter's height: how far down into it an object that stands on it reaches


def asked(prompt: str, vocabulary: Vocabulary) -> list[RelationClaim]:
    """Relations between two categories that a prompt names, each once.

    Nothing stands on what hangs in the sky: "on a sunny day" says that the sun shines.
    """
    claims = {(claim.first, claim.relation, claim.second): claim for claim in relation_claims(prompt, vocabulary)}
    return [c for c in claims.values() if c.relation != "on" or vocabulary.kind(c.second) != "sky"]


def verdicts(scene: LayeredScene, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Relations the prompt asks for: `first`, `relation`, `second`, `words`, `holds` (None: not both are there)."""
    found = []
    for claim in asked(scene.prompt, vocabulary):
        there = {claim.first, claim.second} <= {layer.label for layer in scene.layers}
        result = _holds(claim, scene) if there else None
        found.append(
            {"first": claim.first, "relation": claim.relation, "second": claim.second, "words": claim.words}
            | {"holds": result}
        )
    return found


def live_graph(scene: LayeredScene, vocabulary: Vocabulary) -> nx.MultiDiGraph:
    """`scene_graph` with an edge more for each relation that the prompt asks for, saying whether it holds."""
    graph = scene_graph(scene)
    for claim in asked(scene.prompt, vocabulary):
        pairs = [
            (first.id, second.id)
            for first in scene.layers
            for second in scene.layers
            if first is not second and (first.label, second.label) == (claim.first, claim.second)
        ]
        if pairs:
            holding = [pair for pair in pairs if graph.has_edge(*pair, key=claim.relation)]
            first, second = (holding or pairs)[0]
            add_asked(graph, first, second, claim.relation, claim.words, bool(holding))
    return graph


def open_claims(scene: LayeredScene, label: str, vocabulary: Vocabulary, prompt: str) -> list[RelationClaim]:
    """Claims that placing one more `label` can fulfil: its partner is in the scene, and they do not hold yet.

    Args:
        scene: what is there.
        label: category of the new object.
        vocabulary: the world's words.
        prompt: what is asked for, as the planner reads it.
    """
    there = {layer.label for layer in scene.layers}
    return [
        claim
        for claim in asked(prompt, vocabulary)
        if label in (claim.first, claim.second)
        and (claim.second if label == claim.first else claim.first) in there
        and not _holds(claim, scene)
    ]


def broken(
    claims: Sequence[RelationClaim], scene: LayeredScene, label: str, mask: np.ndarray, behind: Sequence[int] = ()
) -> list[RelationClaim]:
    """Those of `claims` that do not hold once `mask` (bool (H, W)) lies in the scene as a `label`."""
    if not claims:
        return []
    new = max((layer.id for layer in scene.layers), default=0) + 1
    after = scene.with_layer(Layer(new, label, label, mask), behind)
    return [claim for claim in claims if not _holds(claim, after)]


def _holds(claim: RelationClaim, scene: LayeredScene) -> bool:
    """As for corpora, but directions are meant: "above" is not just higher. What stands wholly to the left is left of
    something, though that hangs high on the wall."""
    if claim.relation in DIRECTIONS:
        ends = [[layer.box for layer in scene.layers if layer.label == label] for label in (claim.first, claim.second)]
        pairs = [(a, b) for a in ends[0] for b in ends[1] if a and b and a != b]
        if not any(points(a, b, claim.relation) or _beside(a, b, claim.relation) for a, b in pairs):
            return False
    return holds(claim, [layer.label for layer in scene.layers], [layer.mask for layer in scene.layers])


def _beside(a: Box, b: Box, relation: str) -> bool:
    return (relation == "left of" and a.x1 <= b.x0) or (relation == "right of" and a.x0 >= b.x1)


def place_for(claim: RelationClaim, label: str, box: Box, scene: LayeredScene) -> Box | None:
    """Where a new `label` the size of `box` has to stand for `claim` to hold, as near to `box` as may be.

    Args:
        claim: one end is `label`.
        label: category of the new object.
        box: where it would stand now; its size is kept.
        scene: holds the partner.

    Returns:
        A box on the canvas, or None: there is no such place, or depth decides and not place.
    """
    is_first = label == claim.first
    partner = next(layer for layer in scene.layers if layer.label == (claim.second if is_first else claim.first))
    fixed = partner.box
    if fixed is None:
        return None
    relation = claim.relation if is_first else _MIRRORED.get(claim.relation)
    gap_x = round(BESIDE_GAP_FRAC * (box.width + fixed.width) / 2)
    left, right = fixed.x0 - gap_x - box.width, fixed.x1 + gap_x
    if relation in ("left of", "right of"):
        return _moved(box, left if relation == "left of" else right, box.y0, scene.size)  # what stands keeps standing
    if relation in ("above", "below"):
        y0 = fixed.y0 - box.height if relation == "above" else fixed.y1
        if relation == "above" and box.y1 <= fixed.y0:
            y0 = box.y0  # what hangs high enough stays so high
        x0 = _near(box.x0, box.width, fixed.center[0], abs(y0 + box.height / 2 - fixed.center[1]))
        return _moved(box, x0, y0, scene.size)
    if relation == "next to":
        y0 = min(max(box.y0, fixed.y0 - box.height // 2), fixed.y1 - box.height // 2)
        sides = [place for x0 in (left, right) if (place := _moved(box, x0, y0, scene.size)).area >= 0.8 * box.area]
        return min(sides, key=lambda side: abs(side.x0 - box.x0), default=None)
    if relation == "on":
        x0 = round(fixed.center[0] - box.width / 2)
        return _moved(box, x0, fixed.y0 + round(FOOT_FRAC * fixed.height) - box.height, scene.size)
    if relation == "in front of":
        x0, y0 = (round(c - side / 2) for c, side in zip(fixed.center, (box.width, box.height), strict=True))
        return _moved(box, x0, y0 + round(fixed.height / 4), scene.size)
    return None


_MIRRORED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above", "next to": "next to"}


def _near(start: int, extent: int, center: float, reach: float) -> int:
    """A start as near to `start` as lets the middle lie within `DIRECT` of `reach` from `center`."""
    low, high = center - DIRECT * reach - extent / 2, center + DIRECT * reach - extent / 2
    return round(min(max(start, low), high))


def _moved(box: Box, x0: int, y0: int, size: Size) -> Box:
    """The box at a new corner, pushed back onto the canvas where there is room."""
    x0 = min(max(x0, 0), max(0, size.width - box.width))
    y0 = min(max(y0, 0), max(0, size.height - box.height))
    return Box(x0, y0, x0 + box.width, y0 + box.height).clip(size)


def as_words(claims: Sequence[RelationClaim]) -> list[str]:
    """Claims as they go into records and to the planner."""
    return [f"{claim.first} {claim.relation} {claim.second}" for claim in claims]
