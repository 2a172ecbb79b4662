"""Reading of models: frames, sizes, polygons, textures, and files that are broken in every way we could think of."""

from __future__ import annotations

import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_library import CUBE_VERTICES, cube, library, model, png

from scene.corpus.home import meshes, wavefront
from scene.corpus.home.meshes import Mesh, MeshCache, MeshError, load_mesh
from scene.corpus.home.textures import albedo
from scene.corpus.home.wavefront import parse_mtl, parse_obj, smooth_normals

PICTURE = np.zeros((8, 8, 3), np.uint8)
PICTURE[:4, :, 0], PICTURE[4:, :, 2] = 255, 255  # red above blue


def _load(path: Path, obj: str | bytes, files: dict[str, bytes] | None = None, **kwargs: object) -> Mesh:
    return load_mesh(model(library(path / "toys.sh3f", {"toy": obj}, files), **kwargs))


def _areas(mesh: Mesh) -> np.ndarray:
    a, b, c = (mesh.vertices[mesh.faces[:, i]].astype(float) for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def test_a_model_is_stretched_to_its_real_size_and_stands_on_the_floor(tmp_path: Path) -> None:
    mesh = _load(tmp_path, cube(), size_m=(0.6, 0.4, 1.1))
    assert mesh.vertices.min(0) == pytest.approx((-0.3, -0.2, 0.0), abs=1e-6)
    assert mesh.vertices.max(0) == pytest.approx((0.3, 0.2, 1.1), abs=1e-6)
    assert len(mesh.faces) == 12
    assert _areas(mesh).sum() == pytest.approx(2 * (0.6 * 0.4 + 0.6 * 1.1 + 0.4 * 1.1), rel=1e-5)


def test_the_front_of_an_obj_faces_the_camera(tmp_path: Path) -> None:
    arrow = "v 0 0 3\nv -1 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\nf 1 4 3\nf 1 3 2\n"  # its tip at +z, the library's front
    assert _load(tmp_path, arrow).vertices[0] == pytest.approx((0, -0.5, 0), abs=1e-6)


def test_rotation_comes_before_the_stretch(tmp_path: Path) -> None:
    lying = "v 0 0 0\nv 9 0 0\nv 0 1 0\nv 0 0 2\nf 1 2 3\nf 1 3 4\nf 1 4 2\n"
    mesh = _load(tmp_path, lying, rotation="0 -1 0 1 0 0 0 0 1", size_m=(1, 2, 9))  # x becomes y: it stands up
    assert mesh.vertices[1, 2] == pytest.approx(9.0)


@pytest.mark.parametrize("corner", ["{v}", "{v}/1", "{v}//1", "{v}/1/1", "-{w}", "-{w}/-1/-1"])
def test_every_way_to_write_a_corner(corner: str) -> None:
    obj = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0.25 0.75\nvn 0 0 1\nf "
    geometry = parse_obj((obj + " ".join(corner.format(v=v, w=4 - v) for v in (1, 2, 3))).encode())
    assert geometry.faces.tolist() == [[0, 1, 2]]
    has_uv, has_normal = corner.count("/") >= 1 and "//" not in corner, corner.count("/") == 2
    assert geometry.uvs[0, 0].tolist() == ([0.25, 0.75] if has_uv else [0, 0])
    assert geometry.normals[0, 0].tolist() == ([0, 0, 1] if has_normal else [0, 0, 0])


@given(st.lists(st.floats(0.2, 1.0), min_size=4, max_size=14), st.sampled_from(["xy", "yz", "xz"]))
def test_concave_polygons_keep_their_area(radii: list[float], plane: str) -> None:
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    star = np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)  # seen from its middle: never crosses itself
    points = np.zeros((len(star), 3))
    points[:, ["xyz".index(axis) for axis in plane]] = star
    obj = (
        "".join(f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in points)
        + "f "
        + " ".join(str(i + 1) for i in range(len(star)))
    )
    geometry = parse_obj(obj.encode())
    a, b, c = (geometry.vertices[geometry.faces[:, i]] for i in range(3))
    x, y = star.T
    area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    assert (np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2).sum() == pytest.approx(area, rel=1e-5)


