import numpy as np
import pytest
import torch

from perception.locator import Locator, LocatorConfig, PictureReader, save_reader, squeezed
from perception.locator_train import OPEN, LocatorTask, asset_depths, reader_scores
from planner.pictures import layout_steps
from runtime.training import FitConfig, fit
from scene.errors import UserError
from tests.planner.conftest import corpus  # noqa: F401  a fixture

TINY = LocatorConfig(
    side_px=32, widths=(16, 16, 16), blocks=1,
    fit=FitConfig(batch_size=2, total_samples=4, learning_rate=1e-3, ema_decay=None),
)  # fmt: skip


def coloured(corpus, layers):  # noqa: F811
    """A picture in which labels differ: the tiny corpus is white on white."""
    return list(layout_steps(corpus, layers))[-1]


def test_truth_is_what_shows_on_the_canvas(corpus):  # noqa: F811
    task = LocatorTask(TINY, corpus)
    record = corpus.records("train")[0]
    truth = task.truth(record.layers)
    assert set(truth) == {layer.label for layer in record.layers} - {"sky", "grass"}
    for layer in record.layers:
        box = corpus.box(layer)
        if layer.label in truth and [each.label for each in record.layers].count(layer.label) == 1:
            assert truth[layer.label].x == pytest.approx(box.center[0] / corpus.size.width)
    hidden = [*record.layers, record.layers[0]]  # the sky over everything
    assert {each.there for each in task.truth(hidden).values()} == {OPEN}


def test_depth_is_the_rank_among_a_drawing_s_sizes(corpus):  # noqa: F811
    depths = asset_depths(corpus)
    assert set(depths) <= {0, 1, 2}
    heights = {}
    for info, depth in zip(corpus.assets, depths, strict=True):
        heights.setdefault((info.label, info.source), {})[info.height] = depth
    for sizes in heights.values():
        ordered = [sizes[height] for height in sorted(sizes, reverse=True)]
        assert ordered == sorted(ordered)


def test_a_reader_learns_two_pictures_by_heart_and_loads_again(corpus, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(type(corpus), "painted", coloured)
    task = LocatorTask(TINY, corpus)
    batch = task.batch([0, 1])
    optimizer = torch.optim.Adam(task.model.parameters(), 3e-3)
    for _ in range(150):
        loss, facts = task.loss(task.model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert facts["right"] == 1.0
    save_reader(task.model, tmp_path)
    reader = PictureReader.load(tmp_path)
    pictures = [corpus.painted(task.layers(number)) for number in (0, 1)]
    for found, number in zip(reader.read(pictures), (0, 1), strict=True):
        assert set(found) == {label for label, each in task.truth(task.layers(number)).items() if each.there == 1}
    scores = reader_scores(task, reader, corpus.records("train")[:2])
    assert set(scores) == {"precision", "recall", "f1", "error_across", "depth_right"}


def test_training_runs_and_writes_a_sheet(corpus, tmp_path):  # noqa: F811
    task = LocatorTask(TINY, corpus)
    fit(task, TINY.fit, tmp_path / "run")
    assert PictureReader.load(tmp_path / "run" / "export").labels == task.config.labels


def test_no_reader_says_how_to_get_one(tmp_path):
    with pytest.raises(UserError, match="locator_train"):
        PictureReader.load(tmp_path)


def test_an_untrained_reader_sees_nothing():
    model = Locator(TINY.model_copy(update={"labels": ("a", "b")})).eval()
    assert PictureReader(model).read([np.zeros((20, 30, 3), dtype=np.uint8)]) == [{}]
    assert squeezed(np.full((20, 30, 3), 255, dtype=np.uint8), 16).shape == (3, 16, 16)
