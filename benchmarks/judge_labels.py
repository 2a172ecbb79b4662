"""Chooses the labels of the silhouette judge from a run with `leave_out`: prints them as YAML, and what was measured.

Usage: .venv/bin/python benchmarks/judge_labels.py runs/judge/choice --data runs/data/home --data runs/data/icons
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import yaml

from perception.config import JudgeConfig
from perception.labels import ChoiceRule, choose_labels, label_scores
from perception.silhouettes import SilhouetteJudge
from perception.views import leave_out, read_views
from runtime.config import load_config
from runtime.seeding import set_threads
from scene.corpus.store import Corpus


def main() -> None:
    """Labels on stdout, facts on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="Training folder of a config with `leave_out`.")
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--recall", type=float, default=ChoiceRule.recall)
    arguments = parser.parse_args()
    set_threads(1)
    config = load_config(JudgeConfig, arguments.run / "config.yaml")
    assert config.leave_out is not None, "this run left nothing out"
    judge = SilhouetteJudge.from_pretrained(arguments.run / "export")
    corpora = [Corpus.open(path) for path in arguments.data]
    table = read_views(corpora, "train", config.network.side, artists=config.artists, labels=config.labels)
    left = leave_out(table, config.leave_out)
    rows = np.flatnonzero(left.any)
    probabilities = np.zeros((len(table), len(judge.labels)), dtype=np.float32)
    probabilities[rows] = judge.judge_views(table[rows].views())
    rule = ChoiceRule(recall=arguments.recall)
    chosen = choose_labels(probabilities, judge.labels, table, left, rule)
    for name, part in (("all", judge.labels), ("chosen", chosen)):
        columns = np.array([judge.labels.index(label) for label in part])
        right = np.array(part)[probabilities[:, columns].argmax(axis=1)] == table.labels
        for kind, where in (("models", left.models), ("scenes", left.scenes)):
            for corpus in corpora:
                mine = where & np.isin(table.labels, part) & (table.corpora == corpus.name)
                share = right[mine].mean() if mine.any() else float("nan")
                text = f"{name} {len(part)} labels, left-out {kind} of {corpus.name}: top-1 {share:.3f} of {mine.sum()}"
                print(text, file=sys.stderr)
    kinds = Counter(
        corpus.vocabulary.kind(label) for corpus in corpora for label in chosen if label in corpus.vocabulary.entries
    )
    scores = label_scores(probabilities, judge.labels, table, left, judge.labels, rule)
    print(f"kinds of the chosen: {dict(kinds.most_common())}", file=sys.stderr)
    near = sorted(
        ((round(score.recall, 2), label) for label, score in scores.items() if label not in chosen), reverse=True
    )[:25]
    print(f"best that were not chosen, among all labels: {near}", file=sys.stderr)
    print(yaml.safe_dump({"labels": list(chosen)}, default_flow_style=None, width=110))


if __name__ == "__main__":
    main()
