"""`smartscene train` and `smartscene evaluate`."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from orchestrator.config import DEFAULT_PRESET, ComposeConfig

ROOMS = click.Choice(["planner", "masker", "inpainter", "judge"])
_MODULES = {"judge": "perception"}


def corpus_paths(data: tuple[Path, ...], worlds: Sequence[str]) -> list[Path]:
    """`--data`, else `$SMARTSCENE_CORPORA/<world>` or `runs/data/<world>` for each world."""
    return list(data) or [Path(os.environ.get("SMARTSCENE_CORPORA") or "runs/data") / world for world in worlds]


def _room(name: str, part: str) -> Any:
    return importlib.import_module(f"{_MODULES.get(name, name)}.{part}")


@click.command()
@click.argument("room", type=ROOMS)
@click.option("--config", required=True, type=click.Path(path_type=Path), help="Training config, see configs/<room>/.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Corpus folder, masker: or a folder of shards; repeatable [default: runs/data/park].",
)
@click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change one setting; may be repeated.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Training folder.")
@click.option("--resume", is_flag=True, help="Go on from the newest snapshot in --out.")
def train(room: str, config: Path, data: tuple[Path, ...], overrides: tuple[str, ...], out: Path, resume: bool) -> None:
    """Train ROOM; weights appear in OUT/export at every snapshot."""
    _room(room, "train").train(config, data=corpus_paths(data, ["park"]), out=out, overrides=overrides, resume=resume)


@click.command()
@click.argument("room", type=ROOMS)
@click.option("--preset", default=DEFAULT_PRESET, show_default=True, help="Whose weights.")
@click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change one setting; may be repeated.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Corpus folder, repeatable [default: those of the preset's world].",
)
@click.option("--split", default="val", show_default=True, help="train, val, test or all.")
@click.option("--limit", type=click.IntRange(1), default=None, help="At most so many objects or scenes.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--oneshot",
    type=click.Path(path_type=Path),
    help="Masker only: another weight folder, measured on the same guides as a baseline.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def evaluate(
    room: str,
    preset: str,
    overrides: tuple[str, ...],
    data: tuple[Path, ...],
    split: str,
    limit: int | None,
    seed: int,
    oneshot: Path | None,
    as_json: bool,
) -> None:
    """Measure ROOM's weights on held-out scenes, against named baselines."""
    from orchestrator.assemble import room_weights
    from orchestrator.config import load_preset
    from runtime.assets import asset_dir
    from runtime.seeding import set_threads
    from scene.corpus.records import SPLITS
    from scene.errors import UserError

    config = load_preset(preset, None, overrides)
    if split not in SPLITS:
        raise UserError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    if oneshot is not None and room != "masker":
        raise UserError("--oneshot is a baseline of the masker; leave it out for other rooms")
    set_threads(config.threads)
    further = {} if oneshot is None else {"oneshot": oneshot}
    corpora = corpus_paths(data, ["home", "icons"] if room == "judge" else [config.world])
    result: dict[str, Any] = _room(room, "evaluate").evaluate(
        asset_dir("pretrained") / "judge" if room == "judge" else room_weights(config, room),
        data=corpora,
        split=split,
        limit=limit,
        seed=seed,
        progress=not as_json and sys.stderr.isatty(),
        **further,
    )
    if room == "planner":
        result |= _drawn_dialogues(config, corpora, split, limit, seed)
    result["command"] = "smartscene " + " ".join(sys.argv[1:])
    table = result.pop("table", None)
    click.echo(json.dumps(result) if as_json else table or _table(result))


def _drawn_dialogues(
    config: ComposeConfig, data: Sequence[Path], split: str, limit: int | None, seed: int
) -> dict[str, Any]:
    """The iterative drawing task, where the world has a picture reader; a quarter as many dialogues as `limit`."""
    from tqdm import tqdm

    from orchestrator.assemble import assemble
    from orchestrator.drawing import drawing_config, evaluate_drawing
    from runtime.assets import asset_dir
    from scene.corpus.store import Corpus

    reader = asset_dir("pretrained") / config.world / "reader"
    if not reader.is_dir():
        return {}
    own, corpus = drawing_config(config), Corpus.only([path for path in data if path.is_dir()])
    count = max(4, (limit or 200) // 4)
    found = evaluate_drawing(
        assemble(own),
        own,
        corpus,
        reader,
        split=split,
        limit=count,
        seed=seed,
        show=lambda records: tqdm(records, desc="dialogues", disable=not sys.stderr.isatty()),
    )
    return {"object_f1": found.pop("object_f1"), "rsim": found.pop("rsim"), "drawing": found}


def _table(result: dict[str, Any], indent: str = "") -> str:
    lines = []
    for key, value in result.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", _table(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {round(value, 4) if isinstance(value, float) else value}")
    return "\n".join(lines)
