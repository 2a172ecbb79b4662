"""Shared fixtures: where the real data lies (tests that need it skip without it), and a tiny corpus made of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def codraw_dir() -> Path:
    """The CoDraw folder, or skip."""
    folder = Path(os.environ.get("SMARTSCENE_DATA") or ROOT.parent / "shared" / "data") / "codraw"
    if not (folder / "Pngs").is_dir():
        pytest.skip(f"no CoDraw data in {folder} (set SMARTSCENE_DATA)")
    return folder


def _sample(name: str) -> Path:
    folder = Path(os.environ.get("SMARTSCENE_DATA") or ROOT.parent / "shared" / "data") / name
    if not folder.is_dir():
        pytest.skip(f"no {folder} (set SMARTSCENE_DATA)")
    return folder


@pytest.fixture(scope="session")
def coco_panoptic_dir() -> Path:
    """The COCO panoptic sample, or skip."""
    return _sample("coco_panoptic_sample")


@pytest.fixture(scope="session")
def coco_dir() -> Path:
    """The COCO instances and captions sample, or skip."""
    return _sample("coco_sample")


@pytest.fixture(scope="session")
def cocoa_dir() -> Path:
    """The COCOA sample, or skip."""
    return _sample("cocoa_sample")


@pytest.fixture(scope="session")
def tiny_corpus(codraw_dir: Path, tmp_path_factory: pytest.TempPathFactory):
    """60 real CoDraw scenes, imported once per test session."""
    import json
    import lzma

    from scene.corpus.codraw import import_codraw

    folder = tmp_path_factory.mktemp("codraw")
    with lzma.open(codraw_dir / "CoDraw_1_0.json.xz") as file:
        whole = json.load(file)
    by_id = sorted(whole["data"].items(), key=lambda item: int(item[1]["image_id"]))
    some = dict([*by_id[:20], *[e for e in by_id if (int(e[1]["image_id"]) // 10) % 10 in (7, 8)][:40]])
    (folder / "CoDraw_tiny.json").write_text(json.dumps({"data": some}))
    (folder / "Pngs").symlink_to(codraw_dir / "Pngs")
    return import_codraw(folder, folder / "park", ROOT / "configs" / "worlds" / "park.yaml")
