"""What a prompt asks for, read off its words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scene.corpus.claims import relation_claims, stated_claims
from scene.vocabulary import Vocabulary
from scene.words import plurals, reading_words

HOME = Vocabulary.load(Path("configs/worlds/home.yaml"))
PROMPTS = yaml.safe_load((Path(__file__).parent / "data" / "prompts_read.yaml").read_text(encoding="utf-8"))
MIRRORED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above", "next to": "next to"}


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("half a dozen chairs", {"chair": 6}),
        ("a quartet of chairs", {"chair": 4}),
        ("armchairs, one on each side of the fireplace", {"armchair": 2, "fireplace": 1}),
        ("4 garden chairs, exactly 4 chairs", {"garden chair": 4}),
        ("twin washbasins", {"washbasin": 2}),
        ("two snowmen", {"snowman": 2}),
        ("a nappy-changing station and a tom-cat", {"changing table": 1}),
        ("nothing else except a floor lamp", {"floor lamp": 1}),
        ("no chairs except a floor lamp", {}),
        ("a washing machine, the machine is old", {"washing machine": 1}),
        ("a table at my gran's. the kids' kick scooters", {"table": 1, "kick scooter": 2}),
        ("picture a bus, and keep cars off the picture", {"bus": 1, "car": 2}),
        ("one of those red chairs", {"chair": 1}),
        ("three of my old mugs", {"mug": 3}),
        ("two dozen books", {"book": 20}),
        ("a couple of mugs and a pair of boots", {"mug": 2, "boots": 1}),
        ("three pairs of slippers, two headsets", {"slippers": 3, "headphones": 2}),
        ("a row of bar stools, say five", {"bar stool": 5}),
        ("beer mugs for four", {"beer mug": 4}),
        ("tricycles (three of them) on a lawn", {"tricycle": 3, "lawn": 1}),
        ("two barrels, no, make it four", {"barrel": 4}),
        ("six... sorry, two barrels", {"barrel": 2}),
        ("a stool, or rather a bench", {"bench": 1}),
        ("a set of three crates", {"crate": 3}),
        ("a 3 seater sofa", {"sofa": 1}),
        ("a kitchen without a fridge or an oven", {}),
        ("no rug, but a vase", {"vase": 1}),
        ("a red bin and a green bin", {"waste bin": 2}),
        ("a bunk bed, and a doll on the bed", {"bunk bed": 1, "doll": 1}),
        ("a glass bowl in my dog's basket", {"bowl": 1, "basket": 1}),
        ("a photo of a street with a photo of a horse on the wall", {"road": 1, "photo frame": 1, "wall": 1}),
        ("a chair with a green seat and a cactus in a pot", {"chair": 1, "cactus": 1}),
        ("watch the telly, plant a tree", {"television": 1, "tree": 1}),
        ("a bus stop near the car park", {}),
        ("a novel, and a man looking for his glasses", {"book": 1, "man": 1, "eyeglasses": 1}),
        ("loaves, knives and ladies", {"bread": 1, "table knife": 2, "woman": 2}),
        ("three roses", {"flowers": 1}),
        ("sixteen tumblers", {"glass": 16}),
        ("a bench with a barrel on either side", {"bench": 1, "barrel": 2}),
        ("two benches, a cushioned doll on each", {"bench": 2, "doll": 2}),
        ("on each side of the hearth stands a wing chair", {"fireplace": 1, "armchair": 2}),
        ("one lantern left of the hedge, another to its right", {"lantern": 2, "hedge": 1}),
        ("my uncle insists on a hammock", {"hammock": 1}),
        ("granny's recipes and a kettle for my niece", {"kettle": 1}),
        ("my uncle on a hammock", {"man": 1, "hammock": 1}),
    ],
)  # fmt: skip
def test_counts(text: str, counts: dict[str, int]) -> None:
    assert HOME.counts(text) == counts


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("a plate and a spoon lie on the tray",
         {("plate", "on", "tray"), ("spoon", "on", "tray")}),
        ("a bed, a wardrobe and a doll on the rug", {("doll", "on", "rug")}),
        ("on the bench sits a cat", {("cat", "on", "bench")}),
        ("a bench with a barrel beside it", {("barrel", "next to", "bench")}),
        ("a bench with a barrel on its left", {("barrel", "left of", "bench")}),
        ("a bench, and a barrel to the bench's right", {("barrel", "right of", "bench")}),
        ("what stands on the tray? a plate and a spoon.",
         {("plate", "on", "tray"), ("spoon", "on", "tray")}),
        ("ten lockers and a spoon, a bench in front of them", {("bench", "in front of", "locker")}),
        ("where's the cat? on the bench", {("cat", "on", "bench")}),
        ("a barrel to the left of the bench, on which somebody has left a cat",
         {("barrel", "left of", "bench"), ("cat", "on", "bench")}),
        ("a barrel on a bench, two cats to the left of it, a spoon to the right",
         {("barrel", "on", "bench"), ("cat", "left of", "barrel"), ("spoon", "right of", "barrel")}),
        ("to the left of the bench is a van, and to the right, a bus",
         {("van", "left of", "bench"), ("bus", "right of", "bench")}),
        ("the cat? asleep beneath the bench", {("cat", "below", "bench")}),
        ("a rug under the table", {("table", "on", "rug")}),
        ("a cat on the rug that lies in front of the wood stove",
         {("cat", "on", "rug"), ("rug", "in front of", "wood stove")}),
        ("two barrels, one on each side of the bench", {("barrel", "next to", "bench")}),
        ("a washing machine, and a barrel next to the machine", {("barrel", "next to", "washing machine")}),
        ("a man on the bench, and a cat next to him", {("man", "on", "bench"), ("cat", "next to", "man")}),
        ("in front of the tree someone has parked a van", {("van", "in front of", "tree")}),
        ("van left, bus right", {("van", "left of", "bus")}),
        ("on the right a van, on the left a bus", {("van", "right of", "bus")}),
        ("a van between a bus and a tree", {("van", "next to", "bus"), ("van", "next to", "tree")}),
        ("a van and a bus side by side", {("van", "next to", "bus")}),
        ("a bench flanked by barrels", {("barrel", "next to", "bench")}),
        ("a tray topped with a burger", {("hamburger", "on", "tray")}),
        ("a horse, brown if you can, behind the hedge", {("hedge", "in front of", "horse")}),
        ("the cat in the basket", {("cat", "inside", "basket")}),
        ("a woman in the kitchen with a mug", set()),
        ("a sofa opposite a television", set()),
        ("a van left of the hedge and a bus right of it", {("van", "left of", "hedge"), ("bus", "right of", "hedge")}),
        ("two mirrors? no: two clocks on the wall, a bench under them",
         {("cuckoo clock", "on", "wall"), ("bench", "below", "cuckoo clock")}),
        ("four stools round a table, a round rug", {("stool", "next to", "table")}),
        ("a towel slung over the railing", {("towel", "on", "railing")}),
        ("left of the hedge goes a van; to its right, a bus",
         {("van", "left of", "hedge"), ("bus", "right of", "hedge")}),
        ("one speaker to the left of the telly, another to its right",
         {("speaker", "left of", "television"), ("speaker", "right of", "television")}),
        ("a dinghy, a parasol to its left", {("parasol", "left of", "rowing boat")}),
        ("next to the sofa is a table with a vase on it", {("table", "next to", "sofa"), ("vase", "on", "table")}),
        ("behind the sofa, a desk with a mug on it", {("sofa", "in front of", "desk"), ("mug", "on", "desk")}),
        ("a tray with a mug on it and a fork next to it", {("mug", "on", "tray"), ("fork", "next to", "tray")}),
    ],
)  # fmt: skip
def test_relations(text: str, claims: set[tuple[str, str, str]]) -> None:
    assert {(c.first, c.relation, c.second) for c in relation_claims(text, HOME)} == claims


def _links(text: str) -> set[tuple[str, str, str]]:
    found = {(c.first, str(c.relation), c.second) for c in relation_claims(text, HOME)}
    return found | {(b, MIRRORED[relation], a) for a, relation, b in found if relation in MIRRORED}


def test_most_of_what_people_may_type_is_understood() -> None:
    objects, links, strangers = [], [], 0
    for prompt in PROMPTS:
        counts, found = HOME.counts(prompt["text"]), _links(prompt["text"])
        named = {label for labels in prompt["objects"] for label in labels.split("|")}
        strangers += len(set(counts) - named)
        for labels, many in prompt["objects"].items():
            fewest, _, most = str(many).partition("-")
            objects.append(int(fewest) <= sum(counts.get(x, 0) for x in labels.split("|")) <= int(most or fewest))
        for first, relation, second in prompt["links"]:
            links.append(any((a, relation, b) in found for a in first.split("|") for b in second.split("|")))
    assert sum(objects) / len(objects) >= 0.9  # typos are the speller's, and cost some here
    assert sum(links) / len(links) >= 0.9
    assert strangers <= 0.1 * len(PROMPTS)


def test_what_convicts_a_generator_does_not_know_the_words_for_reading() -> None:
    assert HOME.counts("a loo and a glass bowl") == {"toilet": 1, "bowl": 1}
    assert HOME.plain.counts("a loo and a glass bowl") == {"glass": 1, "bowl": 1}
    assert HOME.plain.entries == HOME.entries
    assert not any("loo" in HOME.synonyms(label) for label in HOME.labels)
    assert not list(stated_claims("a loo beside a settee", HOME))
    assert list(stated_claims("a toilet beside a settee", HOME))


def test_every_word_for_reading_has_one_label_and_is_new() -> None:
    words = reading_words("home")
    assert set(words.words) <= set(HOME.labels) >= words.collective
    every = [word for found in words.words.values() for word in found]
    assert len(every) == len(set(every))
    own = {word for label in HOME.labels for word in (label, *HOME.synonyms(label))}
    assert not own & {*every, *words.nothing}
    assert not {*every} & {*words.nothing}
    for label, found in words.words.items():
        for word in found:
            if word not in words.verbs and label not in words.senses:
                assert HOME.canonical(word) == label, word


def test_a_world_without_words_has_none() -> None:
    assert reading_words("park") == reading_words("../../secret") == reading_words("")


@pytest.mark.parametrize(
    ("word", "plural"),
    [("knife", "knives"), ("fireman", "firemen"), ("cup of tea", "cups of tea"), ("glass", "glasses")],
)
def test_plurals(word: str, plural: str) -> None:
    assert plural in plurals(word)