def test_normals_are_smooth_within_a_group_and_sharp_at_edges() -> None:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn), np.zeros(24)], 1)
    vertices, low = np.concatenate([ring, ring + np.array((0, 0, 1))]), np.arange(24)
    high, after = low + 24, (low + 1) % 24
    side = np.concatenate([np.stack([low, after, after + 24], 1), np.stack([low, after + 24, high], 1)])
    lid = np.stack([np.full(22, 24), 24 + np.arange(1, 23), 24 + np.arange(2, 24)], 1)
    faces = np.concatenate([side, lid])
    normals = smooth_normals(vertices, faces, np.ones(len(faces), int))
    assert normals[: len(side)] == pytest.approx((vertices * (1, 1, 0))[side], abs=0.08)  # straight outwards
    assert normals[len(side) :, :, 2] == pytest.approx(1.0)
    assert smooth_normals(vertices, faces, np.zeros(len(faces), int))[0].std(0).max() == 0  # flat


def test_the_back_of_a_two_sided_face_is_dropped(tmp_path: Path) -> None:
    text = cube()
    backs = "".join("f " + " ".join(reversed(line.split()[1:])) + "\n" for line in text.splitlines() if line[0] == "f")
    assert len(_load(tmp_path, text + backs).faces) == 12


def test_textures_stand_upright_and_shrink_with_distance(tmp_path: Path) -> None:
    mesh = _load(tmp_path, cube("picture", uvs=True), {"toy/picture.png": png(PICTURE)})
    material, uv = np.full(3, mesh.material[0]), np.array([[0.5, 0.9], [0.5, 0.1], [2.5, -3.1]], np.float32)
    near = albedo(mesh, mesh.colours, material, uv, np.ones(3, np.float32))
    assert near.tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0]]  # v runs upwards, textures repeat
    far = albedo(mesh, mesh.colours, material, uv, np.full(3, 64, np.float32))
    assert far == pytest.approx(np.tile([0.5, 0, 0.5], (3, 1)), abs=0.02)
    assert mesh.main_material is None and not mesh.see_through


def test_holes_of_a_texture_are_open(tmp_path: Path) -> None:
    picture = np.full((8, 8, 4), 255, np.uint8)
    picture[:, :4, 3] = 0
    mesh = _load(tmp_path, cube("picture", uvs=True), {"toy/picture.png": png(picture)})
    assert mesh.see_through
    bary = np.array([[1, 0, 0], [0, 1, 0]], np.float32) * 0.9 + 0.1 / 3
    first = np.flatnonzero((mesh.uvs[:, 0, 0] == 0) & (mesh.uvs[:, 1, 0] == 1))[:1]
    assert mesh.opacity_at(np.repeat(first, 2), bary).tolist() == [0, 1]


def test_a_missing_texture_costs_a_part_its_look_but_a_whole_model_its_place(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"texture picture\.png is missing"):
        _load(tmp_path, cube("picture", uvs=True))
    lines = cube("picture", uvs=True).splitlines()
    partly = "\n".join([*lines[:-3], "usemtl plain", *lines[-3:]])
    mesh = _load(tmp_path, partly)
    assert mesh.notes == ("texture picture.png is missing; plain colour instead",)


BROKEN = {
    "empty": (b"", "no faces"),
    "not OBJ": (bytes(range(256)) * 40, "no faces"),
    "corner out of range": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "lacks"),
    "corner zero": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", "lacks"),
    "corner beyond all integers": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 " + b"9" * 30 + b"\n", "cannot be read"),
    "corner of letters": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf a b c\n", "cannot be read"),
    "mixed corners": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2 3\n", "cannot be read"),
    "two numbers": (b"v 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "holds no 3 numbers"),
    "not a number": (b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "absurd number"),
    "a point": (b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "no extent"),
    "a line": (b"v 1 1 1\nv 2 1 1\nv 3 1 1\nf 1 2 3\n", "no extent"),
    "no such material file": (cube().replace("toy.mtl", "../../etc/passwd").encode(), "is missing"),
    "too large": (b"v 0 0 0\n" * 3 + b"f 1 2 3\n" * 300_001, "more than 300000 triangles"),
}


