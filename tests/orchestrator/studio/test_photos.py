"""A photograph as the starting scene, through the API."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.orchestrator.studio.client import Client


def sent(client: Client, picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, lossless=True) if kind == "WEBP" else picture.save(buffer, format=kind)
    headers = {**client.bearer, "Content-Type": f"image/{kind.lower()}"}
    answer = client.send("POST", "/api/uploads", buffer.getvalue(), headers)
    assert answer.status == 200, answer.body
    return str(answer.json["upload"])


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 255, (192, 256, 3), dtype=np.uint8)


def begun(client: Client, photo: np.ndarray, kind: str = "PNG", **more: Any) -> str:
    data = {"photo": sent(client, Image.fromarray(photo), kind), "preset": "park", **more}
    answer = client.call("POST", "/api/photos", data)
    assert answer.status == 202, answer.body
    return str(answer.json["run"])


def pixels(client: Client, address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(client.call("GET", address).body)))


def test_an_object_is_put_into_a_photo(studio: Client, photo: np.ndarray) -> None:
    run = begun(studio, photo, "WEBP", caption="a park")
    state = studio.settled(run)
    assert (state["size"], state["proposal"], state["layers"], state["prompt"]) == ([256, 192], None, [], "a park")
    assert np.array_equal(pixels(studio, state["picture"])[..., :3], photo)
    studio.do(run, do="add", words="a brown dog", box=[40, 50, 120, 150])
    state = studio.do(run, do="accept")
    full = pixels(studio, state["full"])[..., :3]
    changed = (full != photo).any(axis=2)
    assert changed[60:140, 50:110].mean() > 0.9
    changed[50:150, 40:120] = False
    assert not changed.any()


def test_parts_of_the_photo_are_layers(studio: Client, photo: np.ndarray) -> None:
    ids = np.zeros((192, 256, 3), np.uint8)
    ids[..., 0] = np.where(np.arange(192)[:, None] < 90, 1, 2)
    segments = {
        "annotations": [
            {
                "image_id": 1,
                "file_name": "map.png",
                "segments_info": [
                    {"id": 1, "category_id": 10, "area": 90 * 256, "bbox": [0, 0, 256, 90], "iscrowd": 0},
                    {"id": 2, "category_id": 11, "area": 102 * 256, "bbox": [0, 90, 256, 102], "iscrowd": 0},
                ],
            }
        ],
        "categories": [
            {"id": 10, "name": "sky-other-merged", "isthing": 0},
            {"id": 11, "name": "grass-merged", "isthing": 0},
        ],
    }
    run = begun(studio, photo, panoptic=sent(studio, Image.fromarray(ids), "PNG"), segments=segments)
    state = studio.settled(run)
    assert state["error"] is None and len(state["layers"]) == 2 and state["parts"] == [1, 2]
    for layer in state["layers"]:
        part, mask = pixels(studio, layer["pixels"]), pixels(studio, layer["mask"]) > 0
        assert np.array_equal(part[..., 3] > 0, mask) and np.array_equal(part[..., :3][mask], photo[mask])
    answer = studio.call("POST", f"/api/runs/{run}/layers/1/edit", {"delete": True})
    assert answer.status == 202 and "part of the photo" in studio.settled(run)["error"]["message"]


@pytest.mark.parametrize("name", ["photo", "../run", "mask-1", "segments", "part-99"])
def test_nothing_else_of_the_photo_is_served(studio: Client, photo: np.ndarray, name: str) -> None:
    run = begun(studio, photo, caption="a park")
    studio.settled(run)
    assert studio.call("GET", f"/api/runs/{run}/photo/{name}.png").status == 404


def test_a_map_that_does_not_fit_is_told(studio: Client, photo: np.ndarray) -> None:
    data = {
        "photo": sent(studio, Image.fromarray(photo), "PNG"),
        "panoptic": sent(studio, Image.fromarray(photo[:50, :50]), "PNG"),
        "segments": {},
    }
    answer = studio.call("POST", "/api/photos", data)
    assert answer.status == 400 and str(studio.runs) not in answer.body.decode() and "/tmp" not in answer.body.decode()
