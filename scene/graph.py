"""Scene graph: a networkx MultiDiGraph whose nodes are layers and whose edges are typed relations."""

from __future__ import annotations

from typing import Any

import networkx as nx

from scene.layers import LayeredScene
from scene.relations import box_relations, mask_relations

SURFACE_FRAC = 0.4  # of the canvas: from here on "left of" and the like say nothing


def scene_graph(scene: LayeredScene) -> nx.MultiDiGraph:
    """Derives the graph from the masks.

    Returns:
        Nodes: layer id with `label`, `description`, `box` ([x0, y0, x1, y1] or null), `area_px`, `visible_px` (what
        nearer layers leave of it), `order` (0 = back).
        Edges: from an object to what it relates to, key = attribute `relation`, `origin` = "masks"; "in front of"
        and "behind" follow the order of the layers and carry `hidden_frac`, the share of the farther object's mask
        that the nearer one covers.
    """
    graph = nx.MultiDiGraph()
    boxes = [layer.box for layer in scene.layers]
    for order, (layer, box, visible) in enumerate(zip(scene.layers, boxes, scene.visible_masks(), strict=True)):
        graph.add_node(
            layer.id,
            label=layer.label,
            description=layer.description,
            box=list(box) if box else None,
            area_px=int(layer.mask.sum()),
            visible_px=int(visible.sum()),
            order=order,
        )
    surfaces = {layer.id for layer in scene.layers if layer.mask.mean() > SURFACE_FRAC}
    for i, a in enumerate(scene.layers):
        for j, b in enumerate(scene.layers):
            box_a, box_b = boxes[i], boxes[j]
            if i == j or box_a is None or box_b is None:
                continue
            beside = [] if surfaces & {a.id, b.id} else box_relations(box_a, box_b)
            shared = box_a.intersection(box_b)
            inside = (slice(shared.y0, shared.y1), slice(shared.x0, shared.x1))
            meet = shared.area > 0 and (a.mask[inside] & b.mask[inside]).any()  # else no mask relation can hold
            for relation in (*beside, *(mask_relations(a.mask, b.mask, i > j) if meet else ())):
                graph.add_edge(a.id, b.id, key=relation, relation=relation, origin="masks")
            if graph.has_edge(a.id, b.id, key="in front of"):
                hidden = round(float((a.mask & b.mask).sum() / b.mask.sum()), 4)
                graph.edges[a.id, b.id, "in front of"]["hidden_frac"] = hidden
                graph.add_edge(b.id, a.id, key="behind", relation="behind", origin="masks", hidden_frac=hidden)
    return graph


def add_asked(graph: nx.MultiDiGraph, first: int, second: int, relation: str, words: str, holds: bool) -> None:
    """Adds an edge for a relation that was asked for: `origin` = "prompt", `words` that say so, whether it `holds`."""
    key = f"asked: {relation}"
    graph.add_edge(first, second, key=key, relation=relation, origin="prompt", words=words, holds=holds)


def graph_to_json(graph: nx.MultiDiGraph) -> dict[str, Any]:
    """Node-link JSON with the edge list under "edges"."""
    return dict(nx.node_link_data(graph, edges="edges"))


def graph_from_json(data: dict[str, Any]) -> nx.MultiDiGraph:
    """Inverse of `graph_to_json`."""
    return nx.node_link_graph(data, directed=True, multigraph=True, edges="edges")


def graph_to_graphml(graph: nx.MultiDiGraph) -> str:
    """GraphML, which has no lists and no null: boxes become text, what is not known is left out."""
    plain = nx.MultiDiGraph()

    def flat(data: dict[str, Any]) -> dict[str, Any]:
        known = {key: value for key, value in data.items() if value is not None}
        return {key: ",".join(map(str, v)) if isinstance(v, list) else v for key, v in known.items()}

    for node, data in graph.nodes(data=True):
        plain.add_node(node, **flat(data))
    for first, second, key, data in graph.edges(keys=True, data=True):
        plain.add_edge(first, second, key=key, **flat(data))
    return "\n".join(nx.generate_graphml(plain)) + "\n"


def graph_to_dot(graph: nx.MultiDiGraph) -> str:
    """Graphviz DOT; relations that were asked for are drawn bold, green where they hold and red where not."""

    def quoted(text: object) -> str:
        escaped = str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        return f'"{escaped}"'

    lines = ["digraph scene {", "  node [shape=box];"]
    for node, data in graph.nodes(data=True):
        words = f"{node} {data['description']}"
        lines.append(f"  {quoted(node)} [label={quoted(words)}];")
    for first, second, data in graph.edges(data=True):
        look = ""
        if data.get("origin") == "prompt":
            look = f", style=bold, color={'darkgreen' if data['holds'] else 'red'}"
        lines.append(f"  {quoted(first)} -> {quoted(second)} [label={quoted(data['relation'])}{look}];")
    return "\n".join([*lines, "}"]) + "\n"
