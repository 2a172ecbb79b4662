import numpy as np
import pytest
import torch

from planner.llava_planner import LlavaPlanner
from planner.prefix import PrefixCache
from scene.layers import Layer, LayeredScene
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary
from tests.planner.conftest import ENTRIES, SIZE, TINY_VISION, make_llava, make_tokenizer

CHUNKS = [[1, 30, 31], [40, 41, 42, 43], [50, 51], [60, 61, 62]]


def make_planner(**settings) -> LlavaPlanner:
    vocabulary = Vocabulary("tiny", ENTRIES)
    fixed = {"dog": "a brown dog"}
    return LlavaPlanner(make_llava(), make_tokenizer(), TINY_VISION, vocabulary, fixed, None, **settings)


def scene_of(*labels: str) -> LayeredScene:
    layers = []
    for number, label in enumerate(labels):
        mask = np.zeros(SIZE.shape, dtype=bool)
        mask[20 * number : 20 * number + 30, 10 + 5 * number : 60] = True
        layers.append(Layer(number + 1, label, f"a {label}", mask))
    return LayeredScene(SIZE, "", tuple(layers))


def test_a_grown_cache_holds_the_bits_of_a_fresh_one():
    grown, fresh = PrefixCache(make_llava()), PrefixCache(make_llava())
    for count in (2, 3, 4):
        last = grown.read(CHUNKS[:count], [70, 71], tails=[0, 2, 2][: count - 1])
    once = fresh.read(CHUNKS, [70, 71], tails=[0, 2, 2])
    assert torch.equal(last.hidden, once.hidden)
    assert grown.read_tokens == fresh.read_tokens == sum(map(len, CHUNKS))


def test_undone_and_changed_pieces_are_read_again():
    llava = make_llava()
    cache = PrefixCache(llava)
    cache.read(CHUNKS)
    changed = [*CHUNKS[:2], [55, 56]]
    got = cache.read(changed, [70])
    assert cache.read_tokens == sum(map(len, CHUNKS)) + 2
    assert torch.equal(got.hidden, PrefixCache(llava).read(changed, [70]).hidden)


def test_a_pass_that_was_stopped_half_way_leaves_nothing_behind(monkeypatch):
    llava = make_llava()
    cache = PrefixCache(llava)
    cursor = cache.read(CHUNKS, [70, 71])
    with monkeypatch.context() as patch:
        patch.setattr(llava.model.language_model.layers[1], "forward", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cache.follow(cursor, [72])
    again = cache.read(CHUNKS, [70, 71])
    assert torch.equal(again.hidden, PrefixCache(llava).read(CHUNKS, [70, 71]).hidden)


def test_what_was_guessed_right_is_not_read_again():
    cache, read = PrefixCache(make_llava()), []
    plain = cache.forward
    cache.forward = lambda cursor, ids, *args: read.append([*ids]) or plain(cursor, ids, *args)
    start = cache.read(CHUNKS, [70, 71])
    first = cache.follow(start, [72], lambda: [73, 74])
    assert cache.follow(first, [73], lambda: 1 / 0).length == start.length + 2
    other = cache.follow(first, [75], tuple)
    assert read[-2:] == [[72, 73, 74], [75]]
    back = cache.follow(start, [72, 75])
    assert torch.equal(back.hidden, other.hidden)
    assert len(read) == len(CHUNKS) + 2


def test_scores_are_the_logits_of_a_plain_pass():
    llava = make_llava()
    cache = PrefixCache(llava)
    cursor = cache.read(CHUNKS, [70, 71])
    flat = [token for chunk in CHUNKS for token in chunk] + [70, 71]
    with torch.no_grad():
        logits = llava(input_ids=torch.tensor([flat])).logits[0, -1]
    torch.testing.assert_close(cache.scores(cursor, [5, 50, 90]), logits[[5, 50, 90]], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"listing": "names", "links": True}])
def test_a_run_proposes_what_fresh_planners_propose(settings):
    labels = ["sky", "grass", "boy", "dog", "apple tree"]
    running = make_planner(**settings)
    for count in range(len(labels) + 1):
        scene, seed = scene_of(*labels[:count]), StepSeed(3, count)
        assert running.propose(scene, "a boy left of a dog", seed=seed) == make_planner(**settings).propose(
            scene, "a boy left of a dog", seed=seed
        )
    assert running.prefix.read_tokens < 60 + 40 * len(labels)


def test_the_fixed_prompt_is_read_once():
    planner = make_planner()
    planner.propose(scene_of("sky"), "a boy", seed=StepSeed(0, 0))
    before = planner.prefix.read_tokens
    planner.propose(scene_of("sky", "grass"), "a boy", seed=StepSeed(0, 1))
    line = planner.encoder.chunks("a boy", [])
    assert planner.prefix.read_tokens - before < sum(map(len, line))
