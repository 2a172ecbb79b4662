"""`smartscene insert` and `smartscene order`: a person changes a scene of ours outside the loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli_photo import PHOTO_OPTIONS, order_photo, refuse_for_run

if TYPE_CHECKING:
    from orchestrator.cli_photo import PhotoOrder
    from orchestrator.edits import Insertion, Wish
    from scene.guidance import Guidance

_GUIDES: list[Any] = [
    click.option("--box", metavar="x0,y0,x1,y1", help="Where: a box, in canvas pixels or fractions (0.1,0.2,0.5,0.9)."),
    click.option("--blob", metavar="cx,cy,rx,ry", help="Where: a soft spot; radii are one sigma, pixels or fractions."),
    click.option(
        "--scribble",
        type=click.Path(path_type=Path),
        help="Where: a PNG of the canvas's size, strokes on a plain or transparent ground.",
    ),
    click.option(
        "--tightness", type=float, help="1 = as the guide is drawn, down to 0 = somewhere near.  [default: 1]"
    ),
]


def _with_options(command: Any) -> Any:
    for option in reversed([*_GUIDES, *PHOTO_OPTIONS]):
        command = option(command)
    return command


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN|IMAGE")
@click.argument("words", metavar="OBJECT")
@_with_options
@click.option("--behind", multiple=True, metavar="LAYER", help="Put it behind this layer (id or words); repeatable.")
@click.option("--context", default="", help="Caption of the scene [default: the run's prompt].")
@click.option("-n", "count", type=int, default=4, show_default=True, help="Candidate masks, 1 to 16.")
@click.option("--pick", type=int, help="Take this candidate of the sheet, 1 = best [default: the best].")
@click.option("--seed", type=int, help="Another draw [default: the run's seed].")
@click.option("--dry-run", is_flag=True, help="Only draw the contact sheet; RUN stays as it is.")
@click.option(
    "--sheet",
    type=click.Path(path_type=Path),
    help="Where a dry run's contact sheet goes  [default: RUN/candidates-STEP.png].",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def insert(
    run: Path,
    words: str,
    box: str | None,
    blob: str | None,
    scribble: Path | None,
    tightness: float | None,
    behind: tuple[str, ...],
    context: str,
    count: int,
    pick: int | None,
    seed: int | None,
    dry_run: bool,
    sheet: Path | None,
    as_json: bool,
    panoptic: str | None,
    preset: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
) -> None:
    """Insert OBJECT ("a brown dog") into the scene of RUN, finished or not, or into a photograph.

    Candidate masks are predicted, guided by a box, a blob or a scribble, or freely; the best is rendered and becomes
    a step of the history. The contact sheet of all candidates lies in that step's folder. IMAGE (JPEG, PNG, WebP, TIFF,
    BMP; up to 24 megapixels) becomes a new run, whose full.png has the photo's own size (docs/photos.md).
    """
    from orchestrator.compose import Composer, check_seed
    from orchestrator.config import clean_prompt

    if seed is not None:
        check_seed(seed)
    _check_sheet(sheet, dry_run)
    context = clean_prompt(context) if context else ""
    photo = None
    if run.is_file():
        settings: dict[str, Any] = {"preset": preset, "config": config, "overrides": overrides, "out": out}
        photo = order_photo(run, panoptic=panoptic, seed=seed, context=context, **settings)
        run = photo.out
    else:
        refuse_for_run(run, panoptic=panoptic, preset=preset, config=config, set=overrides, out=out)
    guidance, wish = _checked(run, photo, words, (box, blob, scribble, tightness), behind, count, pick)
    loaded = photo.begin() if photo else Composer.for_run(run)[1]
    try:
        if loaded.models.notice:
            click.echo(loaded.models.notice, err=True)
        insertion = loaded.consider(
            words, guidance=guidance, behind=behind, context=context, count=count, pick=pick, seed=seed
        )
        step = None if dry_run else loaded.insert(insertion)
        number = insertion.request.seed.step
        target = sheet or run / f"candidates-{number:04d}.png" if step is None else _kept_sheet(loaded, number)
        if step is None:
            _save(target, insertion)
    finally:
        loaded.close()
    summary = {
        "run": str(run),
        "dry_run": dry_run,
        "label": wish.proposal.label,
        "sheet": str(target),
        "picture": None if dry_run else str(run / ("full.png" if loaded.folder.photo else "final.png")),
        "candidates": [{"score": round(c.score, 6), **c.details} for c in insertion.candidates],
        "pick": insertion.chosen + 1,
        "step": step.to_json() if step else None,
    }
    click.echo(json.dumps(summary) if as_json else _told(summary, insertion, count))


def _checked(
    run: Path,
    photo: PhotoOrder | None,
    words: str,
    guide: tuple[Any, ...],
    behind: tuple[str, ...],
    count: int,
    pick: int | None,
) -> tuple[Guidance | None, Wish]:
    """All that can be wrong without a model, before any is loaded. Guides on a photo are in pixels of its own size."""
    from orchestrator.edits import Wish
    from orchestrator.guides import parse_guide
    from orchestrator.run_folder import RunFolder

    if photo is not None:
        vocabulary, preset, scene = photo.vocabulary, photo.config.preset, photo.scene
        drawn_on = photo.start.photo.size
    else:
        folder = RunFolder.open(run, write=False)
        vocabulary, preset, scene = folder.vocabulary(), str(folder.facts["config"].get("preset")), folder.scene()
        drawn_on = folder.photo.size if folder.photo else folder.size
    guidance = parse_guide(drawn_on, *guide, canvas=scene.size)
    wish = Wish.checked(words, scene, vocabulary, preset, behind=behind, count=count, pick=pick)
    unknown = vocabulary.unknown(words)
    if unknown:
        click.echo(f"unknown to preset {preset}: {', '.join(unknown)}", err=True)
    return guidance, wish


def _check_sheet(sheet: Path | None, dry_run: bool) -> None:
    from scene.errors import UserError

    if sheet is None:
        return
    if not dry_run:
        raise UserError("--sheet is for --dry-run; without it the sheet lies in the new step's folder")
    if not sheet.absolute().parent.is_dir() or sheet.is_dir() or sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet {sheet} cannot be written; name a .png file in a folder that exists")


def _kept_sheet(loaded: Any, number: int) -> Path:
    return Path(loaded.folder.step_dir(number)) / "candidates.png"


def _save(path: Path, insertion: Insertion) -> None:
    from orchestrator.disk import save_png
    from scene.errors import UserError

    try:
        save_png(path, insertion.sheet)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another --sheet") from None


def _told(summary: dict[str, Any], insertion: Insertion, wanted: int) -> str:
    lines = [
        f"{'*' if number == summary['pick'] else ' '} {number}  score {candidate.score:.2f}"
        + (f"  {candidate.details['visible_frac']:.0%} visible" if "visible_frac" in candidate.details else "")
        for number, candidate in enumerate(insertion.candidates, start=1)
    ]
    if len(lines) < wanted:
        lines.append(f"{wanted - len(lines)} of {wanted} masks stayed empty")
    lines.append(f"candidates: {summary['sheet']}")
    if summary["step"] is None:
        lines.append("nothing was placed; the same command with --pick NUMBER in place of --dry-run places one")
    else:
        words, step = insertion.request.proposal.description, summary["step"]["index"]
        lines.append(f"step {step}: {words}; {summary['picture']}")
    return "\n".join(lines)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("layer", metavar="LAYER")
@click.option("--behind", metavar="OTHER", help="Right under this layer.")
@click.option("--in-front-of", metavar="OTHER", help="Right over this layer.")
@click.option("--to", type=int, metavar="POSITION", help="To this place, 1 = rearmost.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def order(
    run: Path, layer: str, behind: str | None, in_front_of: str | None, to: int | None, as_json: bool
) -> None:  # fmt: skip
    """Move LAYER (id or words) of RUN to another depth: a step of the history that renders nothing anew."""
    from orchestrator.edits import moved, reorder
    from orchestrator.run_folder import RunFolder

    folder = RunFolder.open(run)
    try:
        scene = folder.scene()
        ids, reason = moved(scene, layer, behind=behind, in_front_of=in_front_of, to=to)
        after = reorder(folder, scene, ids, reason, folder.vocabulary())
        step = folder.history.head
    finally:
        folder.close()
    layers = [{"id": entry.id, "label": entry.label, "description": entry.description} for entry in after.layers]
    if as_json:
        click.echo(json.dumps({"run": str(run), "step": step, "what": reason, "layers": layers}))
        return
    click.echo(f"step {step}: {reason}; {run / 'final.png'}")
    for position, entry in enumerate(after.layers, start=1):
        click.echo(f"{position:>4}  {entry.id:>4} {entry.description}")
