"""Reader of the Sweet Home 3D furniture libraries: zips (`.sh3f`) of OBJ models with names and real sizes.

The index of a library, `PluginFurnitureCatalog.properties`, is a Java properties file with one block of numbered keys
(`name#12=Sofa`) a model and lengths in centimetres. Front of a model, by the library's convention: +z in its OBJ file,
after `modelRotation`.
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scene.errors import UserError

INDEX = "PluginFurnitureCatalog.properties"
MIN_SIDE_M, MAX_SIDE_M = 0.0002, 30.0  # a bank note is thin, a lorry long; anything beyond is a slip of the author
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_LINE = re.compile(r"(\w+)#(\d+)\s*=\s*(.*)")
_HEADER = re.compile(r"([\w.]+)\s*=\s*(.*)")
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")


@dataclass(frozen=True)
class CatalogModel:
    """One model of a library.

    Attributes:
        id: "<library>#<name>", unique.
        name, category, tags: the library's own English words.
        creator, licence: whom to name, and under which terms.
        archive: the `.sh3f` file.
        member, icon: paths of the OBJ file and of a small picture in the archive, no leading slash.
        size_m: width (x), depth (y), height (z) in metres, in the model frame of `plan`.
        rotation: row-major 3x3 matrix that turns the OBJ upright (y up, front +z); the identity where none is given.
        elevation_m: how high its lowest point hangs by custom; 0 = on the floor.
        top_m: height at which things are put on it, above its lowest point; None = nothing can be put on it.
        door_or_window: it belongs into an opening in a wall.
    """

    id: str
    name: str
    category: str
    tags: tuple[str, ...]
    creator: str
    licence: str
    archive: Path
    member: str
    icon: str
    size_m: tuple[float, float, float]
    rotation: tuple[float, ...] = IDENTITY
    elevation_m: float = 0.0
    top_m: float | None = None
    door_or_window: bool = False


@dataclass(frozen=True)
class Catalog:
    """All usable models of a folder of libraries.

    Attributes:
        models: by id, in the order of file and number.
        skipped: one line a model that cannot be used, saying why.
    """

    models: Mapping[str, CatalogModel]
    skipped: tuple[str, ...] = ()

    @classmethod
    def open(cls, furniture_folder: Path | str) -> Catalog:
        """Reads every `.sh3f` of a folder.

        Raises:
            UserError: no library there, or one that is no zip or has no index.
        """
        folder = Path(furniture_folder)
        archives = sorted(folder.glob("*.sh3f"))
        if not archives:
            raise UserError(f"no .sh3f library in {folder}; fetch them with: make data-deps")
        models: dict[str, CatalogModel] = {}
        skipped: list[str] = []
        for archive in archives:
            for found in _read_library(archive):
                if isinstance(found, str):
                    skipped.append(found)
                elif found.id in models:
                    skipped.append(f"{found.id}: occurs twice; the first is kept")
                else:
                    models[found.id] = found
        return cls(models, tuple(skipped))

    def __getitem__(self, model: str) -> CatalogModel:
        """The model of an id.

        Raises:
            UserError: the catalogue has no such model.
        """
        try:
            return self.models[model]
        except KeyError:
            raise UserError(f"no model {model!r} in the catalogue; run: make data-deps") from None


def _read_library(archive: Path) -> Iterator[CatalogModel | str]:
    """Models of one library in the order of their numbers, or a line saying why one is skipped."""
    try:
        with zipfile.ZipFile(archive) as library:
            text = library.read(INDEX).decode("latin-1")
            members = frozenset(library.namelist())
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{archive} is no furniture library ({error}); fetch it again: make data-deps") from None
    header, blocks = _parse_properties(text)
    licence = re.split(r"\s{2,}", header.get("license", "unknown"))[0].strip()
    for number in sorted(blocks):
        block = blocks[number]
        name = block.get("id", f"{archive.stem}#{number}")
        try:
            yield _model(name, block, archive, members, licence)
        except (KeyError, ValueError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            yield f"{name}: {reason}"


def _parse_properties(text: str) -> tuple[dict[str, str], dict[int, dict[str, str]]]:
    """Header keys, and per number its keys; Java's unicode escapes are decoded."""
    header: dict[str, str] = {}
    blocks: dict[int, dict[str, str]] = defaultdict(dict)
    for line in text.splitlines():
        line = _UNICODE.sub(lambda match: chr(int(match[1], 16)), line.strip())
        if line.startswith(("#", "!")):
            continue
        if match := _LINE.fullmatch(line):
            blocks[int(match[2])][match[1]] = match[3].strip()
        elif match := _HEADER.fullmatch(line):
            header[match[1]] = match[2].strip()
    return header, blocks


def _model(name: str, block: Mapping[str, str], archive: Path, members: frozenset[str], licence: str) -> CatalogModel:
    width, depth, height = (float(block[key]) / 100 for key in ("width", "depth", "height"))
    for side in (width, depth, height):
        if not MIN_SIDE_M <= side <= MAX_SIDE_M:
            raise ValueError(f"a side of {side:g} m is absurd; allowed are {MIN_SIDE_M} to {MAX_SIDE_M} m")
    member = block["model"].lstrip("/")
    if member not in members:
        raise ValueError(f"{member} is not in {archive.name}")
    rotation = tuple(float(value) for value in block.get("modelRotation", "").split()) or IDENTITY
    if len(rotation) != 9:
        raise ValueError(f"modelRotation has {len(rotation)} numbers, need 9")
    top = float(block["dropOnTopElevation"]) / 100 if block.get("dropOnTopElevation") else height
    return CatalogModel(
        id=name,
        name=block["name"],
        category=block["category"],
        tags=tuple(tag.strip() for tag in block.get("tags", "").split(",") if tag.strip()),
        creator=block.get("creator", "unknown"),
        licence=licence,
        archive=archive,
        member=member,
        icon=block.get("icon", "").lstrip("/"),
        size_m=(width, depth, height),
        rotation=rotation,
        elevation_m=float(block.get("elevation", 0)) / 100,
        top_m=top if 0 <= top <= height else None,
        door_or_window=block.get("doorOrWindow") == "true",
    )
