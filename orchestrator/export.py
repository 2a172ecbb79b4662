"""A scene in the formats of other programs: layered pictures, annotations, the scene graph, the steps as a film."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from orchestrator.asked import live_graph
from orchestrator.disk import png_bytes, told_clearly
from orchestrator.graph_picture import graph_picture
from orchestrator.products import SHOWN
from orchestrator.run_folder import RunFolder
from runtime.files import write_bytes
from scene.errors import UserError
from scene.geometry import Box
from scene.graph import graph_to_dot, graph_to_graphml, graph_to_json
from scene.layers import LayeredScene

if TYPE_CHECKING:
    import networkx as nx

FRAME_MS, LAST_FRAME_MS = 700, 2500
EPOCH = (1980, 1, 1, 0, 0, 0)  # zip files have no date from us: same scene, same bytes


def export(folder: RunFolder, kind: str, target: Path) -> None:
    """Writes the scene at a run's head to one file.

    Args:
        folder: the run.
        kind: one of `KINDS`.
        target: file to write; replaced if it exists.

    Raises:
        UserError: nothing to export, a library is not installed, or the file cannot be written.
    """
    if not target.absolute().parent.is_dir() or target.is_dir():
        raise UserError(f"{target} cannot be written; name a file in a folder that exists")
    data = exported(folder, kind)
    with told_clearly(target.absolute().parent):
        write_bytes(target, data)


def exported(folder: RunFolder, kind: str) -> bytes:
    """What `export` writes.

    Raises:
        UserError: nothing to export, or a library is not installed.
    """
    scene = folder.scene()
    if not scene.layers:
        raise UserError(f"{folder.path} has no layers at its head; resume it first")
    return KINDS[kind](folder, scene)


def _graph(folder: RunFolder, scene: LayeredScene) -> nx.MultiDiGraph:
    return live_graph(scene, folder.vocabulary())


def _json(folder: RunFolder, scene: LayeredScene) -> bytes:
    return (json.dumps(graph_to_json(_graph(folder, scene)), ensure_ascii=False, indent=1) + "\n").encode()


def _graphml(folder: RunFolder, scene: LayeredScene) -> bytes:
    return graph_to_graphml(_graph(folder, scene)).encode()


def _dot(folder: RunFolder, scene: LayeredScene) -> bytes:
    return graph_to_dot(_graph(folder, scene)).encode()


def _graph_png(folder: RunFolder, scene: LayeredScene) -> bytes:
    return png_bytes(graph_picture(scene, _graph(folder, scene)))


def _pixels(scene: LayeredScene) -> list[tuple[str, Box, np.ndarray]]:
    """Back to front: name, box, and the part of the layer inside its box, uint8 (h, w, 4)."""
    found = []
    for layer in scene.layers:
        box = layer.box
        if box is None or layer.rgba is None:
            raise UserError(f"{layer.description} has no pixels; resume the run first")
        found.append((f"{layer.id} {layer.description}", box, layer.rgba[box.y0 : box.y1, box.x0 : box.x1]))
    return found


def _ora(folder: RunFolder, scene: LayeredScene) -> bytes:
    """OpenRaster 0.0.5: a zip of PNG layers, stack.xml (topmost first), a merged picture and a thumbnail.

    Source: https://www.openraster.org/baseline/file-layout-spec.html
    """
    root = ET.Element("image", version="0.0.5", w=str(scene.size.width), h=str(scene.size.height))
    stack = ET.SubElement(root, "stack")
    files: dict[str, bytes] = {}
    for number, (name, box, pixels) in reversed(list(enumerate(_pixels(scene), start=1))):
        path = f"data/layer{number:03d}.png"
        ET.SubElement(stack, "layer", name=name, src=path, x=str(box.x0), y=str(box.y0), opacity="1.0")
        files[path] = png_bytes(pixels)
    ground = np.dstack([scene.bare, np.full(scene.size.shape, 255, np.uint8)])
    ET.SubElement(stack, "layer", name="canvas", src="data/canvas.png", x="0", y="0", opacity="1.0")
    files["data/canvas.png"] = png_bytes(ground)
    thumbnail = Image.fromarray(scene.image)
    thumbnail.thumbnail((256, 256), Image.Resampling.LANCZOS)
    files["stack.xml"] = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    files["mergedimage.png"] = png_bytes(scene.image)
    files["Thumbnails/thumbnail.png"] = png_bytes(np.asarray(thumbnail))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        kind = zipfile.ZipInfo("mimetype", EPOCH)  # first, and stored: programs tell the format by it
        archive.writestr(kind, "image/openraster", zipfile.ZIP_STORED)
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path, EPOCH), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _psd(folder: RunFolder, scene: LayeredScene) -> bytes:
    try:
        from psd_tools import PSDImage
    except ImportError:
        raise UserError("PSD needs psd-tools: pip install 'smartscene[export]'; or export to ora") from None
    document = PSDImage.frompil(Image.fromarray(scene.image).convert("RGBA"))  # RGBA: layers keep their transparency
    for name, box, pixels in _pixels(scene):
        document.create_pixel_layer(Image.fromarray(np.ascontiguousarray(pixels)), name=name, top=box.y0, left=box.x0)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def _coco(folder: RunFolder, scene: LayeredScene) -> bytes:
    """COCO with amodal masks: `segmentation` is the whole object, `visible_mask` what nearer layers leave; both RLE.

    `order` counts from 0 = rearmost, `occlude_rate` is the hidden share. Keys beyond COCO follow COCOA and KINS.
    """
    try:
        from pycocotools import mask as rle
    except ImportError:
        raise UserError("COCO needs pycocotools: pip install 'smartscene[export]'") from None

    def packed(mask: np.ndarray) -> dict[str, Any]:
        code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(code["size"]), "counts": code["counts"].decode("ascii")}

    labels = sorted({layer.label for layer in scene.layers})
    annotations = []
    for order, (layer, visible) in enumerate(zip(scene.layers, scene.visible_masks(), strict=True)):
        box, area = layer.box, int(layer.mask.sum())
        annotations.append(
            {
                "id": layer.id,
                "image_id": 1,
                "category_id": labels.index(layer.label) + 1,
                "iscrowd": 0,
                "bbox": [box.x0, box.y0, box.width, box.height] if box else [0, 0, 0, 0],
                "area": area,
                "segmentation": packed(layer.mask),
                "visible_mask": packed(visible),
                "occlude_rate": round(1 - int(visible.sum()) / area, 4) if area else 0.0,
                "order": order,
                "description": layer.description,
            }
        )
    width, height = scene.size
    image = {"id": 1, "file_name": str(folder.path / "final.png"), "width": width, "height": height}
    notice = folder.facts.get("notice", "")
    data = {
        "info": {"description": f"generated by smartscene; prompt: {scene.prompt}", "notice": notice},
        "images": [{**image, "caption": scene.prompt}],
        "categories": [{"id": number, "name": label} for number, label in enumerate(labels, start=1)],
        "annotations": annotations,
    }
    return (json.dumps(data, ensure_ascii=False) + "\n").encode()


def _webp(folder: RunFolder, scene: LayeredScene) -> bytes:
    """Lossless film of every step on the way to the head, the last one longest."""
    frames = [Image.fromarray(folder.shown(step)) for step in folder.history.path() if step.outcome in SHOWN]
    if folder.photo:
        frames.insert(0, Image.fromarray(folder.start.image))
    buffer = io.BytesIO()
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    frames[0].save(
        buffer, format="WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, lossless=True
    )
    return buffer.getvalue()


KINDS: Mapping[str, Callable[[RunFolder, LayeredScene], bytes]] = {
    "psd": _psd,
    "ora": _ora,
    "coco": _coco,
    "webp": _webp,
    "graphml": _graphml,
    "dot": _dot,
    "json": _json,
    "graph": _graph_png,
}
