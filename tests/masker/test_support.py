"""What things rest on, how large they are, and what they may overlap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from masker.contact import EDGE, lower_contact, overlaps, upper_contact
from masker.support import SupportStatistics
from scene.corpus.records import LayerRecord
from scene.corpus.store import Corpus, CorpusWriter
from scene.errors import UserError
from scene.geometry import Size
from scene.layout import SemanticLayout, f_layer
from scene.vocabulary import Vocabulary

SIZE = Size(320, 256)
LABELS = {
    "wall": {"kind": "surface"},
    "ceiling": {"kind": "surface"},
    "floor": {"kind": "surface"},
    "table": {"kind": "furniture"},
    "chair": {"kind": "furniture"},
    "vase": {"kind": "object"},
    "mug": {"kind": "object"},
    "picture": {"kind": "art"},
    "lamp": {"kind": "light"},
}
SHAPES = {"wall": (256, 320), "ceiling": (30, 320), "floor": (96, 320), "table": (60, 90), "chair": (50, 30),
          "vase": (20, 10), "picture": (30, 40), "lamp": (40, 20)}  # fmt: skip


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Rooms with a table on the floor, a vase on it, a chair, a picture on the wall and a lamp from the ceiling."""
    writer = CorpusWriter(
        tmp_path_factory.mktemp("room"), name="room", licence="CC0", size=SIZE, vocabulary=Vocabulary("room", LABELS)
    )
    numbers = {
        label: writer.add_asset(np.full((*shape, 4), 255, np.uint8), label=label, description=label, source=label)
        for label, shape in SHAPES.items()
    }
    rng = np.random.default_rng(3)
    for i in range(60):
        x, y = int(rng.integers(10, 110)), int(rng.integers(130, 180))
        places = [("wall", 0, 0), ("ceiling", 0, 0), ("floor", 0, 160), ("picture", int(rng.integers(9, 270)), 60),
                  ("lamp", int(rng.integers(9, 290)), 26), ("table", x, y),
                  ("vase", x + int(rng.integers(0, 80)), y - 10),
                  ("chair", int(rng.integers(210, 280)), int(rng.integers(130, 190)))]  # fmt: skip
        layers = [LayerRecord(label, label, numbers[label], x, y) for label, x, y in places]
        writer.add_scene(f"s{i}", i, "val" if i % 6 == 5 else "train", layers, ["a room"], [])
    return writer.finish()


@pytest.fixture(scope="module")
def statistics(room: Corpus) -> SupportStatistics:
    return SupportStatistics.from_corpora([room])


def _rect(x: int, y: int, label: str) -> np.ndarray:
    mask = np.zeros(SIZE.shape, bool)
    height, width = SHAPES[label]
    mask[y : y + height, x : x + width] = True
    return mask


@pytest.fixture
def layout() -> SemanticLayout:
    """A room with a table at (50, 150)."""
    masks = [_rect(0, 0, "wall"), _rect(0, 0, "ceiling"), _rect(0, 160, "floor"), _rect(50, 150, "table")]
    return f_layer(masks, ["wall", "ceiling", "floor", "table"], SIZE)


def test_contacts_are_read_at_both_ends(layout: SemanticLayout) -> None:
    assert list(lower_contact(_rect(200, 150, "chair"), layout)) == [2]
    assert list(lower_contact(_rect(60, 140, "vase"), layout)) == [3]
    assert lower_contact(_rect(200, 206, "chair"), layout) == {}
    assert set(upper_contact(_rect(200, 26, "lamp"), layout)) == {1}


def test_a_lower_contact_takes_only_the_columns_that_touch_down(layout: SemanticLayout) -> None:
    mask = _rect(180, 120, "table")  # its top reaches over the wall, its only leg stands on the floor
    mask[130:180, 180:265] = False
    assert list(lower_contact(mask, layout)) == [2]


def test_overlaps_tell_buried_from_in_front(layout: SemanticLayout) -> None:
    behind, before = _rect(60, 140, "chair"), _rect(60, 175, "chair")  # the table's base is at 210
    table = {found.position: found for found in overlaps(behind, layout)}[3]
    assert table.buried == pytest.approx(40 / 50)
    assert table.covered == pytest.approx(40 * 30 / (60 * 90))
    assert {found.position: found for found in overlaps(before, layout)}[3].buried == 0


