import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.grammar import LINKS
from planner.links import leaves_room, moved_to_hold, prompt_links, sides_to_come, stands, true_link
from scene.geometry import Box, Size
from scene.relations import box_relations
from tests.planner.conftest import SIZE

CANVAS = Size(640, 512)


def mask(x0, y0, x1, y1):
    found = np.zeros(SIZE.shape, dtype=bool)
    found[y0:y1, x0:x1] = True
    return found


def test_what_carries_comes_before_what_is_near():
    table, wall, lamp = mask(20, 100, 200, 200), mask(0, 0, 320, 256), mask(40, 40, 60, 140)
    beside = mask(62, 40, 100, 110)
    labels = ["wall", "table", "cat", "lamp"]
    assert true_link(labels, [wall, table, beside, lamp], {"wall"}) == ("on", "table")
    assert true_link(["wall", "lamp"], [wall, lamp], {"wall"}) is None


def test_what_the_prompt_claims_is_said_when_true():
    sofa, cat = mask(150, 100, 250, 200), mask(20, 150, 60, 190)
    assert true_link(["sofa", "cat"], [sofa, cat], set(), [("left of", "sofa")]) == ("left of", "sofa")
    assert true_link(["sofa", "cat"], [sofa, cat], set(), [("right of", "sofa")]) == ("left of", "sofa")


def test_prompts_link_both_ways(vocabulary):
    links = prompt_links("a dog left of a boy", vocabulary)
    assert links == {"dog": [("left of", "boy")], "boy": [("right of", "dog")]}


BOXES = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h),
    st.integers(150, 350), st.integers(150, 250), st.integers(20, 120), st.integers(20, 120),
)  # fmt: skip


@given(st.sampled_from(LINKS), BOXES, BOXES)
def test_moved_boxes_hold_and_stay_on_the_canvas(link, box, other):
    moved = moved_to_hold(link, box, other, CANVAS)
    assert stands(link, moved, other)
    assert 0 <= moved.x0 < moved.x1 <= 640
    assert 0 <= moved.y0 < moved.y1 <= 512
    if link in ("left of", "right of", "above", "below", "next to"):
        assert link in box_relations(moved, other)


@pytest.mark.parametrize("link", LINKS)
def test_a_box_that_holds_is_left_alone(link):
    other = Box(200, 200, 300, 300)
    moved = moved_to_hold(link, Box(10, 10, 60, 60), other, CANVAS)
    assert moved_to_hold(link, moved, other, CANVAS) == moved


def test_room_is_left_for_what_is_to_come():
    links = [("right of", "basket"), ("on", "rug"), ("above", "chest")]
    assert sides_to_come(links, {"rug", "chest"}) == ["left of"]
    assert sides_to_come(links, set()) == ["left of", "below"]
    box = Box(20, 10, 200, 100)
    assert not leaves_room(box, "left of", CANVAS)
    assert leaves_room(box._replace(x0=150), "left of", CANVAS)
    assert leaves_room(box, "right of", CANVAS)
    assert not leaves_room(box, "above", CANVAS)
