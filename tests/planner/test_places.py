from dataclasses import replace

import numpy as np
import pytest
import torch

from planner.grammar import Answer
from planner.links import stands
from planner.llava_planner import LlavaPlanner
from planner.places import PlaceConfig, PlaceHead, Placer, Sought, Words, medoid
from planner.places_train import PlacesTask, PlacesTrainConfig, spoken_examples, unit_box
from runtime.seeding import torch_generator
from runtime.training import FitConfig, fit
from scene.corpus.records import Turn
from scene.errors import UserError
from scene.geometry import Box
from scene.layout import label_colour
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary
from tests.planner.conftest import ENTRIES, SIZE, TINY_VISION, make_llava, make_tokenizer
from tests.planner.test_llava_planner import scene_of

TINY = PlaceConfig(resolution=16, fold=4, widths=(16, 16), vector=16, size_bins=8)
CONFIG = PlacesTrainConfig(
    places=TINY, steps=3, fit=FitConfig(batch_size=2, total_samples=4, learning_rate=1e-3, ema_decay=None)
)


def words() -> Words:
    return Words(make_tokenizer(), make_llava().get_input_embeddings().weight.detach())


def taught(head: PlaceHead, texts: Words, sought: list[Sought], boxes: torch.Tensor) -> Placer:
    """After sixty looks at the same objects."""
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    for _ in range(60):
        maps = head.maps(*head.inputs(sought, texts))
        loss = torch.stack([term.mean() for term in head.cross_entropies(*maps, boxes).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Placer(head.eval(), texts)


def picture(at: int) -> np.ndarray:
    found = np.full((*SIZE.shape, 3), 255, dtype=np.uint8)
    found[100:140, at : at + 40] = label_colour("apple tree")
    return found


def test_planes_show_the_partner_and_a_mirror_turns_everything():
    answer = Answer(label="dog", link=("left of", "apple tree"), cells=(10, 20, 29, 39))
    sought = Sought(picture(0), answer)
    planes = sought.planes(16)
    assert planes[3, 7, 0] == 1
    assert planes[3, :, 8:].max() == 0
    assert planes[4].max() == 0
    turned = sought.flipped()
    assert turned.answer.link == ("right of", "apple tree")
    assert unit_box(turned.answer.cells) == pytest.approx((0.7, 0.2, 0.9, 0.4))
    np.testing.assert_array_equal(turned.planes(16)[3], planes[3][:, ::-1])
    assert turned.flipped().answer == answer


def test_a_head_learns_to_look_at_the_partner():
    torch.manual_seed(0)
    head, texts = PlaceHead(TINY, words().width), words()
    answers = [
        Answer(label="dog", link=("next to", "apple tree"), cells=(at, 50, at + 9, 69)) for at in range(0, 90, 6)
    ]
    sought = [Sought(picture(int(3.2 * answer.cells[0])), answer) for answer in answers if answer.cells]
    boxes = torch.tensor([unit_box(answer.cells) for answer in answers])
    placer = taught(head, texts, sought, boxes)
    left, right = (placer.box(Sought(picture(at), answers[0]), SIZE, torch_generator(1), 0.0) for at in (10, 250))
    assert abs(left.center[0] - 30) < 50
    assert abs(right.center[0] - 270) < 50


def test_a_box_stands_as_the_answer_says_where_it_can():
    torch.manual_seed(0)
    placer = Placer(PlaceHead(TINY, words().width).eval(), words())
    for link in ("left of", "right of", "next to", "on"):
        sought = Sought(picture(140), Answer(label="dog", link=(link, "apple tree")))
        assert sought.partner == Box(140, 100, 180, 140)
        boxes = [placer.box(sought, SIZE, torch_generator(seed), 1.0) for seed in range(12)]
        held = sum(stands(link, box, sought.partner) for box in boxes)
        free = [placer.box(Sought(picture(140), Answer(label="dog")), SIZE, torch_generator(s), 1.0) for s in range(12)]
        assert held > sum(stands(link, box, sought.partner) for box in free)


def test_of_many_draws_the_most_typical_is_taken():
    held, apart = [Box(10, 10, 30, 50), Box(12, 10, 32, 50), Box(14, 12, 34, 50)], Box(200, 10, 220, 50)
    assert medoid([apart, *held]) == held[1]
    assert medoid([held[0], held[0]._replace(y0=45), held[0]._replace(y0=11)]) == held[0]._replace(y0=11)
    torch.manual_seed(0)
    placer = Placer(PlaceHead(TINY, words().width).eval(), words())
    sought = Sought(picture(140), Answer(label="dog"))
    spread = [
        float(np.std([placer.box(sought, SIZE, torch_generator(seed), 1.0, draws).center[0] for seed in range(20)]))
        for draws in (1, 16)
    ]
    assert spread[1] < 0.7 * spread[0]


def test_training_writes_a_head_that_loads(corpus, tmp_path):
    task = PlacesTask(CONFIG, corpus, words())
    fit(task, CONFIG.fit, tmp_path / "run")
    task.sheet(task.model, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    placer = Placer.load(tmp_path / "run" / "export", TINY, words())
    box = placer.box(Sought(picture(10), Answer(label="dog")), SIZE, torch_generator(0), 0.5)
    assert box.clip(SIZE) == box
    with pytest.raises(UserError, match="places_"):
        Placer.load(tmp_path, TINY, words())


@pytest.mark.parametrize("boxes", ["pointed", "written"])
def test_a_planner_with_a_place_head_places_by_the_picture(boxes):
    torch.manual_seed(0)
    placer = Placer(PlaceHead(TINY, words().width).eval(), words())
    planner = LlavaPlanner(
        make_llava(), make_tokenizer(), TINY_VISION, Vocabulary("tiny", ENTRIES), {"dog": "a brown dog"}, None,
        links=True, placer=placer, brief=True, boxes=boxes,
    )  # fmt: skip
    scene, seed = scene_of("sky", "grass", "boy"), StepSeed(7, 3)
    first, again = (planner.propose(scene, "a boy and a dog left of him", seed=seed) for _ in range(2))
    assert first == again
    assert first.box is not None
    assert first.box.clip(SIZE) == first.box
    assert planner.place(scene, "a dog", "dog", seed=seed) != planner.place(
        scene, "a dog", "dog", seed=seed, picture=picture(10)
    )
    assert planner.written_brief("a dog") == planner.written_brief("a dog")
    others = [label for label in ENTRIES if label != "dog"]
    twins = scene_of("sky", "grass", "dog")
    second = planner.propose(twins, "two dogs", seed=seed, rejected=others)
    assert second.label == "dog"
    assert second.box is not None
    ground = planner.propose(scene_of(), "a dog", seed=seed)
    assert ground.label == "sky"
    other = LlavaPlanner(make_llava(), make_tokenizer(), TINY_VISION, planner.vocabulary, {"dog": "a brown dog"}, None,
                         links=True, brief=True)  # fmt: skip
    assert (ground.box == other.propose(scene_of(), "a dog", seed=seed).box) == (boxes == "written")
    with pytest.raises(ValueError, match="placer"):
        LlavaPlanner(make_llava(), make_tokenizer(), TINY_VISION, Vocabulary("tiny", ENTRIES), {}, boxes="pointed")


def test_dialogues_give_what_each_turn_adds(corpus):
    def layer(label):
        return next(each for record in corpus.records() for each in record.layers if each.label == label)

    boy, dog = layer("boy"), layer("dog")
    record = replace(corpus.records("train")[0])
    turns = (Turn("a boy on the left", "ok", (), (boy,)), Turn("now a small dog", "ok", (boy,), (boy, dog)))
    object.__setattr__(record, "turns", turns)
    first, second = spoken_examples(corpus, record)
    assert (first.answer.label, second.answer.label) == ("boy", "dog")
    assert "left" in first.said[1]
    assert "small" in second.said[0]
    assert (second.picture == label_colour("boy")).all(axis=2).any()
    assert not (first.picture == label_colour("boy")).all(axis=2).any()
