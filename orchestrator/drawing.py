"""The iterative drawing task on human dialogues (GeNeVA-CoDraw), whole loop: planner, masker and inpainter draw what
two people said, turn by turn, and what is scored is read off the rendered pictures.

A reader trained on real renders (`perception.locator`) looks at every picture of ours and at the drawer's own canvas
after the same turn; what it says of the latter is the truth. Ours is a re-implementation with a reader of our own:
figures are close to published ones in meaning, not in the last digits. Protocol: `planner.geneva`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from orchestrator.config import ComposeConfig
from orchestrator.history import History
from orchestrator.outlook import Outlook
from orchestrator.ports import Models
from orchestrator.rendering import drawn_inside
from perception.locator import Found, PictureReader
from perception.locator_train import LocatorTask, reader_scores
from planner.geneva import MAX_PER_TURN, CountedTurn, Places, counted_turns, object_scores, rsim
from scene.corpus.records import LayerRecord, SceneRecord
from scene.corpus.store import Corpus
from scene.errors import ModelError, UserError
from scene.layers import Layer, LayeredScene
from scene.seeds import StepSeed

MAX_ON_CANVAS = 40
BOX_DRAWS = 32
FAR = 2  # depth of the farthest drawing size
TILE, CAPTION_PX = (320, 256), 14
Show = Callable[[Sequence[SceneRecord]], Iterable[SceneRecord]]


@dataclass(frozen=True)
class Drawing:
    """A dialogue drawn: after each counted turn the scene, and what was read off the pictures.

    Attributes:
        id: of the record.
        turns: counted turns.
        scenes: ours, after each.
        ours, theirs: what the reader sees in our picture and in the drawer's, after each.
        masked: what it sees where our inpainter drew inside the drawer's own masks, at the end.
        seconds: for all of ours.
    """

    id: str
    turns: tuple[CountedTurn, ...]
    scenes: tuple[LayeredScene, ...]
    ours: tuple[dict[str, Found], ...]
    theirs: tuple[dict[str, Found], ...]
    masked: dict[str, Found] = field(default_factory=dict)
    seconds: float = 0.0


def drawing_config(config: ComposeConfig) -> ComposeConfig:
    """A preset's settings for this task: what nobody said is not drawn, a canvas may hold whatever was said, and things
    stand where the words most probably mean: one picture is asked for, not many."""
    planner = config.planner.model_copy(update={"max_implied": 0, "min_objects": 0, "box_draws": BOX_DRAWS})
    return config.model_copy(update={"planner": planner, "max_objects": MAX_ON_CANVAS})


def empty_canvas(corpus: Corpus, record: SceneRecord) -> LayeredScene:
    """The background that every dialogue starts from: the record's surfaces."""
    found = [
        Layer(number, layer.label, layer.description, corpus.mask(layer), corpus.rgba(layer))
        for number, layer in enumerate(corpus.surfaces(record), start=1)
    ]
    return LayeredScene(corpus.size, "", tuple(found))


def with_object(
    models: Models, scene: LayeredScene, layer: Layer, context: str, seed: StepSeed, behind: Sequence[int] = ()
) -> LayeredScene:
    """The scene with the object of a layer without pixels drawn into it, under the rearmost of the layers `behind`.

    Raises:
        ModelError: the inpainter cannot draw it.
    """
    beneath = scene.beneath(behind).image
    image = models.inpainter.render(beneath, layer.mask, layer.label, layer.description, context, seed=seed)
    return scene.with_layer(replace(layer, rgba=drawn_inside(image, layer.mask, beneath)), behind)


def drawn_turns(
    models: Models, config: ComposeConfig, start: LayeredScene, turns: Sequence[CountedTurn], seed: int
) -> Iterator[LayeredScene]:
    """The scene after each counted turn; the loop sees the words of that turn alone, and its own scene so far."""
    scene = start
    for turn in turns:
        scene = replace(scene, prompt=turn.text)
        for _ in range(MAX_PER_TURN):
            taken = max((layer.id for layer in scene.layers), default=0)
            outlook = Outlook(models, config, seed, History(reserved=taken), scene)
            thought = outlook.think()
            if thought.choice is None:
                break
            words, mask = thought.choice.request.proposal, thought.choice.mask
            step = thought.draft.seed
            try:
                layer = Layer(step.step, words.label, words.description, mask)
                scene = with_object(models, scene, layer, turn.text, step, thought.choice.request.behind)
            except ModelError:
                break
        yield scene


def drawn_masks(
    models: Models, corpus: Corpus, start: LayeredScene, layers: Sequence[LayerRecord], context: str, seed: int
) -> np.ndarray:
    """The picture in which our inpainter drew a person's objects inside their own masks."""
    scene = start
    for number, record in enumerate(layers, start=len(start.layers) + 1):
        mask = corpus.mask(record)
        if mask.any():
            layer = Layer(number, record.label, record.description, mask)
            scene = with_object(models, scene, layer, context, StepSeed(seed, number))
    return scene.image


def drawn_dialogue(
    models: Models, config: ComposeConfig, corpus: Corpus, record: SceneRecord, reader: PictureReader, seed: int
) -> Drawing:
    """A whole dialogue, ours and the drawer's."""
    turns, start, started = tuple(counted_turns(record.turns)), empty_canvas(corpus, record), time.perf_counter()
    scenes = tuple(drawn_turns(models, config, start, turns, seed))
    seconds = time.perf_counter() - started
    ground = corpus.surfaces(record)
    theirs = [corpus.painted([*ground, *turn.layers]) for turn in turns]
    masked = drawn_masks(models, corpus, start, turns[-1].layers, turns[-1].text, seed)
    return Drawing(
        record.id,
        turns,
        scenes,
        tuple(reader.read([scene.image for scene in scenes])),
        tuple(reader.read(theirs)),
        reader.read([masked])[0],
        seconds,
    )


