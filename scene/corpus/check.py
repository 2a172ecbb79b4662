"""Checks of a whole corpus: masks, visibility, prompts, labels, splits, and overlap in 3D where plans are kept.

Each check reads what the corpus says and what it can work out by itself, and names every scene where they differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from scene.corpus.assets import MASK_ALPHA
from scene.corpus.claims import false_claims
from scene.corpus.outlines import from_polygons, from_rle, to_polygons, to_rle
from scene.corpus.records import SPLITS, SceneRecord
from scene.corpus.store import Corpus

VISIBLE_TOLERANCE = 1e-3  # facts are rounded to four places

# What is wrong with a scene, given what it was made from (a line of plans.jsonl), and the labels and amodal masks of
# its layers, back to front.
PlanCheck = Callable[[Mapping[str, Any], Sequence[str], Sequence[np.ndarray]], Iterable[str]]


@dataclass(frozen=True)
class Finding:
    """Something wrong: which check found it, in which scene, and what it is."""

    check: str
    scene: str
    message: str


@dataclass
class CheckReport:
    """What was checked and found.

    Attributes:
        checked: check -> how many things it looked at (masks, layers, prompts, scenes).
        findings: in the order of the scenes.
    """

    checked: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def note(self, check: str, scene: str, messages: Iterable[str], things: int = 1) -> None:
        """Counts `things` as checked and keeps the messages."""
        self.checked[check] += things
        self.findings += [Finding(check, scene, message) for message in messages]


def check_corpus(
    corpus: Corpus,
    plan_checks: Mapping[str, PlanCheck] | None = None,
    progress: Callable[[Iterator[SceneRecord], int], Iterator[SceneRecord]] | None = None,
) -> CheckReport:
    """Runs every check on every scene.

    Args:
        corpus: any corpus.
        plan_checks: further checks by name, which look at what scenes were made from (see `home_plan_checks`).
        progress: wraps the iterator of records (iterator, total) to draw a bar.
    """
    report, records = CheckReport(), corpus.records()
    shown = progress(iter(records), len(records)) if progress else iter(records)
    plans = corpus.plans() if plan_checks else repeat(None)
    for record in shown:
        masks, labels = [corpus.mask(layer) for layer in record.layers], [layer.label for layer in record.layers]
        report.note("masks", record.id, mask_findings(corpus, record), len(record.layers))
        report.note("visibility", record.id, visibility_findings(record, masks), len(record.layers))
        report.note("prompts", record.id, prompt_findings(corpus, record, masks), len(record.prompts))
        report.note("labels", record.id, label_findings(corpus, record), len(record.layers))
        plan = next(plans, None)
        for name, plan_check in (plan_checks or {}).items():
            report.note(name, record.id, plan_check(plan, labels, masks) if plan else ["no plan is kept"])
    report.note("splits", "", split_findings(corpus), len(records))
    return report


def mask_findings(corpus: Corpus, record: SceneRecord) -> Iterator[str]:
    """Masks survive RLE and polygons, equal their pictures' alpha, and are not empty."""
    for layer in record.layers:
        mask = corpus.shape(layer)
        if not mask.any():
            yield f"{layer.label}: empty mask"
        if not np.array_equal(mask, corpus.asset(layer)[0][..., 3] >= MASK_ALPHA):
            yield f"{layer.label}: packed mask and picture differ"
        if not np.array_equal(mask, from_rle(to_rle(mask))):
            yield f"{layer.label}: mask changes in COCO run lengths"
        if not np.array_equal(mask, from_polygons(to_polygons(mask), mask.shape)):
            yield f"{layer.label}: mask changes in polygons"