@pytest.mark.parametrize(
    ("label", "x", "y", "right"),
    [
        ("chair", 200, 150, True),
        ("chair", 200, 60, False),  # floats before the wall
        ("chair", 200, 206, False),  # cut off at the bottom, which never happens to chairs here
        ("vase", 60, 140, True),
        ("vase", 200, 200, False),  # on the floor
        ("vase", 60, 185, False),  # before the table's side, not on its top
        ("picture", 200, 60, True),
        ("picture", 200, 190, False),
        ("lamp", 100, 26, True),
        ("lamp", 100, 80, False),  # hangs from nothing
    ],
)
def test_right_and_wrong_places(
    statistics: SupportStatistics, layout: SemanticLayout, label: str, x: int, y: int, right: bool
) -> None:
    assert statistics.is_right(label, _rect(x, y, label), layout) is right


def test_held_out_scenes_are_right_and_moved_ones_are_not(statistics: SupportStatistics, room: Corpus) -> None:
    real, moved = [], []
    for record in room.records("val"):
        for k, layer in enumerate(record.layers):
            if LABELS[layer.label]["kind"] != "surface":
                below = room.layout(record, k)
                real.append(statistics.is_right(layer.label, room.mask(layer), below))
                moved.append(statistics.is_right(layer.label, np.roll(room.mask(layer), 100, axis=0), below))
    assert np.mean(real) >= 0.95
    assert np.mean(moved) <= 0.4


def test_support_names_relation_and_supporter(statistics: SupportStatistics, layout: SemanticLayout) -> None:
    vase = statistics.support("vase", _rect(60, 140, "vase"), layout)
    assert (vase.relation, vase.supporter, vase.share) == ("on", "table", 1.0)
    assert statistics.support("lamp", _rect(100, 26, "lamp"), layout).relation == "from"
    assert statistics.support("chair", _rect(200, 206, "chair"), layout).supporter == EDGE


def test_unseen_labels_follow_their_kind(statistics: SupportStatistics, layout: SemanticLayout) -> None:
    assert statistics.is_right("mug", _rect(60, 140, "vase"), layout)
    assert not statistics.is_right("mug", _rect(200, 60, "vase"), layout)
    assert statistics.size_habit("mug") == statistics.size_habit("vase")
    statistics.is_right("unheard of", _rect(60, 140, "vase"), layout)


def test_sizes(statistics: SupportStatistics) -> None:
    usual = _rect(200, 150, "chair")
    double = np.zeros(SIZE.shape, bool)
    double[100:200, 200:260] = True
    assert statistics.size_ratio("chair", usual) == pytest.approx(1, abs=0.05)
    assert statistics.size_ratio("chair", double) == pytest.approx(2, rel=0.1)
    assert statistics.size_deviation("chair", usual) < 0.5 < 3 < statistics.size_deviation("chair", double)


def test_impossible_overlap(statistics: SupportStatistics, layout: SemanticLayout) -> None:
    assert statistics.impossible_overlap("chair", _rect(220, 150, "chair"), layout) == 0
    assert statistics.impossible_overlap("chair", _rect(60, 150, "chair"), layout) > 0.3
    hidden = np.zeros(SIZE.shape, bool)
    hidden[140:240, 40:150] = True
    assert statistics.impossible_overlap("chair", hidden, layout) > 0.3


def test_statistics_survive_a_file(statistics: SupportStatistics, room: Corpus, tmp_path: Path) -> None:
    statistics.save(tmp_path / "statistics.json")
    read = SupportStatistics.load(tmp_path / "statistics.json")
    assert read.to_json() == statistics.to_json()
    assert read.are_of([room])
    assert not read.are_of([room], scenes=10)
    (tmp_path / "statistics.json").write_text('{"schema_version": 99}')
    with pytest.raises(UserError, match="schema 99"):
        SupportStatistics.load(tmp_path / "statistics.json")
