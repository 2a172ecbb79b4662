"""`smartscene export`: a scene for other programs."""

from __future__ import annotations

import json
from pathlib import Path

import click

KINDS = ("psd", "ora", "coco", "webp", "graphml", "dot", "json", "graph")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--to", "kind", type=click.Choice(KINDS), required=True, help="Format.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def export(run: Path, file: Path, kind: str, as_json: bool) -> None:
    """Write the scene of RUN to FILE.

    psd, ora: layered pictures (Photoshop, GIMP, Krita). coco: amodal and visible masks with their order. webp: all
    steps as a film. graphml, dot, json, graph (PNG): the scene graph, with the relations that the prompt asks for.
    """
    from orchestrator.export import export as write
    from orchestrator.run_folder import RunFolder

    write(RunFolder.open(run, write=False), kind, file)
    told = {"run": str(run), "to": kind, "file": str(file), "bytes": file.stat().st_size}
    click.echo(json.dumps(told) if as_json else f"{file} ({told['bytes']:,} bytes)")
