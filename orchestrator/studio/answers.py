"""What comes out of the API: pydantic models, of which FastAPI makes the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


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
    default: bool
    """Taken where nobody chooses."""
    notice: str
    labels: list[str]
    size: list[int]
    max_objects: int
    problem: str
    """Why it cannot run here; "" = it can, or that is not known yet."""


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
    ground: str | None
    """What lies under all layers; null = white."""
    full: str | None
    """Of a photo: the scene at its own size."""
    parts: list[int]
    """Layers that are parts of the photo the scene starts with."""
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
