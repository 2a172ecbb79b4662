"""How a run begins: everything that can be checked before models load, then the run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config import ComposeConfig, clean_prompt, load_preset, with_style
from orchestrator.given import GivenObject
from orchestrator.rendering import check_seed
from orchestrator.run_folder import RunFolder
from scene.errors import UserError
from scene.geometry import Size
from scene.proposal import Proposal

if TYPE_CHECKING:
    from orchestrator.ports import Models
    from orchestrator.run import Run


@dataclass(frozen=True)
class Beginning:
    """A checked order for a run.

    Attributes:
        prompt, seed: of the run.
        config: resolved settings.
        out: run folder.
        planned: objects in place of the planner's.
        given: objects with masks that the scene starts with.
    """

    prompt: str
    seed: int
    config: ComposeConfig
    out: Path
    planned: tuple[Proposal, ...] = ()
    given: tuple[GivenObject, ...] = ()

    def start(self, models: Models | None = None) -> Run:
        """The run, open for writing; loads the preset's models unless some are given."""
        from orchestrator.compose import Composer

        composer = Composer.from_config(self.config, models=models)
        return composer.start(self.prompt, seed=self.seed, out=self.out, plan=self.planned, layout=self.given)


def default_out(prompt: str, seed: int) -> Path:
    """`runs/<first words>-<seed>`."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].strip("-")
    return Path("runs") / f"{words or 'scene'}-{seed}"


def prepare(
    prompt: str | None,
    *,
    preset: str,
    seed: int,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    size: str | None = None,
    max_objects: int | None = None,
    plan: Path | None = None,
    layout: str | None = None,
    mode: str | None = None,
    style: str | None = None,
    out: Path | None = None,
) -> Beginning:
    """Checks what a person asked for; loads no model.

    Args:
        prompt: None = made of the plan's or the layout's words.
        preset, config, overrides: see `load_preset`.
        seed: of all random numbers.
        size: canvas, "640x512".
        max_objects, mode, style: settings of `ComposeConfig`; None = the preset's.
        plan: file with an object list.
        layout: "PNG,JSON".
        out: run folder; None = `default_out`.

    Raises:
        UserError: anything that cannot be used.
    """
    from orchestrator.assemble import load_vocabulary
    from orchestrator.given import read_layout
    from orchestrator.planned import read_plan

    if prompt is None and plan is None and layout is None:
        raise UserError('give a PROMPT, like "a boy flying a kite", or --plan FILE, or --layout PNG,JSON')
    prompt = clean_prompt(prompt) if prompt is not None else None
    check_seed(seed)
    settings = list(overrides)
    if size is not None:
        parsed = Size.parse(size)
        settings += [f"width={parsed.width}", f"height={parsed.height}"]
    if max_objects is not None:
        settings.append(f"max_objects={max_objects}")
    if mode is not None:
        settings.append(f"mode={mode}")
    resolved = with_style(load_preset(preset, config, settings), style)
    world = resolved.size, load_vocabulary(resolved.world), resolved.preset
    planned = read_plan(plan, *world) if plan else ()
    given = read_layout(layout, *world) if layout else ()
    own = [*(item.proposal for item in given), *planned]
    if max_objects is None and len(own) > resolved.max_objects:
        resolved = resolved.model_copy(update={"max_objects": len(own)})
    prompt = prompt or clean_prompt(", ".join(entry.description for entry in own)[:2000])
    out = out or default_out(prompt, seed)
    if not (out / "run.json").exists():
        RunFolder.check_free(out)
    return Beginning(prompt, seed, resolved, out, planned, given)
