"""What goes into the API and what comes out; FastAPI makes the OpenAPI document of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from orchestrator.config import MAX_PROMPT_CHARACTERS
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
    preset: Annotated[str, Field(max_length=60)] = "park"
    seed: Seed = 7
    size: Annotated[str, Field(pattern=r"^\d{3,4}x\d{3,4}$")] | None = None
    max_objects: Annotated[int, Field(ge=1, le=64)] | None = None
    mode: Literal["per-object", "layout-first"] | None = None
    style: Annotated[str, Field(max_length=200)] | None = None
    auto: bool = False
    """Run to the end by itself instead of asking before each object."""


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


class ErrorBody(BaseModel):
    """What went wrong."""

    kind: str
    message: str


class ErrorOut(BaseModel):
    """The shape of every error."""

    error: ErrorBody


class Done(BaseModel):
    """It was done, or is under way."""

    run: str
    job: int | None = None
    """Number of the model work that was queued, if any."""


class UploadOut(BaseModel):
    """A picture that was taken in."""

    upload: str
    width: int
    height: int


class PresetOut(BaseModel):
    """A preset: its name, licence notice and words."""

    name: str
    notice: str
    labels: list[str]
    size: list[int]
    max_objects: int


class RunOut(BaseModel):
    """A run in the list."""

    name: str
    prompt: str
    seed: int
    finished: bool
    layers: int
    picture: str | None
    changed: float
    """Seconds since 1970."""


class LayerOut(BaseModel):
    """A layer, back to front."""

    id: int
    label: str
    description: str
    box: list[int] | None
    pixels: str | None
    mask: str
    visible: float


class StepOut(BaseModel):
    """A step of the tree."""

    id: int
    parent: int
    children: list[int]
    outcome: str
    words: str
    by: str
    on_path: bool
    branches: list[str]
    picture: str | None
    reason: str
    confidence: float | None
    label: str
    score: float | None
    seconds: float


class TreeOut(BaseModel):
    """The history."""

    head: int
    branch: str
    branches: dict[str, int]
    redo: list[int]
    steps: list[StepOut]


class EdgeOut(BaseModel):
    """A relation between two layers; `holds` is null unless the prompt asks for it."""

    first: int
    second: int
    relation: str
    holds: bool | None


class RelationOut(BaseModel):
    """A relation that the prompt asks for; `holds` is null while not both are there."""

    first: str
    relation: str
    second: str
    words: str
    holds: bool | None


class WantedOut(BaseModel):
    """A kind of object that the prompt names."""

    label: str
    count: int
    placed: int


class CandidateOut(BaseModel):
    """A candidate mask."""

    number: int
    score: float
    mask: str
    details: dict[str, float]


class ProposalOut(BaseModel):
    """What waits for a decision."""

    step: int
    by: str
    label: str
    description: str
    box: list[int] | None
    stop: bool
    reason: str
    notes: list[str]
    confidence: float | None
    relation: dict[str, Any] | None
    candidates: list[CandidateOut]
    chosen: int
    guidance: dict[str, Any] | None
    behind: list[int]
    violated: list[str]


class JobOut(BaseModel):
    """Model work of a run."""

    number: int
    kind: str
    phase: str
    expected_s: float | None
    elapsed_s: float
    ahead: int
    """Jobs that come before it."""
    tries: int


class WorkerOut(BaseModel):
    """The process that does the model work."""

    status: str
    restarts: int
    queued: int
    running: str | None
    """Run that it works on."""


class RunState(BaseModel):
    """Everything that the page shows of a run."""

    name: str
    version: str
    prompt: str
    seed: int
    size: list[int]
    preset: str
    mode: str
    notice: str
    unknown: list[str]
    starting: bool
    finished: bool
    picture: str | None
    layers: list[LayerOut]
    hidden: list[int]
    locked: list[int]
    tree: TreeOut
    relations: list[RelationOut]
    edges: list[EdgeOut]
    wanted: list[WantedOut]
    proposal: ProposalOut | None
    job: JobOut | None
    worker: WorkerOut
    auto: bool
    step_seconds: float | None
    error: ErrorBody | None
    problem: str
    holder: str
