"""Colours that a prompt asks for."""

import pytest

from scene.colours import asked_colours, plain_colour
from scene.vocabulary import Vocabulary

WORLD = Vocabulary(
    "tiny",
    {"sofa": {"kind": "furniture", "synonyms": ["couch"]}, "cat": {"kind": "animal"}, "cup": {"kind": "tableware"}},
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a crimson couch and a cat", {"sofa": ["red"]}),
        ("two cats, one sleek black cat and a white cat", {"cat": ["black", "white"]}),
        ("a black and white cat on a large dark green sofa", {"cat": ["black"], "sofa": ["green"]}),
        ("the sofa is bright orange and the cup should be grey", {"sofa": ["orange"], "cup": ["grey"]}),
        ("a cup, blue sofa", {"sofa": ["blue"]}),
        ("a sofa in navy", {"sofa": ["blue"]}),
        ("was the sofa mustard? paint the cup bottle-green", {"sofa": ["yellow"], "cup": ["green"]}),
        ("a cream-coloured cup and a cat", {"cup": ["cream"]}),
        ("could we go navy on the sofa", {"sofa": ["blue"]}),
        ("a sofa should be brown and cats should be beige", {"sofa": ["brown"], "cat": ["beige"]}),
        ("a cat in a bright red cup", {"cup": ["red"]}),
        ("a sofa in pink and a cup of white", {"sofa": ["pink"], "cup": ["white"]}),
        ("a red-nosed cat on the sofa", {}),
        ("under an orange sky stands a sofa", {}),
    ],
)
def test_colours_belong_to_their_name(text, found):
    assert asked_colours(text, WORLD) == found


def test_other_words_are_no_colours():
    assert plain_colour("Scarlet".lower()) == "red"
    assert plain_colour("wooden") is None
