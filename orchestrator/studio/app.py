"""The HTTP API and the page: thin routes over `desk.Studio`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, FastAPI, Query, Request, Response
from fastapi import Path as PathParam
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from orchestrator.cli_export import KINDS
from orchestrator.studio import answers, beginnings, orders
from orchestrator.studio.desk import Busy, Locked, Studio, public
from orchestrator.studio.library import NotFound, changed
from orchestrator.studio.views import MAX_THUMBNAIL_PX
from scene.errors import UserError

STATIC = Path(__file__).parent / "static"
FOREVER = "private, max-age=31536000, immutable"
EXPORTS = {
    "psd": ("psd", "image/vnd.adobe.photoshop"),
    "ora": ("ora", "image/openraster"),
    "coco": ("coco.json", "application/json"),
    "webp": ("webp", "image/webp"),
    "graphml": ("graphml", "application/xml"),
    "dot": ("dot", "text/vnd.graphviz"),
    "json": ("graph.json", "application/json"),
    "graph": ("graph.png", "image/png"),
}
assert set(EXPORTS) == set(KINDS)
Kind = Literal["psd", "ora", "coco", "webp", "graphml", "dot", "json", "graph"]

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": answers.ErrorOut} for status in (400, 401, 403, 404, 409, 413, 415, 421, 422)
}
api = APIRouter(prefix="/api", responses=_ERRORS)


def _studio(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


def _error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"kind": kind, "message": public(message)}}, status)


@api.get("/worker", response_model=answers.WorkerOut)
async def worker(request: Request) -> Any:
    """The process that does the model work."""
    return _studio(request).worker()


@api.get("/presets", response_model=list[answers.PresetOut])
def presets(request: Request) -> Any:
    """Presets that can be chosen for a new run."""
    from orchestrator.assemble import load_vocabulary
    from orchestrator.config import DEFAULT_PRESET, load_preset
    from orchestrator.config import presets as names

    found, problems = [], _studio(request).jobs.problems
    for name in names():
        config = load_preset(name)
        labels = list(load_vocabulary(config.world).labels)
        about = {
            "name": name,
            "default": name == DEFAULT_PRESET,
            "notice": config.notice,
            "labels": labels,
            "size": list(config.size),
        }
        found.append(about | {"max_objects": config.max_objects, "problem": public(problems.get(name, ""))})
    return found


@api.get("/runs", response_model=list[answers.RunOut])
def runs(request: Request, limit: Annotated[int, Query(ge=1, le=200)] = 60) -> Any:
    """Runs, the one that was worked on last first."""
    studio = _studio(request)
    found = []
    for name in studio.library.names()[:limit]:
        try:
            path = studio.library.path(name)
            found.append(studio.views.glance(name, path) | {"changed": changed(path) / 1e9})
        except (NotFound, UserError, KeyError, ValueError):
            continue  # a broken run is no reason not to show the others
    return found


@api.post("/runs", response_model=answers.Done, status_code=202)
async def begin(request: Request, asked: orders.NewRun) -> Any:
    """Begins a new run."""
    settings = asked.model_dump(exclude={"auto"})
    name, job = await beginnings.begin(_studio(request), settings, asked.auto)
    return {"run": name, "job": job}


@api.post("/photos", response_model=answers.Done, status_code=202)
async def begin_photo(request: Request, asked: orders.NewPhoto) -> Any:
    """Begins a run with a photograph as its starting scene."""
    name, job = await beginnings.begin_photo(_studio(request), asked.model_dump())
    return {"run": name, "job": job}


@api.get("/runs/{run}", response_model=answers.RunState)
async def state(request: Request, run: str) -> Any:
    """Everything that the page shows of a run."""
    return await _studio(request).state(run)


@api.post("/runs/{run}/decision", response_model=answers.Done, status_code=202)
async def decide(request: Request, run: str, asked: orders.Decision) -> Any:
    """Decides on the proposal that waits, or changes it."""
    return {"run": run, "job": await _studio(request).decide(run, _event(asked))}


def _event(asked: orders.Decision) -> dict[str, Any]:
    event = asked.model_dump(exclude_none=True)
    if event["do"] in ("accept", "stop", "propose", "skip"):
        return {"do": event["do"]}
    return event


@api.post("/runs/{run}/drive", response_model=answers.Done, status_code=202)
async def drive(request: Request, run: str, asked: orders.Drive) -> Any:
    """Runs to the end by itself, pauses, or stops the step under way."""
    return {"run": run, "job": await _studio(request).drive(run, asked.do)}


@api.post("/runs/{run}/head", response_model=answers.Done)
async def head(request: Request, run: str, asked: orders.Move) -> Any:
    """Moves the head of the history: undo, redo, a step, a branch."""
    await _studio(request).move(run, lambda history: _moved(history, asked))
    return {"run": run}


def _moved(history: Any, asked: orders.Move) -> Any:
    if isinstance(asked, orders.Undo):
        return history.undone(asked.count) if asked.do == "undo" else history.redone(asked.count)
    if isinstance(asked, orders.Visit):
        return history.visited(asked.step)
    if isinstance(asked, orders.Branch):
        return history.branched(asked.step, asked.name)
    if asked.branch not in history.branches:
        raise UserError(f"there is no branch {asked.branch!r}; branches: {', '.join(sorted(history.branches))}")
    return history.switched(asked.branch)


@api.post("/runs/{run}/layers/{layer}/edit", response_model=answers.Done, status_code=202)
async def edit(request: Request, run: str, layer: orders.LayerId, asked: orders.LayerEdit) -> Any:
    """Changes one layer."""
    change = asked.model_dump(exclude_none=True, exclude_defaults=True)
    return {"run": run, "job": await _studio(request).edit(run, layer, change)}


@api.post("/runs/{run}/layers/{layer}/order", response_model=answers.Done)
async def order(request: Request, run: str, layer: orders.LayerId, asked: orders.LayerPlace) -> Any:
    """Moves a layer to another depth; nothing is drawn anew."""
    await _studio(request).order(run, layer, asked.to)
    return {"run": run}


@api.put("/runs/{run}/flags", response_model=answers.Done)
async def flags(request: Request, run: str, asked: orders.Flags, later: BackgroundTasks) -> Any:
    """Says which layers are hidden on the page, and which are locked."""
    studio = _studio(request)
    studio.library.path(run)
    later.add_task(studio.flag, run, asked.model_dump())
    return {"run": run}


_BODY = {"required": True, "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in
         ("image/png", "image/jpeg", "image/webp")}}  # fmt: skip


@api.post("/uploads", response_model=answers.UploadOut, openapi_extra={"requestBody": _BODY})
async def upload(request: Request) -> Any:
    """Takes in a picture (PNG, JPEG or WebP) for a scribble; it is forgotten when the studio ends."""
    if request.headers.get("content-type", "") not in _BODY["content"]:  # type: ignore[operator]
        raise HTTPException(415, "send image/png, image/jpeg or image/webp")
    taken = await asyncio.to_thread(_studio(request).uploads.add, await request.body())
    return {"upload": taken.id, "width": taken.width, "height": taken.height}


_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}


@api.get("/runs/{run}/steps/{step}/{picture}.png", response_class=Response, responses=_PNG)
def picture(
    request: Request,
    run: str,
    step: orders.StepId,
    picture: str,
    width: Annotated[int | None, Query(ge=16, le=MAX_THUMBNAIL_PX)] = None,
    cut: bool = False,
) -> Any:
    """A picture of a step, whole or small; steps never change."""
    studio = _studio(request)
    path = studio.library.picture(run, step, picture)
    caching = {"cache-control": FOREVER if request.query_params.get("v") else "no-store"}
    if width is None:
        return FileResponse(path, media_type="image/png", headers=caching)
    try:
        small = studio.views.thumbnail(path, width, cut)
    except (OSError, ValueError, SyntaxError):
        raise NotFound(f"picture {picture} of step {step} cannot be read") from None
    return Response(small, media_type="image/png", headers=caching)


@api.get("/runs/{run}/photo/{picture}.png", response_class=Response, responses=_PNG)
def photo(
    request: Request, run: str, picture: str, width: Annotated[int, Query(ge=16, le=4096)] = 4096, cut: bool = False
) -> Any:
    """A picture of the photo that a run starts with: "canvas", "mask-03", "part-03", or "full"."""
    studio = _studio(request)
    caching = {"cache-control": FOREVER if request.query_params.get("v") else "no-store"}
    try:
        if picture.startswith("part-"):
            mask = studio.library.photo(run, picture.replace("part", "mask", 1))
            data = studio.views.part(studio.library.photo(run, "canvas"), mask, width, cut)
        else:
            path = studio.library.photo(run, picture)
            if width == 4096:
                return FileResponse(path, media_type="image/png", headers=caching)
            data = studio.views.thumbnail(path, width, cut)
    except (OSError, ValueError, SyntaxError):
        raise NotFound(f"picture {picture[:40]!r} cannot be read") from None
    return Response(data, media_type="image/png", headers=caching)


@api.get("/runs/{run}/candidates/{number}.png", response_class=Response, responses=_PNG)
async def candidate(request: Request, run: str, number: Annotated[int, PathParam(ge=1, le=256)]) -> Any:
    """The mask of a candidate, black and white."""
    return Response(_studio(request).mask(run, number), media_type="image/png")


@api.get("/runs/{run}/export/{kind}", response_class=Response)
def export(request: Request, run: str, kind: Kind) -> Any:
    """The scene in the format of another program; see `smartscene export`."""
    from orchestrator.export import exported
    from orchestrator.run_folder import RunFolder

    data = exported(RunFolder.open(_studio(request).library.path(run), write=False), kind)
    ending, media = EXPORTS[kind]
    headers = {"content-disposition": f'attachment; filename="{run}.{ending}"'}
    return Response(data, media_type=media, headers=headers)


@api.get("/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def events(request: Request, run: Annotated[str, Query(max_length=100)] = "") -> Any:
    """Server-sent events: `changed` (look at the state again) and `progress` (a model began to work)."""

    messages = _studio(request).listen(run)

    async def lines() -> AsyncIterator[str]:
        async for message in messages:
            yield ": still here\n\n" if message is None else f"data: {json.dumps(message)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


def create_app(studio: Studio) -> FastAPI:
    """The application, not yet guarded: see `security.Guard`."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        studio.open()
        yield
        await studio.close()

    app = FastAPI(
        title="smartscene studio",
        description="Compose scenes step by step. Send the token that was printed at start as a bearer token.",
        version="1",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.studio = studio
    app.include_router(api)

    @app.get("/", include_in_schema=False)
    async def page() -> Any:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    _handle_errors(app)
    return app


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
        return _error(422, "invalid", str(jsonable_encoder(f"{where}: {first['msg']}")))

    @app.exception_handler(NotFound)
    async def missing(_: Request, error: NotFound) -> Response:
        return _error(404, "not_found", str(error))

    @app.exception_handler(UserError)
    async def refused(_: Request, error: UserError) -> Response:
        if isinstance(error, Busy):
            return _error(409, "busy", str(error))
        return _error(409 if isinstance(error, Locked) else 400, "refused", str(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return _error(error.status_code, "http", str(error.detail))

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> Response:
        return _error(500, "bug", "the studio made a mistake of its own; its terminal says more")
