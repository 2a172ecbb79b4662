"""`smartscene data build` and `smartscene data check`: synthetic corpora, and checks of any corpus."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from scene.corpus.build import SceneSource

SHOWN_FINDINGS = 10


@click.group()
def build() -> None:
    """Build a synthetic corpus; the same settings give the same bytes, and a stopped build goes on."""


def _build_options(command: Any) -> Any:
    options = [
        click.argument("dst", type=click.Path(path_type=Path)),
        click.option("--scenes", type=click.IntRange(min=1), required=True, help="How many scenes."),
        click.option(
            "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same corpus."
        ),
        click.option("--workers", type=click.IntRange(min=1), help="Processes [default: one per CPU core]."),
        click.option("--size", default="640x512", show_default=True, help="Canvas."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@build.command()
@_build_options
def home(dst: Path, scenes: int, seed: int, workers: int | None, size: str) -> None:
    """Rooms, gardens and streets of 3D models into DST (needs `make data-deps`)."""
    from runtime.assets import asset_dir
    from scene.corpus.home.build import opener
    from scene.geometry import Size

    _build(opener(asset_dir("configs") / "worlds" / "home", seed, Size.parse(size)), dst, scenes, workers)


@build.command()
@_build_options
def icons(dst: Path, scenes: int, seed: int, workers: int | None, size: str) -> None:
    """Vector drawings of outdoor and everyday things into DST (needs `make data-deps`)."""
    from runtime.assets import asset_dir
    from scene.corpus.icons.build import opener
    from scene.geometry import Size

    _build(opener(asset_dir("configs") / "worlds" / "icons.yaml", seed, Size.parse(size)), dst, scenes, workers)


def _build(opener: Callable[[], SceneSource], dst: Path, scenes: int, workers: int | None) -> None:
    from tqdm import tqdm

    from scene.corpus.build import build_corpus

    began = time.perf_counter()
    drawn = 0

    def bar(results: Iterator[Any], total: int, done: int) -> Iterator[Any]:
        nonlocal drawn
        drawn = total - done
        return iter(tqdm(results, total=total, initial=done, unit="scene", mininterval=1))

    corpus = build_corpus(opener, dst, scenes, workers or os.cpu_count() or 1, bar)
    seconds = time.perf_counter() - began
    kept = max(1, len(corpus.records()))
    bytes_per_scene = sum(file.stat().st_size for file in dst.iterdir()) // kept
    skipped = len(json.loads((dst / "build.json").read_text(encoding="utf-8"))["skipped"])
    click.echo(
        f"{len(corpus.records())} scenes in {dst} ({corpus.licence}), {bytes_per_scene} bytes a scene; {drawn} drawn "
        f"in {seconds:.0f} s ({drawn / seconds:.2f} a second); {skipped} numbers skipped, see {dst / 'build.json'}"
    )


@click.command()
@click.argument("dst", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(dst: Path, as_json: bool) -> None:
    """Check all of corpus DST: masks, visibility, prompts, labels, splits, overlap in 3D; exit code 2 if any fails."""
    from tqdm import tqdm

    from runtime.assets import asset_dir
    from scene.corpus.check import check_corpus, home_plan_checks
    from scene.corpus.store import Corpus
    from scene.errors import UserError

    corpus = Corpus.open(dst)
    plan_checks = home_plan_checks(asset_dir("configs") / "worlds" / "home") if corpus.name == "home" else None

    def bar(records: Iterator[Any], total: int) -> Iterator[Any]:
        return iter(tqdm(records, total=total, unit="scene", mininterval=1, disable=as_json))

    report = check_corpus(corpus, plan_checks, bar)
    if as_json:
        findings = [vars(finding) for finding in report.findings]
        click.echo(json.dumps({"corpus": corpus.name, "checked": report.checked, "findings": findings}))
    else:
        click.echo(f"{corpus.name}, {len(corpus.records())} scenes: " + ", ".join(
            f"{name} {count} checked" for name, count in sorted(report.checked.items())))  # fmt: skip
        for finding in report.findings[:SHOWN_FINDINGS]:
            click.echo(f"{finding.check}: {finding.scene}: {finding.message}", err=True)
    if report.findings:
        raise UserError(f"{len(report.findings)} findings in {dst}; correct what made it, and build it again")
