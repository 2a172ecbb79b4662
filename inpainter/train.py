"""`smartscene train inpainter`: stages `vae` and `appearance`, in any order, `memory` if wanted, then `denoiser`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inpainter.config import InpainterTraining
from runtime.config import load_config, save_config
from runtime.training import TrainingTask, fit
from scene.corpus.store import Corpus


def build_task(config: InpainterTraining, corpus: Corpus) -> TrainingTask:
    """The task of the configured stage."""
    if config.stage == "vae":
        from inpainter.vae_task import VaeTask

        return VaeTask(config, corpus)
    if config.stage == "appearance":
        from inpainter.appearance_task import AppearanceTask

        return AppearanceTask(config, corpus)
    from inpainter.denoiser_task import DenoiserTask

    return DenoiserTask(config, corpus)


def train(
    config: Path, *, data: Sequence[Path], out: Path, overrides: Sequence[str] = (), resume: bool = False
) -> None:
    """Trains one stage and leaves the weight folder in `out/export`.

    Args:
        config: YAML file of `InpainterTraining`.
        data: corpus folder; just one.
        out: run folder: `config.yaml`, `train.jsonl`, `sheets/`, `snapshots/`, `export/`.
        overrides: ``"a.b=c"`` strings.
        resume: go on with the newest snapshot in `out`.

    Raises:
        UserError: a wrong config, no corpus, or `out` holds another run.
    """
    resolved = load_config(InpainterTraining, config, overrides)
    corpus = Corpus.only(data)
    if resolved.stage == "memory":
        from inpainter.remember import remember

        remember(resolved, corpus, out)
        return
    task = build_task(resolved, corpus)
    out.mkdir(parents=True, exist_ok=True)
    save_config(resolved, out / "config.yaml")
    fit(task, resolved.fit, out, resume=resume)
