"""`smartscene check`: what can run here, what is missing, and how to get it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from orchestrator.checkup import Machine, Report
    from orchestrator.config import ComposeConfig


@click.command()
@click.argument("presets", nargs=-1, metavar="[PRESET]...")
@click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="Change one setting; may be repeated.")
@click.option("--fetch", is_flag=True, help="Download the weights of the named presets first (safetensors only).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(presets: tuple[str, ...], overrides: tuple[str, ...], fetch: bool, as_json: bool) -> None:
    """Say which presets can run on this machine, what is missing, and how to get it.

    With PRESETs, the exit code is 2 if one of them cannot run.
    """
    from orchestrator.checkup import as_json as document
    from orchestrator.checkup import examine, look_at_machine
    from orchestrator.config import load_preset
    from orchestrator.config import presets as all_presets
    from scene.errors import UserError

    if (fetch or overrides) and not presets:
        raise UserError("name the preset that --fetch or --set is for, like: smartscene check sd15 --fetch")
    configs = [load_preset(preset, None, overrides) for preset in presets or all_presets()]
    if fetch:
        for config in configs:
            _fetch(config)
    machine = look_at_machine()
    reports = [examine(config, machine) for config in configs]
    if as_json:
        click.echo(json.dumps(document(machine, reports)))
    else:
        click.echo("\n".join([*_machine_lines(machine), *(line for report in reports for line in _lines(report))]))
    stuck = [report.preset for report in reports if not report.can_run]
    if presets and stuck:
        raise UserError(f"{', '.join(stuck)} cannot run here yet; see above for what to do")


def _fetch(config: ComposeConfig) -> None:
    """Downloads what is missing, part by part."""
    from orchestrator.assemble import ROOMS, SEGMENTER, public_sources
    from runtime.hub import fetch

    for room in (*ROOMS, SEGMENTER):
        for source in public_sources(config, room).values():
            click.echo(f"{source.name}: {fetch(source)}", err=True)


def _machine_lines(machine: Machine) -> list[str]:
    gigabyte = 1e9
    devices = ", ".join(
        f"{device.name} ({device.kind}, {device.memory / gigabyte:.0f} GB)" for device in machine.devices
    )
    packages = "as required" if not machine.packages else "; ".join(machine.packages)
    return [
        f"machine   {machine.system}, Python {machine.python}, {machine.cores} cores, "
        f"{machine.memory / gigabyte:.0f} GB of memory ({machine.memory_free / gigabyte:.0f} free)",
        f"devices   {devices or 'no GPU that torch sees'}",
        f"packages  {packages}",
        f"hub cache {machine.hub_cache} ({machine.disk_free / gigabyte:.0f} GB free)",
    ]


def _lines(report: Report) -> list[str]:
    from runtime.hub import COMMIT

    lines = ["", f"{report.preset}: {'can run' if report.can_run else 'cannot run yet'}"]
    for weights in report.weights:
        where = weights.folder or "not on this machine"
        at = f"@{weights.revision[:12]}" if weights.revision else ""
        lines.append(f"  {weights.room:<9} {weights.part:<10} {weights.name}{at}: {where}")
        if not weights.pinned:
            here = COMMIT.fullmatch(Path(weights.folder).name) if weights.folder else None
            lines.append(f"      unpinned -> --set {weights.pin}={here.group() if here else 'COMMIT'}")
    lines += [f"  missing: {what}\n      -> {remedy}" for what, remedy in report.problems]
    return lines + [f"  note: {warning}" for warning in report.warnings]
