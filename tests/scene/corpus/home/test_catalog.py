"""The index of a furniture library: units, escapes, and models that cannot be used."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from scene.corpus.home.catalog import INDEX, Catalog
from scene.errors import UserError

HEADER = "# a library\nname=Toys\nlicense=CC0   and some words on it\n"


def _block(number: int, **changes: str | None) -> str:
    keys = {
        "id": f"Toys#thing{number}",
        "name": f"Thing {number}",
        "category": "Toys",
        "model": f"/toys/thing{number}.obj",
        "width": "120",
        "depth": "50.5",
        "height": "80",
        **changes,
    }
    return "".join(f"{key}#{number}={value}\n" for key, value in keys.items() if value is not None)


def _library(folder: Path, index: str, name: str = "Toys.sh3f") -> None:
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(INDEX, index.encode("latin-1"))
        for number in range(1, 10):
            archive.writestr(f"toys/thing{number}.obj", "")


def test_sizes_become_metres_and_escapes_letters(tmp_path: Path) -> None:
    extra = {
        "name": r"Bill 10\u20ac",
        "elevation": "90",
        "dropOnTopElevation": "40",
        "doorOrWindow": "true",
        "tags": "Seat, Sofa",
        "creator": "nobody",
        "modelRotation": "1 0 0 0 0 1 0 -1 0",
    }
    _library(tmp_path, HEADER + _block(1, **extra))
    model = Catalog.open(tmp_path)["Toys#thing1"]
    assert (model.name, model.creator, model.licence) == ("Bill 10€", "nobody", "CC0")
    assert model.size_m == (1.2, 0.505, 0.8)
    assert (model.elevation_m, model.top_m, model.door_or_window) == (0.9, 0.4, True)
    assert model.tags == ("Seat", "Sofa")
    assert model.member == "toys/thing1.obj"
    assert model.rotation == (1, 0, 0, 0, 0, 1, 0, -1, 0)


def test_things_are_put_on_top_unless_the_library_forbids_it(tmp_path: Path) -> None:
    _library(tmp_path, HEADER + _block(1) + _block(2, dropOnTopElevation="-1"))
    catalog = Catalog.open(tmp_path)
    assert catalog["Toys#thing1"].top_m == 0.8
    assert catalog["Toys#thing2"].top_m is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": "99999"}, "999.99 m is absurd"),
        ({"height": "0"}, "absurd"),
        ({"depth": "nan"}, "absurd"),
        ({"depth": "wide"}, "could not convert"),
        ({"height": None}, "'height' is missing"),
        ({"model": "/toys/absent.obj"}, "absent.obj is not in Toys.sh3f"),
        ({"modelRotation": "1 0 0"}, "has 3 numbers"),
    ],
)
def test_a_bad_entry_is_skipped_with_a_reason(tmp_path: Path, changes: dict[str, str | None], reason: str) -> None:
    _library(tmp_path, HEADER + _block(1, **changes) + _block(2))
    catalog = Catalog.open(tmp_path)
    assert list(catalog.models) == ["Toys#thing2"]
    assert len(catalog.skipped) == 1
    assert re.search(reason, catalog.skipped[0])


def test_the_first_of_equal_ids_is_kept(tmp_path: Path) -> None:
    _library(tmp_path, HEADER + _block(1) + _block(2, id="Toys#thing1"))
    catalog = Catalog.open(tmp_path)
    assert catalog["Toys#thing1"].name == "Thing 1"
    assert catalog.skipped == ("Toys#thing1: occurs twice; the first is kept",)


def test_no_library_and_no_zip_are_the_users_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make data-deps"):
        Catalog.open(tmp_path)
    (tmp_path / "broken.sh3f").write_bytes(b"not a zip")
    with pytest.raises(UserError, match=r"broken.sh3f is no furniture library"):
        Catalog.open(tmp_path)


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    _library(tmp_path, HEADER + _block(1))
    with pytest.raises(UserError, match="Toys#sofa"):
        Catalog.open(tmp_path)["Toys#sofa"]
