"""Parser of Wavefront OBJ geometry and MTL materials into numpy arrays: triangles with corner normals and UVs.

Reads what the furniture libraries use: `v vt vn f usemtl s` and `newmtl Kd Ks Ns d Tr map_Kd`. Polygons of any number
of corners become triangles, concave ones too. Broken files raise `MeshError`, whatever they hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scene.errors import SmartSceneError

MAX_TRIANGLES, MAX_VERTICES = 300_000, 1_000_000
# Ear clipping takes quadratic to cubic time: beyond so many corners squared, in one file, polygons are cut as fans.
MAX_CLIPPING = 1_000_000
SMOOTH_COS = float(np.cos(np.deg2rad(60)))  # faces of one smoothing group that meet at less share their normals
MAX_DEGREE = 128  # faces at one vertex that take part in smoothing: bounds time and memory
_OPTION_VALUES = {"-s": 3, "-o": 3, "-t": 3, "-mm": 2}  # how many numbers follow; every other option takes one


class MeshError(SmartSceneError):
    """A model cannot be used; one line says why."""


@dataclass(frozen=True)
class MtlMaterial:
    """One material of an MTL file.

    Attributes:
        colour: diffuse RGB, 0 to 1, as displayed (sRGB).
        specular: mean of Ks, 0 to 1.
        shininess: Ns, 1 to 1000.
        opacity: `d`, 0 to 1.
        texture: path of `map_Kd` as written, or None.
    """

    colour: tuple[float, float, float] = (0.7, 0.7, 0.7)
    specular: float = 0.0
    shininess: float = 1.0
    opacity: float = 1.0
    texture: str | None = None


@dataclass(frozen=True)
class ObjGeometry:
    """Triangles of an OBJ file, in its own frame.

    Attributes:
        vertices: float64 (N, 3).
        faces: int32 (T, 3), into `vertices`.
        uvs: float32 (T, 3, 2); 0 where the file has none.
        normals: float32 (T, 3, 3); 0 where the file has none.
        smoothing: int32 (T,), smoothing group; 0 = flat.
        materials: int32 (T,), into `material_names`.
        material_names: in order of first use.
        library: name of the MTL file, or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    normals: np.ndarray
    smoothing: np.ndarray
    materials: np.ndarray
    material_names: tuple[str, ...]
    library: str | None


@dataclass
class _Lines:
    """Lines of an OBJ file by kind, and what was in force at each face."""

    v: list[str]
    vt: list[str]
    vn: list[str]
    faces: list[list[str]]
    material: list[int]
    smoothing: list[int]
    names: dict[str, int]
    library: str | None = None


def parse_obj(data: bytes) -> ObjGeometry:
    """Reads an OBJ file.

    Raises:
        MeshError: not an OBJ file, no faces, more than `MAX_TRIANGLES`, or numbers that make no sense.
    """
    lines = _sort_lines(data)
    vertices = _floats(lines.v, 3, "v")
    if not lines.faces or not len(vertices):
        raise MeshError("the OBJ file holds no faces")
    if sum(len(face) - 2 for face in lines.faces) > MAX_TRIANGLES or len(vertices) > MAX_VERTICES:
        raise MeshError(f"more than {MAX_TRIANGLES} triangles or {MAX_VERTICES} vertices")
    counts = (len(vertices), len(lines.vt), len(lines.vn))
    corners, owner = _triangulate(lines.faces, counts, vertices)
    uv_table = np.vstack([_floats(lines.vt, 2, "vt"), np.zeros((1, 2))])
    normal_table = np.vstack([_floats(lines.vn, 3, "vn"), np.zeros((1, 3))])
    return ObjGeometry(
        vertices=vertices,
        faces=corners[:, :, 0],
        uvs=uv_table[corners[:, :, 1]].astype(np.float32),  # index -1 = the row of zeros
        normals=normal_table[corners[:, :, 2]].astype(np.float32),
        smoothing=np.array(lines.smoothing, np.int32)[owner],
        materials=np.array(lines.material, np.int32)[owner],
        material_names=tuple(lines.names),
        library=lines.library,
    )


