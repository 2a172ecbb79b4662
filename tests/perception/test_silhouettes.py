"""The silhouette judge: what it sees, training on a tiny drawn world, round trip, choice of labels, evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from perception.augment import augment
from perception.config import AugmentConfig, JudgeConfig, LeaveOutConfig
from perception.evaluate import evaluate
from perception.labels import ChoiceRule, choose_labels
from perception.silhouettes import SilhouetteJudge, silhouette_view
from perception.train import JudgeTask, train
from perception.views import LeftOut, ViewTable, leave_out, read_views
from runtime.assets import asset_dir
from runtime.config import load_config
from scene.corpus.records import LayerRecord
from scene.corpus.store import Corpus, CorpusWriter
from scene.errors import UserError
from scene.geometry import Size
from scene.vocabulary import Vocabulary

SIZE = Size(320, 256)
LABELS: dict[str, dict[str, object]] = {
    "sky": {"kind": "surface", "mass": True},
    "ball": {"kind": "toy"},
    "post": {"kind": "large"},
    "hook": {"kind": "toy"},
}
SETTINGS = """
network: {side: 32, channels: [8, 16, 16], blocks: [0, 0, 1], hidden: 32}
fit: {batch_size: 16, total_samples: 1600, learning_rate: 5.0e-3, warmup_samples: 100, ema_decay: 0.9, threads: 1}
"""


def _shapes(side: int) -> dict[str, np.ndarray]:
    rows, columns = np.mgrid[0:side, 0:side]
    hook = np.zeros((side, side), dtype=bool)
    hook[:, : side // 4] = hook[-side // 4 :] = True  # an L: a quarter turn makes another picture of it
    return {
        "ball": (rows - side / 2 + 0.5) ** 2 + (columns - side / 2 + 0.5) ** 2 <= side**2 / 4,
        "post": np.ones((side, max(side // 6, 3)), dtype=bool),
        "hook": hook,
    }


def _rgba(mask: np.ndarray) -> np.ndarray:
    return np.dstack([np.full((*mask.shape, 3), 90, np.uint8), mask.astype(np.uint8) * 255])


def _on_canvas(shape: np.ndarray, x: int = 60, y: int = 40) -> np.ndarray:
    mask = np.zeros(SIZE.shape, dtype=bool)
    mask[y : y + shape.shape[0], x : x + shape.shape[1]] = shape
    return mask


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Three shapes in four sizes ("models"), 40 scenes of two to four objects; the largest size only in val."""
    writer = CorpusWriter(
        tmp_path_factory.mktemp("shapes"),
        name="shapes",
        licence="CC0",
        size=SIZE,
        vocabulary=Vocabulary("shapes", LABELS),
    )
    sky = writer.add_asset(_rgba(np.ones(SIZE.shape, bool)), label="sky", description="a sky", source="surface:sky")
    numbers = {
        (label, side): writer.add_asset(_rgba(shape), label=label, description=f"a {label}", source=f"a{side}:{label}")
        for side in (40, 56, 72, 90)
        for label, shape in _shapes(side).items()
    }
    rng = np.random.default_rng(3)
    for scene in range(40):
        held_out = scene % 5 == 4
        layers = [LayerRecord("sky", "a sky", sky, 0, 0)]
        for _ in range(int(rng.integers(2, 5))):
            label = ("ball", "post", "hook")[int(rng.integers(3))]
            asset = numbers[label, 90 if held_out else (40, 56, 72)[int(rng.integers(3))]]
            layers.append(
                LayerRecord(label, f"a {label}", asset, int(rng.integers(-9, 270)), int(rng.integers(0, 160)))
            )
        writer.add_scene(f"s{scene}", scene, "val" if held_out else "train", layers, ["shapes"])
    return writer.finish(held_out={"sources": [f"a90:{label}" for label in ("ball", "post", "hook")]})


