import json
from pathlib import Path

import pytest
import torch

from planner.descriptions import DictionarySize, ReverseDictionary, company
from planner.descriptions_train import DescriptionsTask, DescriptionsTrainConfig, Told, read_descriptions
from planner.phrases import DATA
from runtime.fit_config import FitConfig
from runtime.training import fit
from scene.errors import UserError

TOLD = [
    Told("fridge", "it keeps food cold", "a"), Told("fridge", "full of ice and food", "a"),
    Told("fridge", "cold milk and ice", "b"), Told("trampoline", "bounce on springs", "a"),
    Told("trampoline", "kids jump and bounce", "a"), Told("trampoline", "springs to jump on", "b"),
    Told("", "a summer day", "a"), Told("", "my friends", "a"), Told("", "a day with friends", "b"),
]  # fmt: skip
FIT = FitConfig(
    batch_size=4, total_samples=60, learning_rate=0.005, warmup_samples=0, ema_decay=None, sheet_every=60, threads=1
)
SMALL = DictionarySize(layers=1, rank=2, nothings=2)


def test_a_held_out_writer_is_understood(tmp_path):
    task = DescriptionsTask(DescriptionsTrainConfig(size=SMALL, held_out="b", fit=FIT), TOLD)
    assert len(task.told) == 6
    fit(task, FIT, tmp_path / "run")
    assert task.validation()["top_1"] == 1.0
    rows = (tmp_path / "run" / "sheets" / "validation.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["top_1"] == 1.0
    again = ReverseDictionary.load(tmp_path / "run" / "export")
    assert again is not None
    found = again.chances("ice cold")
    assert max(found, key=found.__getitem__) == "fridge"
    assert sum(found.values()) == pytest.approx(1)
    task.dictionary.eval()
    assert found == pytest.approx(task.dictionary.chances("ice cold"), abs=1e-3)


def test_what_stands_beside_a_description_is_read_but_not_named():
    torch.manual_seed(0)
    dictionary = ReverseDictionary(["fridge", "trampoline"], SMALL).eval()
    torch.nn.init.normal_(dictionary.weight)
    alone, beside = (dictionary([("cold food", others)]) for others in ("", "oven, sink"))
    assert not torch.allclose(alone, beside)
    together = dictionary([("cold food", "oven, sink"), ("what the kids bounce on for hours and hours", "")])
    assert torch.allclose(together[0], beside[0], atol=1e-4)
    assert company(["oven", "sink", "oven", "cat", "dog", "bed"]) == "oven, sink, cat, dog"


def test_nobody_held_out_and_nobody_of_that_name():
    assert DescriptionsTask(DescriptionsTrainConfig(size=SMALL, fit=FIT), TOLD).validation() == {}
    with pytest.raises(UserError, match="held_out=z: there is no such writer"):
        DescriptionsTask(DescriptionsTrainConfig(size=SMALL, held_out="z", fit=FIT), TOLD)


def test_names_in_company_and_what_names_nothing(monkeypatch):
    monkeypatch.setattr(DescriptionsTask, "_start", lambda task: None)
    config = DescriptionsTrainConfig(
        size=SMALL, world=Path("configs/worlds/home.yaml"), plain=3, frames="home_frames.jsonl", company=1.0, fit=FIT
    )
    task = DescriptionsTask(config, TOLD)
    assert set(task.dictionary.labels) == {"fridge", "trampoline"}
    named = [each for each in task.told if each.label]
    assert len(named) > 6 + 2 * 3  # what marked prompts call a fridge
    assert len(task.told) - len(named) > 100  # and what no label fits
    task.company = {"fridge": [["trampoline"]]}
    texts, places = task.batch(range(len(task.told)))
    assert all((others == "trampoline") == (place == 0) for (_, others), place in zip(texts, places, strict=True))
    assert sorted(texts) == sorted(task.batch(range(len(task.told), 2 * len(task.told)))[0])


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