def _sort_lines(data: bytes) -> _Lines:
    """One pass over the text."""
    text = data.decode("latin-1").replace("\t", " ").replace("\\\r\n", " ").replace("\\\n", " ")
    found = _Lines([], [], [], [], [], [], {})
    material, group = found.names.setdefault("", 0), 0
    for line in text.splitlines():
        head, _, rest = line.strip().partition(" ")
        if head == "v":
            found.v.append(rest)
        elif head == "vt":
            found.vt.append(rest)
        elif head == "vn":
            found.vn.append(rest)
        elif head == "f":
            corners = rest.split()
            if len(corners) < 3:
                continue  # a line in disguise
            if "-" in rest:
                corners = _absolute(corners, (len(found.v), len(found.vt), len(found.vn)))
            found.faces.append(corners)
            found.material.append(material)
            found.smoothing.append(group)
        elif head == "usemtl":
            material = found.names.setdefault(rest.strip(), len(found.names))
        elif head == "s":
            value = rest.strip()
            group = int(value) if value.isdecimal() and len(value) < 10 else 0
        elif head == "mtllib":
            found.library = rest.strip()
    return found


def _absolute(corners: list[str], counts: tuple[int, int, int]) -> list[str]:
    """Corners with negative (relative) indices turned into positive ones."""
    try:
        return [
            "/".join(
                part if not part.startswith("-") else str(counts[place] + 1 + int(part))
                for place, part in enumerate(corner.split("/")[:3])
            )
            for corner in corners
        ]
    except ValueError:
        raise MeshError(f"a face corner cannot be read: {' '.join(corners)[:40]!r}") from None


def _floats(lines: list[str], width: int, kind: str) -> np.ndarray:
    """The first `width` numbers of each line, float64 (N, width)."""
    if not lines:
        return np.zeros((0, width))
    try:
        table = np.array(" ".join(lines).split(), dtype=np.float64)
        if len(table) % len(lines) == 0 and len(table) >= width * len(lines):
            table = table.reshape(len(lines), -1)[:, :width]
        else:  # lines of several widths
            table = np.array([line.split()[:width] for line in lines], dtype=np.float64)
    except ValueError:
        raise MeshError(f"a '{kind}' line of the OBJ file holds no {width} numbers") from None
    absurd = ~(np.abs(table) < 1e9)  # not a number included
    if kind == "v" and absurd.any():
        raise MeshError("a 'v' line of the OBJ file holds an absurd number")
    table[absurd] = 0.0  # exporters write such UVs and normals on triangles without area
    return table


