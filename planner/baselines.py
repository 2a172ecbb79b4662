"""Planners to compare with: a regular expression over the prompt, label frequencies, and what people built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from planner.examples import PlanSource
from planner.links import moved_to_hold, prompt_links
from scene.corpus.store import Corpus
from scene.geometry import Box
from scene.layers import LayeredScene
from scene.proposal import Proposal
from scene.seeds import StepSeed
from scene.vocabulary import Vocabulary

Propose = Callable[[LayeredScene, str, StepSeed], Proposal]


def surfaces_of(vocabulary: Vocabulary) -> list[str]:
    """Labels that carry scenes."""
    return [label for label in vocabulary.labels if vocabulary.kind(label) == "surface"]


def regex_propose(vocabulary: Vocabulary, boxes: Mapping[str, Box], ground: Sequence[str] | None = None) -> Propose:
    """`regex_prompt`: surfaces, then what the prompt names in world order, each in its label's mean box, moved to where
    a relation of the prompt holds, copies side by side.

    Args:
        vocabulary: the world's words; its pattern finds names and numbers.
        boxes: mean box per label.
        ground: surfaces that every scene gets; None = all of the world.
    """
    laid = list(ground if ground is not None else surfaces_of(vocabulary))

    def propose(scene: LayeredScene, prompt: str, seed: StepSeed) -> Proposal:
        named, surfaces = vocabulary.counts(prompt), set(surfaces_of(vocabulary))
        own = [label for label in vocabulary.labels if label in named and label in surfaces]
        wanted = dict.fromkeys(own or laid, 1) | named
        order = sorted(wanted, key=lambda label: (label not in surfaces, vocabulary.labels.index(label)))
        placed = Counter(layer.label for layer in scene.layers)
        for label in order:
            if placed[label] < wanted[label]:
                box = boxes.get(label, Box(0, 0, *scene.size)).clip(scene.size)
                box = _aside(box, placed[label], wanted[label], scene)
                for word, other in prompt_links(prompt, vocabulary).get(label, ()):
                    partner = next((layer.box for layer in scene.layers if layer.label == other and layer.box), None)
                    box = moved_to_hold(word, box, partner, scene.size) if partner else box
                return Proposal(label, vocabulary.with_article(label), box)
        return Proposal(stop=True)

    return propose


def _aside(box: Box, number: int, of: int, scene: LayeredScene) -> Box:
    """Copy `number` of several: spread over the canvas's width."""
    if of < 2:
        return box
    width = min(box.width, scene.size.width // of)
    x0 = round((scene.size.width - width) * number / (of - 1))
    return Box(x0, box.y0, x0 + width, box.y1)


def frequency_propose(corpus: Corpus, boxes: Mapping[str, Box]) -> Propose:
    """`label_frequency`: the prompt unread; most frequent labels of the training scenes, mean scene length."""
    records = corpus.records("train")
    counts = Counter(layer.label for record in records for layer in record.layers)
    length = round(sum(len(record.layers) for record in records) / len(records))
    order = [label for label, _ in counts.most_common(length)]
    order.sort(key=lambda label: corpus.vocabulary.kind(label) != "surface")

    def propose(scene: LayeredScene, prompt: str, seed: StepSeed) -> Proposal:
        if len(scene.layers) >= length:
            return Proposal(stop=True)
        label = order[len(scene.layers)]
        return Proposal(label, corpus.vocabulary.with_article(label), boxes[label])

    return propose


def common_ground(corpus: Corpus) -> list[str] | None:
    """Surfaces of most training scenes, back to front; None where the world lays all of them."""
    surfaces = surfaces_of(corpus.vocabulary)
    records = corpus.records("train")
    counts = Counter(label for record in records for label in {layer.label for layer in record.layers})
    common = [label for label in surfaces if counts[label] > len(records) / 2]
    return None if len(surfaces) <= 2 else common or [max(surfaces, key=lambda label: counts[label])]


def mean_boxes(source: PlanSource, limit: int = 2000) -> dict[str, Box]:
    """Mean box of every label over the first `limit` scenes."""
    found: dict[str, list[Box]] = {}
    for record in source.records[:limit]:
        for item in source.plan(record, "").objects:
            found.setdefault(item.label, []).append(item.box)
    return {label: Box(*np.asarray(boxes).mean(0).round().astype(int).tolist()) for label, boxes in found.items()}
