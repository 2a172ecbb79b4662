"""Models of the furniture libraries as numpy meshes in the model frame of `plan`, read straight out of their zips.

A library stretches the bounding box of a model's OBJ file to the catalogue's real width, depth and height; so do we.
All textures of a mesh lie in one flat array with their reduced levels, so that a thousand points of any materials are
looked up at once.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from scene.corpus.home.wavefront import MeshError, MtlMaterial, parse_mtl, parse_obj, smooth_normals
from scene.errors import UserError

if TYPE_CHECKING:
    from scene.corpus.home.catalog import CatalogModel

__all__ = ["Mesh", "MeshCache", "MeshError", "load_mesh"]

MAX_OBJ_BYTES, MAX_MTL_BYTES, MAX_TEXTURE_BYTES = 64 << 20, 1 << 20, 32 << 20
MAX_TEXTURE_PIXELS = 40_000_000
TEXTURE_PX = 512  # longest side kept
MIN_SIDE_M, MAX_SIDE_M = 1e-4, 60.0
LEVELS = 8  # 512 px down to 4 px
INVISIBLE_OPACITY = 0.05  # helper geometry of the authors: never drawn
DARKEST, BRIGHTEST = 0.08, 0.95  # of untextured materials, as displayed
MAIN_SHARE = 0.15  # of the surface, below which a recolouring would not be seen
MISSING_SHARE = 0.9  # of the surface: a model that lost more of its look is of no use
BVH_BYTES_PER_TRIANGLE = 140


@dataclass(frozen=True, eq=False)
class Mesh:
    """A model in its own frame (origin under the middle, x right, y backwards, z up), metres.

    Attributes:
        vertices: float32 (N, 3).
        faces: int32 (T, 3).
        normals: float32 (T, 3, 3), at corners; unit length, either side may be the outer one.
        uvs: float32 (T, 3, 2), at corners.
        material: int32 (T,).
        colours: float32 (M, 3), 0 to 1 as displayed (sRGB).
        opacity, specular, shininess: float32 (M,).
        texels: uint8 (P, 4), RGBA with colour times alpha, row by row, all levels of all textures.
        levels: int64 (M, LEVELS, 3), offset into `texels`, height, width; height 0 = no texture.
        cutout: bool (M,), the texture has holes.
        texel_density: float32 (T,), texels of level 0 to the metre.
        main_material: what a tint recolours: the largest untextured opaque material; None if it covers under 15 %.
        size_m: width, depth, height.
        notes: what the model lacks, one line each, for a report.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    uvs: np.ndarray
    material: np.ndarray
    colours: np.ndarray
    opacity: np.ndarray
    specular: np.ndarray
    shininess: np.ndarray
    texels: np.ndarray
    levels: np.ndarray
    cutout: np.ndarray
    texel_density: np.ndarray
    main_material: int | None
    size_m: tuple[float, float, float]
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Memory that the mesh takes, its ray-casting tree included."""
        arrays = (self.vertices, self.faces, self.normals, self.uvs, self.material, self.texels, self.texel_density)
        return sum(array.nbytes for array in arrays) + BVH_BYTES_PER_TRIANGLE * len(self.faces)

    @cached_property
    def see_through(self) -> bool:
        """Some of it has holes or is of glass."""
        return bool(self.cutout.any() or (self.opacity[np.unique(self.material)] < 1).any())

    def opacity_at(self, face: np.ndarray, bary: np.ndarray) -> np.ndarray:
        """Opacity of points of triangles, 0 in the holes of a texture (alpha under one half).

        Args:
            face: int (N,), triangles; -1 gives no sensible value.
            bary: float32 (N, 3), weights of their corners.

        Returns:
            float32 (N,).
        """
        material = self.material[face]
        opacity = self.opacity[material]
        masked = np.flatnonzero(self.cutout[material])
        if len(masked):
            uv = np.einsum("fkc,fk->fc", self.uvs[face[masked]], bary[masked])
            uv = uv - np.floor(uv)  # textures repeat
            offset, height, width = self.levels[material[masked], 0].T
            x = np.minimum((uv[:, 0] * width).astype(np.int64), width - 1)
            y = np.minimum(((1 - uv[:, 1]) * height).astype(np.int64), height - 1)  # v runs upwards
            opacity[masked[self.texels[offset + y * width + x, 3] < 128]] = 0
        return opacity

    @cached_property
    def tracer(self) -> Any:
        """The embree scene of this mesh, in the model frame; `run(origins, directions, ...)` casts rays."""
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError:
            raise UserError("rendering needs embreex; install it with: pip install 'smartscene[data]'") from None
        scene = EmbreeScene()
        TriangleMesh(scene, self.vertices, self.faces)
        return scene


def load_mesh(model: CatalogModel, archive: zipfile.ZipFile | None = None) -> Mesh:
    """Reads a model with its materials and textures and brings it to its real size.

    Args:
        model: entry of the catalogue.
        archive: its library, if open already.

    Raises:
        MeshError: the model cannot be used; one line says why.
        UserError: the library cannot be opened.
    """
    if not all(MIN_SIDE_M <= side <= MAX_SIDE_M for side in model.size_m):
        raise MeshError(f"absurd size of {' x '.join(f'{side:g}' for side in model.size_m)} m")
    if archive is None:
        with _open_archive(model.archive) as opened:
            return load_mesh(model, opened)
    geometry = parse_obj(_read(archive, model.member, MAX_OBJ_BYTES))
    folder = posixpath.dirname(model.member)
    library: dict[str, MtlMaterial] = {}
    if geometry.library:
        library = parse_mtl(_read(archive, _member(folder, geometry.library), MAX_MTL_BYTES))
    materials = [library.get(name, MtlMaterial()) for name in geometry.material_names]
    vertices, normals = _place(geometry.vertices, geometry.faces, geometry.normals, model)
    corners = vertices[geometry.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(across, axis=1) / 2
    opacity = np.array([material.opacity for material in materials], np.float32)
    keep = (area > 1e-14) & (opacity[geometry.materials] >= INVISIBLE_OPACITY)
    if not keep.any():
        raise MeshError("nothing of the model can be seen")
    missing = (np.abs(normals).sum(-1) < 0.5).any(1)
    if missing.any():
        smooth = smooth_normals(vertices, geometry.faces, np.where(missing, geometry.smoothing, 0))
        normals = np.where(missing[:, None, None], smooth, normals)
    normals *= np.where((normals * across[:, None]).sum(-1, keepdims=True) < 0, -1, 1)  # some files mix both sides
    share = np.bincount(geometry.materials[keep], area[keep], minlength=len(materials)) / area[keep].sum()
    materials, notes = _without_missing(materials, share, folder, frozenset(archive.namelist()))
    texels, levels, cutout = _textures(archive, folder, materials)
    material = geometry.materials[keep]
    uvs = geometry.uvs[keep]
    return Mesh(
        vertices=vertices.astype(np.float32),
        faces=np.ascontiguousarray(geometry.faces[keep]),
        normals=normals[keep].astype(np.float32),
        uvs=uvs,
        material=material,
        colours=_colours(materials, levels),
        opacity=opacity,
        specular=np.array([m.specular for m in materials], np.float32),
        shininess=np.array([m.shininess for m in materials], np.float32),
        texels=texels,
        levels=levels,
        cutout=cutout,
        texel_density=_texel_density(uvs, area[keep], levels[material, 0, 1:]),
        main_material=_main_material(share, levels, opacity),
        size_m=model.size_m,
        notes=notes,
    )


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no furniture library ({error}); fetch it again: make data-deps") from None


def _member(folder: str, name: str) -> str:
    """Path in the library of a file that an OBJ or MTL file names relative to its folder."""
    return posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))


def _read(archive: zipfile.ZipFile, member: str, cap: int) -> bytes:
    """A member of a zip, at most `cap` bytes, whatever its header claims."""
    try:
        with archive.open(member) as file:
            data = file.read(cap + 1)
    except (KeyError, zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = "is missing" if isinstance(error, KeyError) else f"cannot be read ({error})"
        raise MeshError(f"{posixpath.basename(member)} {reason}") from None
    except Exception as error:  # zlib.error and its kin: a damaged member must not end a build
        raise MeshError(f"{posixpath.basename(member)} is damaged ({error})") from None
    if len(data) > cap:
        raise MeshError(f"{posixpath.basename(member)} is larger than {cap >> 20} MiB")
    return data


def _place(
    vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, model: CatalogModel
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (N, 3) and corner normals (T, 3, 3) turned upright, stretched to the real size, in the model frame."""
    turn = np.array(model.rotation, np.float64).reshape(3, 3)
    swap = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # OBJ: y up, front +z; ours: z up, front -y
    vertices = vertices @ (swap @ turn).T
    used = vertices[np.unique(faces)]
    low, high = used.min(0), used.max(0)
    extent, size = high - low, np.array(model.size_m)
    flat = extent < 1e-9 * max(extent.max(), 1e-30)
    if flat.sum() > 1:
        raise MeshError("the model has no extent")
    stretch = np.where(flat, 1.0, size / np.where(flat, 1.0, extent))
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    normals = normals @ (swap @ turn).T / stretch
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return (vertices - origin) * stretch, np.divide(normals, length, out=np.zeros_like(normals), where=length > 1e-12)


