"""A first terminal dialogue: the proposal is shown, a person decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orchestrator.run import Draft, Run
from scene.errors import UserError
from scene.geometry import Box
from scene.guidance import Guidance

HELP = "[a]ccept  [r]eject REASON  [e]dit WORDS  [b]ox x0,y0,x1,y1  [f]inish automatically  [s]top here  [q]uit"


def dialogue(run: Run, read: Callable[[], str], say: Callable[[str], object]) -> None:
    """Steps through a run.

    Args:
        run: the composition; on quit it stays resumable.
        read: gives one line of input, "" at its end.
        say: shows one line.
    """
    say(f"{run.prompt}  (canvas {run.scene.size.width}x{run.scene.size.height})")
    while not run.finished:
        draft = run.propose()
        if draft.proposal is None:
            step = run.reject(draft, draft.error)
            say(f"step {step.index}: {step.reason}")
            if len(run.folder.history.rejected_since_placed()) >= run.config.max_rejections:
                run.stop("the planner's answers could not be used", draft)
            continue
        if not _decide(run, draft, read, say):
            say(f"saved; go on with: smartscene step {run.folder.path}")
            break
    run.finish()
    say(f"{len(run.scene.layers)} layers: {run.folder.path / 'final.png'}")


def _show(draft: Draft) -> str:
    proposal = draft.proposal
    assert proposal is not None
    if proposal.stop:
        return f"step {draft.seed.step}: the planner would stop ({proposal.reason or 'nothing left to add'})"
    box = ",".join(map(str, proposal.box)) if proposal.box else "anywhere"
    notes = f"  [{'; '.join(proposal.notes)}]" if proposal.notes else ""
    return f"step {draft.seed.step}: {proposal.label} - {proposal.description}  at {box}{notes}"


def _decide(run: Run, draft: Draft, read: Callable[[], str], say: Callable[[str], object]) -> bool:
    """Handles one proposal; False = quit."""
    proposal = draft.proposal
    assert proposal is not None
    say(_show(draft))
    say(HELP)
    guidance: Guidance | None = None
    while True:
        line = read()
        command, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if not line or command in ("q", "quit"):
            return False
        if command in ("a", "accept"):
            step = run.stop("accepted", draft) if proposal.stop else run.place(draft, proposal, guidance)
            say(f"step {step.index} {step.outcome} {step.reason}".rstrip())
            return True
        if command in ("r", "reject"):
            run.reject(draft, rest or "rejected by a person")
            return True
        if command in ("s", "stop"):
            run.stop("stopped by a person", draft)
            return True
        if command in ("f", "finish"):
            run.place(draft, proposal, guidance) if not proposal.stop else run.stop("the planner is done", draft)
            for step in run.steps():
                say(f"step {step.index} {step.outcome} {step.proposal.description if step.proposal else ''}".rstrip())
            return True
        if command in ("e", "edit") and rest:
            known = run.models.vocabulary.canonical(rest)
            if known is None:
                say(f"{rest!r} names nothing that preset {run.config.preset} knows; it is tried all the same")
            proposal = replace(proposal, label=known or rest, description=rest, stop=False, reason="edited by a person")
            say(_show(replace(draft, proposal=proposal)))
        elif command in ("b", "box"):
            try:
                guidance = Guidance.from_box(Box.parse(rest, run.scene.size), run.scene.size)
                say(f"guided by box {rest}; now accept, edit or reject")
            except UserError as error:
                say(str(error))
        else:
            say(HELP)
