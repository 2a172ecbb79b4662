"""A corpus in shards: all of it, nothing twice, and a damaged shard is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scene.corpus.build import build_corpus
from scene.corpus.records import LayerRecord, SceneRecord
from scene.corpus.shards import ShardedCorpus, open_any, write_shards
from scene.corpus.store import Corpus
from scene.errors import UserError
from tests.scene.corpus.toy_world import opener


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Wall, lawn and two balls with shadows, 23 scenes with plans: 19 train, 2 val, 2 test."""
    return build_corpus(opener(), tmp_path_factory.mktemp("toy") / "corpus", 24)


@pytest.fixture
def shards(corpus: Corpus, tmp_path: Path) -> ShardedCorpus:
    return write_shards(corpus.path, tmp_path / "shards", scenes_per_shard=5)


def contents(corpus: Corpus, record: SceneRecord) -> tuple[object, ...]:
    """Everything of a scene but the numbers of its assets."""

    def layer(one: LayerRecord) -> tuple[object, ...]:
        effect = one.effect and (corpus.asset(one.effect)[0].tobytes(), *corpus.asset(one.effect)[1:])
        shape, picture = corpus.shape(one).tobytes(), corpus.asset(one)[0].tobytes()
        return (
            one.label,
            one.description,
            one.x,
            one.y,
            one.facts,
            corpus.assets[one.asset].source,
            shape,
            picture,
            effect,
        )

    return record.id, record.group, record.split, record.prompts, record.recipe, tuple(map(layer, record.layers))


def test_shards_hold_every_scene_once_with_all_that_belongs_to_it(corpus: Corpus, shards: ShardedCorpus) -> None:
    whole = {
        record.id: (contents(corpus, record), plan)
        for record, plan in zip(corpus.records(), corpus.plans(), strict=True)
    }
    found = {}
    for shard, part in zip(shards.shards("all"), shards.parts("all"), strict=True):
        records = part.records()
        assert len(records) == shard.scenes <= 5 and {record.split for record in records} == {shard.split}
        assert [record.id for record in records] == [r.id for r in corpus.records() if r.id in {x.id for x in records}]
        used = {layer.asset for r in records for layer in r.layers} | {
            x.effect.asset for r in records for x in r.layers if x.effect
        }
        assert used == set(range(len(part.assets)))  # nothing is carried along in vain
        for record, plan in zip(records, part.plans(), strict=True):
            assert record.id not in found
            found[record.id] = contents(part, record), plan
    assert found == whole
    assert [shard.scenes for shard in shards.shards("train")] == [5, 5, 5, 4]  # equal to one scene
    assert shards.labels == corpus.labels and shards.licence == corpus.licence and shards.size == corpus.size
    assert next(shards.parts("val")).held_out == corpus.held_out
    assert (shards.path / "ATTRIBUTION.md").read_text() == (corpus.path / "ATTRIBUTION.md").read_text()


def test_turns_are_copied_too(tmp_path: Path) -> None:
    from scene.corpus.records import Turn
    from scene.corpus.store import CorpusWriter
    from scene.geometry import Size
    from scene.vocabulary import Vocabulary

    words = Vocabulary("tiny", {"ball": {"kind": "toy"}})
    writer = CorpusWriter(tmp_path / "corpus", name="tiny", licence="CC0", size=Size(256, 256), vocabulary=words)
    for number in range(3):
        picture = np.full((4, 4 + number, 4), 255, np.uint8)
        writer.add_asset(picture, label="ball", description=f"ball {number}", source=f"{number}")
    last = LayerRecord("ball", "ball 2", 2, 8, 9)
    writer.add_scene("one", 0, "train", [last], ["a ball"], [Turn("draw", "done", (), (last,))])
    writer.finish()
    part = next(write_shards(tmp_path / "corpus", tmp_path / "out", scenes_per_shard=9).parts("train"))
    turn = part.records()[0].turns[0]
    assert (turn.teller, turn.before, turn.after[0].description) == ("draw", (), "ball 2")
    assert len(part.assets) == 1 and part.shape(turn.after[0]).shape == (4, 6)


def test_same_seed_same_shards_another_seed_other_company(
    corpus: Corpus, shards: ShardedCorpus, tmp_path: Path
) -> None:
    again = write_shards(corpus.path, tmp_path / "again", scenes_per_shard=5)
    other = write_shards(corpus.path, tmp_path / "other", scenes_per_shard=5, seed=1)
    assert again.shards("all") == shards.shards("all") and again.fingerprint == shards.fingerprint
    assert other.fingerprint != shards.fingerprint
    assert next(other.parts("train")).records() != next(shards.parts("train")).records()


def damage(shards: ShardedCorpus) -> Iterator[tuple[str, str]]:
    """Spoils shards one after the other; yields which, and what is to be said of it."""
    folder = shards.path
    data = (folder / "train-00000" / "assets.bin").read_bytes()
    (folder / "train-00000" / "assets.bin").write_bytes(data[:-9])
    yield "train-00000", f"assets.bin has {len(data) - 9} bytes, the list says {len(data)}"
    lines = bytearray((folder / "train-00001" / "scenes.jsonl").read_bytes())
    lines[20] ^= 1
    (folder / "train-00001" / "scenes.jsonl").write_bytes(lines)
    yield "train-00001", r"scenes.jsonl is not what was written \(sha256\)"
    (folder / "train-00002" / "assets.jsonl").unlink()
    yield "train-00002", r"assets.jsonl cannot be read \(No such file or directory\)"


def test_a_damaged_shard_is_named_and_the_others_stay_readable(shards: ShardedCorpus) -> None:
    for name, reason in damage(shards):
        shard = next(shard for shard in shards.shards("all") if shard.name == name)
        with pytest.raises(UserError, match=f"^shard {name} of {shards.path}: {reason}; copy it again"):
            shards.shard(shard)
    assert len(shards.shard(shards.shards("train")[3]).records()) == 4


def test_what_is_refused(corpus: Corpus, shards: ShardedCorpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not empty; choose another folder"):
        write_shards(corpus.path, shards.path, scenes_per_shard=5)
    with pytest.raises(UserError, match="no corpus in"):
        write_shards(tmp_path / "nowhere", tmp_path / "out", scenes_per_shard=5)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="holds shards, which `smartscene train masker` reads"):
        Corpus.open(shards.path)
    with pytest.raises(UserError, match="split 'most' is not one of"):
        shards.shards("most")
    assert isinstance(open_any(shards.path), ShardedCorpus) and isinstance(open_any(corpus.path), Corpus)
    facts = json.loads((shards.path / "shards.json").read_text())
    for text, reason in (
        ("{", "Expecting"),
        (json.dumps(facts | {"schema_version": 7}), "schema 7, this version reads 1"),
        ("[]", "indices"),
    ):
        (shards.path / "shards.json").write_text(text)
        with pytest.raises(UserError, match=f"cannot read .*shards.json .*{reason}"):
            open_any(shards.path)
