"""What a run shows of its head: final.png, layout.png, strip.png, scene.json and layers/; of a photo also full.png."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.asked import live_graph
from orchestrator.disk import save_png, told_clearly
from orchestrator.pictures import strip_picture
from runtime.files import write_bytes, write_json
from scene.graph import graph_to_json
from scene.layers import LayeredScene
from scene.layout import layout_picture

if TYPE_CHECKING:
    import networkx as nx

    from orchestrator.history import History
    from orchestrator.run_folder import RunFolder
    from scene.vocabulary import Vocabulary

SCENE_SCHEMA_VERSION = 1
SHOWN = ("placed", "reordered", "edited", "drawn")


def go(folder: RunFolder, history: History, vocabulary: Vocabulary) -> LayeredScene:
    """Moves the head (undo, redo, branch) and renews the run's pictures; no step is changed.

    Args:
        folder: the run, open for writing.
        history: what `History.undone`, `redone`, `branched` or `switched` gave.
        vocabulary: the run's words, for its scene graph.

    Returns:
        The scene at the new head.
    """
    scene = folder.scene(history.head)  # before the head moves: a broken picture must not strand it there
    folder.set_history(history)
    write_products(folder, scene, live_graph(scene, vocabulary))
    return scene


def write_products(folder: RunFolder, scene: LayeredScene, graph: nx.MultiDiGraph) -> None:
    """Writes the pictures of the head; the same head gives the same bytes.

    Args:
        folder: the run, open for writing.
        scene: its scene at the head.
        graph: its scene graph, with what was asked for.

    Raises:
        UserError: the disk refuses.
    """
    path = folder.path
    with told_clearly(path):
        save_png(path / "final.png", scene.image)
        save_png(path / "layout.png", layout_picture(scene.layout))
        if folder.photo:
            write_bytes(path / "full.png", folder.photo.full(scene, folder.keys()))
        shown = [step for step in folder.history.path() if step.outcome in SHOWN]
        frames = [("photo", folder.start.image, layout_picture(folder.start.layout))] if folder.photo else []
        frames += [
            (f"{step.index}. {step.words}", folder.shown(step), folder.picture(step.index, "layout", "RGB"))
            for step in shown
        ]
        save_png(path / "strip.png", strip_picture(frames, folder.size))
        layers = path / "layers"
        layers.mkdir(exist_ok=True)
        entries, names = [], set()
        for order, layer in enumerate(scene.layers):
            slug = re.sub(r"[^a-z0-9]+", "-", layer.label.lower()).strip("-") or "object"
            name = f"{order + 1:02d}-{slug}.png"
            if layer.rgba is not None:
                names.add(name)
                save_png(layers / name, layer.rgba)
            box = layer.box
            entries.append(
                {
                    "id": layer.id,
                    "label": layer.label,
                    "description": layer.description,
                    "step": int(layer.provenance.get("step", layer.id)),
                    "box": list(box) if box else None,
                    "mask": layer.provenance.get("mask", f"steps/{layer.id:04d}/amodal.png"),
                    "rgba": f"layers/{name}" if layer.rgba is not None else None,
                }
            )
        for old in layers.glob("*.png"):
            if old.name not in names:
                old.unlink()
        write_json(
            path / "scene.json",
            {
                "schema_version": SCENE_SCHEMA_VERSION,
                "size": list(scene.size),
                "prompt": scene.prompt,
                "head": folder.history.head,
                "layers": entries,
                "graph": graph_to_json(graph),
            },
        )
