import random

import numpy as np
import pytest
import torch

from planner.grammar import Answer
from planner.listener import HEARD, SPAN, colour_codes, heard, mirrored, said_about, shown
from planner.places import PlaceConfig, PlaceHead, Sought
from planner.places_train import misheard, unit_box
from runtime.seeding import torch_generator
from scene.layout import label_colour
from scene.vocabulary import Vocabulary
from tests.planner.conftest import ENTRIES, SIZE
from tests.planner.test_places import picture, taught, words

HEARING = PlaceConfig(resolution=16, fold=4, widths=(16, 16), vector=16, size_bins=8, said=True, hidden=16, heads=2)
TEXTS = ("on the left is a dog", "on the right is a dog")


def vocabulary() -> Vocabulary:
    return Vocabulary("tiny", ENTRIES)


def test_what_is_said_is_found_round_the_last_mention():
    before, after = said_about("a dog? No: a boy. A small Dog in the upper left corner, ok", "dog", vocabulary())
    assert before == ("a", "<dog>", "no", "a", "<boy>", "a", "small")
    assert after == ("in", "the", "upper", "left", "corner", "ok")
    assert said_about("a boy", "dog", vocabulary()) == ((), ())
    long = said_about("very " * 80 + "small dog " + "here " * 80, "dog", vocabulary())
    assert (len(long[0]), len(long[1]), long[0][-1]) == (HEARD, HEARD, "small")


def test_names_bring_the_boxes_that_the_picture_shows():
    said = said_about("to the left of the apple tree is a dog, the boy looks at it", "dog", vocabulary())
    numbers, seen = heard(["dog"], [said], [colour_codes(picture(80))])
    assert numbers.shape == (1, SPAN)
    assert numbers[0, HEARD] != heard(["boy"], [said], [colour_codes(picture(80))])[0][0, HEARD] > 0
    (tree,) = seen[0, :, 0].nonzero()[:, 0].tolist()
    assert tree == HEARD - 3
    height, width = SIZE.shape
    np.testing.assert_allclose(
        seen[0, tree], [1, 2 * 100 / width - 1, 2 * 140 / height - 1, 40 / width, 40 / height], rtol=1e-6
    )
    turned, there = heard(["dog"], [mirrored(said)], [colour_codes(picture(80)[:, ::-1])])
    assert there[0, tree, 1] == pytest.approx(-float(seen[0, tree, 1]))
    assert (turned != numbers).sum() == 1
    assert shown(colour_codes(picture(80)), "apple tree").sum() == 1600


def test_words_may_be_missed_but_no_names():
    said = said_about("to the left of the apple tree is a dog", "dog", vocabulary())
    rng = random.Random(1)
    heard_of = [misheard(said, 0.5, rng)[0] for _ in range(20)]
    assert all("<apple tree>" in each for each in heard_of)
    assert len({len(each) for each in heard_of}) > 2


def test_a_head_learns_where_left_is():
    torch.manual_seed(0)
    blank = np.full((*SIZE.shape, 3), 255, dtype=np.uint8)
    sought = [
        Sought(blank, Answer(label="dog", cells=cells), said_about(text, "dog", vocabulary()))
        for text, cells in zip(TEXTS, ((5, 50, 19, 69), (80, 50, 94, 69)), strict=True)
    ]
    head, texts = PlaceHead(HEARING, words().width), words()
    boxes = torch.tensor([unit_box(each.answer.cells) for each in sought])
    placer = taught(head, texts, sought, boxes)
    left, right = (placer.box(each, SIZE, torch_generator(1), 0.5) for each in sought)
    assert left.center[0] < SIZE.width / 3
    assert right.center[0] > 2 * SIZE.width / 3
    assert (blank == label_colour("dog")).all(axis=2).sum() == 0
