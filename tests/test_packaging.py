"""The built wheel works outside the checkout: packages, configs, weights and licences are inside."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("scene", "runtime", "perception", "planner", "masker", "inpainter", "orchestrator")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("smartscene-*.whl"))


def test_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for room in ROOMS:
        assert f"{room}/__init__.py" in names
    assert "smartscene_assets/configs/compose/park.yaml" in names
    assert "smartscene_assets/configs/worlds/park.yaml" in names
    assert {"orchestrator/studio/static/index.html", "orchestrator/studio/static/main.js"} <= set(names)
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    for room in ("planner", "masker", "inpainter"):
        folder = f"smartscene_assets/pretrained/park/{room}/"
        assert {folder + "README.md", folder + "LICENSE"} <= set(names)
        assert any(name.startswith(folder) and name.endswith(".safetensors") for name in names)
    judge = "smartscene_assets/pretrained/judge/"
    assert {judge + name for name in ("README.md", "LICENSE", "judge.json", "judge.safetensors")} <= set(names)
    assert "smartscene_assets/configs/judge/silhouettes.yaml" in names
    assert not any(name.startswith(("tests/", "runs/", "docs/")) for name in names)


def test_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import runtime.assets as w, orchestrator.config as c\n"
        "assert str(w.pretrained_dir('park')).startswith(sys.argv[1]), w.pretrained_dir('park')\n"
        "assert c.load_preset('park').world == 'park'\n"
        "from orchestrator.cli import run_cli\n"
        "sys.exit(run_cli(['generate', 'a boy', '--preset', 'nope']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(site)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip() == "smartscene: unknown preset 'nope'; there are: home, park, sd15, sdxl, zimage"
