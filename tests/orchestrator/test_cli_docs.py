"""docs/cli.md shows every command's help, word for word. Renew it: python -m tests.orchestrator.test_cli_docs"""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def page() -> str:
    """The whole page."""
    parts = [
        "# Command line\n",
        "Exit codes: 0 done, 2 the user's mistake (one line on stderr that says what to do), 1 our bug (a traceback),",
        "130 interrupted. `--json` prints one JSON document on stdout and nothing else.",
    ]

    def visit(command: click.Command, name: str, parent: click.Context | None) -> None:
        settings = {**command.context_settings, "terminal_width": 110, "max_content_width": 110}
        context = click.Context(command, info_name=name, parent=parent, **settings)
        if isinstance(command, click.Group):
            for child in sorted(command.commands):
                visit(command.commands[child], child, context)
        else:
            parts.append(f"\n## {context.command_path}\n\n```text\n{command.get_help(context)}\n```")

    visit(cli, "smartscene", None)
    return "\n".join(parts) + "\n"


def test_every_option_is_documented() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.orchestrator.test_cli_docs"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
