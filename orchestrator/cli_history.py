"""`smartscene show`, `undo`, `redo`, `branch` and `diff`: the history tree. None of them loads a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from orchestrator.history import History

_RUN = click.argument("run", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def summary(path: Path) -> dict[str, Any]:
    """What a run holds, JSON-ready: facts, the steps on the way to the head, the whole tree, relations asked for."""
    from orchestrator.asked import verdicts
    from orchestrator.run_folder import RunFolder
    from orchestrator.tree import tree_json
    from scene.errors import UserError

    folder = RunFolder.open(path, write=False)
    try:
        relations, problem = verdicts(folder.scene(), folder.vocabulary()), ""
    except UserError as error:  # a picture is broken: the tree is what helps now
        relations, problem = [], str(error)
    return {
        "run": str(path),
        "prompt": folder.facts["prompt"],
        "seed": folder.facts["seed"],
        "unknown": folder.facts.get("unknown", []),
        "finished": folder.history.finished,
        "head": folder.history.head,
        "steps": [step.to_json() for step in folder.history.path()],
        "tree": tree_json(folder.history),
        "relations": relations,
        "problem": problem,
    }


@click.command()
@_RUN
@_JSON
@click.option("--tree", "picture", type=click.Path(path_type=Path), help="Draw the tree with thumbnails: a PNG.")
def show(run: Path, as_json: bool, picture: Path | None) -> None:
    """Say what RUN holds: its prompt, the steps to its head, its tree, and which relations asked for hold."""
    from orchestrator.run_folder import RunFolder
    from orchestrator.tree import tree_lines, tree_picture

    told = summary(run)
    if picture is not None:
        from orchestrator.disk import save_png

        _check_png(picture, "--tree")
        save_png(picture, tree_picture(RunFolder.open(run, write=False)))
        told["picture"] = str(picture)
    if as_json:
        click.echo(json.dumps(told))
        return
    click.echo(f"{told['prompt']}  (seed {told['seed']}, {'finished' if told['finished'] else 'unfinished'})")
    if told["unknown"]:
        click.echo(f"unknown words: {', '.join(told['unknown'])}")
    for step in told["steps"]:
        click.echo(_step_line(step))
    if told["problem"]:
        click.echo(f"problem: {told['problem']}")
    for relation in told["relations"]:
        state = {True: "holds", False: "VIOLATED", None: "not both there"}[relation["holds"]]
        click.echo(f"relation  {relation['first']} {relation['relation']} {relation['second']}: {state}")
    if len(told["steps"]) != len(told["tree"]["steps"]) or len(told["tree"]["branches"]) > 1:
        click.echo("tree")
        for line in tree_lines(RunFolder.open(run, write=False).history):
            click.echo(line)


def _step_line(step: dict[str, Any]) -> str:
    words = (step["proposal"] or {}).get("description", "")
    said = [step["reason"], *(step["proposal"] or {}).get("notes", ())]
    said += [f"behind {', '.join(map(str, step['behind']))}"] if step["behind"] else []
    said += ["by a person"] if step["by"] == "person" else []
    said += [f"{try_['how']}: breaks {', '.join(try_['violated'])}" for try_ in step["attempts"] if try_["violated"]]
    notes = "; ".join(filter(None, said))
    return f"{step['index']:>4}  {step['outcome']:<9} {words}{f'  [{notes}]' if notes else ''}"


def _check_png(path: Path, option: str) -> None:
    from scene.errors import UserError

    if not path.absolute().parent.is_dir() or path.is_dir() or path.suffix.lower() != ".png":
        raise UserError(f"{option} {path} cannot be written; name a .png file in a folder that exists")


def _moved(run: Path, move: Callable[[History], History], as_json: bool) -> None:
    from orchestrator.products import go
    from orchestrator.run_folder import RunFolder

    folder = RunFolder.open(run)
    try:
        scene = go(folder, move(folder.history), folder.vocabulary())
        history = folder.history
    finally:
        folder.close()
    told = {"run": str(run), "head": history.head, "branch": history.branch, "finished": history.finished}
    told |= {"layers": [{"id": layer.id, "description": layer.description} for layer in scene.layers]}
    if as_json:
        click.echo(json.dumps(told))
        return
    words = ", ".join(layer.description for layer in scene.layers) or "empty canvas"
    click.echo(f"head: step {history.head} on branch {history.branch} ({words}); {run / 'final.png'}")


@click.command()
@_RUN
@click.argument("count", type=click.IntRange(min=1), default=1)
@_JSON
def undo(run: Path, count: int, as_json: bool) -> None:
    """Take back the last COUNT changes of RUN [default: 1]; nothing is deleted, `redo` brings them back."""
    _moved(run, lambda history: history.undone(count), as_json)


@click.command()
@_RUN
@click.argument("count", type=click.IntRange(min=1), default=1)
@_JSON
def redo(run: Path, count: int, as_json: bool) -> None:
    """Do COUNT undone changes of RUN again [default: 1]."""
    _moved(run, lambda history: history.redone(count), as_json)


@click.command()
@_RUN
@click.argument("start", metavar="STEP|BRANCH")
@click.option("--name", help="Name of the new branch [default: from-STEP].")
@_JSON
def branch(run: Path, start: str, name: str | None, as_json: bool) -> None:
    """Start a new branch of RUN at STEP (0 = empty canvas), or go to the end of an existing BRANCH.

    With --name, a new branch starts at STEP or at the end of BRANCH. All other steps stay as they are.
    """

    def move(history: History) -> History:
        if name is None and start in history.branches:
            return history.switched(start)
        return history.branched(history.locate(start), name)

    _moved(run, move, as_json)


@click.command()
@_RUN
@click.argument("before", metavar="STEP|BRANCH")
@click.argument("after", metavar="STEP|BRANCH")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw both, and what differs: a PNG.")
@_JSON
def diff(run: Path, before: str, after: str, picture: Path | None, as_json: bool) -> None:
    """Say how two scenes of RUN differ: layers added, removed, changed, reordered, and pixels."""
    from orchestrator.disk import save_png
    from orchestrator.run_folder import RunFolder
    from orchestrator.tree import difference, difference_picture

    folder = RunFolder.open(run, write=False)
    first, second = folder.history.locate(before), folder.history.locate(after)
    found = difference(folder, first, second)
    if picture is not None:
        _check_png(picture, "--picture")
        save_png(picture, difference_picture(folder.scene(first), folder.scene(second)))
        found["picture"] = str(picture)
    if as_json:
        click.echo(json.dumps(found))
        return
    for sign, key in (("+", "added"), ("-", "removed"), ("~", "changed")):
        for layer in found[key]:
            what = f"  ({', '.join(layer['what'])})" if "what" in layer else ""
            click.echo(f"{sign} {layer['id']:>4} {layer['description']}{what}")
    if found["reordered"]:
        click.echo("the layers stand in another order")
    click.echo(f"{found['pixels']:,} pixels differ" + (f" within {found['box']}" if found["box"] else ""))