@pytest.fixture(scope="module")
def trained(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a training of a few seconds."""
    folder = tmp_path_factory.mktemp("judge")
    (folder / "config.yaml").write_text(SETTINGS, encoding="utf-8")
    train(folder / "config.yaml", data=[corpus.path], out=folder / "run")
    assert list((folder / "run" / "sheets").glob("*.png"))
    return folder / "run" / "export"


def _config(**more: object) -> JudgeConfig:
    return JudgeConfig(
        network={"side": 32, "channels": (8, 16, 16), "blocks": (0, 0, 1), "hidden": 32},  # type: ignore[arg-type]
        fit={"batch_size": 8, "total_samples": 16, "threads": 1},  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )


def test_a_view_is_the_tight_box_letterboxed() -> None:
    view = silhouette_view(_on_canvas(np.ones((100, 40), dtype=bool)), SIZE, 64)
    assert view is not None
    columns = view.picture[32].astype(float) / 255
    assert columns.sum() == pytest.approx(64 * 0.4, abs=0.05)  # area sampling: nothing of the width is lost
    assert np.array_equal(columns, columns[::-1])
    assert (view.picture[:, 32] == 255).all()
    assert view.facts == pytest.approx([np.log2(0.4), np.log2(100 / 320), 0, 0])


def test_a_view_shows_only_what_lies_on_the_canvas() -> None:
    shape = _shapes(90)["ball"]
    beyond = silhouette_view(shape, SIZE, 64, origin=(-45, 30))
    whole = silhouette_view(shape, SIZE, 64, origin=(45, 30))
    canvas = np.zeros(SIZE.shape, dtype=bool)
    canvas[30:120, :45] = shape[:, 45:]
    cropped = silhouette_view(canvas, SIZE, 64)
    assert beyond is not None and whole is not None and cropped is not None
    assert np.array_equal(beyond.picture, cropped.picture)
    assert beyond.facts == pytest.approx(cropped.facts)
    assert beyond.facts[2:].tolist() == [1, 0]
    assert whole.facts[2:].tolist() == [0, 0]
    assert silhouette_view(shape, SIZE, 64, origin=(-89, 30)) is None
    assert silhouette_view(shape, SIZE, 64, origin=(400, 30)) is None


def test_held_out_shapes_are_told_apart(trained: Path, corpus: Corpus) -> None:
    result = evaluate(trained, data=[corpus.path], split="val", progress=False)
    assert result["labels"] == result["labels_seen"] == 3  # a surface is nothing to judge
    assert result["top1"] >= 0.9
    assert result["held_out_models"]["n"] == result["n"]
    assert set(result["recall"]) == {"ball", "post", "hook"}
    assert result["baselines"]["filled_box"]["top1"] < result["top1"]
    assert result["baselines"]["commonest_label"]["top1"] < 0.7
    in_train = evaluate(trained, data=[corpus.path], split="train", progress=False)
    assert in_train["held_out_models"]["n"] == 0
    errors = sum(pair["count"] for pair in result["confusions"])
    assert errors == round((1 - result["top1"]) * result["n"])


def test_the_command_line_evaluates_the_shipped_judge(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    from orchestrator.cli import run_cli

    assert run_cli(["evaluate", "judge", "--data", str(corpus.path)]) == 2
    assert "no mask of split 'val' has a label that" in capsys.readouterr().err  # it knows no ball, post or hook


def test_another_shape_changes_the_verdict(trained: Path) -> None:
    judge = SilhouetteJudge.from_pretrained(trained)
    shapes = _shapes(72)
    masks = [_on_canvas(shapes["ball"]), _on_canvas(shapes["hook"]), _on_canvas(shapes["post"])]
    assert judge.verdicts(masks, SIZE) == ["ball", "hook", "post"]
    lying = _on_canvas(shapes["post"].T)
    assert judge.judge(lying, SIZE)[judge.labels.index("post")] < 0.5 * judge.judge(masks[2], SIZE).max()
    mangled = masks[0].copy()
    mangled[40:94, 78:200] = False  # all of the ball but an L
    assert judge.verdicts([mangled], SIZE) == ["hook"]


def test_nothing_is_taken_for_nothing(trained: Path) -> None:
    judge = SilhouetteJudge.from_pretrained(trained)
    speck = _on_canvas(np.ones((5, 5), dtype=bool))
    assert judge.verdicts([np.zeros(SIZE.shape, dtype=bool), speck], SIZE) == [None, None]
    assert not judge.judge(speck, SIZE).any()


def test_probabilities_do_not_depend_on_company(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = SilhouetteJudge.from_pretrained(trained)
    masks = [_on_canvas(shape, x, 20) for x in (10, 90, 150) for shape in _shapes(60 + x // 5).values()]
    masks.insert(4, np.zeros(SIZE.shape, dtype=bool))
    together = judge.judge_many(masks, SIZE)
    alone = np.stack([judge.judge(mask, SIZE) for mask in masks])
    monkeypatch.setattr("perception.silhouettes.BATCH", 3)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, judge.judge_many(masks, SIZE), atol=1e-5)
    assert together.sum(axis=1) == pytest.approx([1.0] * 4 + [0.0] + [1.0] * 5, abs=1e-5)


def test_round_trip(trained: Path, tmp_path: Path) -> None:
    judge = SilhouetteJudge.from_pretrained(trained)
    judge.save(tmp_path / "copy", {"worlds": {"shapes": "CC0"}})
    again = SilhouetteJudge.from_pretrained(tmp_path / "copy")
    mask = _on_canvas(_shapes(50)["hook"])
    assert again.labels == judge.labels
    assert np.array_equal(again.judge(mask, SIZE), judge.judge(mask, SIZE))


def test_a_wrong_folder_is_one_line(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no silhouette judge in") as error:
        SilhouetteJudge.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "judge.json").write_text('{"labels": ["a"]}', encoding="utf-8")
    with pytest.raises(UserError, match="cannot read"):
        SilhouetteJudge.from_pretrained(tmp_path)
    facts = (trained / "judge.json").read_text(encoding="utf-8")
    (tmp_path / "judge.json").write_text(facts.replace('"ball",', ""), encoding="utf-8")
    (tmp_path / "judge.safetensors").write_bytes((trained / "judge.safetensors").read_bytes())
    with pytest.raises(UserError, match="do not fit") as error:
        SilhouetteJudge.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_a_batch_depends_on_its_numbers_only(corpus: Corpus) -> None:
    task = JudgeTask(_config(), [corpus])
    whole, part = task.batch([4, 5, 6, 7]), task.batch([6])
    torch.testing.assert_close(whole.pictures[2:3], part.pictures, atol=1e-6, rtol=0)
    torch.testing.assert_close(whole.facts[2:3], part.facts, atol=1e-6, rtol=0)
    assert whole.labels[2] == part.labels[0]
    assert len(set(task.batch(range(64)).labels.tolist())) == 3


def test_two_trainings_give_the_same_bytes(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(SETTINGS, encoding="utf-8")
    for run in ("a", "b"):
        train(tmp_path / "config.yaml", data=[corpus.path], out=tmp_path / run, overrides=["fit.total_samples=48"])
    first, second = (tmp_path / run / "export" / "judge.safetensors" for run in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_a_label_without_masks_is_refused(corpus: Corpus) -> None:
    with pytest.raises(UserError, match="no training mask of 'sofa'"):
        JudgeTask(_config(labels=("ball", "sofa")), [corpus])


def test_augmented_silhouettes_fill_their_square(corpus: Corpus) -> None:
    table = read_views([corpus], "train", 32)[np.arange(40)]
    rngs = [np.random.default_rng(number) for number in range(40)]
    plain, facts = augment(table.pictures, table.facts, rngs, AugmentConfig(
        mirror_share=0, turn_deg=0, shear=0, stretch=0, rescale=0, cut_share=0, outline_share=0, facts_dropout=0,
    ))  # fmt: skip
    assert np.abs(plain.numpy() - table.pictures / 255).mean() < 0.03
    assert np.abs(facts.numpy() - table.facts).max() < 1e-4
    rngs = [np.random.default_rng(number) for number in range(40)]
    varied, facts = augment(table.pictures, table.facts, rngs, AugmentConfig(cut_share=1.0, facts_dropout=0.0))
    assert torch.isfinite(varied).all() and varied.min() >= 0 and varied.max() <= 1
    spans = torch.maximum((varied.amax(1) > 0.4).sum(1), (varied.amax(2) > 0.4).sum(1))
    assert spans.min() >= 27
    assert (facts[:, 2:].amax(1) == 1).all()
    assert np.abs(varied.numpy() - table.pictures / 255).mean() > 0.05


def test_whole_models_and_scenes_are_left_out(corpus: Corpus) -> None:
    table = read_views([corpus], "train", 32)
    left = leave_out(table, LeaveOutConfig(models=0.3, scenes=0.2))
    trained = table[~left.any]
    for label in ("ball", "post", "hook"):
        away = set(table.sources[left.models & (table.labels == label)])
        assert len(away) == 1
        assert not away & set(trained.sources)
    assert left.scenes.any() and not (left.scenes & left.models).any()
    assert not set(table.groups[left.scenes]) & set(trained.groups)
    one_artist = read_views([corpus], "train", 32, artists={"a40": "ann", "a56": "ann", "a72": "ann"})
    assert not leave_out(one_artist, LeaveOutConfig(models=0.3, scenes=0.0)).any.any()
    task = JudgeTask(_config(leave_out=LeaveOutConfig(models=0.3, scenes=0.2)), [corpus])
    assert len(task.table) == len(trained)


def test_labels_that_others_are_taken_for_are_not_chosen() -> None:
    names = np.repeat(["box", "cat", "chest", "rare"], [40, 40, 40, 8])
    count = len(names)
    table = ViewTable(
        np.zeros((count, 2, 2), np.uint8), np.zeros((count, 4), np.float32), names, names, names, names, names
    )
    left = np.arange(count) % 2 == 0
    probabilities = np.zeros((count, 4), dtype=np.float32)
    labels = ("box", "cat", "chest", "rare")
    for row, name in enumerate(names):
        probabilities[row, labels.index("box" if name == "chest" else name)] = 0.6  # chests are taken for boxes
        probabilities[row, labels.index(name)] += 0.3
    chosen = choose_labels(probabilities, labels, table, LeftOut(left, np.zeros(count, bool)), ChoiceRule(train=10))
    assert chosen == ("box", "cat")


def test_an_unknown_model_costs_no_other_label() -> None:
    """The label lamp is known from its seen models only and must go; fork, sometimes taken for a cup, stays."""
    names = np.repeat(["cup", "fork", "lamp"], [40, 40, 100])
    numbers = np.arange(len(names))
    models = (names == "lamp") & (numbers % 100 < 12) | (names != "lamp") & (numbers % 2 == 0)
    scenes = (names == "lamp") & ~models & (numbers % 3 > 0)
    table = ViewTable(
        np.zeros((len(names), 2, 2), np.uint8), np.zeros((len(names), 4), np.float32), names, names, names, names, names
    )
    labels = ("cup", "fork", "lamp")
    probabilities = np.zeros((len(names), 3), dtype=np.float32)
    for row, name in enumerate(names):
        taken_for = "cup" if name == "lamp" and models[row] else "cup" if name == "fork" and row % 5 == 0 else name
        probabilities[row, labels.index(taken_for)] = 1.0
    chosen = choose_labels(probabilities, labels, table, LeftOut(models, scenes), ChoiceRule(recall=0.6))
    assert chosen == ("cup", "fork")


@pytest.mark.parametrize(
    "path", sorted(asset_dir("configs").glob("judge/silhouettes*.yaml")), ids=lambda path: path.name
)
def test_shipped_configs_parse(path: Path) -> None:
    load_config(JudgeConfig, path)


def test_the_shipped_judge_loads_and_is_small() -> None:
    folder = asset_dir("pretrained") / "judge"
    judge = SilhouetteJudge.from_pretrained(folder)
    assert len(judge.labels) >= 50
    assert judge.labels == load_config(JudgeConfig, asset_dir("configs") / "judge" / "silhouettes.yaml").labels
    assert sum(parameter.numel() for parameter in judge.network.parameters()) < 1_500_000
    assert (folder / "judge.safetensors").stat().st_size < 3_000_000
    assert {"README.md", "LICENSE"} <= {path.name for path in folder.iterdir()}
