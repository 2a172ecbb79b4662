"""Building a synthetic corpus: scene by scene, in parallel, resumable, with the same bytes whatever the worker count.

A world is a `SceneSource`: scene number n is a function of its settings and n alone. Worker processes draft and encode
scenes; one process appends them to the corpus in the order of their numbers and makes a checkpoint every few seconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

from scene.corpus.assets import EncodedAsset
from scene.corpus.attribution import ATTRIBUTION_FILE, Credit, attribution
from scene.corpus.records import LayerFacts, LayerRecord, Placement
from scene.corpus.store import CHECKPOINT_FILE, Corpus, CorpusWriter, read_checkpoint
from scene.errors import UserError
from scene.geometry import Size
from scene.vocabulary import Vocabulary

CHECKPOINT_S = 5.0
DRAFTS_AHEAD = 4  # per worker: how far workers may run ahead of the scene that is next in line
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class DraftLayer:
    """A layer whose assets are encoded but not stored yet; `effect` = (asset, x, y)."""

    asset: EncodedAsset
    x: int
    y: int
    facts: LayerFacts
    effect: tuple[EncodedAsset, int, int] | None = None


@dataclass(frozen=True)
class Draft:
    """One scene, ready to be appended.

    Attributes:
        layers: back to front.
        plan: what it was made from, JSON-ready; goes to `plans.jsonl`.
        notes: (what happened, to what) for the build report: models skipped, scenes drawn again.
    """

    id: str
    group: int
    split: str
    recipe: str
    layers: tuple[DraftLayer, ...]
    prompts: tuple[str, ...]
    plan: Mapping[str, Any]
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Skipped:
    """A scene number that gave no scene, and why."""

    reason: str
    notes: tuple[tuple[str, str], ...] = ()


class SceneSource(Protocol):
    """A world that can be built. Opened anew in every worker, so it must be cheap to pickle its opener, not itself."""

    name: str
    licence: str
    size: Size
    vocabulary: Vocabulary

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that the bytes of a scene depend on, JSON-ready; a build is resumed only under equal settings."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What else `corpus.json` says: sources and recipes held out of training, and the like."""

    @property
    def unusable(self) -> Sequence[str]:
        """What of the material is never used because it is broken or absurd, a line each, for the build report."""

    def draft(self, number: int) -> Draft | Skipped:
        """Scene `number`."""

    def credits(self, sources: Iterable[str]) -> list[Credit]:
        """Whom to name for these asset sources; sources that need no credit (procedural surfaces) are left out."""


