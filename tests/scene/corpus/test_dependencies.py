"""Fetching, unpacking and checking of pinned packages, on small made-up archives."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from scene.corpus.dependencies import Package, fetch, find_dependencies
from scene.errors import UserError


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _deb(data: bytes) -> bytes:
    parts = [b"!<arch>\n"]
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar.gz", b"odd"), ("data.tar.gz", data)):
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{0:<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def _package(archive: str, content: bytes, sizes: dict[str, int]) -> Package:
    digest = hashlib.sha256(content).hexdigest()
    return Package(archive, digest, ("no-such-client-here", "get"), "http://example.org/it", "things", sizes)


@pytest.mark.parametrize("suffix", ["deb", "tgz"])
def test_unpacks_only_what_is_wanted_and_once(tmp_path: Path, suffix: str) -> None:
    data = _tar({"usr/share/a.bin": b"abc", "usr/share/unwanted.bin": b"x"})
    content = _deb(data) if suffix == "deb" else data
    package = _package(f"p.{suffix}", content, {"a.bin": 3})
    (tmp_path / f"p.{suffix}").write_bytes(content)
    fetch(tmp_path, [package])
    assert [path.name for path in (tmp_path / "things").iterdir()] == ["a.bin"]
    assert find_dependencies(tmp_path, [package]).icons == tmp_path / "iconify"
    fetch(tmp_path, [package])  # complete: needs neither archive nor client


def test_remedies_are_named(tmp_path: Path) -> None:
    content = _tar({"a.bin": b"abc"})
    package = _package("p.tgz", content, {"a.bin": 3})
    with pytest.raises(UserError, match="make data-deps"):
        find_dependencies(tmp_path, [package])
    with pytest.raises(UserError, match=r"is not installed here; download http://example\.org/it"):
        fetch(tmp_path, [package])
    (tmp_path / "p.tgz").write_bytes(content + b"!")
    with pytest.raises(UserError, match="sha256 differs"):
        fetch(tmp_path, [package])
    (tmp_path / "p.tgz").write_bytes(content)
    with pytest.raises(UserError, match=r"no a\.bin of the pinned size"):
        fetch(tmp_path, [replace(package, sizes={"a.bin": 4})])
