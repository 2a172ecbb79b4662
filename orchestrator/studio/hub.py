"""Who listens to which run: every open page gets every change, a slow one only the news that something changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

MAX_BEHIND = 32
KEEPALIVE_S = 15.0


class Hub:
    """Event streams by run."""

    def __init__(self) -> None:
        self._streams: dict[asyncio.Queue[dict[str, Any] | None], str] = {}
        self._closed = False

    def publish(self, run: str | None, message: dict[str, Any]) -> None:
        """Sends to all pages of a run; None = to all pages."""
        for stream, watched in self._streams.items():
            if run is None or watched in (run, ""):
                if stream.qsize() >= MAX_BEHIND:  # it will look at the whole state anyway
                    while not stream.empty():
                        stream.get_nowait()
                    message = {"type": "changed", "run": watched}
                stream.put_nowait(message)

    def watched(self) -> set[str]:
        """Runs that some page shows."""
        return {run for run in self._streams.values() if run}

    def __len__(self) -> int:
        return len(self._streams)

    async def listen(self, run: str) -> AsyncIterator[dict[str, Any] | None]:
        """Messages for one page; None every 15 s without any, to keep the connection open."""
        stream: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._streams[stream] = run
        try:
            yield {"type": "changed", "run": run}
            while not self._closed:
                try:
                    message = await asyncio.wait_for(stream.get(), KEEPALIVE_S)
                except TimeoutError:
                    message = None
                if self._closed:
                    return
                yield message
        finally:
            del self._streams[stream]

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        for stream in self._streams:
            stream.put_nowait(None)
