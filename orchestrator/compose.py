"""Starts and resumes runs with one set of loaded models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.config import ComposeConfig, clean_prompt, load_preset
from orchestrator.given import GivenObject, with_given
from orchestrator.photograph import StartingPhoto
from orchestrator.planned import FixedPlanner
from orchestrator.ports import Models
from orchestrator.rendering import check_seed
from orchestrator.run import Run
from orchestrator.run_folder import RunFolder
from runtime.config import validate
from scene.errors import UserError
from scene.proposal import Proposal


class Composer:
    """Starts and resumes runs with one set of loaded models.

    Example:
        composer = Composer.from_preset("home")
        run = composer.start("a living room with a red sofa and a floor lamp", seed=3, out="runs/room")
        for step in run.steps():
            print(step.index, step.outcome, step.proposal and step.proposal.label)
        run.image.save("room.png")
    """

    def __init__(self, config: ComposeConfig, models: Models) -> None:
        self.config, self.models = config, models

    @classmethod
    def from_preset(
        cls, preset: str, *, config: Path | None = None, overrides: Sequence[str] = (), models: Models | None = None
    ) -> Composer:
        """Loads a preset's models.

        Args:
            preset: name of a file in `configs/compose/`.
            config: a config file in its place.
            overrides: "a.b=value" settings.
            models: use these instead of loading any.

        Raises:
            UserError: unknown preset, wrong setting, or a weight package that is not installed.
        """
        return cls.from_config(load_preset(preset, config, overrides), models=models)

    @classmethod
    def from_config(cls, config: ComposeConfig, *, models: Models | None = None) -> Composer:
        """Loads the models that a resolved configuration names."""
        if models is None:
            from orchestrator.assemble import assemble

            models = assemble(config)
        return cls(config, models)

    @classmethod
    def for_run(cls, path: Path | str, *, models: Models | None = None) -> tuple[Composer, Run]:
        """Opens a run with the configuration it was started with."""
        folder = RunFolder.open(Path(path))
        try:
            config = validate(ComposeConfig, folder.facts["config"], str(Path(path) / "run.json"))
            composer = cls.from_config(config, models=models)
            return composer, composer._run(folder, config)
        except BaseException:
            folder.close()
            raise

    def _run(self, folder: RunFolder, config: ComposeConfig) -> Run:
        """The run of a folder; one with a plan of its own does not ask the planner."""
        plan, layout = folder.facts.get("plan"), folder.facts.get("layout")
        models = self.models
        if plan:
            models = replace(models, planner=FixedPlanner([Proposal.from_json(entry) for entry in plan]))
        if layout:
            models = with_given(models, [GivenObject.from_json(item, folder.size) for item in layout])
        return Run(folder, config, models)

    def start(
        self,
        prompt: str,
        *,
        seed: int = 0,
        out: Path | str,
        plan: Sequence[Proposal] = (),
        layout: Sequence[GivenObject] = (),
        photo: StartingPhoto | None = None,
    ) -> Run:
        """Starts a run in a new folder, or goes on with the same run if `out` holds it already.

        Args:
            prompt: global prompt, 1 to 2,000 characters.
            seed: 0 to 2**63 - 1; same seed, same scene.
            out: run folder.
            plan: objects in place of the planner's, rearmost first.
            layout: objects with their masks that the scene starts with, rearmost first.
            photo: what the scene starts from in place of an empty canvas; it also decides the canvas's size.

        Raises:
            UserError: bad prompt or seed, folder not usable, or it holds a different run.
        """
        prompt, out = clean_prompt(prompt), Path(out)
        check_seed(seed)
        if photo is not None and layout:
            raise UserError("a photo brings its own layout; give --layout or a photo, not both")
        if photo is not None:
            return self._start_in_photo(prompt, seed, out, photo, plan)
        own = [entry.to_json() for entry in plan], [item.to_json() for item in layout]
        if (out / "run.json").exists():
            return self._continue(prompt, seed, out, *own)
        facts = self._facts(prompt, seed, self.config)
        facts |= {name: entries for name, entries in zip(("plan", "layout"), own, strict=True) if entries}
        return self._run(RunFolder.create(out, facts), self.config)

    def _facts(self, prompt: str, seed: int, config: ComposeConfig) -> dict[str, Any]:
        """What every `run.json` holds."""
        from orchestrator.versions import versions

        return {
            "prompt": prompt,
            "seed": seed,
            "size": list(config.size),
            "config": config.model_dump(mode="json"),
            "unknown": self.models.vocabulary.unknown(self.models.read(prompt)),
            "versions": versions(),
            "weights": dict(self.models.weights),
            "notice": self.models.notice,
        }

    def _start_in_photo(self, prompt: str, seed: int, out: Path, photo: StartingPhoto, plan: Sequence[Proposal]) -> Run:
        if (out / "run.json").exists():
            raise UserError(f'{out} holds a run; choose another --out, or go on: smartscene insert {out} "OBJECT"')
        canvas = photo.canvas
        config = self.config.model_copy(update={"width": canvas.width, "height": canvas.height})
        entry, files = photo.packed(self.models.vocabulary)
        facts = self._facts(prompt, seed, config) | {"photo": entry}
        if plan:
            facts["plan"] = [item.to_json() for item in plan]
        run = self._run(RunFolder.create(out, facts, files), config)
        run.finish()
        return run

    def _continue(
        self, prompt: str, seed: int, out: Path, plan: list[dict[str, Any]], layout: list[dict[str, Any]]
    ) -> Run:
        folder = RunFolder.open(out)
        facts = folder.facts
        try:
            config = validate(ComposeConfig, facts["config"], str(out / "run.json"))
        except BaseException:
            folder.close()
            raise
        same_own = ((facts.get("plan") or []), (facts.get("layout") or [])) == (plan, layout)
        if not same_own or (facts["prompt"], facts["seed"], config) != (prompt, seed, self.config):
            folder.close()
            raise UserError(
                f"{out} holds another run (prompt {facts['prompt'][:60]!r}, seed {facts['seed']}); "
                f"choose another --out, or go on with it: smartscene resume {out}"
            )
        return self._run(folder, self.config)


__all__ = ["Composer", "Run", "check_seed"]
