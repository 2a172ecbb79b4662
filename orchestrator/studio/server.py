"""Runs the studio: one address on this machine, a new secret each time."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from orchestrator.studio.app import create_app
from orchestrator.studio.desk import Studio
from orchestrator.studio.jobs import WORKER_COMMAND
from orchestrator.studio.security import Guard
from scene.errors import UserError

TOKEN_BYTES = 24


def serve(
    root: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8420,
    say: Callable[[str], object] = print,
    command: tuple[str, ...] = WORKER_COMMAND,
) -> None:
    """Serves the studio until it is interrupted.

    Args:
        root: folder of runs.
        host: address to listen on; only this machine by default.
        port: 0 = any free one.
        say: takes the address to open, with its token.
        command: how the worker is started.

    Raises:
        UserError: the address is taken or not one of this machine.
    """
    listening = _bound(host, port)
    port = listening.getsockname()[1]
    token = secrets.token_urlsafe(TOKEN_BYTES)
    app = Guard(create_app(Studio(root.resolve(), command)), token=token, host=host, port=port)
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_level="warning",
        access_log=False,
        ws="none",
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    say(f"http://{host}:{port}/?token={token}")
    uvicorn.Server(config).run(sockets=[listening])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another --port") from None
    return listening
