"""`smartscene batch`: many prompts in one go."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from orchestrator.config import DEFAULT_PRESET
from scene.errors import UserError


@click.command()
@click.argument("prompts", type=click.Path(path_type=Path), metavar="PROMPTS.jsonl")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Batch folder.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes; each loads all models once."
)
@click.option("--preset", default=DEFAULT_PRESET, show_default=True, help="A file in configs/compose/.")
@click.option("--config", type=click.Path(path_type=Path), help="A config file in place of the preset.")
@click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change one setting; may be repeated.")
@click.option("--seed", type=int, default=7, show_default=True, help="Of prompts that name none.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def batch(
    prompts: Path,
    out: Path,
    workers: int,
    preset: str,
    config: Path | None,
    overrides: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Compose a scene for every line of PROMPTS.jsonl: {"prompt": ..., "seed": ..., "name": ...} or a JSON string.

    The same command goes on where a killed batch stopped; each scene has the bytes of its single run. A prompt that
    fails does not stop the others. At the end OUT holds manifest.json, summary.json and contact-sheet.png.
    """
    from orchestrator.assemble import notices
    from orchestrator.batch import check_manifest, read_prompts, run_batch, write_summary
    from orchestrator.config import load_preset

    items = read_prompts(prompts, seed)
    resolved = load_preset(preset, config, list(overrides))
    check_manifest(out, items, resolved)
    if told := notices(resolved):
        click.echo(told, err=True)
    started = time.monotonic()

    def progress(result: Mapping[str, Any], left: int, seconds_left: float) -> None:
        if as_json:
            return
        state = result["error"] if result["state"] == "failed" else f"{result['layers']} layers"
        eta = f", {_clock(seconds_left)} to go" if left and math.isfinite(seconds_left) else ""
        click.echo(f"{len(items) - left}/{len(items)}  {result['name']}: {state} ({result['seconds']:.1f} s{eta})")

    try:
        results = run_batch(items, out, resolved, min(workers, len(items)), progress)
    except KeyboardInterrupt:
        raise UserError("interrupted; the same command goes on") from None
    summary = write_summary(out, results, time.monotonic() - started)
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(f"{summary['done']} of {summary['n']} done, {summary['failed']} failed: {out / 'contact-sheet.png'}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