def _without_missing(
    materials: list[MtlMaterial], share: np.ndarray, folder: str, members: frozenset[str]
) -> tuple[list[MtlMaterial], tuple[str, ...]]:
    """Materials with only the textures that are used and there, and a note on each that is not there.

    The library itself shows such parts in their plain colour. That does for the frame of a bed, not for a rug.
    """
    kept, notes, lost = [], [], 0.0
    for material, part in zip(materials, share, strict=True):
        path = material.texture and _member(folder, material.texture)
        if part > 0 and path and path not in members:
            notes.append(f"texture {posixpath.basename(path)} is missing; plain colour instead")
            lost += float(part)
        kept.append(material if part > 0 and path in members else replace(material, texture=None))
    if lost > MISSING_SHARE:
        raise MeshError(notes[0].split(";")[0])
    return kept, tuple(dict.fromkeys(notes))


def _textures(
    archive: zipfile.ZipFile, folder: str, materials: list[MtlMaterial]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`texels`, `levels` and `cutout` of the mesh; a texture that two materials share is kept once."""
    texels: list[np.ndarray] = [np.zeros((1, 4), np.uint8)]
    levels = np.zeros((len(materials), LEVELS, 3), np.int64)
    cutout = np.zeros(len(materials), bool)
    known: dict[str, tuple[np.ndarray, bool]] = {}
    offset = 1
    for number, material in enumerate(materials):
        if material.texture is None:
            continue
        path = _member(folder, material.texture)
        if path not in known:
            pyramid, holes = _load_texture(archive, path)
            table = np.zeros((LEVELS, 3), np.int64)
            for level, picture in enumerate(pyramid):
                table[level] = offset, *picture.shape[:2]
                texels.append(picture.reshape(-1, 4))
                offset += len(texels[-1])
            known[path] = table, holes
        levels[number], cutout[number] = known[path]
    return np.concatenate(texels), levels, cutout


def _load_texture(archive: zipfile.ZipFile, path: str) -> tuple[list[np.ndarray], bool]:
    """Premultiplied RGBA levels, each half the one before, and whether the picture has holes."""
    data = _read(archive, path, MAX_TEXTURE_BYTES)
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_TEXTURE_PIXELS:
                raise MeshError(f"texture {posixpath.basename(path)} has more than {MAX_TEXTURE_PIXELS} pixels")
            image.draft("RGB", (TEXTURE_PX, TEXTURE_PX))  # JPEG: decode at a reduced size
            picture = image.convert("RGBA").convert("RGBa")
    except MeshError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged pictures
        raise MeshError(f"texture {posixpath.basename(path)} cannot be read ({error})") from None
    picture.thumbnail((TEXTURE_PX, TEXTURE_PX), Image.Resampling.BOX)
    pyramid = [np.asarray(picture)]
    for _ in range(LEVELS - 1):
        size = (max(1, picture.width // 2), max(1, picture.height // 2))
        picture = picture.resize(size, Image.Resampling.BOX)
        pyramid.append(np.asarray(picture))
    return pyramid, bool((pyramid[0][..., 3] < 128).mean() > 1e-3)


def _colours(materials: list[MtlMaterial], levels: np.ndarray) -> np.ndarray:
    """Diffuse colours (M, 3); with a texture only their hue counts, for exporters dim or blacken what is textured."""
    colours = np.array([material.colour for material in materials], np.float32)
    brightest = colours.max(1, keepdims=True)
    tint = np.where(brightest > 0.05, colours / np.maximum(brightest, 1e-6), 1.0)
    plain = DARKEST + (BRIGHTEST - DARKEST) * colours  # pure black and white would hide the shape
    return np.where(levels[:, 0, 1:2] > 0, tint, plain).astype(np.float32)


def _texel_density(uvs: np.ndarray, area: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Texels to the metre on each triangle (T,); 0 without a texture."""
    edges = uvs[:, 1:] - uvs[:, :1]
    uv_area = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]) / 2
    return np.sqrt(uv_area * shape.prod(1) / np.maximum(area, 1e-14)).astype(np.float32)


