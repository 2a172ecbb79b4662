import random

import pytest

from planner.brief import MAX_ITEMS, OPENING, BriefAutomaton, Item, brief_of, brief_text, completed, remaining
from planner.examples import pack
from planner.grammar import AnswerTokens
from planner.imagined import imagined, lexicon
from planner.lessons import CorpusLessons
from planner.phrases import PhraseBook, Phraser
from scene.vocabulary import Vocabulary
from tests.planner.conftest import ENTRIES, make_tokenizer

WORLD = Vocabulary("tiny", ENTRIES | {"table": {"kind": "furniture"}, "table lamp": {"kind": "lighting"}})
TOKENS = AnswerTokens(make_tokenizer(), WORLD.labels)
BOOK = PhraseBook(
    lists=("{things}", "show {things} in {place}"), counts=("{count}", "{count} and {things}"),
    relations=("{first} {link} {second}", "{second}, {first} {link} it, {things}"), people=("{someone} sees {things}",),
    themed=("{theme}: {things}",), places={"room": ("a room",)}, themes={"room/a": ("a quiet hour",)},
    links={word: (word,) for word in
           ("on", "next to", "left of", "right of", "above", "below", "in front of", "behind", "inside")},
)  # fmt: skip


def written(text: str) -> BriefAutomaton:
    automaton = BriefAutomaton(TOKENS)
    for token in (*TOKENS.encode(text, OPENING), TOKENS.end):
        automaton.advance(token)
    return automaton


@pytest.mark.parametrize(
    "items",
    [
        (),
        (Item("dog"),),
        (Item("boy", 3), Item("table lamp", 1, ("on", "table")), Item("table")),
        (Item("soccer ball", 2, ("next to", "apple tree")), Item("apple tree")),
        tuple(Item(label) for label in WORLD.labels),
    ],
)
def test_whatever_is_written_is_read_back(items):
    automaton = written(brief_text(items))
    assert automaton.done
    assert tuple(automaton.items) == items


def test_any_walk_through_the_grammar_ends_and_says_each_label_once():
    rng = random.Random(3)
    for _ in range(40):
        automaton = BriefAutomaton(TOKENS)
        while not automaton.done:
            automaton.advance(rng.choice(automaton.allowed()))
        labels = [item.label for item in automaton.items]
        assert len(labels) == len(set(labels)) <= MAX_ITEMS
        assert written(brief_text(automaton.items)).items == automaton.items


@pytest.mark.parametrize("text", [" 1 dog", " dog, dog", " cow", " dog on", ""])
def test_nothing_else_can_be_written(text):
    with pytest.raises(ValueError, match="not allowed"):
        written(text)


def test_the_reader_lists_what_is_asked_for_in_the_order_of_the_words():
    text = "two balls next to an apple tree, a boy and no dog"
    assert brief_of(text, WORLD) == (Item("soccer ball", 2, ("next to", "apple tree")), Item("apple tree"), Item("boy"))
    assert brief_of(text, WORLD, {"soccer ball": 1, "boy": 1}) == (Item("soccer ball"), Item("boy"))


def test_partners_of_relations_are_asked_for():
    items = (Item("dog", 2, ("on", "table")), Item("boy", 1, ("next to", "dog")))
    assert completed(items) == (*items, Item("table"))
    assert completed((*items, Item("table", 1))) == (*items, Item("table"))


def test_imagined_prompts_hold_the_words_of_what_they_ask_for():
    phraser = Phraser(BOOK, WORLD, typo_chance=0)
    found = [imagined(phraser, ["dog", "boy"], random.Random(seed)) for seed in range(300)]
    assert all(written(brief_text(items)).done for _, items in found)
    assert remaining((Item("dog", 3), Item("boy")), ["dog", "boy", "sky"]) == (Item("dog", 2),)
    lamp = (Item("table lamp", 1, ("above", "dog")), Item("dog"))
    assert remaining(lamp, ["table lamp"]) == (Item("dog", 1, ("below", "table lamp")),)
    assert remaining(lamp, []) == lamp
    for text, items in found:
        forms = [(item.label, WORLD.plural(item.label), *WORLD.synonyms(item.label), "ball", "balls") for item in items]
        assert all(any(form in text for form in some) for some in forms), (text, items)
    assert {item.count for _, items in found for item in items} >= {1, 2, 3}
    assert {item.link[0] for _, items in found for item in items if item.link} >= {"on", "next to"}
    assert any(not items for _, items in found)
    assert any("no dog" in text and "dog" not in {item.label for item in items} for text, items in found)


def test_a_lexicon_lists_many_things_in_other_words():
    many = Vocabulary("many", ENTRIES | {f"thing {letter}": {"kind": "toy"} for letter in "abcdefgh"})
    phraser = Phraser(BOOK, many, typo_chance=0)
    for seed in range(20):
        text, items = lexicon(phraser, random.Random(seed))
        assert MAX_ITEMS >= len(items) == len({item.label for item in items}) >= 6
        assert "soccer ball" not in text


def test_a_brief_is_learned_before_everything_else(encoder, corpus):
    lessons = CorpusLessons(corpus, "train", briefs=True)
    lesson = lessons.lesson(0, 0, 2)
    assert lesson.brief is not None
    packed = pack(encoder, lesson.prompt, lesson.answers, lesson.steps, brief=lesson.brief)
    head = len(encoder.head(lesson.prompt)) + len(encoder.brief_opening)
    brief = encoder.brief(lesson.brief)
    left = [encoder.left(lesson.brief, [answer.label for answer in lesson.answers[:step]]) for step in lesson.steps]
    for row, step in zip(left, lesson.steps, strict=True):
        shown = [*encoder.picture, *row, *encoder.line(lesson.answers[step])]
        starts = [at for at in range(len(packed.ids)) if packed.ids[at : at + len(shown)].tolist() == shown]
        assert len(starts) == 1
        told = slice(starts[0] + len(encoder.picture) - 1, starts[0] + len(encoder.picture) + len(row) - 1)
        assert (packed.targets[told] == -100).all()
    assert packed.ids[head : head + len(brief)].tolist() == brief
    assert packed.targets[head - 1 : head - 1 + len(brief)].tolist() == brief
    assert (packed.targets[: head - 1] == -100).all()
    alone = pack(encoder, lesson.prompt, (), (), brief=lesson.brief)
    assert alone.targets[alone.targets >= 0].tolist() == brief
