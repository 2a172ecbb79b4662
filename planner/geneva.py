"""The iterative drawing task on CoDraw (GeNeVA-CoDraw), as far as plans alone go: the measures, the turns that count,
and the planner's list scored against the drawer's canvas. Reading rendered pictures with a detector is the
orchestrator's part.

Ours is a re-implementation. Sources: El-Nouby et al., "Tell, Draw, and Repeat", arXiv 1811.09845 (rsim, counted turns);
Matsumori et al., "LatteGAN", arXiv 2112.13985 (per-picture F1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.baselines import Propose
from planner.trials import box_scene
from scene.corpus.records import LayerRecord, SceneRecord, Turn
from scene.corpus.store import Corpus
from scene.geometry import Size
from scene.proposal import Proposal
from scene.seeds import StepSeed

MAX_PER_TURN = 6
Places = Mapping[str, tuple[float, float]]
"""Class -> (x, z): x as a share of the width, z the depth as a share; whatever z counts, the same in both pictures."""


@dataclass(frozen=True)
class CountedTurn:
    """A turn after which the canvas shows more classes than before.

    Attributes:
        text: words of both speakers since the last counted turn.
        layers: of the drawer's canvas after it, surfaces left out.
    """

    text: str
    layers: tuple[LayerRecord, ...]

    @property
    def classes(self) -> frozenset[str]:
        """What the drawer's canvas shows."""
        return frozenset(layer.label for layer in self.layers)


def counted_turns(turns: Iterable[Turn]) -> list[CountedTurn]:
    """Turns that count; the words of others are carried into the next one that does."""
    found: list[CountedTurn] = []
    words: list[str] = []
    known = 0
    for turn in turns:
        words += [text for text in (turn.teller, turn.drawer) if text]
        counted = CountedTurn(" ".join(words), turn.after)
        if len(counted.classes) > known:
            found.append(counted)
            known, words = len(counted.classes), []
    return found


def precision_recall(found: Iterable[str], truth: Iterable[str]) -> tuple[float, float]:
    """Of classes; nothing found has precision 0, nothing to find recall 0."""
    said, there = set(found), set(truth)
    right = len(said & there)
    return right / len(said) if said else 0.0, right / len(there) if there else 0.0


def f1(precision: float, recall: float) -> float:
    """Harmonic mean; 0 of nothing."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def rsim(found: Places, truth: Places) -> float:
    """Relational similarity: recall times the share of equal entries of the two sign matrices (x and depth z) over the
    classes in both pictures, each with itself compared to 0.5; 0 where no class is shared."""
    common = sorted(found.keys() & truth.keys())
    if not common:
        return 0.0
    recall = len(common) / len(truth)
    same = [_signs(found, common, axis) == _signs(truth, common, axis) for axis in (0, 1)]
    return recall * float(np.mean(np.stack(same)))


def _signs(places: Places, classes: Sequence[str], axis: int) -> np.ndarray:
    """sign(v_i - v_j); on the diagonal sign(v_i - 0.5): which half of the picture the class is in."""
    values = np.asarray([places[label][axis] for label in classes])
    matrix = np.sign(values[:, None] - values[None, :])
    np.fill_diagonal(matrix, np.sign(values - 0.5))
    return matrix


def object_scores(pairs: Sequence[tuple[Iterable[str], Iterable[str]]]) -> dict[str, float]:
    """Precision, recall, `f1_mean` (per picture, LatteGAN) and `f1_of_means` (GeNeVA, SSCR) of (found, truth) pairs."""
    rows = [precision_recall(found, truth) for found, truth in pairs]
    precision, recall = (float(np.mean([row[i] for row in rows])) for i in (0, 1))
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1_mean": round(float(np.mean([f1(*row) for row in rows])), 4),
        "f1_of_means": round(f1(precision, recall), 4),
    }


def drawn_lists(
    propose: Propose, size: Size, turns: Sequence[CountedTurn], ground: Sequence[Proposal], seed: int
) -> list[list[Proposal]]:
    """What a planner has on its list after each counted turn, drawing from the words alone.

    Args:
        propose: reads the words of all turns so far that fit, the last ones for sure.
        size: canvas.
        turns: of one dialogue.
        ground: surfaces on the empty canvas.
        seed: of the dialogue.
    """
    done, lists = list(ground), []
    for number, turn in enumerate(turns):
        for step in range(MAX_PER_TURN):
            scene = box_scene(size, turn.text, done)
            proposal = propose(scene, turn.text, StepSeed(seed, 100 * number + step))
            if proposal.stop:
                break
            done.append(proposal)
        lists.append(list(done))
    return lists


def list_scores(corpus: Corpus, records: Sequence[SceneRecord], propose: Propose, seed: int = 0) -> dict[str, object]:
    """F1 of the planner's list alone against the drawer's canvas, at the last turn and over every turn.

    Args:
        corpus: with dialogues.
        records: scenes of it.
        propose: the planner, one object at a time, told the words of the turn.
        seed: of the first dialogue.
    """
    surfaces = [label for label in corpus.labels if corpus.vocabulary.kind(label) == "surface"]
    last: list[tuple[set[str], frozenset[str]]] = []
    every: list[tuple[set[str], frozenset[str]]] = []
    for number, record in enumerate(records):
        turns = counted_turns(record.turns)
        ground = [
            Proposal(layer.label, layer.description, corpus.box(layer))
            for layer in record.layers
            if layer.label in surfaces and corpus.box(layer) is not None
        ]
        lists = drawn_lists(propose, corpus.size, turns, ground, seed + number)
        pairs = [
            ({item.label for item in done} - set(surfaces), turn.classes - set(surfaces))
            for done, turn in zip(lists, turns, strict=True)
        ]
        every += pairs
        last += pairs[-1:]
    return {"n": len(last), "last_turn": object_scores(last), "every_turn": object_scores(every)} if last else {"n": 0}
