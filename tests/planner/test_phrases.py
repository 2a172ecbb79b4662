import random
from pathlib import Path

import pytest

import planner
from planner.lessons import CorpusLessons
from planner.phrases import Phraser, load_phrases, slip, with_copies
from planner.prompt import PlannedObject
from scene.corpus.claims import relation_claims
from scene.errors import UserError
from scene.geometry import Box
from scene.relations import box_relations
from scene.vocabulary import Vocabulary

BOOK = load_phrases(Path(planner.__file__).parent / "data" / "home_phrases.yaml")
WORLD = Vocabulary.load(Path("configs/worlds/home.yaml"))
SCENE = [
    PlannedObject("floor", "a grey floor", Box(0, 300, 640, 512)),
    PlannedObject("sofa", "a red sofa", Box(50, 250, 300, 400)),
    PlannedObject("chair", "a wooden chair", Box(320, 260, 400, 400)),
    PlannedObject("chair", "a wooden chair", Box(420, 260, 500, 400)),
    PlannedObject("cat", "a black cat", Box(520, 380, 600, 440)),
]


@pytest.mark.parametrize("seed", range(150))
def test_prompts_are_true_of_the_scene(seed):
    text, named = Phraser(BOOK, WORLD, typo_chance=0).prompt(SCENE, "living_room/dining", random.Random(seed))
    assert {label for label in WORLD.counts(text) if label in ("sofa", "chair", "cat")} <= named, text
    counts = {"sofa": 1, "chair": 2, "cat": 1}
    for label, count in WORLD.counts(text).items():
        if label in counts:
            assert count <= counts[label], text
    boxes = {item.label: item.box for item in SCENE}
    for claim in relation_claims(text, WORLD):
        if {claim.first, claim.second} <= {"sofa", "cat"}:
            assert claim.relation in box_relations(boxes[claim.first], boxes[claim.second]), text


def test_counted_prompts_tell_the_number():
    phraser = Phraser(BOOK, WORLD, typo_chance=0)
    texts = [phraser.prompt(SCENE, "living_room/dining", random.Random(seed), "chair")[0] for seed in range(30)]
    assert all(WORLD.counts(text).get("chair") == 2 for text in texts)
    assert len(set(texts)) > 20


def test_slips_change_letters_only_in_long_words():
    rng = random.Random(0)
    for _ in range(50):
        words = slip("a sofa and two armchairs", rng).split()
        assert len(words) == 5
        assert (words[0], words[2], words[3]) == ("a", "and", "two")


def test_copies_stand_apart_at_the_same_height(corpus):
    for record in corpus.records():
        found = with_copies(corpus, record.layers, random.Random(1))
        if found is None:
            continue
        layers, label = found
        boxes = [corpus.box(layer) for layer in layers if layer.label == label]
        assert 2 <= len(boxes) == len(layers) - len(record.layers) + 1
        assert all(a.iou(b) <= 0.05 for i, a in enumerate(boxes) for b in boxes[:i])
        assert max(box.y0 for box in boxes) - min(box.y0 for box in boxes) <= 12
        return
    pytest.fail("no scene took copies")


def test_lessons_depend_on_their_number_alone(corpus):
    phraser = Phraser(BOOK, corpus.vocabulary)

    def lessons():
        return CorpusLessons(corpus, "train", links=True, phraser=phraser, rephrase_share=0.8, copies_share=0.5)

    first, second = lessons(), lessons()
    for number in (3, 1, 7):
        a, b = first.lesson(number, 0, 3), second.lesson(number, 0, 3)
        assert (a.prompt, a.answers, a.steps) == (b.prompt, b.answers, b.steps)
    assert len({first.lesson(number, 0, 2).prompt for number in range(20)}) > 12


def test_pruned_scenes_keep_what_is_named_and_its_order(corpus):
    phraser = Phraser(BOOK, corpus.vocabulary, typo_chance=0)
    whole = CorpusLessons(corpus, "train", phraser=phraser, rephrase_share=1.0)
    pruned = CorpusLessons(corpus, "train", phraser=phraser, rephrase_share=1.0, prune_share=1.0)
    fewer = 0
    for number in range(20):
        all_of_it, part = whole.lesson(number, 0, 2), pruned.lesson(number, 0, 2)
        assert part.prompt == all_of_it.prompt
        labels = [answer.label for answer in part.answers]
        named = {label for label in corpus.vocabulary.counts(part.prompt) if corpus.vocabulary.kind(label) != "surface"}
        before = [answer.label for answer in all_of_it.answers]
        assert named & set(before) <= set(labels), part.prompt
        rest = iter(before)
        assert all(label in rest for label in labels)  # a part of it, in its order
        fewer += len(labels) < len(before)
    assert fewer > 2


def test_missing_phrase_book():
    with pytest.raises(UserError, match="cannot read phrases"):
        load_phrases(Path("/nowhere.yaml"))
