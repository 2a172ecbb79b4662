"""The scene graph as a picture: objects where they stand, relations as arrows, broken promises in red."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from orchestrator.pictures import FAINT, GROUND, INK, MARGIN_PX, caption
from scene.layers import LayeredScene
from scene.layout import label_colour

if TYPE_CHECKING:
    import networkx as nx

NODE_PX = 15
LINE_PX = 20
HOLDS, BROKEN, PLAIN = (40, 140, 70), (215, 40, 40), (90, 110, 150)
DRAWN = ("on", "inside", "left of", "above", "in front of", "next to")  # the others are their mirrors


def graph_picture(scene: LayeredScene, graph: nx.MultiDiGraph) -> np.ndarray:
    """Draws a scene graph over its pale picture, uint8 (h, w, 3).

    Arrows go from an object to what it is "on", "left of", "in front of" and so on; of two that mirror each other one
    is drawn. What the prompt asks for is listed below: green where it holds, red where it does not.

    Args:
        scene: the layers, for places and colours.
        graph: `orchestrator.asked.live_graph` of it.
    """
    asked = [facts for _, _, facts in graph.edges(data=True) if facts.get("origin") == "prompt"]
    height, width = scene.size.shape
    sheet = Image.new("RGB", (width, height + MARGIN_PX + LINE_PX * max(1, len(asked))), GROUND)
    sheet.paste(Image.fromarray(255 - (255 - scene.image) // 4), (0, 0))
    draw = ImageDraw.Draw(sheet)
    places = _places(scene)
    for first, second, relation, facts in shown_edges(graph):
        colour = PLAIN if facts.get("origin") != "prompt" else HOLDS if facts["holds"] else BROKEN
        _arrow(draw, places[first], places[second], relation, colour)
    for layer in scene.layers:
        x, y = places[layer.id]
        box = (x - NODE_PX, y - NODE_PX, x + NODE_PX, y + NODE_PX)
        draw.ellipse(box, fill=tuple(label_colour(layer.label)), outline=INK, width=2)
        _centred(draw, (x, y), str(layer.id), 13, INK)
        _centred(draw, (x, y + NODE_PX + 8), layer.label, 12, INK)
    y = height + MARGIN_PX // 2
    for facts in asked:
        caption(draw, MARGIN_PX, y, _verdict(facts), width - 2 * MARGIN_PX, 14, HOLDS if facts["holds"] else BROKEN)
        y += LINE_PX
    if not asked:
        caption(draw, MARGIN_PX, y, "the prompt asks for no relation between these objects", width, 14, FAINT)
    return np.asarray(sheet)


def _verdict(facts: Mapping[str, Any]) -> str:
    return f"{'holds' if facts['holds'] else 'does not hold'}: {facts['words']}"


def _places(scene: LayeredScene) -> dict[int, tuple[float, float]]:
    """Where each node is drawn: the middle of its box, pushed off the nodes before it."""
    places: dict[int, tuple[float, float]] = {}
    height, width = scene.size.shape
    for layer in scene.layers:
        x, y = layer.box.center if layer.box else (width / 2, height / 2)
        step = 0
        while any(math.dist((x, y), other) < 3 * NODE_PX for other in places.values()) and step < 40:
            angle, reach = step * 2.4, 3 * NODE_PX * (1 + step / 8)  # a spiral by the golden angle
            centre = layer.box.center if layer.box else (width / 2, height / 2)
            x, y = centre[0] + reach * math.cos(angle), centre[1] + reach * math.sin(angle)
            x, y = min(max(x, NODE_PX), width - NODE_PX), min(max(y, NODE_PX), height - 2 * NODE_PX)
            step += 1
        places[layer.id] = (x, y)
    return places


def shown_edges(graph: nx.MultiDiGraph) -> list[tuple[int, int, str, Mapping[str, Any]]]:
    """Edges to draw: all that were asked for, then the plain ones, one per pair of objects."""
    every = [(a, b, str(facts["relation"]), facts) for a, b, facts in graph.edges(data=True)]
    chosen = [edge for edge in every if edge[3].get("origin") == "prompt"]
    pairs = {frozenset(edge[:2]) for edge in chosen}
    for relation in DRAWN:
        for edge in every:
            if edge[2] == relation and frozenset(edge[:2]) not in pairs:
                pairs.add(frozenset(edge[:2]))
                chosen.append(edge)
    return chosen


def _arrow(
    draw: ImageDraw.ImageDraw,
    start: tuple[float, float],
    end: tuple[float, float],
    words: str,
    colour: tuple[int, int, int],
) -> None:
    length = math.dist(start, end) or 1.0
    ux, uy = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    tip = (end[0] - ux * (NODE_PX + 2), end[1] - uy * (NODE_PX + 2))
    draw.line((*start, *tip), fill=colour, width=2)
    left = (tip[0] - 9 * ux + 5 * uy, tip[1] - 9 * uy - 5 * ux)
    right = (tip[0] - 9 * ux - 5 * uy, tip[1] - 9 * uy + 5 * ux)
    draw.polygon([tip, left, right], fill=colour)
    _centred(draw, ((start[0] + tip[0]) / 2, (start[1] + tip[1]) / 2), words, 11, colour)


def _centred(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, fill: tuple[int, int, int]
) -> None:
    font = ImageFont.load_default(size)
    draw.text(place, text, fill=fill, font=font, anchor="mm", stroke_width=2, stroke_fill="white")