def visibility_findings(record: SceneRecord, masks: list[np.ndarray]) -> Iterator[str]:
    """The recorded visible share is that of the amodal mask minus everything nearer."""
    for k, (layer, mask) in enumerate(zip(record.layers, masks, strict=True)):
        if layer.facts is None:
            continue
        nearer = np.logical_or.reduce(masks[k + 1 :]) if k + 1 < len(masks) else np.zeros_like(mask)
        visible = float((mask & ~nearer).sum() / max(1, mask.sum()))
        if abs(visible - layer.facts.visible_frac) > VISIBLE_TOLERANCE:
            yield f"{layer.label}: {layer.facts.visible_frac} recorded as visible, {visible:.4f} is"


def prompt_findings(corpus: Corpus, record: SceneRecord, masks: list[np.ndarray]) -> Iterator[str]:
    """Every generated prompt states true counts and relations; what people said about a scene is not judged."""
    labels = [layer.label for layer in record.layers]
    spoken = 3 if record.turns else None  # what follows are the teller's words, or people's captions
    own = record.prompts[: corpus.facts.get("own_prompts", spoken)]
    if not any(own):
        yield "no prompt"
    for prompt in own:
        for wrong in false_claims(prompt, corpus.vocabulary, labels, masks):
            yield f"prompt {prompt!r} {wrong}"


def label_findings(corpus: Corpus, record: SceneRecord) -> Iterator[str]:
    """Labels belong to the vocabulary, and a layer's description names its own label."""
    for layer in record.layers:
        if layer.label not in corpus.vocabulary.entries:
            yield f"label {layer.label!r} is not in the vocabulary"


def split_findings(corpus: Corpus) -> Iterator[str]:
    """Splits are known, no id occurs twice, no group straddles splits, nothing held out occurs in training."""
    held = corpus.facts.get("held_out", {})
    recipes = frozenset(held.get("recipes", ()))
    owners = {source: owner for owner in ("sources", *SPLITS) for source in held.get(owner, ())}
    ids = Counter(record.id for record in corpus.records())
    yield from (f"scene id {name} occurs {count} times" for name, count in ids.items() if count > 1)
    group_split: dict[int, str] = {}
    for record in corpus.records():
        if record.split not in SPLITS[:3]:
            yield f"{record.id}: split {record.split!r}"
        if group_split.setdefault(record.group, record.split) != record.split:
            yield f"{record.id}: group {record.group} is in {record.split} and {group_split[record.group]}"
        if record.split == "train" and record.recipe in recipes:
            yield f"{record.id}: recipe {record.recipe} is held out of training"
        for layer in record.layers:
            source = corpus.assets[layer.asset].source
            owner = owners.get(source, record.split)
            if owner != record.split and not (owner == "sources" and record.split != "train"):
                where = "training" if owner == "sources" else f"all but {owner}"
                yield f"{record.id}: {source} is held out of {where}"


def home_plan_checks(rules_folder: Path, place: Path | None = None) -> dict[str, PlanCheck]:
    """Checks of the home world: nothing shares space in 3D ("overlap"), and what prompts claim is so ("claims").

    Raises:
        UserError: the furniture package is missing.
    """
    from scene.corpus.dependencies import FURNITURE, find_dependencies
    from scene.corpus.home.arrange import check_overlap
    from scene.corpus.home.build import plan_from_json, prompts_from_json
    from scene.corpus.home.catalog import Catalog
    from scene.corpus.home.language import false_statements
    from scene.corpus.home.rules import Rules

    catalog = Catalog.open(find_dependencies(place, [FURNITURE]).furniture)
    rules = Rules.load(rules_folder)

    def overlap(made_from: Mapping[str, Any], labels: object, masks: object) -> list[str]:
        plan = plan_from_json(made_from)
        unknown = {placed.model for placed in plan.objects} - rules.models.keys()
        if unknown:
            return [f"the rules in {rules_folder} no longer know {min(unknown)}; build the corpus again"]
        return check_overlap(plan, catalog, rules)

    return {
        "overlap": overlap,
        "claims": lambda plan, labels, masks: false_statements(prompts_from_json(plan), labels, masks),
    }
