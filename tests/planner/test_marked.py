import random
from pathlib import Path

from planner.frames import Frame, load_frames
from planner.marked import marked_anew, marked_as_is
from planner.parser import RELATIONS
from planner.phrases import DATA, Phraser, load_phrases
from scene.vocabulary import Vocabulary

PHRASER = Phraser(load_phrases(DATA / "home_phrases.yaml"), Vocabulary.load(Path("configs/worlds/home.yaml")))
FRAME = Frame.model_validate(
    {
        "prompt": "Left of my sofa, a whatsit for smoke; on it two mugs, because we like that.",
        "things": [
            {"said": "my sofa", "label": "sofa"},
            {"said": "a whatsit for smoke", "label": "smoke detector", "how": "described"},
            {"said": "two mugs", "label": "mug", "count": 2},
        ],
        "relations": [[1, "left of", 0], [2, "on", 0]],
    }
)
TOLD = {label: [f"the thing called {label} by some"] for label in PHRASER.vocabulary.labels}


def test_as_it_was_written():
    found = marked_as_is(FRAME)
    assert [found.text[start:end] for start, end in found.phrases] == ["my sofa", "a whatsit for smoke", "two mugs"]
    assert {pair: RELATIONS[place] for pair, place in found.relations.items()} == {(0, 1): "right of", (0, 2): "on <"}


def test_in_other_words_the_marks_stay_where_the_things_are():
    texts = set()
    for seed in range(60):
        found = marked_anew(FRAME, PHRASER, TOLD, random.Random(seed))
        texts.add(found.text)
        sofa, smoke, mugs = (found.text[start:end] for start, end in found.phrases)
        lowered = found.text.lower()
        side = "right" if lowered.startswith("right of ") else "left"
        assert lowered == f"{side} of {sofa}, {smoke}; on it {mugs}, because we like that.".lower()
        assert RELATIONS[found.relations[0, 1]] == {"left": "right of", "right": "left of"}[side]
        assert RELATIONS[found.relations[0, 2]] == "on <"
        assert found == marked_anew(FRAME, PHRASER, TOLD, random.Random(seed))
    assert len(texts) > 50
    assert any(text.lower().startswith("right") for text in texts)
    assert any("the thing called" in text for text in texts)
    assert any("a whatsit for smoke" in text for text in texts)


def test_every_shipped_frame_can_be_told_anew():
    for number, frame in enumerate(load_frames(DATA / "home_frames.jsonl")):
        found = marked_anew(frame, PHRASER, TOLD, random.Random(number))
        assert all(found.text[start:end].strip() for start, end in found.phrases)
        assert all(0 <= i < j < len(found.phrases) and RELATIONS[place] for (i, j), place in found.relations.items())
