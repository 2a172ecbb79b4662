"""`smartscene edit`: change one layer of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from scene.errors import UserError


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("layer", metavar="LAYER")
@click.option("--words", "--label", "words", metavar="TEXT", help='Another object in its place, like "a black cat".')
@click.option("--move", metavar="dx,dy", help="Canvas pixels to the right and down; the pixels go along.")
@click.option("--scale", type=float, help="Factor, about the middle of its foot; drawn anew.")
@click.option("--colour", "--color", "colour", help="A name like red, or #cc2200; light and shade stay.")
@click.option("--seed", type=int, help="Draw it anew in its mask with this seed.")
@click.option("--z", type=int, metavar="POSITION", help="Another depth, 1 = rearmost; nothing is drawn anew.")
@click.option("--delete", is_flag=True, help="Take it out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def edit(
    run: Path,
    layer: str,
    words: str | None,
    move: str | None,
    scale: float | None,
    colour: str | None,
    seed: int | None,
    z: int | None,
    delete: bool,
    as_json: bool,
) -> None:
    """Change LAYER (id or words) of RUN in one way; a step of the history, which `undo` takes back.

    Layers in front whose window was touched are drawn again, or taken from the run's cache; all others are kept. The
    report says which.
    """
    from orchestrator.compose import Composer
    from orchestrator.layer_edits import Edit
    from orchestrator.rendering import check_seed
    from orchestrator.run_folder import RunFolder

    if seed is not None:
        check_seed(seed)
    wanted = Edit(words, _offset(move), scale, delete, colour, seed)
    if z is None:
        wanted.checked()
    elif wanted != Edit():
        raise UserError("--z goes alone; give other changes in a command of their own")
    RunFolder.open(run, write=False).scene().find(layer)  # before any model loads
    _, loaded = Composer.for_run(run)
    try:
        before = [entry.id for entry in loaded.scene.layers]
        if z is not None:
            step = loaded.reorder(layer, to=z)
            loaded.finish()
        else:
            step = loaded.edit(layer, **vars(wanted))
        layers = [{"id": entry.id, "description": entry.description} for entry in loaded.scene.layers]
    finally:
        loaded.close()
    touched = {change["layer"]: change["how"] for change in step.changes} | dict.fromkeys(step.removed, "deleted")
    report: dict[str, Any] = {"run": str(run), "step": step.index, "what": step.reason, "layers": layers}
    report |= {"how": {str(id): touched.get(id, "kept") for id in before}, "picture": str(run / "final.png")}
    if as_json:
        click.echo(json.dumps(report))
        return
    click.echo(f"step {step.index}: {step.reason}; {run / 'final.png'}")
    names = {entry["id"]: entry["description"] for entry in layers}
    for id, how in report["how"].items():
        click.echo(f"{id:>4}  {how:<10} {names.get(int(id), '')}".rstrip())


def _offset(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        dx, dy = (int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--move {text[:40]!r} is not dx,dy in whole pixels; write it like 40,-10") from None
    return dx, dy
