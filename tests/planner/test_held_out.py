import json
import re
from pathlib import Path

import pytest

import planner
from planner.frames import load_frames
from planner.phrases import load_phrases
from scene.vocabulary import Vocabulary

DATA = Path(planner.__file__).parent / "data"
WORLD = Vocabulary.load(Path("configs/worlds/home.yaml"))
SETS = {name: [json.loads(line) for line in (DATA / "held_out" / f"home_{name}.jsonl").open()]
        for name in
        ("dev", "final", "dev2", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
         "tenth", "eleventh", "twelfth")}  # fmt: skip
FREE = {name: [json.loads(line) for line in (DATA / "held_out" / f"home_{name}.jsonl").open()]
        for name in ("dev3", "dev4")}  # fmt: skip  # development prompts that frames may share words with
HALVES = {name: SETS[name] for name in ("dev", "final")}
RUN = 4  # words in a row that no template may share with a held-out prompt


def masked(text: str) -> list[str]:
    """Words with object names and placeholders cut out, as "#"."""
    text = re.sub(r"\{\w+\}", " # ", text.lower())
    for mention in reversed(WORLD.find(text)):
        text = f"{text[: mention.start]} # {text[mention.end :]}"
    return re.findall(r"[a-z']+|#", text)


def runs(words: list[str]) -> set[tuple[str, ...]]:
    found = (tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1))
    return {run for run in found if "#" not in run}


def test_two_hundred_prompts_in_two_halves_of_the_same_mix():
    assert [len(prompts) for prompts in HALVES.values()] == [100, 100]
    assert len({line["prompt"] for prompts in HALVES.values() for line in prompts}) == 200
    for style in {line["style"] for line in HALVES["dev"]}:
        counts = [sum(line["style"] == style for line in prompts) for prompts in HALVES.values()]
        assert abs(counts[0] - counts[1]) <= 1


def test_the_sets_written_later_are_new():
    assert len(SETS["dev2"]) == len({line["id"] for line in SETS["dev2"]}) == 240
    assert len(SETS["third"]) == len({line["id"] for line in SETS["third"]}) == 100
    assert len(SETS["fourth"]) == len({line["id"] for line in SETS["fourth"]}) == 99
    assert len(SETS["fifth"]) == len({line["id"] for line in SETS["fifth"]}) == 59
    assert len(SETS["sixth"]) == len({line["id"] for line in SETS["sixth"]}) == 70
    assert len(SETS["seventh"]) == len({line["id"] for line in SETS["seventh"]}) == 60
    assert len(SETS["eighth"]) == len({line["id"] for line in SETS["eighth"]}) == 90
    assert len(SETS["ninth"]) == len({line["id"] for line in SETS["ninth"]}) == 80
    assert len(SETS["tenth"]) == len({line["id"] for line in SETS["tenth"]}) == 98
    assert len(SETS["eleventh"]) == len({line["id"] for line in SETS["eleventh"]}) == 99
    assert len(SETS["twelfth"]) == len({line["id"] for line in SETS["twelfth"]}) == 99
    assert len({line["prompt"] for prompts in SETS.values() for line in prompts}) == 1294


@pytest.mark.parametrize("name", [*SETS, *FREE])
def test_every_label_is_known(name):
    for line in (SETS | FREE)[name]:
        for item in line["objects"]:
            assert set(item["any_of"]) <= set(WORLD.labels)
            assert item["count"] >= 1
        named = {label for item in line["objects"] for label in item["any_of"]}
        for relation in line["relations"]:
            assert set(relation["subject"]) | set(relation["object"]) <= named, line["id"]


def test_no_template_borrows_from_the_held_out_prompts():
    book = load_phrases(DATA / "home_phrases.yaml")
    carriers = [*book.lists, *book.counts, *book.relations, *book.people, *book.themed]
    carriers += [theme for themes in book.themes.values() for theme in themes]
    carriers += [frame.prompt for frame in load_frames(DATA / "home_frames.jsonl")]
    taken = {run: line["id"] for prompts in SETS.values() for line in prompts for run in runs(masked(line["prompt"]))}
    assert taken
    shared = {(carrier, taken[run]) for carrier in carriers for run in runs(masked(carrier)) if run in taken}
    assert not shared