def _triangulate(
    faces: list[list[str]], counts: tuple[int, int, int], vertices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Corners int32 (T, 3, 3) as zero-based (vertex, uv, normal), -1 = none, and the face of each triangle (T,)."""
    groups: dict[tuple[int, int, bool], list[int]] = {}
    for number, face in enumerate(faces):
        first = face[0]
        groups.setdefault((len(face), first.count("/"), "//" in first), []).append(number)
    triangles, owners, allowance = [], [], MAX_CLIPPING
    for (size, slashes, hollow), members in groups.items():
        width = slashes + 1 - hollow
        text = " ".join(" ".join(faces[number]) for number in members).replace("/", " ")
        try:
            indices = np.array(text.split(), dtype=np.int64).reshape(len(members), size, width)
        except (ValueError, OverflowError):
            raise MeshError(
                f"a face of the OBJ file cannot be read, near {' '.join(faces[members[0]])[:40]!r}"
            ) from None
        corners = np.full((len(members), size, 3), -1, np.int64)
        corners[:, :, [0, 2] if hollow else range(width)] = indices - 1
        for place, kind in enumerate(("v", "vt", "vn")):
            used = corners[:, :, place]
            if used.max() >= counts[place] or used.min() < (0 if place == 0 else -1):
                raise MeshError(f"a face refers to a '{kind}' that the OBJ file lacks ({counts[place]} there)")
        fronts = _first_of_kind(corners[:, :, 0])
        cut, rows, allowance = _cut(corners[fronts], vertices, allowance)
        triangles.append(cut)
        owners.append(np.array(members)[fronts][rows])
    order = np.argsort(np.concatenate(owners), kind="stable")
    return np.concatenate(triangles)[order].astype(np.int32), np.concatenate(owners)[order]


def _first_of_kind(polygons: np.ndarray) -> np.ndarray:
    """Indices of the polygons (F, K) whose corners no earlier one has: a two-sided face's back fights its front."""
    keys = np.zeros(len(polygons), np.uint64)
    for column in np.sort(polygons, 1).T.astype(np.uint64):
        keys = (keys ^ column) * np.uint64(0x9E3779B97F4A7C15)  # wraps; equal only for equal corners, all but surely
        keys ^= keys >> np.uint64(29)
    return np.sort(np.unique(keys, return_index=True)[1])


def _cut(corners: np.ndarray, vertices: np.ndarray, allowance: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Polygons (F, K, 3) of one size -> triangles (T, 3, 3), the polygon of each (T,), and what `allowance` is left."""
    count, size = corners.shape[:2]
    fan = np.stack([np.zeros(size - 2, int), np.arange(1, size - 1), np.arange(2, size)], 1)
    rows = np.repeat(np.arange(count), size - 2)
    if size == 3:
        return corners, rows, allowance
    points = vertices[corners[:, :, 0]]
    edges = np.roll(points, -1, 1) - points
    turns = np.cross(np.roll(edges, 1, 1), edges)  # at each corner
    normal = np.cross(points[:, 1:-1] - points[:, :1], points[:, 2:] - points[:, :1]).sum(1)
    concave = (turns * normal[:, None]).sum(-1) < -1e-9 * (normal**2).sum(-1, keepdims=True)
    cuts = np.broadcast_to(fan, (count, size - 2, 3)).copy()
    for row in np.flatnonzero(concave.any(1)):
        if size == 4:  # start the fan at the inward corner
            cuts[row] = (fan + int(np.argmax(concave[row]))) % 4
        elif allowance >= size**2:
            allowance -= size**2
            cuts[row] = _clip_ears(points[row], normal[row])
    return corners[rows[:, None], cuts.reshape(-1, 3)], rows, allowance


def _clip_ears(points: np.ndarray, normal: np.ndarray) -> list[tuple[int, int, int]]:
    """Triangles of one concave polygon (K, 3) by ear clipping, in the plane of its greatest extent."""
    axis = int(np.argmax(np.abs(normal)))
    flat = np.delete(points, axis, 1)
    if (normal[axis] < 0) != (axis == 1):  # counter-clockwise in the plane (deleting y mirrors it)
        flat = flat * (-1.0, 1.0)
    left, triangles = np.arange(len(points)), []
    while len(left) > 3:
        before, after = np.roll(left, 1), np.roll(left, -1)
        outward = _turn(flat[before], flat[left], flat[after]) > 0
        ears = np.flatnonzero(outward)
        inward = left[~outward]  # only these can lie in an ear
        a, b, c = (flat[corner[ears]][:, None] for corner in (before, left, after))
        own = (inward == before[ears, None]) | (inward == after[ears, None])
        free = ears[~(_inside(flat[inward], a, b, c) & ~own).any(1)]
        place = int(free[0]) if len(free) else 0  # none: it crosses itself, and is cut anyway, so that it ends
        triangles.append((int(before[place]), int(left[place]), int(after[place])))
        left = np.delete(left, place)
    return [*triangles, (int(left[0]), int(left[1]), int(left[2]))]


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Twice the signed area of the triangle a, b, c; points (..., 2)."""
    ab, ac = b - a, c - a
    return np.asarray(ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0])


def _inside(points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Which points (..., 2) lie in the triangle, its border counted."""
    return np.asarray((_turn(a, b, points) >= 0) & (_turn(b, c, points) >= 0) & (_turn(c, a, points) >= 0))


def smooth_normals(vertices: np.ndarray, faces: np.ndarray, smoothing: np.ndarray) -> np.ndarray:
    """Corner normals where a file gives none: averaged over faces of one group that meet at under 60 degrees.

    Args:
        vertices: (N, 3).
        faces: int (T, 3).
        smoothing: int (T,), 0 = flat.

    Returns:
        float32 (T, 3, 3), unit length; weighted by area, and 0 for triangles without area.
    """
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = np.cross(b - a, c - a)
    flat = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-30)
    normals = np.repeat(flat[:, None], 3, axis=1)
    corner = np.flatnonzero(np.repeat(smoothing > 0, 3))  # corner number = 3 * face + place
    if len(corner):
        flat_faces = faces.reshape(-1)
        corner = corner[np.lexsort((smoothing[corner // 3], flat_faces[corner]))]
        key = flat_faces[corner].astype(np.int64) * (int(smoothing.max()) + 1) + smoothing[corner // 3]
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        sizes = np.diff(np.r_[starts, len(key)])
        total = normals.reshape(-1, 3)
        total[corner] = 0
        size, start = np.repeat(sizes, sizes), np.repeat(starts, sizes)
        within = np.arange(len(key)) - start
        for shift in range(min(int(sizes.max()), MAX_DEGREE)):  # each corner meets the shift-th face at its vertex
            live = np.flatnonzero(size > shift)
            mine = corner[live]
            other = corner[start[live] + (within[live] + shift) % size[live]] // 3
            cosine = (flat[mine // 3] * flat[other]).sum(1, keepdims=True)
            total[mine] += np.where(np.abs(cosine) > SMOOTH_COS, np.sign(cosine) * area[other], 0)  # winding may differ
        length = np.linalg.norm(total, axis=1, keepdims=True)
        normals = np.where(length > 1e-30, total / np.maximum(length, 1e-30), np.repeat(flat, 3, 0)).reshape(-1, 3, 3)
    return normals.astype(np.float32)


def parse_mtl(data: bytes) -> dict[str, MtlMaterial]:
    """Reads an MTL file: name -> material. What cannot be read keeps its default."""
    materials: dict[str, MtlMaterial] = {}
    entry: dict[str, str] = {}
    name = None
    for line in [*data.decode("latin-1").replace("\t", " ").splitlines(), "newmtl"]:
        head, _, rest = line.strip().partition(" ")
        if head == "newmtl":
            if name is not None:
                materials[name] = _material(entry)
            name, entry = rest.strip(), {}
        elif head:
            entry[head] = rest.strip()
    return materials


def _material(entry: dict[str, str]) -> MtlMaterial:
    def numbers(key: str, count: int, default: tuple[float, ...]) -> tuple[float, ...]:
        try:
            values = tuple(float(value) for value in entry[key].split()[:count])
        except (KeyError, ValueError):
            return default
        return values if len(values) == count and all(np.isfinite(values)) else default

    red, green, blue = np.clip(numbers("Kd", 3, MtlMaterial.colour), 0, 1).tolist()
    opacity = numbers("d", 1, (1.0 - numbers("Tr", 1, (0.0,))[0],))[0]
    return MtlMaterial(
        colour=(red, green, blue),
        specular=float(np.clip(np.mean(numbers("Ks", 3, (0.0, 0.0, 0.0))), 0, 1)),
        shininess=float(np.clip(numbers("Ns", 1, (1.0,))[0], 1, 1000)),
        opacity=float(np.clip(opacity, 0, 1)),
        texture=_texture_path(entry.get("map_Kd", "")),
    )


def _texture_path(text: str) -> str | None:
    """The file name of a `map_Kd` line, its options left out; names may hold spaces."""
    while text.startswith("-"):
        option, _, text = text.partition(" ")
        for _ in range(_OPTION_VALUES.get(option, 1)):
            text = text.lstrip().partition(" ")[2]
        text = text.lstrip()
    return text or None
