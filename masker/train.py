"""`smartscene train masker`: either stage, told apart by `stage` in the config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from masker.config import STAGES, CodecConfig, MaskerConfig
from masker.weights import load_masker
from runtime.config import load_stage, save_config
from runtime.training import TrainingTask, fit
from scene.corpus.store import Corpus


def train(config: Path, *, data: Path, out: Path, overrides: Sequence[str] = (), resume: bool = False) -> None:
    """Trains the mask codec or the denoiser; deployable weights end in `out/export`.

    Args:
        config: YAML with `stage: codec` or `stage: denoiser`.
        data: Corpus folder.
        out: Run folder: snapshots, sheets, log, export.
        overrides: `a.b=c` settings.
        resume: Go on from the newest snapshot in `out`.

    Raises:
        UserError: config, corpus, codec or snapshot cannot be used.
    """
    from masker.tasks import CodecTask, DenoiserTask, SilhouetteTask

    settings = load_stage(STAGES, config, overrides)
    assert isinstance(settings, CodecConfig | MaskerConfig)
    corpus = Corpus.open(data)
    task: TrainingTask
    if isinstance(settings, CodecConfig):
        task = CodecTask(settings, corpus)
    else:
        kind = SilhouetteTask if settings.stage == "silhouette" else DenoiserTask
        task = model_task = kind(settings, corpus)
        if settings.start_from and not resume:
            model_task.whole.load_state_dict(load_masker(Path(settings.start_from))[2].state_dict())
    out.mkdir(parents=True, exist_ok=True)
    save_config(settings, out / "config.yaml")
    fit(task, settings.fit, out, resume=resume)
