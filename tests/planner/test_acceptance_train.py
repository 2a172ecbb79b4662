import json
from pathlib import Path

import pytest

from planner.acceptance import EVIDENCE, Acceptance, candidates
from planner.acceptance_train import AcceptanceTask, AcceptanceTrainConfig, judged
from planner.frames import Frame, Thing
from planner.parser import Span
from runtime.fit_config import FitConfig
from runtime.training import fit
from scene.errors import UserError
from scene.vocabulary import Vocabulary

FIT = FitConfig(
    batch_size=32, total_samples=6400, learning_rate=0.05, warmup_samples=0, ema_decay=None, sheet_every=6400, threads=1
)
WORLD = Path("configs/worlds/home.yaml")


class Parser:
    """Takes every run of two to four words for a thing."""

    def spans(self, text):
        words = text.split(" ")
        starts = [sum(len(word) + 1 for word in words[:at]) for at in range(len(words))]
        return [
            Span(starts[i], starts[i + n - 1] + len(words[i + n - 1]), 0.5)
            for n in (2, 3, 4)
            for i in range(len(words) - n + 1)
        ]


class Dictionary:
    """Surely a fridge where a cooler is spoken of, and unsure of all else."""

    labels = ("fridge", "oven")

    def chances(self, said, others=""):
        sure = 0.9 if "cooler" in said else 0.3
        return {"fridge": sure, "oven": (1 - sure) / 2, "": (1 - sure) / 2}


def frames(count):
    talk = ("for my aunt", "at long last", "in her flat", "by next week")
    things = (Thing(said="a milk cooler", label="fridge", how="described"), Thing(said="an oven", label="oven"))
    return [Frame(prompt=f"draw a milk cooler and an oven {talk[n % 4]}", things=things) for n in range(count)]


def test_what_is_right_is_learned(tmp_path):
    config = AcceptanceTrainConfig(world=WORLD, weights=tmp_path, held_out=4, fit=FIT)
    task = AcceptanceTask(config, frames(12), Parser(), Dictionary())
    fit(task, FIT, tmp_path / "run")
    rows = (tmp_path / "run" / "sheets" / "validation.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["recall"] == 1.0
    acceptance = Acceptance.load(tmp_path / "run" / "export")
    assert acceptance is not None
    vocabulary, text = Vocabulary.load(WORLD), "draw a milk cooler for my aunt"
    taken = {
        text[found.start : found.end]: acceptance(found)
        for found in candidates(text, Parser().spans(text), vocabulary, Dictionary())
    }
    assert taken["a milk cooler"] > 0.5 > taken["for my aunt"]


def test_what_counts_as_right():
    (frame,) = frames(1)
    vocabulary = Vocabulary.load(WORLD)
    found = {
        frame.prompt[each.start : each.end]: right for each, right in judged(frame, Parser(), Dictionary(), vocabulary)
    }
    assert found["a milk cooler"] == 1
    assert found["draw a milk cooler"] == 1  # nearly all of it
    assert found["for my aunt"] == 0
    assert "an oven" not in found


def test_too_little_to_learn_from(tmp_path):
    config = AcceptanceTrainConfig(world=WORLD, weights=tmp_path, fit=FIT)
    with pytest.raises(UserError, match="holds no parser and reverse dictionary"):
        AcceptanceTask(config, frames(2))
    with pytest.raises(UserError, match="too few marked prompts"):
        AcceptanceTask(config, [Frame(prompt="good morning to you all")], Parser(), Dictionary())
    assert len(EVIDENCE) == 18
