"""Contact sheets of the masker on held-out scenes: layout, guide and predicted mask, as PNG.

Usage: .venv/bin/python benchmarks/masker_sheets.py --masker pretrained/home/masker --data runs/data/home
    --data runs/data/icons --out docs/images

Nothing is picked by hand: the objects are the first of the seeded draw (`masker.cases.choose_cases`, split val) that
fit a sheet, the masks are the best-ranked of `--count`.

    masker-forms.png: 24 labels, each without a guide (whole canvas) and with box, blob and scribble (window)
    masker-sofas.png: 8 mask-free samples of "sofa" in one room
    masker-sizes.png: small, large and thin objects, with box and with scribble, beside the real mask
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation, distance_transform_edt

from masker.cases import Case, choose_cases, true_guide
from masker.guides import FORMS, GUIDE_BOX_LEVEL
from masker.smartmask import SmartMask
from masker.windows import Window, canvas_window, sample_cells, window_round
from runtime.seeding import set_threads
from scene.corpus.store import Corpus
from scene.errors import ModelError, UserError
from scene.guidance import Guidance
from scene.layers import LayeredScene
from scene.layout import layout_picture
from scene.seeds import StepSeed

SEED = 11
TILE, CAPTION, GAP = 150, 15, 4
MASK_COLOUR, GUIDE_COLOUR = (225, 20, 90), (0, 0, 0)
LABELS, BLOCKS = 24, 2
SIZES_EACH = 4
MAX_BYTES = 400_000
PALETTE = 128


def tile(
    scene: LayeredScene, mask: np.ndarray | None, guide: np.ndarray | None, window: Window, side: int
) -> np.ndarray:
    """A view of the layout with the mask painted over it and the guide outlined, uint8 (side, side, 3)."""
    picture = np.stack(
        [
            sample_cells(channel, window, side, outside=255)
            for channel in np.moveaxis(layout_picture(scene.layout), 2, 0)
        ],
        axis=2,
    )
    picture = (0.55 * picture + 0.45 * 255).astype(np.uint8)  # pale, so that the mask stands out
    if mask is not None:
        seen = sample_cells(mask, window, side)
        picture[seen] = (0.2 * picture[seen] + 0.8 * np.array(MASK_COLOUR)).astype(np.uint8)
        picture[binary_dilation(seen) & ~seen] = (70, 0, 25)
    if guide is not None:
        inside = sample_cells(guide, window, side)
        picture[binary_dilation(inside) & ~inside] = GUIDE_COLOUR
    return picture


def whole(scene: LayeredScene, mask: np.ndarray | None, width: int) -> np.ndarray:
    """The whole canvas, `width` px wide."""
    square = tile(scene, mask, None, canvas_window(scene.size), width)
    margin = round(width * (1 - scene.size.height / scene.size.width) / 2)
    return square[margin : width - margin]


def outline_of(guidance: Guidance) -> np.ndarray:
    """What is drawn of a guide: the area above half, for a blob down to the box that it speaks of."""
    return guidance.map >= (GUIDE_BOX_LEVEL if guidance.kind == "blob" else 0.5)


def predict(
    model: SmartMask, scene: LayeredScene, case: Case, guidance: Guidance | None, count: int
) -> np.ndarray | None:
    """The best-ranked mask; None where all stayed empty."""
    try:
        found = model.predict(
            scene, case.label, case.description, scene.prompt, guidance=guidance, count=count, seed=case.step(SEED)
        )
    except ModelError:
        return None
    return found[0].mask


def with_caption(text: str, tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Tiles side by side below a line of text."""
    height = max(len(each) for each in tiles)
    padded = [np.pad(each, ((0, height - len(each)), (0, GAP), (0, 0)), constant_values=255) for each in tiles]
    row = np.concatenate(padded, axis=1)
    head = Image.new("RGB", (row.shape[1], CAPTION), "white")
    ImageDraw.Draw(head).text((2, 1), text, fill="black")
    return np.concatenate([np.asarray(head), row, np.full((GAP, row.shape[1], 3), 255, np.uint8)], axis=0)


