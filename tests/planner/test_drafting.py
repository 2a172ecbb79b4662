from dataclasses import replace

import pytest

from planner.decoding import PlannerConfig
from planner.drafting import Drafts, Expected
from planner.grammar import AnswerAutomaton, AnswerTokens
from planner.llava_planner import LlavaPlanner
from planner.prefix import PrefixCache
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary
from tests.planner.conftest import ENTRIES, TINY_VISION, make_llava, make_tokenizer
from tests.planner.test_prefix import scene_of

TOKENIZER = make_tokenizer()
VOCABULARY = Vocabulary("tiny", ENTRIES)
TOKENS = AnswerTokens(TOKENIZER, VOCABULARY.labels)
USUAL = {"boy": ("a smiling boy", "a sad boy", "a sad tired boy")}
DRAFTS = Drafts(TOKENS, VOCABULARY, USUAL)


def written(text: str, **settings) -> AnswerAutomaton:
    automaton = AnswerAutomaton(TOKENS, VOCABULARY.labels, True, 60, plain={"sky", "dog"}, **settings)
    for token in TOKENIZER.encode(text).ids:
        automaton.advance(token)
    return automaton


def guess(automaton: AnswerAutomaton, expected: Expected = Expected()) -> str:  # noqa: B008
    before = [*automaton.ids]
    text = TOKENIZER.decode(list(DRAFTS.after(automaton, expected)))
    assert automaton.ids == before
    return text


def test_the_commonest_description_is_guessed_and_what_goes_on_from_there():
    assert guess(written("boy | 10102020 |")) == " a smiling boy"
    assert guess(written("boy | 10102020 | a")) == " smiling boy"
    assert guess(written("boy | 10102020 | a sa")) == "d boy"
    assert guess(written("boy | 10102020 | a sad t")) == "ired boy"


def test_colours_of_the_prompt_come_first():
    drafts = Drafts(TOKENS, VOCABULARY, {"boy": ("a red boy", "a green boy", "a blue boy")})
    said = Expected(colours={"boy": ["blue"], "dog": ["green"]})
    assert TOKENIZER.decode(list(drafts.after(written("boy | 10102020 |"), said))) == " a blue boy"


def test_after_unusual_words_the_name_is_guessed_once():
    assert guess(written("boy | 10102020 | a green b")) == "oy"
    assert guess(written("soccer ball | 10102020 |")) == " a soccer ball"
    assert guess(written("soccer ball | 10102020 | a soccer ball with s")) == ""


def test_an_expected_label_is_guessed_as_far_as_it_goes():
    assert guess(written("", boxes="pointed"), Expected(["apple tree"])) == "apple tree | @ | an apple tre"  # `MOST`
    assert guess(written("a", boxes="pointed")) == "pple tree | @ | an apple tree"
    assert guess(written("a")) == "pple tree | "  # which digits follow nobody knows


def test_nothing_is_read_for_what_leaves_no_choice():
    assert guess(written("dog", boxes="pointed")) == ""
    assert guess(written("", boxes="pointed"), Expected(["dog"])) == ""


def test_a_relation_is_guessed_where_one_is_due():
    links = [("on", "grass"), ("left of", "dog"), ("on", "dog")]
    due = Expected(links={"boy": [("left of", "dog")]})
    settings = {"links": links, "boxes": "pointed"}
    assert guess(written("boy |", **settings), due) == " left of dog | @ | a smiling bo"  # `MOST`
    assert guess(written("boy |", **settings)) == ""
    assert guess(written("boy | l", **settings)) == "eft of dog | @ | a smiling boy"
    assert guess(written("boy | on", **settings)) == " dog | @ | a smiling boy"  # the latest that stands there


class Silent(Drafts):
    def after(self, *_) -> tuple[int, ...]:
        return ()


class Passes(PrefixCache):
    count = 0

    def forward(self, *args, **settings):
        self.count += 1
        return super().forward(*args, **settings)


@pytest.mark.parametrize("settings", [{}, {"listing": "names", "links": True}])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_guesses_change_no_proposal_and_save_passes(settings, temperature):
    fixed = {"dog": "a brown dog"}
    config = PlannerConfig(temperature=temperature)
    plain = LlavaPlanner(make_llava(), TOKENIZER, TINY_VISION, VOCABULARY, fixed, config, **settings)
    plain.drafts, plain.prefix = Silent(plain.tokens, VOCABULARY, {}), Passes(plain.llava)
    scenes = [scene_of(*["sky", "grass", "boy", "dog"][:count]) for count in range(5)]
    seeds = [StepSeed(4, number) for number in range(len(scenes))]
    proposed = [plain.propose(scene, "a boy", seed=seed) for scene, seed in zip(scenes, seeds, strict=True)]
    usual = {label: [found.description for found in proposed if found.label == label] for label in ENTRIES}
    for known in (usual, USUAL):
        drafted = LlavaPlanner(
            make_llava(), TOKENIZER, TINY_VISION, VOCABULARY, fixed, config, usual_descriptions=known, **settings
        )
        drafted.prefix = Passes(drafted.llava)
        for scene, seed, wanted in zip(scenes, seeds, proposed, strict=True):
            found = drafted.propose(scene, "a boy", seed=seed)
            assert replace(found, confidence=None) == replace(wanted, confidence=None)
            assert found.confidence == pytest.approx(wanted.confidence, abs=2e-4)
        if known is usual and temperature == 0:
            assert drafted.prefix.count < plain.prefix.count
