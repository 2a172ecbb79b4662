"""Times a whole composition: start-up, each part of each step, peak memory.

Usage: .venv/bin/python benchmarks/compose.py [--preset park] [--seed 7] ["PROMPT"]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections import defaultdict
from pathlib import Path

DEFAULT_PROMPT = "a boy kicking a soccer ball next to an apple tree on a sunny day"


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompt", nargs="?", default=DEFAULT_PROMPT)
    parser.add_argument("--preset", default="park")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()

    started = time.monotonic()
    from orchestrator import Composer

    composer = Composer.from_preset(arguments.preset)
    ready = time.monotonic()
    parts: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        run = composer.start(arguments.prompt, seed=arguments.seed, out=Path(folder) / "run")
        steps = list(run.steps())
        run.close()
    done = time.monotonic()
    for step in steps:
        for part, seconds in step.timings.items():
            parts[part].append(seconds)
    report = {
        "prompt": arguments.prompt,
        "seed": arguments.seed,
        "start_up_s": round(ready - started, 2),
        "scene_s": round(done - ready, 2),
        "steps": len(steps),
        "layers": len(run.scene.layers),
        "mean_s": {part: round(sum(values) / len(values), 3) for part, values in parts.items()},
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
