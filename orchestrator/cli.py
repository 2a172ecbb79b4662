"""Command line `smartscene`. Exit codes: 0 done, 2 the user's mistake (one line on stderr), 1 our bug (traceback)."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from orchestrator.cli_batch import batch
from orchestrator.cli_check import check
from orchestrator.cli_data import data
from orchestrator.cli_edit import edit
from orchestrator.cli_export import export
from orchestrator.cli_history import branch, diff, redo, show, summary, undo
from orchestrator.cli_insert import insert, order
from orchestrator.cli_models import evaluate, train
from orchestrator.cli_studio import studio
from orchestrator.config import DEFAULT_PRESET
from scene.errors import UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="smartscene")
def cli() -> None:
    """From one prompt to a finished scene, object by object."""


cli.add_command(data)
cli.add_command(train)
cli.add_command(evaluate)
cli.add_command(insert)
cli.add_command(studio)
for command in (check, order, edit, batch, export, show, undo, redo, branch, diff):
    cli.add_command(command)

_SETTINGS: list[Any] = [
    click.option("--preset", default=DEFAULT_PRESET, show_default=True, help="A file in configs/compose/."),
    click.option("--config", type=click.Path(path_type=Path), help="A config file in place of the preset."),
    click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change one setting; may be repeated."),
    click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same scene."),
    click.option("--size", default=None, help="Canvas, like 640x512."),
    click.option("--max-objects", type=int, default=None, help="Objects besides sky, grass and the like."),
    click.option(
        "--plan", type=click.Path(path_type=Path), help="Your own object list (JSON or YAML) for the planner's."
    ),
    click.option(
        "--layout", default=None, metavar="PNG,JSON", help="Start from your own layout: segments and their words."
    ),
    click.option(
        "--mode",
        type=click.Choice(["per-object", "layout-first"]),
        default=None,
        help="Draw each object at once, or all of them once the layout is complete.",
    ),
    click.option("--style", default=None, metavar="TEXT", help="Words added to each object when it is drawn."),
    click.option("--out", type=click.Path(path_type=Path), help="Run folder [default: runs/<words>-<seed>]."),
]


def _with_settings(command: Any) -> Any:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


def _say(text: str) -> None:
    click.echo(text, err=True)


def _start(prompt: str | None, **settings: Any) -> Any:
    """Checks everything that can be checked before models load, then loads and starts."""
    from orchestrator.assemble import notices
    from orchestrator.starting import prepare

    beginning = prepare(prompt, **settings)
    run = beginning.start()
    if told := notices(run.config):
        _say(told)
    _tell_unknown(run)
    return run


def _tell_unknown(run: Any) -> None:
    if run.unknown:
        _say(
            f"unknown to preset {run.config.preset}: {', '.join(run.unknown)} "
            f"(it knows {len(run.models.vocabulary.labels)} kinds of object; the scene is made of those)"
        )


def _line(step: Any) -> str:
    seconds = sum(step.timings.values())
    if step.outcome == "placed":
        return f"step {step.index:>3}  {step.proposal.description}  ({seconds:.1f} s)"
    if step.outcome == "drawn":
        return f"step {step.index:>3}  drawn: {step.reason}  ({seconds:.1f} s)"
    return f"step {step.index:>3}  {step.outcome}: {step.reason}"


def _finish(run: Any, as_json: bool) -> None:
    """Runs to the end, one line a step; Ctrl-C leaves a resumable run."""
    try:
        for step in run.steps():
            if not as_json:
                click.echo(_line(step))
    except KeyboardInterrupt:
        raise UserError(f"interrupted; go on with: smartscene resume {run.folder.path}") from None
    finally:
        run.close()
    if as_json:
        click.echo(json.dumps(summary(run.folder.path)))
    else:
        click.echo(f"done: {run.folder.path / 'final.png'} ({len(run.scene.layers)} layers)")


@cli.command()
@click.argument("prompt", required=False)
@_with_settings
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def generate(prompt: str | None, as_json: bool, **settings: Any) -> None:
    """Compose a whole scene from PROMPT, or from an object list of your own (--plan)."""
    _finish(_start(prompt, **settings), as_json)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def resume(run: Path, as_json: bool) -> None:
    """Go on with RUN where it stopped or was killed."""
    from orchestrator.compose import Composer

    _, loaded = Composer.for_run(run)
    if loaded.models.notice:
        _say(loaded.models.notice)
    _tell_unknown(loaded)
    _finish(loaded, as_json)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--prompt", help="Start a new run with this prompt.")
@_with_settings
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdin and stdout (docs/step.md).")
def step(run: Path | None, prompt: str | None, as_json: bool, **settings: Any) -> None:
    """Compose step by step: accept, reject, other words, another candidate, a box, undo, branch; `help` lists all."""
    from orchestrator.compose import Composer
    from orchestrator.interactive import dialogue, json_dialogue, terminal_preview

    own = prompt or settings["plan"] or settings["layout"]
    if (run is None) == (own is None):
        raise UserError("give either a RUN folder or --prompt")
    if run is not None:
        _, loaded = Composer.for_run(run)
        if loaded.models.notice:
            _say(loaded.models.notice)
    else:
        loaded = _start(prompt, **settings)
    try:
        if as_json:
            json_dialogue(loaded, sys.stdin.readline, click.echo)
        else:
            dialogue(loaded, sys.stdin.readline, click.echo, terminal_preview)
    except KeyboardInterrupt:
        raise UserError(f"interrupted; go on with: smartscene step {loaded.folder.path}") from None
    finally:
        loaded.close()


def run_cli(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; bugs propagate as tracebacks (Python's exit code 1)."""
    try:
        cli.main(args=list(arguments) if arguments is not None else None, prog_name="smartscene", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except (UserError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        _say("smartscene: " + " ".join(message.split()))
        return 2
    except (KeyboardInterrupt, click.Abort):
        _say("smartscene: interrupted")
        return 130
    return 0


def main() -> None:
    """Entry point of the `smartscene` command."""
    sys.exit(run_cli())


if __name__ == "__main__":
    main()