def save(blocks: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Columns of equal rows side by side, as a palette PNG below `MAX_BYTES`."""
    columns = [np.concatenate(list(block), axis=0) for block in blocks]
    height = max(len(column) for column in columns)
    columns = [np.pad(each, ((0, height - len(each)), (0, 0), (0, 0)), constant_values=255) for each in columns]
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.concatenate(columns, axis=1))
    picture.quantize(PALETTE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size} bytes")
    if path.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{path} is larger than {MAX_BYTES} bytes; lower TILE")


def shows_whole(case: Case, corpus: Corpus) -> bool:
    """Whether the canvas cuts nothing off."""
    box = case.box
    return box.x0 > 0 and box.y0 > 0 and box.x1 < corpus.size.width and box.y1 < corpus.size.height


def area_share(case: Case, corpus: Corpus) -> float:
    """Share of the canvas that the object's box takes."""
    return case.box.area / (corpus.size.width * corpus.size.height)


def forms_sheet(model: SmartMask, corpora: Sequence[Corpus], count: int, path: Path) -> None:
    """24 labels under the four forms."""
    rows, used = [], set()
    for corpus in corpora:
        wanted = LABELS // len(corpora)
        trained = {corpus.assets[layer.asset].source for record in corpus.records("train") for layer in record.layers}
        for case in choose_cases(corpus, "val", None, SEED):
            if wanted == 0:
                break
            if case.label in used or not shows_whole(case, corpus) or not 0.01 < area_share(case, corpus) < 0.3:
                continue
            used.add(case.label)
            wanted -= 1
            new = corpus.assets[case.record.layers[case.k].asset].source not in trained
            scene, window = case.scene(corpus), window_round(case.box, 1.9, corpus.size)
            tiles = []
            for form in FORMS:
                guidance = true_guide(case, form, corpus.size, SEED)
                mask = predict(model, scene, case, guidance, count)
                if guidance is None:
                    tiles.append(whole(scene, mask, round(TILE * corpus.size.width / corpus.size.height)))
                else:
                    tiles.append(tile(scene, mask, outline_of(guidance), window, TILE))
            rows.append(with_caption(f"{case.label} ({corpus.name}{', new model' if new else ''})", tiles))
    share = -(-len(rows) // BLOCKS)
    save([rows[start : start + share] for start in range(0, len(rows), share)], path)


def sofa_sheet(model: SmartMask, corpora: Sequence[Corpus], label: str, path: Path) -> None:
    """8 mask-free samples in the first room of the draw that has one, as it is before the object comes."""
    for corpus in corpora:
        cases = [case for case in choose_cases(corpus, "val", None, SEED) if case.label == label]
        if cases:
            case = max(cases[:10], key=lambda case: case.k)  # the fullest of ten rooms
            break
    else:
        raise UserError(f"no {label!r} in split val of these corpora; name another with --free-label")
    scene = case.scene(corpus)
    found = model.predict(scene, label, label, scene.prompt, guidance=None, count=8, seed=StepSeed(SEED, 0))
    tiles = [with_caption(f"rank {i + 1}", [whole(scene, c.mask, 2 * TILE)]) for i, c in enumerate(found)]
    save([tiles[start::4] for start in range(4)], path)


def kinds_of_size(case: Case, corpus: Corpus) -> Iterator[str]:
    """small: box below 0.4 % of the canvas. large: above 15 %. thin: thickest part below a 12th of the longer side."""
    share = area_share(case, corpus)
    longer = max(case.box.width, case.box.height)
    if share < 0.004:
        yield "small"
    if share > 0.15:
        yield "large"
    if longer > 60 and 2 * float(distance_transform_edt(case.truth).max()) < longer / 12:
        yield "thin"


def sizes_sheet(model: SmartMask, corpora: Sequence[Corpus], count: int, path: Path) -> None:
    """Small, large and thin objects: with box, with scribble, and as they are."""
    rows: dict[str, list[np.ndarray]] = {"small": [], "large": [], "thin": []}
    used: set[str] = set()
    for corpus in corpora:
        for case in choose_cases(corpus, "val", None, SEED):
            for kind in kinds_of_size(case, corpus):
                most = SIZES_EACH if corpus is corpora[-1] else -(-SIZES_EACH // len(corpora))
                if len(rows[kind]) >= most or case.label in used:
                    continue
                used.add(case.label)
                scene, window = case.scene(corpus), window_round(case.box, 1.6, corpus.size)
                tiles = []
                for form in ("box", "scribble"):
                    guidance: Any = true_guide(case, form, corpus.size, SEED)  # type: ignore[arg-type]
                    mask = predict(model, scene, case, guidance, count)
                    tiles.append(tile(scene, mask, outline_of(guidance), window, TILE))
                tiles.append(tile(scene, case.truth, None, window, TILE))
                text = f"{kind}: {case.label}, {case.box.width}x{case.box.height} px: box | scribble | real"
                rows[kind].append(with_caption(text, tiles))
    save([rows[kind] for kind in rows if rows[kind]], path)


def main() -> None:
    """Writes the three sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masker", type=Path, default=Path("pretrained/home/masker"))
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--count", type=int, default=4, help="candidates a mask; the best-ranked is shown")
    parser.add_argument("--free-label", default="sofa")
    arguments = parser.parse_args()
    set_threads(1)
    corpora = [Corpus.open(path) for path in arguments.data]
    model = SmartMask.from_pretrained(arguments.masker)
    sofa_sheet(model, corpora, arguments.free_label, arguments.out / "masker-sofas.png")
    sizes_sheet(model, corpora, arguments.count, arguments.out / "masker-sizes.png")
    forms_sheet(model, corpora, arguments.count, arguments.out / "masker-forms.png")


if __name__ == "__main__":
    main()
