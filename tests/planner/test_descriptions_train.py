import json
from pathlib import Path

import pytest
import torch

from planner.descriptions import WIDTH, DescriptionHead
from planner.descriptions_train import DescriptionsTask, DescriptionsTrainConfig, Told, read_descriptions
from planner.phrases import DATA
from runtime.fit_config import FitConfig
from runtime.training import fit
from scene.errors import UserError

WORDS = ("cold", "food", "ice", "bounce", "jump", "springs", "day", "summer", "friends")
TOLD = [
    Told("fridge", "keeps food cold", "a"), Told("fridge", "ice and food", "a"), Told("fridge", "cold ice", "b"),
    Told("trampoline", "bounce on springs", "a"), Told("trampoline", "jump and bounce", "a"),
    Told("trampoline", "springs to jump on", "b"), Told("", "a summer day", "a"), Told("", "friends", "a"),
    Told("", "a day with friends", "b"),
]  # fmt: skip
FIT = FitConfig(
    batch_size=8,
    total_samples=400,
    learning_rate=0.005,
    warmup_samples=0,
    ema_decay=None,
    grad_clip=100.0,
    sheet_every=400,
)


def counted(text):
    found = torch.zeros(WIDTH)
    for at, word in enumerate(WORDS):
        found[at] = float(word in text)
    return found / found.norm().clamp_min(1e-6)


def test_a_held_out_writer_is_understood(tmp_path):
    task = DescriptionsTask(DescriptionsTrainConfig(nothings=2, held_out="b", fit=FIT), TOLD, counted)
    assert len(task.targets) == 6
    fit(task, FIT, tmp_path / "run")
    assert task.validation()["top_1"] == 1.0
    rows = (tmp_path / "run" / "sheets" / "validation.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["top_1"] == 1.0
    head = DescriptionHead.load(tmp_path / "run" / "export")
    assert head is not None
    assert head.nearest(counted("ice cold"))[1] == "fridge"
    assert head.nearest(counted("summer friends"))[1] == ""
    assert head.nearest(counted("cold springs"), apart=["fridge"])[1] == "trampoline"


def test_nobody_held_out_and_nobody_of_that_name():
    assert DescriptionsTask(DescriptionsTrainConfig(fit=FIT), TOLD, counted).validation() == {}
    with pytest.raises(UserError, match="held_out=z: there is no such writer"):
        DescriptionsTask(DescriptionsTrainConfig(held_out="z", fit=FIT), TOLD, counted)


def test_names_in_company_and_what_names_nothing():
    config = DescriptionsTrainConfig(
        world=Path("configs/worlds/home.yaml"), plain=3, frames="home_frames.jsonl", fit=FIT
    )
    task = DescriptionsTask(config, TOLD, counted)
    assert set(task.head.labels) == {"fridge", "trampoline"}
    named = task.targets < len(task.head.labels)
    assert int(named.sum()) > 6 + 2 * 3  # what marked prompts call a fridge
    assert int((~named).sum()) > 100  # and what no label fits


def test_every_shipped_writer_tells_every_thing():
    told = read_descriptions(DATA / "home_descriptions")
    labels = {each.label for each in told} - {""}
    assert len(labels) == 447
    for writer in {each.writer for each in told} - {"none"}:
        assert {each.label for each in told if each.writer == writer} - {""} == labels


def test_a_bad_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="no descriptions in"):
        read_descriptions(tmp_path)
    (tmp_path / "a.yaml").write_text("fridge: cold\n")
    with pytest.raises(UserError, match=r"a\.yaml must hold lists of texts"):
        read_descriptions(tmp_path)
