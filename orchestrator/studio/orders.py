"""What goes into the API: pydantic models, of which FastAPI makes the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from orchestrator.config import DEFAULT_PRESET, MAX_PROMPT_CHARACTERS
from orchestrator.edits import MAX_CANDIDATES
from orchestrator.rendering import MAX_SEED
from orchestrator.request import MAX_OBJECT_CHARACTERS

Words = Annotated[str, Field(min_length=1, max_length=MAX_OBJECT_CHARACTERS)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
StepId = Annotated[int, Field(ge=0, le=10**6)]
LayerId = Annotated[int, Field(ge=1, le=10**6)]
Four = Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]
UploadId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
LayerIds = Annotated[list[LayerId], Field(max_length=256)]


class Asked(BaseModel):
    """Base of all that a page sends: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewRun(Asked):
    """A scene to begin."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)]
    preset: Annotated[str, Field(max_length=60)] = DEFAULT_PRESET
    seed: Seed = 7
    size: Annotated[str, Field(pattern=r"^\d{3,4}x\d{3,4}$")] | None = None
    max_objects: Annotated[int, Field(ge=1, le=64)] | None = None
    mode: Literal["per-object", "layout-first"] | None = None
    style: Annotated[str, Field(max_length=200)] | None = None
    auto: bool = False
    """Run to the end by itself instead of asking before each object."""


class NewPhoto(Asked):
    """A photograph to begin with; see docs/photos.md."""

    photo: UploadId
    """Sent to /api/uploads."""
    panoptic: UploadId | None = None
    """Its panoptic map in COCO's format, sent to /api/uploads as PNG; null = nothing is known of the photo."""
    segments: dict[str, Any] | None = None
    """The JSON of that map."""
    caption: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] = ""
    """What it shows; "" = what the map names."""
    preset: Annotated[str, Field(max_length=60)] = DEFAULT_PRESET
    seed: Seed = 7


class Guide(Asked):
    """Where an object should be: at most one of box, blob, scribble."""

    box: Four | None = None
    """x0, y0, x1, y1 in canvas pixels."""
    blob: Four | None = None
    """cx, cy, rx, ry in canvas pixels; radii are one sigma."""
    scribble: UploadId | None = None
    """A picture of the canvas's size, sent to /api/uploads."""
    tightness: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None


class Accept(Asked):
    """Draw the proposal with the candidate that is picked."""

    do: Literal["accept"]


class Pick(Asked):
    """Take another candidate; nothing is drawn yet."""

    do: Literal["pick"]
    candidate: Annotated[int, Field(ge=1, le=256)]


class More(Asked):
    """More candidates."""

    do: Literal["more"]
    count: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 4


class ChangeWords(Asked):
    """Other words for the proposal."""

    do: Literal["words"]
    words: Words


class ChangeGuide(Guide):
    """Another guide for the proposal; none at all = mask-free."""

    do: Literal["guide"]


class Behind(Asked):
    """Put the proposal behind these layers; none = in front of all."""

    do: Literal["behind"]
    layers: LayerIds = []


class Reject(Asked):
    """Never this label on this branch; the planner reads why."""

    do: Literal["reject"]
    reason: Annotated[str, Field(max_length=200)] = ""


class Skip(Asked):
    """Not now."""

    do: Literal["skip"]


class Add(Guide):
    """An object of one's own in place of the proposal."""

    do: Literal["add"]
    words: Words
    behind: LayerIds = []


class Propose(Asked):
    """Ask the planner for the next object."""

    do: Literal["propose"]


class Finish(Asked):
    """The scene is finished here."""

    do: Literal["stop"]


Decision = Annotated[
    Accept | Pick | More | ChangeWords | ChangeGuide | Behind | Reject | Skip | Add | Propose | Finish,
    Field(discriminator="do"),
]


class Drive(Asked):
    """Run by itself to the end, pause after the step under way, or stop it at once."""

    do: Literal["run", "pause", "cancel"]


class Undo(Asked):
    """Back, or forward again."""

    do: Literal["undo", "redo"]
    count: Annotated[int, Field(ge=1, le=10**6)] = 1


class Visit(Asked):
    """Go to a step, as in the tree; 0 = the empty canvas."""

    do: Literal["visit"]
    step: StepId


class Branch(Asked):
    """A new branch at a step."""

    do: Literal["branch"]
    step: StepId
    name: Annotated[str, Field(min_length=1, max_length=40)] | None = None


class Switch(Asked):
    """Go to the end of a branch."""

    do: Literal["switch"]
    branch: Annotated[str, Field(max_length=40)]


Move = Annotated[Undo | Visit | Branch | Switch, Field(discriminator="do")]


class LayerEdit(Asked):
    """One change of a layer."""

    words: Words | None = None
    move: Annotated[list[Annotated[int, Field(ge=-4096, le=4096)]], Field(min_length=2, max_length=2)] | None = None
    scale: Annotated[FiniteFloat, Field(ge=0.1, le=10)] | None = None
    colour: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    seed: Seed | None = None
    delete: bool = False


class LayerPlace(Asked):
    """Another depth; 1 = rearmost."""

    to: Annotated[int, Field(ge=1, le=256)]


class Flags(Asked):
    """Layers that are hidden on the page, and layers that are locked against changes."""

    hidden: LayerIds = []
    locked: LayerIds = []
