"""`smartscene train planner`: whatever stage a config names."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from planner.acceptance_train import AcceptanceTask, AcceptanceTrainConfig
from planner.descriptions_train import DescriptionsTask, DescriptionsTrainConfig, by_label, read_descriptions
from planner.frames import load_frames
from planner.language_train import PlannerTask, PlannerTrainConfig, corpus_lessons
from planner.lessons import Lessons, SequenceLessons
from planner.parser_train import ParserTask, ParserTrainConfig
from planner.places_train import PlacesTask, PlacesTrainConfig
from planner.prompt import PromptEncoder
from planner.vision_train import VisionTask, VisionTrainConfig
from runtime.config import Config, load_stage
from runtime.files import write_json
from runtime.training import fit
from scene.corpus.store import Corpus

if TYPE_CHECKING:
    from peft import PeftModel

log = logging.getLogger(__name__)

STAGES: dict[str, type[Config]] = {
    "vision": VisionTrainConfig,
    "descriptions": DescriptionsTrainConfig,
    "parser": ParserTrainConfig,
    "acceptance": AcceptanceTrainConfig,
    "places": PlacesTrainConfig,
    "language": PlannerTrainConfig,
}


def train(
    config: Path, *, data: Sequence[Path], out: Path, overrides: Sequence[str] = (), resume: bool = False
) -> None:
    """Train the config's stage: vision tower, place head, reverse dictionary, prompt parser, what takes its readings,
    or the planner.

    A planner's `out/export` is a folder for `--set planner.adapter=DIR`; a tower's is for `tower: DIR`, a place head's
    for `places: DIR`.

    Args:
        config: YAML with `stage: vision`, `places`, `descriptions`, `parser`, `acceptance` or
            `language`.
        data: corpus folder, for the language stage a file of layout sequences as well, for descriptions and parser a
            folder of descriptions (`planner.descriptions_train`), for the acceptance a file of marked prompts
            (`planner.frames`); just one.
        out: run folder.
        overrides: "a.b=c" settings.
        resume: go on from the newest snapshot.

    Raises:
        UserError: bad config, no corpus, missing weight package, or a run that is there already.
    """
    settings = load_stage(STAGES, config, overrides)
    if isinstance(settings, VisionTrainConfig):
        fit(VisionTask(settings, Corpus.only(data)), settings.fit, out, resume=resume)
        return
    if isinstance(settings, PlacesTrainConfig):
        fit(PlacesTask(settings, Corpus.only(data)), settings.fit, out, resume=resume)
        return
    if isinstance(settings, DescriptionsTrainConfig):
        fit(DescriptionsTask(settings, read_descriptions(data[0])), settings.fit, out, resume=resume)
        return
    if isinstance(settings, ParserTrainConfig):
        fit(ParserTask(settings, by_label(read_descriptions(data[0]))), settings.fit, out, resume=resume)
        return
    if isinstance(settings, AcceptanceTrainConfig):
        fit(AcceptanceTask(settings, load_frames(data[0])), settings.fit, out, resume=resume)
        return
    assert isinstance(settings, PlannerTrainConfig)
    if len(data) == 1 and data[0].is_file():
        train_on_sequences(settings, data[0], out, resume=resume)
    else:
        fit(PlannerTask(settings, corpus_lessons(settings, Corpus.only(data))), settings.fit, out, resume=resume)


def train_on_sequences(
    config: PlannerTrainConfig,
    file: Path,
    out: Path,
    *,
    resume: bool = False,
    model: PeftModel | None = None,
    encoder: PromptEncoder | None = None,
) -> None:
    """Fine-tune on a file of layout sequences; `out/held_out.json` says what that did for scenes it did not see.

    Args:
        config: settings.
        file: JSONL or LLaVA conversations.
        out: run folder.
        resume: go on from the newest snapshot.
        model, encoder: as in `PlannerTask`.
    """
    task = PlannerTask(config, SequenceLessons(file, links=config.links), model=model, encoder=encoder)
    unseen = SequenceLessons(file, held_out=True, links=config.links)
    report = out / "held_out.json"
    before = json.loads(report.read_text(encoding="utf-8"))["before"] if resume and report.is_file() else None
    losses = {"before": before if before is not None else held_out_loss(task, unseen)}
    out.mkdir(parents=True, exist_ok=True)
    write_json(report, losses)
    fit(task, config.fit, out, resume=resume)
    losses["after"] = held_out_loss(task, unseen)
    write_json(report, losses)
    log.info("held-out loss %.4f before, %.4f after", losses["before"], losses["after"])


def held_out_loss(task: PlannerTask, lessons: Lessons, scenes: int = 16) -> float:
    """Mean loss of a task's model on the first `scenes` lessons of another source, always the same ones."""
    task.model.eval()
    with torch.no_grad():
        losses = [float(task.model([task.packed(lessons.lesson(number, 0, 4))])[0]) for number in range(scenes)]
    return sum(losses) / len(losses)
