"""`smartscene data`: import corpora and look at them; `build` and `check` stand in `cli_build`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from orchestrator.cli_build import build, check


@click.group()
def data() -> None:
    """Import or build data sets, check them and look at them."""


data.add_command(build)
data.add_command(check)


@data.group(name="import")
def import_() -> None:
    """Import a public data set into a corpus folder."""


@import_.command()
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("dst", type=click.Path(path_type=Path))
def codraw(src: Path, dst: Path) -> None:
    """Import CoDraw 1.0: SRC holds CoDraw_1_0.json (or .json.xz) and Pngs/; DST becomes the corpus folder."""
    from tqdm import tqdm

    from runtime.assets import asset_dir
    from scene.corpus.codraw import import_codraw

    def bar(scenes: Iterator[Any], total: int) -> Iterator[Any]:
        return iter(tqdm(scenes, total=total, unit="scene", mininterval=1))

    corpus = import_codraw(src, dst, asset_dir("configs") / "worlds" / "park.yaml", bar)
    click.echo(f"{len(corpus.records())} scenes in {dst} ({corpus.licence}: non-commercial use only)")


def _photo_options(command: Any) -> Any:
    options = [
        click.argument("src", type=click.Path(path_type=Path)),
        click.argument("dst", type=click.Path(path_type=Path)),
        click.option("--images", type=click.Path(path_type=Path), help="Where the photos lie  [default: in SRC]."),
        click.option("--skip-broken", is_flag=True, help="Leave broken photos out and list them in DST/build.json."),
        click.option("--limit", type=click.IntRange(1), help="At most so many photos."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@import_.command()
@_photo_options
def cocoa(src: Path, dst: Path, **options: Any) -> None:
    """Import COCO-Amodal (COCOA): SRC is its JSON file or a folder with some; DST becomes the corpus folder."""
    from scene.corpus.cocoa import import_cocoa

    _import(import_cocoa, src, dst, options)


@import_.command()
@_photo_options
def coco(src: Path, dst: Path, **options: Any) -> None:
    """Import COCO instances and captions: SRC is an instances*.json, or the folder with annotations/ and images/."""
    from scene.corpus.coco import import_coco

    _import(import_coco, src, dst, options)


@import_.command(name="coco-panoptic")
@_photo_options
def coco_panoptic(src: Path, dst: Path, **options: Any) -> None:
    """Import COCO panoptic: SRC is a panoptic*.json with its PNG folder beside it, or the folder that holds both."""
    from scene.corpus.coco_panoptic import import_coco_panoptic

    _import(import_coco_panoptic, src, dst, options)


def _import(importer: Any, src: Path, dst: Path, options: dict[str, Any]) -> None:
    from tqdm import tqdm

    def bar(photos: Iterator[Any], total: int) -> Iterator[Any]:
        return iter(tqdm(photos, total=total, unit="photo", mininterval=1))

    corpus = importer(src, dst, progress=bar, **options)
    skipped = len(json.loads((dst / "build.json").read_text(encoding="utf-8"))["skipped"])
    layers = sum(len(record.layers) for record in corpus.records())
    left_out = f"; {skipped} left out, see {dst / 'build.json'}" if skipped else ""
    click.echo(f"{len(corpus.records())} photos with {layers} layers in {dst} ({corpus.licence}){left_out}")


@data.command(name="show")
@click.argument("dst", type=click.Path(path_type=Path))
@click.option("--split", default="all", show_default=True, help="train, val, test or all.")
@click.option("--scenes", default=24, show_default=True, type=click.IntRange(1, 400), help="Scenes on the sheet.")
@click.option("--out", type=click.Path(path_type=Path), help="Contact sheet [default: DST/contact-sheet.png].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show_corpus(dst: Path, split: str, scenes: int, out: Path | None, as_json: bool) -> None:
    """Counts of a corpus, and a contact sheet PNG of scenes and layouts."""
    import numpy as np

    from orchestrator.disk import save_png
    from orchestrator.pictures import contact_sheet
    from scene.corpus.store import Corpus
    from scene.errors import UserError
    from scene.layout import layout_picture

    corpus = Corpus.open(dst)
    records = corpus.records(split)
    if not records:
        raise UserError(f"split {split!r} of {dst} is empty; choose another --split")
    labels = Counter(layer.label for record in records for layer in record.layers)
    chosen = [records[i] for i in np.linspace(0, len(records) - 1, min(scenes, len(records))).astype(int)]
    pictures = []
    for record in chosen:
        scene = corpus.scene(record)
        both = np.concatenate([scene.image, layout_picture(scene.layout)], axis=1)
        pictures.append((f"{record.id}: {record.prompts[0]}", both))
    target = out or dst / "contact-sheet.png"
    save_png(target, contact_sheet(pictures, columns=3, width=480))
    scenes_by_split = dict(Counter(record.split for record in records))
    counts = {
        "corpus": corpus.name,
        "licence": corpus.licence,
        "split": split,
        "scenes": scenes_by_split,
        "objects": sum(labels.values()),
        "turns": sum(len(record.turns) for record in records),
        "labels": dict(labels.most_common()),
        "contact_sheet": str(target),
    }
    if as_json:
        click.echo(json.dumps(counts))
        return
    click.echo(f"{corpus.name}, {corpus.licence}: {len(records)} scenes {scenes_by_split}, "
               f"{counts['objects']} layers, {counts['turns']} turns, {len(labels)} labels")  # fmt: skip
    click.echo(", ".join(f"{label} {count}" for label, count in labels.most_common()))
    click.echo(f"contact sheet: {target}")


@data.command(name="shard")
@click.argument("corpus", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--scenes-per-shard", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which scenes come together.")
def shard_(corpus: Path, out: Path, scenes_per_shard: int, seed: int) -> None:
    """Cut CORPUS into shards in folder OUT, which `train masker --data OUT` reads a few at a time."""
    from tqdm import tqdm

    from scene.corpus.records import SPLITS
    from scene.corpus.shards import write_shards

    def bar(numbers: Iterator[int], total: int) -> Iterator[int]:
        return iter(tqdm(numbers, total=total, unit="shard", mininterval=1))

    sharded = write_shards(corpus, out, scenes_per_shard=scenes_per_shard, seed=seed, progress=bar)
    shards = sharded.shards("all")
    size = sum(length for shard in shards for length, _ in shard.files.values())
    click.echo(
        f"{sum(shard.scenes for shard in shards)} scenes in {len(shards)} shards in {out}, {size / 1e6:.1f} MB "
        f"({sharded.licence}): " + ", ".join(f"{split} {len(sharded.shards(split))}" for split in SPLITS[:-1])
    )


@data.command(name="export-sequences")
@click.argument("dst", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--split", default="train", show_default=True, help="train, val, test or all.")
@click.option("--format", "form", type=click.Choice(["jsonl", "llava"]), default="jsonl", show_default=True,
              help="JSONL, or LLaVA conversations with their pictures in a folder beside FILE.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=None, help="At most so many scenes.")
def export_sequences_(dst: Path, file: Path, split: str, form: Any, limit: int | None) -> None:
    """Write the layout sequences of corpus DST, one entry per scene and step (docs/planner.md)."""
    from tqdm import tqdm

    from planner.links import corpus_relations
    from scene.corpus.sequences import export_sequences
    from scene.corpus.store import Corpus

    corpus = Corpus.open(dst)

    def bar(scenes: Any) -> Iterator[Any]:
        return iter(tqdm(scenes, unit="scene", mininterval=1))

    relations = corpus_relations(corpus)
    lines = export_sequences(corpus, file, split, form=form, limit=limit, relation_of=relations, show=bar)
    click.echo(f"{lines} samples in {file}")
