"""What a planner itself often says of each label, counted on training scenes: better guesses (`planner.drafting`) than
what the scenes say.

    python -m planner.usual pretrained/home/planner --data runs/data/home

writes it into the planner's card. Speed changes, nothing else. About ten minutes a core for two thousand answers.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter, defaultdict
from pathlib import Path

from tqdm import tqdm

from planner.examples import PlanSource, usual_descriptions
from planner.llava_planner import LlavaPlanner
from planner.trials import prefix_scene
from planner.weights import CARD, PlannerCard
from runtime.files import write_json
from runtime.seeding import set_threads
from scene.corpus.store import Corpus
from scene.seeds import StepSeed


def said_of(planner: LlavaPlanner, source: PlanSource, each: int, seed: int) -> list[tuple[str, str]]:
    """Label and description of answers on random scenes, before an object of that label is placed.

    Args:
        planner: labels with a fixed description are not asked for.
        source: training scenes.
        each: answers a label, at most.
        seed: draws scenes and prompts.
    """
    scenes: dict[str, list[int]] = defaultdict(list)
    for number, record in enumerate(source.records):
        for label in dict.fromkeys(layer.label for layer in record.layers):
            if label not in planner.fixed_descriptions:
                scenes[label].append(number)
    rng, said = random.Random(seed), []
    for label, numbers in tqdm(sorted(scenes.items()), unit="label", smoothing=0):
        for number in rng.sample(numbers, min(each, len(numbers))):
            record = source.records[number]
            plan = source.plan(record, rng.choice(record.prompts))
            steps = [k for k, item in enumerate(plan.objects) if item.label == label]
            if steps:
                scene = prefix_scene(source.corpus, record, plan, rng.choice(steps))
                answer, _ = planner.answer(scene, plan.prompt, label, seed=StepSeed(seed, number))
                said.append((label, answer.description or ""))
    return said


def ranked(said: list[tuple[str, str]], corpus: dict[str, tuple[str, ...]], most: int = 12) -> dict[str, list[str]]:
    """What was said first, what the corpus says after it; at most so many of a label."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label, text in said:
        counts[label][text] += 1
    own = {label: sorted(found, key=lambda text: (-found[text], text)) for label, found in counts.items()}
    return {label: [*dict.fromkeys([*own.get(label, ()), *texts])][:most] for label, texts in corpus.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--each", type=int, default=12, help="answers a label")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    set_threads(args.threads)
    planner, source = LlavaPlanner.from_pretrained(args.weights), PlanSource(Corpus.open(args.data), "train")
    corpus = usual_descriptions(source.described(), planner.fixed_descriptions)
    card = json.loads((args.weights / CARD).read_text(encoding="utf-8"))
    card["usual_descriptions"] = ranked(said_of(planner, source, args.each, args.seed), corpus)
    write_json(args.weights / CARD, PlannerCard.model_validate(card).model_dump(mode="json"))


if __name__ == "__main__":
    main()