def _main_material(share: np.ndarray, levels: np.ndarray, opacity: np.ndarray) -> int | None:
    """The largest untextured opaque material, given each one's share (M,) of the surface."""
    share = np.where((levels[:, 0, 1] > 0) | (opacity < 1), 0, share)
    best = int(share.argmax())
    return best if share[best] >= MAIN_SHARE else None


class MeshCache:
    """Meshes of the models used last, within a cap on memory. Not shared between processes.

    Args:
        max_bytes: memory of all meshes kept; the one asked for last is kept whatever its size.
    """

    def __init__(self, max_bytes: int = 3 << 29) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._meshes: OrderedDict[str, Mesh] = OrderedDict()
        self._broken: dict[str, str] = {}
        self._archives: dict[Path, zipfile.ZipFile] = {}

    def get(self, model: CatalogModel) -> Mesh:
        """The mesh of a model, read if need be.

        Raises:
            MeshError: the model cannot be used; a second request does not read it again.
        """
        if model.id in self._broken:
            raise MeshError(self._broken[model.id])
        if model.id in self._meshes:
            self._meshes.move_to_end(model.id)
            return self._meshes[model.id]
        if model.archive not in self._archives:
            self._archives[model.archive] = _open_archive(model.archive)
        try:
            mesh = load_mesh(model, self._archives[model.archive])
        except MeshError as error:
            self._broken[model.id] = str(error)
            raise
        self._meshes[model.id] = mesh
        self._bytes += mesh.nbytes
        while self._bytes > self._max_bytes and len(self._meshes) > 1:
            self._bytes -= self._meshes.popitem(last=False)[1].nbytes
        return mesh
