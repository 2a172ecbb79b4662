import random

import numpy as np
import pytest
import torch

from planner.examples import (
    PlanSource,
    choose_steps,
    fixed_descriptions,
    pack,
    plan_answers,
    usual_descriptions,
)
from planner.pictures import layer_cells, layout_steps, place_cells
from planner.vision_train import PlaceCode
from scene.geometry import Box
from scene.layout import layout_picture


def test_painted_steps_equal_the_layout_picture(corpus):
    for record in corpus.records("train"):
        steps = list(layout_steps(corpus, record.layers))
        assert len(steps) == len(record.layers) + 1
        for k, picture in enumerate(steps):
            np.testing.assert_array_equal(picture, layout_picture(corpus.layout(record, k)))


def test_plan_boxes_are_those_of_the_masks(corpus):
    source = PlanSource(corpus, "train")
    for record in source.records:
        plan = source.plan(record, record.prompts[0])
        for item, position in zip(plan.objects, plan.layers, strict=True):
            assert item.box == Box.from_mask(corpus.mask(record.layers[position]))


def test_every_scene_once_per_epoch(corpus):
    source = PlanSource(corpus, "train")
    count = len(source.records)
    for epoch in range(2):
        seen = {source.sampled(epoch * count + index, seed=3)[0].id for index in range(count)}
        assert len(seen) == count


def test_only_labels_with_one_description_are_fixed(corpus):
    fixed = fixed_descriptions(corpus)
    assert fixed["dog"] == "a brown dog"
    assert "boy" not in fixed


def test_usual_descriptions_are_ranked_by_how_often_they_occur():
    boys = ("a sad boy", "a glad boy", "a glad boy", "a big, bad boy")
    told = [("dog", "a dog"), *(("boy", text) for text in boys)]
    usual = usual_descriptions(told, {"dog": "a dog"})
    assert usual == {"boy": ("a glad boy", "a big bad boy", "a sad boy")}
    assert usual_descriptions(told, {}, most=1)["boy"] == ("a glad boy",)


def test_stop_is_about_a_seventh_of_the_branches():
    rng = random.Random(0)
    stops = sum(9 in choose_steps(9, 3, rng) for _ in range(2000))
    assert 0.12 < stops / 6000 < 0.20
    assert choose_steps(1, 5, rng) == [0, 1]


def test_packed_targets_are_the_answers_and_nothing_else(corpus, encoder):
    source = PlanSource(corpus, "train")
    record = source.records[0]
    answers = plan_answers(source.plan(record, record.prompts[0]), fixed_descriptions(corpus))
    packed = pack(encoder, "a prompt", answers, [1, 3], trunk_weight=0.0)
    said = packed.targets[packed.targets >= 0]
    assert said.tolist() == [*encoder.line(answers[1]), *encoder.line(answers[3])]
    both = pack(encoder, "a prompt", answers, [1, 3], trunk_weight=0.5, label_weight=2.0)
    text = [token for answer in answers for token in encoder.line(answer)]
    assert both.targets[both.targets >= 0].tolist() == [*text, *said]
    assert set(both.weights[both.targets >= 0].tolist()) == {0.5, 1.0, 2.0}
    assert not both.weights[both.targets < 0].any()


def test_a_branch_sees_its_own_part_of_the_trunk_only(corpus, encoder):
    source = PlanSource(corpus, "train")
    record = source.records[1]
    answers = plan_answers(source.plan(record, "x"), fixed_descriptions(corpus))
    packed = pack(encoder, "x", answers, [0, 2])
    assert not np.triu(packed.visible, 1).any()
    for row in range(len(packed.ids)):
        # Whatever a row sees counts 0, 1, 2, ... up to its own position: a plain sequence without gaps.
        assert sorted(packed.positions[packed.visible[row]]) == list(range(packed.positions[row] + 1))


def test_places_are_the_boxes_of_the_things_that_show(corpus):
    record = corpus.records("train")[0]
    surfaces = {label for label in corpus.labels if corpus.vocabulary.kind(label) == "surface"}
    places = place_cells(corpus, record.layers, layer_cells(corpus, record.layers, 5), surfaces)
    size = (corpus.size.width, corpus.size.height) * 2
    known = {
        tuple(np.float32(np.array(corpus.box(layer)) / size)) for layer in record.layers if layer.label not in surfaces
    }
    there = places[:, 0] >= 0
    assert there.any() and not there.all()
    assert {tuple(row) for row in places[there]} <= known
    assert (place_cells(corpus, (), layer_cells(corpus, (), 5), surfaces) == -1).all()
    for cell in np.flatnonzero(there):  # a thing lies in every cell that names it
        x, y = cell % 5, cell // 5
        x0, y0, x1, y1 = places[cell]
        assert x0 < (x + 1) / 5 and x1 > x / 5 and y0 < (y + 1) / 5 and y1 > y / 5


def test_place_codes_tell_boxes_apart_and_nothing_is_nowhere():
    code = PlaceCode(576, 2.8, seed=1)
    boxes = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    codes = code(boxes)
    assert codes.norm(dim=1).mean() == pytest.approx(2.8, rel=0.3)
    assert (torch.cdist(codes, codes) + 10 * torch.eye(50)).min() > 0.2
    assert code(torch.full((3, 4), -1.0)).abs().max() == 0