def places(found: dict[str, Found], whole_depths: bool = False) -> Places:
    """Across and depth, both 0 to 1; `whole_depths` rounds the depth to one of the three sizes."""
    return {label: (each.x, (round(each.depth) if whole_depths else each.depth) / FAR) for label, each in found.items()}


def drawing_scores(drawings: Sequence[Drawing], surfaces: Sequence[str]) -> dict[str, Any]:
    """`object_f1` (per-picture mean) and `rsim` of last turns, read off rendered pictures, and every variant beside.

    Returns:
        `last_turn`, `every_turn` and, for last turns, `true_masks` (our inpainter inside the drawer's masks) and `list`
        (what our scene holds by its layers, against the drawer's canvas, no reader): precision, recall, `f1_mean`,
        `f1_of_means`, and `rsim` where places are known; `rsim_whole_depths` compares depths as the three sizes.
    """

    def scored(pairs: Sequence[tuple[dict[str, Found], dict[str, Found]]]) -> dict[str, float]:
        own: dict[str, float] = dict(object_scores([(ours.keys(), theirs.keys()) for ours, theirs in pairs]))
        for name, whole in (("rsim", False), ("rsim_whole_depths", True)):
            own[name] = round(float(np.mean([rsim(places(a, whole), places(b, whole)) for a, b in pairs])), 4)
        return own

    every = [pair for each in drawings for pair in zip(each.ours, each.theirs, strict=True)]
    last = scored([(each.ours[-1], each.theirs[-1]) for each in drawings])
    lists = [
        ({layer.label for layer in each.scenes[-1].layers} - {*surfaces}, each.turns[-1].classes - {*surfaces})
        for each in drawings
    ]
    return {
        "object_f1": last["f1_mean"],
        "rsim": last["rsim"],
        "n_dialogues": len(drawings),
        "last_turn": last,
        "every_turn": scored(every),
        "true_masks": scored([(each.masked, each.theirs[-1]) for each in drawings]),
        "list": object_scores(lists),
        "objects": round(float(np.mean([len(each.scenes[-1].layers) - len(surfaces) for each in drawings])), 2),
        "seconds_per_dialogue": round(float(np.mean([each.seconds for each in drawings])), 2),
    }


def evaluate_drawing(
    models: Models,
    config: ComposeConfig,
    corpus: Corpus,
    reader: Path,
    *,
    split: str,
    limit: int,
    seed: int = 0,
    show: Show = lambda records: records,
    sheet: Path | None = None,
) -> dict[str, Any]:
    """`drawing_scores` on the first dialogues of a split, and the reader's own scores there.

    Args:
        models, config: of the preset.
        corpus: with dialogues.
        reader: weight folder of the picture reader.
        split: of the corpus.
        limit: so many dialogues.
        seed: of the first; the others follow.
        show: wraps the records, for a progress bar.
        sheet: PNG of ours beside theirs.

    Raises:
        UserError: no dialogues, or no reader.
    """
    records = [record for record in corpus.records(split) if counted_turns(record.turns)][:limit]
    if not records:
        raise UserError(f"corpus {corpus.name} has no dialogues in split {split}")
    eyes = PictureReader.load(reader)
    drawings = [
        drawn_dialogue(models, config, corpus, record, eyes, seed + number)
        for number, record in enumerate(show(records))
    ]
    surfaces = [label for label in corpus.labels if corpus.vocabulary.kind(label) == "surface"]
    if sheet is not None:
        drawing_sheet(corpus, records, drawings).save(sheet)
    task = LocatorTask(eyes.model.config, corpus)
    return drawing_scores(drawings, surfaces) | {"reader": reader_scores(task, eyes, records)}


def drawing_sheet(
    corpus: Corpus, records: Sequence[SceneRecord], drawings: Sequence[Drawing], columns: int = 3
) -> Image.Image:
    """Last turns, pairs of the drawer's canvas and ours, with the classes that only one of them shows."""
    tiles = []
    for record, drawing in zip(records, drawings, strict=True):
        ground = corpus.surfaces(record)
        pictures = [corpus.painted([*ground, *drawing.turns[-1].layers]), drawing.scenes[-1].image]
        pair = Image.new("RGB", (2 * TILE[0] + 6, TILE[1] + CAPTION_PX), "white")
        for at, picture in enumerate(pictures):
            pair.paste(Image.fromarray(picture).resize(TILE, Image.Resampling.BOX), (at * (TILE[0] + 2), CAPTION_PX))
        ours, theirs = drawing.ours[-1].keys(), drawing.theirs[-1].keys()
        said = f"person | ours   missing: {', '.join(sorted(theirs - ours)) or '-'}   extra: "
        ImageDraw.Draw(pair).text((2, 1), (said + (", ".join(sorted(ours - theirs)) or "-"))[:104], fill="black")
        tiles.append(pair)
    rows = -(-len(tiles) // columns)
    whole = Image.new("RGB", (columns * tiles[0].width, rows * tiles[0].height), "white")
    for number, tile in enumerate(tiles):
        whole.paste(tile, (number % columns * tile.width, number // columns * tile.height))
    return whole
