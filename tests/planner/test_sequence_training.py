import json

import pytest
from peft import get_peft_model_state_dict

from planner.language_train import PlannerTask
from planner.lessons import SequenceLessons
from planner.links import corpus_relations
from planner.llava import add_lora
from planner.train import train_on_sequences
from runtime.snapshot import SnapshotStore
from scene.corpus.sequences import export_sequences
from scene.errors import UserError
from tests.planner.conftest import TINY_LORA, make_llava, tiny_config


@pytest.fixture(params=["jsonl", "llava"])
def file(request, corpus, tmp_path):
    target = tmp_path / f"sequences.{request.param}"
    export_sequences(corpus, target, "all", form=request.param, relation_of=corpus_relations(corpus))
    return target


def fresh():
    return add_lora(make_llava(seed=3), TINY_LORA)


def test_lessons_are_whole_scenes_and_hold_out_other_splits(corpus, file):
    seen, unseen = SequenceLessons(file, links=True), SequenceLessons(file, held_out=True)
    assert len(seen.groups) == len(corpus.records("train"))
    assert len(unseen.groups) == len(corpus.records("val"))
    lesson = seen.lesson(0, 0, 2)
    assert lesson.answers[-1].stop
    assert len(lesson.steps) == len(lesson.pictures) == 2
    assert seen.lesson(0, 0, 2).steps == lesson.steps
    links = [answer.link for n in range(8) for answer in seen.lesson(n, 0, 9).answers]
    assert any(links)
    assert not any(answer.link for n in range(8) for answer in unseen.lesson(n, 0, 9).answers)


def test_training_improves_what_it_has_not_seen(file, encoder, tmp_path):
    out = tmp_path / "run"
    config = tiny_config(total_samples=60, learning_rate=2e-2)
    train_on_sequences(config, file, out, model=fresh(), encoder=encoder)
    losses = json.loads((out / "held_out.json").read_text())
    assert losses["after"] < losses["before"] - 0.1
    assert (out / "export" / "adapter_model.safetensors").is_file()


def test_a_resumed_run_equals_an_uninterrupted_one(file, encoder, tmp_path):
    def weights(out, totals):
        for number, total in enumerate(totals):
            config, model = tiny_config(total_samples=total), fresh()
            train_on_sequences(config, file, out, resume=number > 0, model=model, encoder=encoder)
        return get_peft_model_state_dict(model), SnapshotStore(out / "snapshots").latest().samples

    (whole, samples), (parts, again) = weights(tmp_path / "a", [8]), weights(tmp_path / "b", [2, 6, 8])
    assert samples == again == 8
    assert all((parts[name] == whole[name]).all() for name in whole)
    assert json.loads((tmp_path / "a/held_out.json").read_text()) == json.loads(
        (tmp_path / "b/held_out.json").read_text()
    )


def test_only_answers_carry_loss(file, encoder):
    task = PlannerTask(tiny_config(), SequenceLessons(file), model=fresh(), encoder=encoder)
    scene = task.scene(0)
    rows = scene.packed.targets >= 0
    assert 0 < rows.sum() < len(rows)
    head = len(encoder.head(task.lessons.lesson(0, 0, 2).prompt))
    assert not rows[: head - 1].any()


def test_a_file_with_nothing_to_hold_out_says_so(corpus, tmp_path):
    file = tmp_path / "few.jsonl"
    export_sequences(corpus, file, "train", limit=2)
    with pytest.raises(UserError, match="held out"):
        SequenceLessons(file, held_out=True)