@pytest.mark.parametrize(("obj", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_models_give_one_line(tmp_path: Path, obj: bytes, reason: str) -> None:
    with pytest.raises(MeshError, match=reason) as caught:
        _load(tmp_path, obj)
    assert "\n" not in str(caught.value)


def test_broken_files_give_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    textured = cube("picture", uvs=True)
    with pytest.raises(MeshError, match=r"texture picture\.png cannot be read"):
        _load(tmp_path, textured, {"toy/picture.png": b"\x89PNG\r\n\x1a\n" + bytes(60)})
    with pytest.raises(MeshError, match="absurd size of 900 x 1 x 1 m"):
        _load(tmp_path, cube(), size_m=(900, 1, 1))
    monkeypatch.setattr(meshes, "MAX_TEXTURE_PIXELS", 63)
    with pytest.raises(MeshError, match="more than 63 pixels"):
        _load(tmp_path, textured, {"toy/picture.png": png(PICTURE)})
    monkeypatch.setattr(meshes, "MAX_OBJ_BYTES", 100)
    with pytest.raises(MeshError, match=r"toy\.obj is larger than"):
        _load(tmp_path, textured)


def test_a_damaged_member_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / "toys.sh3f"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy/toy.obj", cube() * 50)
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(MeshError, match=r"toy\.obj"):
        load_mesh(model(path))


def test_hostile_polygons_do_not_hang() -> None:
    rng = np.random.default_rng(0)
    tangle = "".join(f"v {x:.6f} {y:.6f} 0\n" for x, y in rng.normal(size=(300, 2)))
    faces = "".join("f " + " ".join(map(str, rng.permutation(300) + 1)) + "\n" for _ in range(100))
    started = time.process_time()
    assert len(parse_obj((tangle + faces).encode()).faces) == 298  # all have the same corners: one is kept
    assert time.process_time() - started < 10


OBJ_WORDS = st.sampled_from(
    "v vt vn f usemtl s mtllib o 1 2 3 -1 0 1/1 1//1 2/1/1 / // 0.5 nan 1e999 99999999999999999999 x ²".split()
)


@settings(max_examples=150)
@given(st.lists(st.lists(OBJ_WORDS, max_size=6), max_size=12))
def test_no_text_crashes_the_parser(lines: list[list[str]]) -> None:
    data = "\n".join(" ".join(words) for words in lines).encode("latin-1")
    parse_mtl(data)
    try:
        geometry = parse_obj(b"v 0 0 0\nv 1 0 0\nv 0 1 0\n" + data)
    except MeshError:
        return
    assert geometry.faces.min() >= 0 and geometry.faces.max() < len(geometry.vertices)
    assert np.isfinite(geometry.uvs).all() and np.isfinite(geometry.normals).all()


def test_material_files() -> None:
    found = parse_mtl(
        b"newmtl a b\nKd 2 0.5 0\nTr 0.25\nmap_Kd -s 2 2 1 -clamp on my picture.png\nnewmtl c\nKd x\nNs 1e9\n"
    )
    assert found["a b"].texture == "my picture.png" and found["a b"].opacity == 0.75
    assert found["a b"].colour == (1.0, 0.5, 0.0)
    assert found["c"] == replace(wavefront.MtlMaterial(), shininess=1000.0)


def test_the_cache_keeps_what_was_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = library(tmp_path / "toys.sh3f", {"a": cube(), "b": cube(), "c": cube(), "bad": "nothing"})
    read: list[str] = []

    def counting(entry: object, archive: object) -> Mesh:
        read.append(entry.name)  # type: ignore[attr-defined]
        return load_mesh(entry, archive)  # type: ignore[arg-type]

    cache = MeshCache(max_bytes=2 * load_mesh(model(path, "a")).nbytes)
    monkeypatch.setattr(meshes, "load_mesh", counting)
    for name in ("a", "b", "a", "c", "a", "b"):
        cache.get(model(path, name))
    assert read == ["a", "b", "c", "b"]  # b was the one unused for longest when c came
    for _ in range(2):
        with pytest.raises(MeshError, match="no faces"):
            cache.get(model(path, "bad"))
    assert read.count("bad") == 1


def test_a_cube_knows_what_a_tint_would_recolour(tmp_path: Path) -> None:
    mesh = _load(tmp_path, cube())
    assert mesh.main_material == int(mesh.material[0])
    assert _load(tmp_path, cube("glass")).main_material is None
    assert len(CUBE_VERTICES) == 8 and mesh.normals[..., 0].max() == pytest.approx(1)
