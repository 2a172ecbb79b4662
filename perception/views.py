"""Every movable mask of some corpora as the judge sees it, worked out once and kept in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perception.config import LeaveOutConfig
from perception.silhouettes import SilhouetteView, silhouette_view
from scene.corpus.store import Corpus
from scene.seeds import derive_seed

FEWEST_MODELS_TO_LEAVE_OUT = 3


@dataclass(frozen=True, eq=False)
class ViewTable:
    """N masks of movable objects, row by row.

    Attributes:
        pictures: uint8 (N, side, side) and facts: float32 (N, 4), see `SilhouetteView`.
        labels: category of each.
        models: what each shows: asset source, or artist where one drew a label several times.
        sources: asset source of each.
        corpora: name of its corpus.
        groups: scene group of each; scenes of one group are alike.
    """

    pictures: np.ndarray
    facts: np.ndarray
    labels: np.ndarray
    models: np.ndarray
    sources: np.ndarray
    corpora: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray) -> ViewTable:
        """The table of some rows (bool (N,) or row numbers)."""
        return ViewTable(
            self.pictures[rows], self.facts[rows], self.labels[rows], self.models[rows], self.sources[rows],
            self.corpora[rows], self.groups[rows],
        )  # fmt: skip

    def views(self) -> list[SilhouetteView]:
        """The rows as single views."""
        return [SilhouetteView(picture, facts) for picture, facts in zip(self.pictures, self.facts, strict=True)]


def read_views(
    corpora: Sequence[Corpus],
    split: str,
    side: int,
    *,
    artists: Mapping[str, str] | None = None,
    labels: Collection[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ViewTable:
    """The judge's view of every movable object of a split that shows on the canvas.

    Args:
        corpora: where they come from.
        split: train, val, test or all.
        side: cells of a picture along one side.
        artists: prefix of an asset source -> artist, see `JudgeConfig.artists`.
        labels: only these; None = all.
        limit: only so many per corpus, drawn by `seed`.
    """
    pictures, facts, words = [], [], []
    for corpus in corpora:
        places = [
            (record, layer)
            for record in corpus.records(split)
            for layer in record.layers
            if corpus.vocabulary.kind(layer.label) != "surface" and (labels is None or layer.label in labels)
        ]
        if limit is not None:
            rng = np.random.default_rng(derive_seed(seed, "judge views", split))
            places = [places[int(row)] for row in rng.permutation(len(places))]
        found = 0
        for record, layer in places:
            if limit is not None and found >= limit:
                break
            view = silhouette_view(corpus.shape(layer), corpus.size, side, (layer.x, layer.y))
            if view is None:
                continue
            found += 1
            pictures.append(view.picture)
            facts.append(view.facts)
            source = corpus.assets[layer.asset].source
            artist = (artists or {}).get(source.partition(":")[0])
            words.append((layer.label, artist or source, source, corpus.name, str(record.group)))
    columns = np.array(words, dtype=str).reshape(-1, 5).T
    return ViewTable(
        np.stack(pictures) if pictures else np.zeros((0, side, side), np.uint8),
        np.stack(facts) if facts else np.zeros((0, 4), np.float32),
        *columns,
    )


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Which rows of a training table a run leaves out, bool (N,) each.

    Attributes:
        models: their model is left out everywhere.
        scenes: only their scene is; other views of the model are trained on.
    """

    models: np.ndarray
    scenes: np.ndarray

    @property
    def any(self) -> np.ndarray:
        """Rows not trained on."""
        return self.models | self.scenes


def leave_out(table: ViewTable, config: LeaveOutConfig) -> LeftOut:
    """Sets aside whole models of every label that has three or more, and whole scene groups; drawn by hash."""
    keys = np.array([f"{label}\x1f{model}" for label, model in zip(table.labels, table.models, strict=True)])
    models: dict[str, list[str]] = {}
    for key in sorted(set(keys), key=lambda key: derive_seed("judge leaves out", key)):
        models.setdefault(key.partition("\x1f")[0], []).append(key)
    away = {
        key
        for found in models.values()
        if len(found) >= FEWEST_MODELS_TO_LEAVE_OUT
        for key in found[: max(1, round(config.models * len(found)))]
    }
    names = np.char.add(np.char.add(table.corpora, "\x1f"), table.groups)
    groups = {name for name in set(names) if derive_seed("judge leaves out", name) < config.scenes * 2**63}
    left = np.isin(keys, sorted(away))
    return LeftOut(left, np.isin(names, sorted(groups)) & ~left)
