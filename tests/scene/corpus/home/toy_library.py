"""Made-up furniture libraries: small OBJ models in a zip, so that tests need no downloads."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from scene.corpus.home.catalog import CatalogModel

CUBE_VERTICES = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
CUBE_FACES = [(1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4)]
MTL = (
    "newmtl plain\nKd 0.8 0.2 0.2\nnewmtl glass\nKd 0.6 0.8 0.9\nd 0.2\nnewmtl picture\nKd 1 1 1\nmap_Kd picture.png\n"
)


def cube(material: str = "plain", uvs: bool = False) -> str:
    """A cube of quads, 2 on each side, as OBJ text; with UVs each face shows the whole texture."""
    lines = ["mtllib toy.mtl", *(f"v {x} {y} {z}" for x, y, z in CUBE_VERTICES), f"usemtl {material}"]
    if uvs:
        lines += ["vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]
        lines += ["f " + " ".join(f"{v}/{t}" for v, t in zip(face, (1, 2, 3, 4), strict=True)) for face in CUBE_FACES]
    else:
        lines += ["f " + " ".join(map(str, face)) for face in CUBE_FACES]
    return "\n".join(lines) + "\n"


def png(pixels: np.ndarray) -> bytes:
    """A picture as PNG bytes."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def model(
    path: Path, name: str = "toy", size_m: tuple[float, float, float] = (1, 1, 1), rotation: str = "", **more: object
) -> CatalogModel:
    """Entry of the catalogue for `<name>/<name>.obj` in a library."""
    turn = {"rotation": tuple(float(value) for value in rotation.split())} if rotation else {}
    words = {"name": name, "category": "Toys", "tags": (), "creator": "nobody", "licence": "CC0", "icon": ""}
    return CatalogModel(
        id=f"Toys#{name}", archive=path, member=f"{name}/{name}.obj", size_m=size_m, **words, **turn, **more
    )


def library(path: Path, models: Mapping[str, str | bytes], files: Mapping[str, bytes] | None = None) -> Path:
    """Writes a zip with `<name>/<name>.obj` and `<name>/toy.mtl` for each model, and more files by path."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in models.items():
            archive.writestr(f"{name}/{name}.obj", text)
            archive.writestr(f"{name}/toy.mtl", MTL)
        for name, data in (files or {}).items():
            archive.writestr(name, data)
    return path
