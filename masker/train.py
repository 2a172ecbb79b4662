"""`smartscene train masker`: any stage, told apart by `stage` in the config."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from masker.stage_config import (
    STAGES,
    CodecConfig,
    MaskerConfig,
    MemoryStageConfig,
    PlacementStageConfig,
    SurfaceStageConfig,
    TracerStageConfig,
)
from masker.weights import load_codec
from runtime.config import load_stage, save_config
from runtime.training import TrainingTask, fit
from runtime.weights import read_weights
from scene.corpus.shards import open_any

log = logging.getLogger(__name__)


def train(
    config: Path, *, data: Sequence[Path], out: Path, overrides: Sequence[str] = (), resume: bool = False
) -> None:
    """Trains one stage of the mask model; deployable weights end in `out/export`.

    Args:
        config: YAML whose `stage` is one of `masker.stage_config.STAGES`.
        data: Corpus folders or folders of shards; examples are mixed by `examples.corpus_shares`.
        out: Run folder: snapshots, sheets, log, export.
        overrides: `a.b=c` settings.
        resume: Go on from the newest snapshot in `out`.

    Raises:
        UserError: config, corpus, codec or snapshot cannot be used.
    """
    from masker.placement_task import PlacementTask
    from masker.remember import remember
    from masker.stages import MODEL_TASKS
    from masker.surface_task import SurfaceTask
    from masker.tasks import CodecTask
    from masker.tracer_task import TracerTask

    settings = load_stage(STAGES, config, overrides)
    corpora = [open_any(folder) for folder in data]
    if isinstance(settings, MemoryStageConfig):
        remember(settings, corpora, out)
        return
    assert isinstance(
        settings, CodecConfig | MaskerConfig | PlacementStageConfig | SurfaceStageConfig | TracerStageConfig
    )
    task: TrainingTask
    if isinstance(settings, CodecConfig):
        task = codec_task = CodecTask(settings, corpora)
        if settings.start_from and not resume:
            codec_task.model.load_state_dict(load_codec(Path(settings.start_from)).state_dict())
    elif isinstance(settings, PlacementStageConfig):
        task = PlacementTask(settings, corpora)
    elif isinstance(settings, SurfaceStageConfig):
        task = SurfaceTask(settings, corpora)
    elif isinstance(settings, TracerStageConfig):
        task = TracerTask(settings, corpora)
    else:
        task = model_task = MODEL_TASKS[settings.stage](settings, corpora)
        if not resume:
            given = settings.start_from or []
            warm_start(model_task.whole, [given] if isinstance(given, str) else given)
            model_task.begin()
    out.mkdir(parents=True, exist_ok=True)
    save_config(settings, out / "config.yaml")
    fit(task, settings.fit, out, resume=resume)


def warm_start(model: nn.Module, folders: Sequence[str | Path]) -> list[str]:
    """Copies every weight of some masker folders that fits a model by name and shape; later folders prevail.

    Of "FOLDER#PREFIX", only the weights whose names start with the prefix.

    Returns:
        Names of the weights that start fresh.

    Raises:
        UserError: a folder holds no mask model.
    """
    mine = model.state_dict()
    fitting: dict[str, Tensor] = {}
    for folder in folders:
        path, _, prefix = str(folder).partition("#")
        fitting |= {
            name: value
            for name, value in read_weights(Path(path) / "model.safetensors").items()
            if name.startswith(prefix) and name in mine and mine[name].shape == value.shape
        }
    model.load_state_dict(fitting, strict=False)
    left = [name for name in mine if name not in fitting]
    if left and folders:
        log.warning("%d of %d weights start fresh: %s ...", len(left), len(mine), ", ".join(left[:4]))
    return left
