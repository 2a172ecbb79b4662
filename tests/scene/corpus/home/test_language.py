"""Prompts name what is there, with numbers and relations that masks and plan bear out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scene.corpus.claims import false_claims
from scene.corpus.home.language import Prompt, Seen, false_statements, home_prompts
from scene.corpus.home.plan import Camera, Material, Placed, ScenePlan, Surface
from scene.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    "toy",
    {
        "wall": {"kind": "surface"},
        "floor": {"kind": "surface"},
        "table": {"kind": "furniture"},
        "lamp": {"kind": "lighting", "synonyms": ["light", "lights"]},
        "chair": {"kind": "furniture", "synonyms": ["seat"]},
        "shoes": {"kind": "clothing", "plural_only": True},
    },
)
SHAPE = (100, 200)


def _mask(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


# A table with a lamp on it, two green chairs to its right, shoes in front.
OBJECTS = (
    Placed("m1", "table", "a brown table", (-0.5, 0, 0), 0),
    Placed("m2", "lamp", "a red lamp", (-0.5, 0, 0.8), 0, support="object", supporter=0),
    Placed("m3", "chair", "a green chair with arms", (2.0, 0, 0), 0),
    Placed("m3", "chair", "a green chair with arms", (3.0, 0, 0), 0),
    Placed("m4", "shoes", "black shoes", (-0.5, -1.5, 0), 0),
)
MASKS = (
    _mask(20, 50, 80, 80),
    _mask(45, 30, 55, 52),
    _mask(110, 45, 130, 80),
    _mask(140, 45, 160, 80),
    _mask(40, 85, 55, 90),
)
SIZES = ((1.2, 0.8, 0.8), (0.2, 0.2, 0.5), (0.5, 0.5, 0.9), (0.5, 0.5, 0.9), (0.3, 0.3, 0.1))
SURFACES = (("wall", _mask(0, 0, 200, 60)), ("floor", _mask(0, 60, 200, 100)))


def _plan(id: str = "scene-1") -> ScenePlan:
    surfaces = tuple(Surface(label, f"a white {label}", Material("paint", ((255, 255, 255),))) for label, _ in SURFACES)
    return ScenePlan(
        id, "room/toy", "train", Camera((0, -4, 1.5), (0, 0, 1), 55), surfaces, OBJECTS, facts=("a den", "at noon")
    )


def _seen() -> list[Seen]:
    return [Seen(i, mask, size) for i, (mask, size) in enumerate(zip(MASKS, SIZES, strict=True))]


def _many(count: int = 60) -> list[Prompt]:
    return [prompt for n in range(count) for prompt in home_prompts(_plan(f"s{n}"), _seen(), SURFACES, VOCABULARY)]


LABELS = [label for label, _ in SURFACES] + [placed.label for placed in OBJECTS]
LAYER_MASKS = [mask for _, mask in SURFACES] + list(MASKS)


def test_the_same_scene_gives_the_same_prompts() -> None:
    prompts = home_prompts(_plan(), _seen(), SURFACES, VOCABULARY)
    assert prompts == home_prompts(_plan(), _seen(), SURFACES, VOCABULARY)
    assert prompts != home_prompts(_plan("scene-2"), _seen(), SURFACES, VOCABULARY)
    assert len(prompts) >= 4


def test_no_prompt_says_anything_false() -> None:
    prompts = _many()
    assert false_statements(prompts, LABELS, LAYER_MASKS) == []
    for prompt in prompts:
        assert false_claims(prompt.text, VOCABULARY, LABELS, LAYER_MASKS) == [], prompt.text


def test_words_vary() -> None:
    text = " ".join(prompt.text for prompt in _many())
    for phrase in (
        "a red lamp",
        "two green chairs with arms",
        "two chairs",
        "a den",
        "at noon",
        "a light",
        "a white wall",
    ):
        assert phrase in text, phrase
    assert "lights" not in text  # a plural synonym takes no article
    assert "two shoes" not in text and "a black shoes" not in text


def test_relations_come_from_plan_and_picture() -> None:
    relations = {relation for prompt in _many() for relation in prompt.relations}
    assert ("lamp", "on", "table") in relations
    assert ("table", "on", "lamp") not in relations
    assert all("chair" not in (first, second) for first, _, second in relations)  # the two cannot be told apart


def test_things_far_apart_in_depth_are_not_next_to_each_other() -> None:
    """Two objects side by side in the picture, ten metres apart in the room."""
    objects = (OBJECTS[0], replace(OBJECTS[2], position=(0.8, 10.0, 0.0)), OBJECTS[4])
    plan = replace(_plan(), objects=objects)
    seen = [Seen(0, _mask(20, 50, 80, 80), SIZES[0]), Seen(1, _mask(85, 45, 105, 80), SIZES[2])]

    def claimed(plan: ScenePlan) -> set[str]:
        prompts = [p for n in range(40) for p in home_prompts(replace(plan, id=str(n)), seen, SURFACES, VOCABULARY)]
        return {relation for prompt in prompts for _, relation, _ in prompt.relations}

    assert "next to" not in claimed(plan)
    near = (objects[0], replace(objects[1], position=(0.6, 0.0, 0.0)), objects[2])
    assert "next to" in claimed(replace(plan, objects=near))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt("three chairs", (("chair", 3),)), "counts 3 x chair, the scene has 2"),
        (Prompt("a chair", (("chair", 1),)), "counts 1 x chair, the scene has 2"),
        (Prompt("a table on a lamp", (), (("table", "on", "lamp"),)), "no table is on a lamp"),
        (Prompt("a chair left of a table", (), (("chair", "left of", "table"),)), "no chair is left of a table"),
    ],
)
def test_false_claims_are_found(prompt: Prompt, message: str) -> None:
    assert any(message in line for line in false_statements([prompt], LABELS, LAYER_MASKS))
