"""Twenty prompts with the real weights, killed twice half-way, against twenty single runs. Not part of `make test`.

`smartscene batch` is started three times and killed (SIGKILL) the first two times, in the middle of a scene; the third
time it must end with every scene done. Then each prompt is composed alone, and all pictures and scene graphs compared
byte by byte: --fresh of them by `smartscene generate` in processes of their own, the others in one process, each in a
run folder of its own. Prints JSON; exit code 1 where anything differs.

Usage: .venv/bin/python -m tests.killed_batch OUT [--preset home] [--threads 2] [--fresh 20] [--prompts 20]
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator import Composer

PLACES = ("a living room", "a bedroom", "a kitchen", "a garden", "a street")
PAIRS = (
    ("a red sofa", "a dog"),
    ("a bed", "a floor lamp"),
    ("a wooden table", "a cat"),
    ("a bench", "a bicycle"),
)
KILLED_IN = (0.3, 0.65)  # the scene that is under way, as a share of the prompts
DEADLINE_S = 3600
SETTINGS = ("width=384", "height=320", "max_objects=3", "masker.candidates=2", "planner.max_implied=1")


def prompts(count: int) -> list[dict[str, Any]]:
    """Up to twenty prompts, each with a name and a seed of its own."""
    made = [f"{place} with {first} and {second}" for place in PLACES for first, second in PAIRS]
    return [{"prompt": prompt, "seed": 100 + n, "name": f"scene-{n:02d}"} for n, prompt in enumerate(made[:count], 1)]


def command(*arguments: str) -> list[str]:
    """A `smartscene` command line."""
    return [sys.executable, "-m", "orchestrator.cli", *arguments]


def kill_in(process: subprocess.Popen[bytes], scene: Path) -> str:
    """Waits for the second step of a scene, then for a moment within the third, and kills; says where that was."""
    deadline = time.monotonic() + DEADLINE_S
    while not (scene / "steps" / "0002" / "step.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"the batch ended (code {process.returncode}) or hung before {scene.name} had two steps")
        time.sleep(0.02)
    time.sleep(0.4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    steps = len(list((scene / "steps").glob("*/step.json")))
    if (scene / "final.png").exists():
        raise SystemExit(f"{scene.name} was finished before it could be killed; nothing is shown by that")
    return f"{scene.name} after step {steps}"


def compared(single: Path, batch: Path) -> list[str]:
    """Names of the pictures and scene graphs of a single run that the batch's run lacks or has otherwise."""
    names = [file.relative_to(single) for file in (*single.rglob("*.png"), single / "scene.json")]
    there = {file.relative_to(batch) for file in batch.rglob("*.png")}
    differing = {name for name in names if not (batch / name).exists()} | (there - set(names))
    differing |= {n for n in names if n not in differing and (batch / n).read_bytes() != (single / n).read_bytes()}
    return sorted(map(str, differing))


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--preset", default="home")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=20, choices=range(4, 21), metavar="4..20")
    parser.add_argument("--fresh", type=int, default=20, help="so many single runs in processes of their own")
    arguments = parser.parse_args()
    started, out = time.monotonic(), arguments.out
    out.mkdir(parents=True)
    wanted = prompts(arguments.prompts)
    file = out / "prompts.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in wanted))
    settings = [*SETTINGS, f"threads={arguments.threads}"]
    options = ["--preset", arguments.preset, *(part for setting in settings for part in ("--set", setting))]
    batch = command("batch", str(file), "--out", str(out / "batch"), *options)
    kills = []
    with (out / "log.txt").open("wb") as log:
        for share in KILLED_IN:
            scene = out / "batch" / wanted[int(share * len(wanted))]["name"]
            kills.append(kill_in(subprocess.Popen(batch, stdout=log, stderr=log), scene))
            print(f"killed in {kills[-1]}", file=sys.stderr, flush=True)
        subprocess.run(batch, stdout=log, stderr=log, check=True)
        summary = json.loads((out / "batch" / "summary.json").read_text())
        print(f"batch complete: {summary['done']} of {summary['n']}", file=sys.stderr, flush=True)
        composer: Composer | None = None
        differing, files = {}, 0
        for number, line in enumerate(wanted):
            single = out / "single" / line["name"]
            if number < arguments.fresh:
                asked = command("generate", line["prompt"], "--seed", str(line["seed"]), "--out", str(single), *options)
                subprocess.run(asked, stdout=log, stderr=log, check=True)
            else:
                composer = composer or Composer.from_preset(arguments.preset, overrides=settings)
                run = composer.start(line["prompt"], seed=line["seed"], out=single)
                list(run.steps())
                run.close()
            files += len(list(single.rglob("*.png"))) + 1
            if found := compared(single, out / "batch" / line["name"]):
                differing[line["name"]] = found
            print(f"{line['name']}: {found or 'the same'}", file=sys.stderr, flush=True)
    report = {
        "preset": arguments.preset,
        "n": len(wanted),
        "killed": kills,
        "done": summary["done"],
        "layers": [result["layers"] for result in summary["results"]],
        "files_compared": files,
        "scenes_that_differ": differing,
        "fresh_processes": min(arguments.fresh, len(wanted)),
        "seconds": round(time.monotonic() - started),
    }
    print(json.dumps(report, indent=1))
    if differing or summary["done"] != len(wanted):
        sys.exit(1)


if __name__ == "__main__":
    main()
