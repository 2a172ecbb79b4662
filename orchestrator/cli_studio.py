"""`smartscene studio`: a web page to compose in."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"))
@click.option("--port", type=click.IntRange(0, 65535), default=8420, show_default=True, help="0 = any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Other addresses let other machines in.")
def studio(runs: Path, port: int, host: str) -> None:
    """Compose in the browser: a page over the run folders in RUNS [default: runs].

    Prints the address to open. It holds a secret that is new each time; only this machine is let in by default.
    """
    from orchestrator.studio.security import is_loopback
    from orchestrator.studio.server import serve

    if not is_loopback(host):
        click.echo(
            f"everyone who can reach {host} and knows the address can use the studio; it is not encrypted", err=True
        )
    serve(
        runs, host=host, port=port, say=lambda address: click.echo(f"smartscene studio: {address}   (Ctrl-C ends it)")
    )
