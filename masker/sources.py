"""Where training examples come from: several corpora at once, and corpora in shards, read a few shards at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from masker.config import ExamplesConfig
from masker.examples import ExampleSource, MaskExample, PlacedExample, SurfaceExample
from runtime.seeding import numpy_rng
from scene.corpus.shards import AnyCorpus, Shard, ShardedCorpus
from scene.errors import UserError
from scene.seeds import derive_seed


@lru_cache(maxsize=4)
def _order(seed: int, split: str, turn: int, shards: int) -> np.ndarray:
    """In which order turn number `turn` goes through the shards, int64 (shards,)."""
    return np.random.default_rng(derive_seed(seed, "order of shards", split, turn)).permutation(shards)


class ShardSource:
    """Draws examples from a corpus in shards, of which it keeps at most `config.shard_lanes` open.

    Sample n belongs to lane n % lanes. A lane takes `config.shard_samples` samples from a shard and goes on to its next
    one; the lanes together go through all shards in an order drawn by the seed, then again in another. So example n
    is still a function of (seed, n) alone, however many processes there are and wherever they were interrupted. And if
    the number of processes divides lanes and batch size, no two of them read the same shard in the same turn.

    Within a shard, objects are drawn as `ExampleSource` draws them. Shards are of equal size, so that objects are drawn
    about equally often.

    Args:
        corpus: Where shards come from.
        Others: As in `ExampleSource`.
    """

    def __init__(
        self,
        corpus: ShardedCorpus,
        split: str,
        config: ExamplesConfig,
        resolution: int,
        seed: int,
        labels: Sequence[str] | None = None,
        fine: int | None = None,
    ) -> None:
        self.corpus, self.split, self.config, self.resolution, self.seed = corpus, split, config, resolution, seed
        self.labels, self.fine = labels, fine
        self._shards = corpus.shards(split)
        self._open: dict[int, tuple[Shard, ExampleSource]] = {}

    def shard_of(self, sample: int) -> Shard:
        """The shard that example `sample` comes from.

        Raises:
            UserError: the split has none.
        """
        if not self._shards:
            raise UserError(f"{self.corpus.path} has no shards of split {self.split}; cut a corpus with more scenes")
        visits, lane = divmod(sample, self.config.shard_lanes)
        place = visits // self.config.shard_samples * self.config.shard_lanes + lane
        turn, at = divmod(place, len(self._shards))
        return self._shards[int(_order(self.seed, self.split, turn, len(self._shards))[at])]

    def source_of(self, sample: int) -> ExampleSource:
        """The source of example `sample`: its shard, which is opened where it is not open.

        Raises:
            UserError: the shard is damaged, or the split has none.
        """
        shard, lane = self.shard_of(sample), sample % self.config.shard_lanes
        opened = self._open.get(lane)
        if opened is None or opened[0] is not shard:
            corpus = self.corpus.shard(shard)
            source = ExampleSource(corpus, self.split, self.config, self.resolution, self.seed, self.labels, self.fine)
            self._open[lane] = opened = (shard, source)
        return opened[1]


class MixedSource:
    """Examples from several corpora at once, with one label table.

    Args:
        corpora: Where scenes come from; the shares are `config.corpus_shares`, by corpus name, 1 where not given.
        Others: As in `ExampleSource`.
    """

    def __init__(
        self,
        corpora: Sequence[AnyCorpus],
        split: str,
        config: ExamplesConfig,
        resolution: int,
        seed: int,
        fine: int | None = None,
    ) -> None:
        self.corpora, self.seed = tuple(corpora), seed
        self.labels = ("", *dict.fromkeys(label for corpus in corpora for label in corpus.labels))
        how = split, config, resolution, seed, self.labels, fine
        self.sources = tuple(
            ShardSource(corpus, *how) if isinstance(corpus, ShardedCorpus) else ExampleSource(corpus, *how)
            for corpus in corpora
        )
        shares = np.array([config.corpus_shares.get(corpus.name, 1.0) for corpus in corpora])
        self._upto = np.cumsum(shares / shares.sum())

    def source_of(self, sample: int) -> ExampleSource:
        """The corpus or shard that example `sample` comes from, drawn by the number alone."""
        if len(self.sources) == 1:
            return self.sources[0].source_of(sample)
        share = numpy_rng(derive_seed(self.seed, "corpus of example", sample)).random()
        number = min(int(np.searchsorted(self._upto, share, side="right")), len(self.sources) - 1)
        return self.sources[number].source_of(sample)

    @property
    def first(self) -> ExampleSource:
        """The first corpus, or its first shard: what sheets show."""
        return self.sources[0].source_of(0)

    def example(self, sample: int) -> MaskExample:
        """See `ExampleSource.example`."""
        return self.source_of(sample).example(sample)

    def mask_only(self, sample: int) -> np.ndarray:
        """See `ExampleSource.mask_only`."""
        return self.source_of(sample).mask_only(sample)

    def surface(self, sample: int, columns: np.ndarray) -> SurfaceExample:
        """See `ExampleSource.surface`."""
        return self.source_of(sample).surface(sample, columns)

    def placed(self, sample: int) -> PlacedExample:
        """See `ExampleSource.placed`."""
        return self.source_of(sample).placed(sample)
