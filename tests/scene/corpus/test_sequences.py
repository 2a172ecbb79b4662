import json

import numpy as np
import pytest

from scene.corpus.sequences import (
    LayoutSequence,
    corpus_sequences,
    entry_picture,
    export_sequences,
    from_conversation,
    read_sequences,
    to_conversation,
)
from scene.errors import UserError
from scene.layout import label_colour, layout_picture
from tests.planner.conftest import SIZE, corpus  # noqa: F401

GOOD = {"scene_id": "a", "k": 1, "prompt": "a boy", "canvas": [320, 256], "answer": {"stop": True},
        "objects": [{"label": "boy", "description": "a boy", "box": [1, 2, 30, 40]}]}  # fmt: skip


@pytest.mark.parametrize("form", ["jsonl", "llava"])
def test_both_formats_read_back_what_was_written(corpus, tmp_path, form):  # noqa: F811
    file = tmp_path / f"train.{form}"
    count = export_sequences(corpus, file, "train", form=form, relation_of=lambda _, layers: ("on", layers[0].label)
                             if len(layers) > 1 else None)  # fmt: skip
    entries = list(read_sequences(file))
    assert len(entries) == count == sum(len(record.layers) + 1 for record in corpus.records("train"))
    records = {record.id: record for record in corpus.records("train")}
    for entry in entries:
        assert entry.canvas == (SIZE.width, SIZE.height)
        record = records[entry.scene_id]
        assert [item.label for item in entry.objects] == [layer.label for layer in record.layers[: entry.k]]
        if entry.answer.stop:
            assert entry.k == len(record.layers)
        else:
            assert entry.answer.label == record.layers[entry.k].label
            assert (entry.answer.relation is None) == (entry.k == 0)
        if form == "llava":
            picture = entry_picture(entry, tmp_path)
            np.testing.assert_array_equal(picture, layout_picture(corpus.layout(record, entry.k)))


def test_llava_files_are_standard_json(corpus, tmp_path):  # noqa: F811
    file = tmp_path / "x.json"
    export_sequences(corpus, file, "train", form="llava", limit=1)
    entries = json.loads(file.read_text())
    for entry in entries:
        assert entry.keys() == {"id", "image", "conversations"}
        assert [turn["from"] for turn in entry["conversations"]] == ["human", "gpt"]
        assert entry["conversations"][0]["value"].startswith("<image>\n")
        assert (tmp_path / entry["image"]).is_file()


def test_exports_are_the_same_every_time(corpus, tmp_path):  # noqa: F811
    for name in ("a", "b"):
        export_sequences(corpus, tmp_path / name, "all")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_conversations_keep_every_field(corpus):  # noqa: F811
    record = corpus.records("train")[0]
    for entry in corpus_sequences(corpus, record, "a boy\nand a dog"):
        again = from_conversation(to_conversation(entry, "x.png"))
        assert (again.prompt, again.objects, again.answer, again.k) == (
            "a boy and a dog", entry.objects, entry.answer, entry.k)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"k": 2}, "k is 2, but there are 1 objects"),
        ({"answer": {"label": "dog"}}, "answer: Value error, an answer is either stop alone or"),
        ({"answer": {"stop": True, "label": "dog"}}, "either stop alone"),
        ({"objects": [{"label": "boy", "description": "a boy", "box": [30, 2, 1, 40]}]}, "is empty"),
        ({"surprise": 1}, "surprise"),
        ({"answer": {"label": "dog", "description": "a dog", "box": [0, 0, 9, 9], "relation": ["on", "cat"]}}, "'cat'"),
    ],
)
def test_broken_entries_name_line_and_reason(tmp_path, change, reason):
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(GOOD | change) + "\n")
    with pytest.raises(UserError, match=f"line 3 is no layout sequence: .*{reason}"):
        list(read_sequences(file))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ('{"id": "1"}', "need an object with id, image and conversations"),
        ('{"id": "1", "image": "x", "conversations": []}', "one turn from human"),
        ('{"id": "1", "image": "x", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": ""}]}',
         "human turn is not"),
        ('{"id": ', "not JSON"),
    ],
)  # fmt: skip
def test_broken_conversations_name_the_line_they_begin_on(tmp_path, entry, reason):
    file = tmp_path / "x.json"
    good = to_conversation(LayoutSequence.model_validate(GOOD), "x.png")
    file.write_text("[\n" + json.dumps(good, indent=1) + ",\n" + entry + "\n]")
    line = json.dumps(good, indent=1).count("\n") + 3
    with pytest.raises(UserError, match=f"line {line} is no layout sequence: .*{reason}"):
        list(read_sequences(file))


def test_boxes_are_painted_where_there_is_no_picture(tmp_path):
    picture = entry_picture(LayoutSequence.model_validate(GOOD), tmp_path)
    assert tuple(picture[2, 1]) == label_colour("boy")
    assert tuple(picture[1, 1]) == (255, 255, 255)
    with pytest.raises(UserError, match="cannot read picture"):
        entry_picture(LayoutSequence.model_validate(GOOD | {"image": "none.png"}), tmp_path)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        list(read_sequences(tmp_path / "none.jsonl"))