class Report:
    """The build report: grows scene by scene, survives a kill in the checkpoint, ends as `build.json`."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        state = state or {"next": 0, "skipped": {}, "notes": {}}
        self.next: int = state["next"]
        self.skipped: dict[str, str] = dict(state["skipped"])
        self.notes = {what: Counter(about) for what, about in state["notes"].items()}

    def add(self, result: Draft | Skipped) -> None:
        """Counts scene number `next`."""
        if isinstance(result, Skipped):
            self.skipped[str(self.next)] = result.reason
        for what, about in result.notes:
            self.notes.setdefault(what, Counter())[about] += 1
        self.next += 1

    def as_json(self) -> dict[str, Any]:
        """State for a checkpoint; `notes` = what happened -> to what -> how often."""
        notes = {what: dict(sorted(about.items())) for what, about in sorted(self.notes.items())}
        return {"next": self.next, "skipped": self.skipped, "notes": notes}


def build_corpus(
    opener: Callable[[], SceneSource],
    destination: Path,
    scenes: int,
    workers: int = 1,
    progress: Callable[[Iterator[Any], int, int], Iterator[Any]] | None = None,
) -> Corpus:
    """Builds `scenes` scenes of a world into a corpus folder, or goes on with a build that was stopped.

    Args:
        opener: opens the world; picklable, called once in every worker process.
        destination: corpus folder.
        scenes: scene numbers 0 to scenes - 1 are drawn; the few that give no scene stand in the build report.
        workers: processes, one thread each.
        progress: wraps the iterator of finished scenes (iterator, total, already done) to draw a bar.

    Returns:
        The corpus; one that is complete already is returned as it is.

    Raises:
        UserError: `destination` holds something else, or a build with other settings.
    """
    if scenes < 1 or workers < 1:
        raise UserError(f"got {scenes} scenes and {workers} workers; both must be at least 1")
    source = opener()
    settings = json.loads(json.dumps({**source.settings, "size": list(source.size)}))
    finished = _finished(destination, {**settings, "scenes": scenes})
    if finished is not None:
        return finished
    checkpoint = read_checkpoint(destination)
    if checkpoint is not None and (checkpoint["state"]["settings"] != settings or checkpoint["state"]["next"] > scenes):
        raise UserError(f"{destination} holds an unfinished build with other settings; delete it or choose another DST")
    writer = CorpusWriter(
        destination,
        name=source.name,
        licence=source.licence,
        size=source.size,
        vocabulary=source.vocabulary,
        resume=True,
    )
    report = Report(writer.state)
    with _drafts(opener, report.next, scenes, workers) as results:
        shown = progress(results, scenes, report.next) if progress else results
        _append_all(shown, writer, report, settings)
    return _finish(source, writer, report, {**settings, "scenes": scenes})


def _finished(destination: Path, settings: Mapping[str, Any]) -> Corpus | None:
    """The complete corpus of these settings in `destination`; None when there is none yet."""
    if (destination / "corpus.json").exists():
        corpus = Corpus.open(destination)
        if corpus.facts.get("build") != settings:
            raise UserError(f"{destination} holds a corpus built otherwise; delete it or choose another DST")
        (destination / CHECKPOINT_FILE).unlink(missing_ok=True)  # killed between the two last steps
        return corpus
    if destination.exists() and any(destination.iterdir()) and not (destination / CHECKPOINT_FILE).exists():
        raise UserError(f"{destination} is neither empty nor an unfinished build; choose another DST")
    return None


def _append_all(
    results: Iterable[Draft | Skipped], writer: CorpusWriter, report: Report, settings: Mapping[str, Any]
) -> None:
    """Appends results in order; leaves a checkpoint behind whatever stops it."""

    def checkpoint() -> None:
        writer.checkpoint({"settings": settings, **report.as_json()})

    checkpoint()
    last = time.monotonic()
    try:
        for result in results:
            if isinstance(result, Draft):
                append_draft(writer, result)
            report.add(result)
            if time.monotonic() - last > CHECKPOINT_S:
                checkpoint()
                last = time.monotonic()
    except KeyboardInterrupt:
        checkpoint()
        raise


def append_draft(writer: CorpusWriter, draft: Draft) -> None:
    """Stores a draft's assets and its record."""
    layers = []
    for layer in draft.layers:
        effect = None
        if layer.effect is not None:
            encoded, x, y = layer.effect
            effect = Placement(writer.add_encoded(encoded), x, y)
        number = writer.add_encoded(layer.asset)
        layers.append(
            LayerRecord(layer.asset.label, layer.asset.description, number, layer.x, layer.y, effect, layer.facts)
        )
    writer.add_scene(
        draft.id, draft.group, draft.split, layers, draft.prompts, recipe=draft.recipe, plan=draft.plan
    )  # fmt: skip


def _finish(source: SceneSource, writer: CorpusWriter, report: Report, settings: Mapping[str, Any]) -> Corpus:
    sources = sorted({asset.source for asset in writer.assets})
    text = attribution(source.name, source.credits(sources))
    (writer.path / ATTRIBUTION_FILE).write_text(text, encoding="utf-8")
    summary = {"settings": settings, "scenes": report.next - len(report.skipped), "unusable": list(source.unusable)}
    summary |= report.as_json()
    (writer.path / "build.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return writer.finish(build=settings, **source.facts)


def _drafts(
    opener: Callable[[], SceneSource], start: int, stop: int, workers: int
) -> AbstractContextManager[Iterator[Draft | Skipped]]:
    """Results of scene numbers start to stop - 1, in order."""
    return _Workers(opener, start, stop, workers) if start < stop else nullcontext(iter(()))


class _Workers:
    """Worker processes as a context manager; even one worker is a process, so that all run under equal conditions."""

    def __init__(self, opener: Callable[[], SceneSource], start: int, stop: int, workers: int) -> None:
        self._numbers, self._workers = iter(range(start, stop)), workers
        self._environment = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))  # read when numpy is imported, so before the start
        self._pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=_open_in_worker, initargs=(opener,)
        )

    def __enter__(self) -> Iterator[Draft | Skipped]:
        return self._results()

    def _results(self) -> Iterator[Draft | Skipped]:
        waiting: deque[Future[Draft | Skipped]] = deque()
        for number in self._numbers:
            waiting.append(self._pool.submit(_draft_in_worker, number))
            if len(waiting) >= DRAFTS_AHEAD * self._workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_source: SceneSource | None = None  # of this worker process


def _open_in_worker(opener: Callable[[], SceneSource]) -> None:
    global _source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _source = opener()


def _die_with_parent() -> None:
    """A worker waits for work on a queue that outlives a killed parent; so it watches the parent itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _draft_in_worker(number: int) -> Draft | Skipped:
    assert _source is not None
    return _source.draft(number)
