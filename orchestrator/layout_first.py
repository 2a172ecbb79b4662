"""Layout-first: all masks are placed first, then every layer is drawn, back to front, one step each.

Planner and masker read layouts, never pixels. So a run gives the same picture in either mode, as long as nobody changes
the layout before it is drawn: which is what this mode is for.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.history import StepRecord
from orchestrator.layer_edits import drawn, origins_of, record_of
from scene.layers import Layer
from scene.layout import layout_picture
from scene.proposal import Proposal

if TYPE_CHECKING:
    from orchestrator.run import Run


def undrawn(run: Run) -> list[Layer]:
    """Layers without pixels, back to front."""
    return [layer for layer in run.scene.layers if layer.rgba is None]


def ending_of(run: Run) -> Proposal | None:
    """Why no more objects come, once drawing has begun; None = the layout still grows."""
    drawn = [step for step in run.folder.history.path() if step.outcome == "drawn"]
    return drawn[-1].proposal if drawn else None


def draw_next(run: Run, ending: Proposal, propose_s: float = 0.0) -> StepRecord:
    """Draws the rearmost layer that has no pixels, on the picture of the layers behind it, and checkpoints that.

    Args:
        run: with at least one such layer.
        ending: why no more objects come; the stop that follows the last drawing repeats it.
        propose_s: seconds that the planner took to say so.

    Raises:
        ModelError: the inpainter cannot draw it.
    """
    started = time.monotonic()
    layer, number = undrawn(run)[0], run.folder.history.next_id
    made, origin = drawn(run, layer, origins_of(run)[layer.id])
    assert made.rgba is not None
    change = record_of(made, origin, str(made.provenance["how"]))
    provenance = {"step": number, "mask": f"steps/{number:04d}/amodal-{layer.id}.png"}
    scene = run.scene.with_changed(replace(made, provenance=provenance))
    step = StepRecord(
        number,
        run.folder.history.head,
        "drawn",
        proposal=ending,
        reason=layer.description,
        timings={"propose_s": round(propose_s, 3), "render_s": round(time.monotonic() - started, 3)},
        changes=(change,),
    )
    pictures = {f"amodal-{layer.id}": made.mask, f"layer-{layer.id}": made.rgba}
    pictures |= {"mask": (scene.image != run.scene.image).any(axis=2)}
    pictures |= {"layout": layout_picture(scene.layout), "image": scene.image}
    step = run.folder.add_step(step, pictures)
    run.scene = scene
    return step
