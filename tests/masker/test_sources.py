"""Examples out of shards: functions of the sample number, shards of its own for each process, bounded memory."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from masker.config import ExamplesConfig
from masker.examples import ExampleSource, MaskExample
from masker.sources import MixedSource, ShardSource
from masker.texts import TextBook
from masker.train import train
from perception.text import TextFeatures
from runtime.fit_config import FitConfig
from runtime.training import _shares
from scene.corpus.shards import Shard, ShardedCorpus, write_shards
from scene.corpus.store import Corpus
from scene.errors import UserError
from tests.masker.conftest import TEXT, fake_encode

FEW = ExamplesConfig(shard_lanes=2, shard_samples=3)


@pytest.fixture(scope="module")
def shards(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> ShardedCorpus:
    """Twenty scenes of split train in ten shards, four of split val in two."""
    return write_shards(corpus.path, tmp_path_factory.mktemp("shards") / "tiny", scenes_per_shard=2)


def same(one: MaskExample, other: MaskExample) -> bool:
    arrays = ("index", "guide", "distance", "geometry", "target")
    words = ("object", "context", "form", "label", "window")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays) and all(
        getattr(one, name) == getattr(other, name) for name in words
    )


def mixed(corpus: Corpus | ShardedCorpus, config: ExamplesConfig = FEW, split: str = "train") -> MixedSource:
    return MixedSource([corpus], split, config, 32, seed=5)


def test_one_shard_gives_the_samples_of_the_corpus(corpus: Corpus, tmp_path: Path) -> None:
    single = write_shards(corpus.path, tmp_path / "single", scenes_per_shard=1000)
    assert len(single.shards("train")) == 1
    ours, theirs = mixed(single), mixed(corpus)
    assert ours.labels == theirs.labels
    columns = np.arange(0, 320, 10)
    for number in range(20):
        assert same(ours.example(number), theirs.example(number))
        assert np.array_equal(ours.mask_only(number), theirs.mask_only(number))
        assert ours.placed(number).box == theirs.placed(number).box
        assert np.array_equal(ours.surface(number, columns).mask, theirs.surface(number, columns).mask)


def test_a_sample_is_that_of_its_shard_alone_whatever_was_read_before(shards: ShardedCorpus) -> None:
    source, jumping = mixed(shards), mixed(shards)
    inner = source.sources[0]
    assert isinstance(inner, ShardSource)
    straight = [source.example(number) for number in range(80)]
    for number in (79, 0, 41, 6, 40):
        assert same(jumping.example(number), straight[number])
        alone = ExampleSource(shards.shard(inner.shard_of(number)), "train", FEW, 32, 5, source.labels)
        assert same(alone.example(number), straight[number])


def test_every_turn_reads_every_shard_equally_often_in_an_order_of_its_own(shards: ShardedCorpus) -> None:
    source = ShardSource(shards, "train", FEW, 32, 5)
    turn = 10 * FEW.shard_samples
    seen = [[source.shard_of(n).name for n in range(k * turn, (k + 1) * turn)] for k in range(3)]
    for names in seen:
        assert sorted(names) == sorted(shard.name for shard in shards.shards("train") for _ in range(3))
    assert len({tuple(names) for names in seen}) == 3
    other = ShardSource(shards, "train", FEW, 32, 6)
    assert [other.shard_of(n).name for n in range(turn)] != seen[0]


def read_by(
    shards: ShardedCorpus, rank: int, processes: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> set[str]:
    """Names of the shards that a process opens in a training of so many samples; it draws every example."""
    opened: set[str] = set()
    real = ShardedCorpus.shard

    def shard(self: ShardedCorpus, shard: Shard) -> Corpus:
        opened.add(shard.name)
        return real(self, shard)

    fit = FitConfig(batch_size=6, total_samples=samples, accumulate=1)
    source = mixed(shards)
    with monkeypatch.context() as patched:
        patched.setattr(ShardedCorpus, "shard", shard)
        for _, parts in _shares(fit, 0, rank, processes):
            for part in parts:
                for number in part:
                    source.example(number)
    return opened


def test_two_processes_read_different_shards_and_together_all(
    shards: ShardedCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = 10 * FEW.shard_samples
    first, second = (read_by(shards, rank, 2, turn, monkeypatch) for rank in range(2))
    assert len(first) == len(second) == 5 and not first & second
    assert first | second == read_by(shards, 0, 1, turn, monkeypatch) == {x.name for x in shards.shards("train")}


def test_open_shards_do_not_grow_with_their_number(shards: ShardedCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Corpus] = weakref.WeakSet()
    real, most = ShardedCorpus.shard, 0

    def shard(self: ShardedCorpus, shard: Shard) -> Corpus:
        corpus = real(self, shard)
        alive.add(corpus)
        return corpus

    monkeypatch.setattr(ShardedCorpus, "shard", shard)
    source, opened = mixed(shards), set()
    for number in range(10 * FEW.shard_samples):
        source.example(number)
        opened.add(source.source_of(number).corpus.path.name)
        gc.collect()
        most = max(most, len(alive))
    assert len(opened) == 10
    assert most == FEW.shard_lanes


def test_shards_and_a_corpus_mix(corpus: Corpus, shards: ShardedCorpus) -> None:
    both = MixedSource([corpus, shards], "train", FEW, 32, seed=5)
    whole = sum(both.source_of(number).corpus is corpus for number in range(200))
    assert 70 < whole < 130
    assert both.first.corpus is corpus and mixed(shards, split="val").first.records[0].split == "val"


def codec_run(data: Path, out: Path, *more: str, resume: bool = False) -> dict[str, torch.Tensor]:
    settings = [
        "codec.resolution=16", "codec.latent_channels=4", "codec.channels=[16, 16]", "codec.encoder_blocks=1",
        "codec.decoder_blocks=1", "examples.shard_lanes=2", "examples.shard_samples=3", "fit.batch_size=4",
        "fit.warmup_samples=0", "fit.threads=1", "fit.schedule=constant", "fit.sheet_every=1000", *more,
    ]  # fmt: skip
    from runtime.assets import asset_dir

    train(asset_dir("configs") / "masker" / "codec_park.yaml", data=[data], out=out, overrides=settings, resume=resume)
    return load_file(max((out / "snapshots").iterdir()) / "tensors.safetensors")


def test_a_training_on_shards_goes_on_as_if_it_had_not_stopped(shards: ShardedCorpus, tmp_path: Path) -> None:
    plain = codec_run(shards.path, tmp_path / "plain", "fit.total_samples=24")
    codec_run(shards.path, tmp_path / "cut", "fit.total_samples=8")
    resumed = codec_run(shards.path, tmp_path / "cut", "fit.total_samples=24", resume=True)
    assert plain.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in plain.items())


def test_a_damaged_shard_stops_the_training_with_its_name(corpus: Corpus, tmp_path: Path) -> None:
    mine = write_shards(corpus.path, tmp_path / "shards", scenes_per_shard=2)
    (mine.path / "train-00004" / "assets.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"shard train-00004 of .*: assets\.bin has 0 bytes"):
        codec_run(mine.path, tmp_path / "run", "fit.total_samples=64")


def test_a_split_without_shards_is_said(shards: ShardedCorpus) -> None:
    with pytest.raises(UserError, match="has no shards of split test; cut a corpus with more scenes"):
        mixed(shards, split="test").example(0)


def test_the_cache_of_texts_is_bounded_and_forgetting_changes_nothing() -> None:
    asked: list[str] = []

    def encode(text: str, tokens: int) -> TextFeatures:
        asked.append(text)
        return fake_encode(text, tokens)

    free = TextBook(TEXT, encode)
    texts = [f"ball {number}" for number in range(50)]
    expected = free.batch(texts, texts)
    tight = TextBook(TEXT, encode, kept_bytes=1000)
    found = tight.batch(texts, texts)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert sum(tokens.nbytes + mask.nbytes for tokens, mask in tight._tokens.values()) <= 1000
    asked.clear()
    for _ in range(2):
        tight.batch(["ball 7"], ["a ball"])
    assert asked == ["ball 7", "a ball"]  # forgotten, and then remembered
