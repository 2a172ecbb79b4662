import json
import random
from pathlib import Path

import pytest

from planner.frames import Frame, load_frames, worded
from planner.phrases import DATA, Phraser, load_phrases
from scene.corpus.language import NUMBERS
from scene.errors import UserError
from scene.vocabulary import Vocabulary

WORLD = Vocabulary.load(Path("configs/worlds/home.yaml"))
PHRASER = Phraser(load_phrases(DATA / "home_phrases.yaml"), WORLD, typo_chance=0.0)
FRAME = Frame.model_validate(
    {
        "prompt": "An armchair waits there, and on it somebody left three books; our man does not mind.",
        "things": [
            {"said": "An armchair", "label": "armchair"},
            {"said": "three books", "label": "book", "count": 3},
            {"said": "our man", "label": "man"},
        ],
        "relations": [[1, "on", 0]],
    }
)


def test_things_are_exchanged_and_the_sentence_stays():
    found = [worded(FRAME, PHRASER, random.Random(seed)) for seed in range(200)]
    assert len({text for text, _ in found}) > 150
    for text, items in found:
        assert " waits there, and on it somebody left " in text and text.endswith(" does not mind.")
        first, second, third = items
        assert first.count == 1 and 2 <= second.count <= 9
        assert second.link == ("on", first.label) and first.link is None
        assert third.label == "man"
        assert text.split()[0] == ("An" if text.split()[1][0] in "aeiou" else "A")
    assert sum(items[0].label != "armchair" for _, items in found) > 150


def test_numbers_are_told_as_they_are_asked_for():
    numbers = set()
    for seed in range(200):
        text, items = worded(FRAME, PHRASER, random.Random(seed))
        assert f"somebody left {NUMBERS[items[1].count]} " in text
        numbers.add(items[1].count)
    assert numbers == set(range(2, 10))


def test_the_same_seed_says_the_same():
    assert worded(FRAME, PHRASER, random.Random(3)) == worded(FRAME, PHRASER, random.Random(3))


def test_two_mentions_of_a_label_are_one_item():
    frame = Frame.model_validate(
        {
            "prompt": "One mug here and another mug there.",
            "things": [{"said": "One mug", "label": "mug"}, {"said": "another mug", "label": "mug"}],
        }
    )
    for seed in range(20):
        (item,) = worded(frame, PHRASER, random.Random(seed))[1]
        assert item.count == 2


def test_every_shipped_frame_names_things_of_the_world():
    frames = load_frames(DATA / "home_frames.jsonl")
    assert len(frames) > 300
    assert {thing.label for frame in frames for thing in frame.things} <= {*WORLD.labels, ""}
    for number, frame in enumerate(frames):
        worded(frame, PHRASER, random.Random(number))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is no JSON"),
        ({"prompt": "a cat", "things": [{"said": "a dog", "label": "dog"}]}, "'a dog' is not in the prompt"),
        ({"prompt": "a cat", "things": [{"said": "a cat", "label": "cat"}], "relations": [[0, "on", 1]]}, "is none of"),
        ({"prompt": "a cat", "thing": []}, "thing"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "frames.jsonl"
    path.write_text('{"prompt": "nothing at all"}\n' + (line if isinstance(line, str) else json.dumps(line)) + "\n")
    with pytest.raises(UserError, match=message) as caught:
        load_frames(path)
    assert ":2" in str(caught.value)


def test_no_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="cannot read frames"):
        load_frames(tmp_path / "none.jsonl")
