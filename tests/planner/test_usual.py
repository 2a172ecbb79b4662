from planner.examples import PlanSource, fixed_descriptions
from planner.llava_planner import LlavaPlanner
from planner.usual import ranked, said_of
from tests.planner.conftest import TINY_VISION, make_llava, make_tokenizer


def test_what_was_said_comes_before_what_the_corpus_says():
    corpus = {"boy": ("a sad boy", "a glad boy"), "table": ("a table",)}
    said = [("boy", "a glad boy"), ("boy", "a wet boy"), ("boy", "a wet boy")]
    assert ranked(said, corpus) == {"boy": ["a wet boy", "a glad boy", "a sad boy"], "table": ["a table"]}
    assert ranked(said, corpus, most=1)["boy"] == ["a wet boy"]


def test_a_planner_is_asked_for_every_label_that_it_describes(corpus):
    fixed = fixed_descriptions(corpus)
    planner = LlavaPlanner(make_llava(), make_tokenizer(), TINY_VISION, corpus.vocabulary, fixed)
    source = PlanSource(corpus, "train")
    said = said_of(planner, source, each=2, seed=0)
    there = {layer.label for record in source.records for layer in record.layers}
    assert {label for label, _ in said} == there - set(fixed)
    assert said == said_of(planner, source, each=2, seed=0)
    assert all(text for _, text in said)
