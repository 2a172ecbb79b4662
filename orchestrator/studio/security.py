"""What every request must bring before the page or the API sees it: the right host, origin, token and size."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

MAX_JSON_BYTES = 64 << 10
MAX_UPLOAD_BYTES = 16 << 20
UPLOADS = "/api/uploads"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Refusal(Exception):
    """A request that is not let in."""

    status: int
    kind: str
    message: str


class Guard:
    """Lets a request in or answers it itself; wraps the whole application.

    Args:
        app: what is guarded.
        token: secret of this start of the studio.
        host: address it listens on.
        port: and its port.
    """

    def __init__(self, app: App, *, token: str, host: str, port: int) -> None:
        self._app, self._token = app, token
        names = {"127.0.0.1", "localhost", "[::1]"} if is_loopback(host) else {host}
        self._hosts = {f"{name}:{port}" for name in names}
        self._cookie = f"smartscene-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            headers = self._checked(scope)
            if scope["type"] != "http":
                raise Refusal(HTTPStatus.NOT_FOUND, "not_found", "there is no web socket here")
            if entering := self._entering(scope):
                await _answer(send, HTTPStatus.SEE_OTHER, b"", entering)
                return
            body = await self._body(scope, headers, receive)
        except Refusal as refusal:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": refusal.message})
                return
            await _refuse(scope, send, refusal)
            return
        await self._app(scope, _replayed(body, receive), _with_headers(send))

    def _checked(self, scope: Scope) -> Mapping[str, str]:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            if key in headers and key in ("host", "origin", "authorization", "content-length"):
                raise Refusal(HTTPStatus.BAD_REQUEST, "invalid", f"the header {key} was sent twice")
            headers[key] = value.decode("latin-1")
        self._check_host(headers)
        self._check_origin(scope, headers)
        if not self._has_token(scope, headers):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "no_token", "open the address that smartscene studio printed")
        return headers

    def _check_host(self, headers: Mapping[str, str]) -> None:
        """A page whose name was made to point here (DNS rebinding) sends its own name."""
        if headers.get("host", "").lower() not in self._hosts:
            raise Refusal(HTTPStatus.MISDIRECTED_REQUEST, "wrong_host", "this name is not that of the studio")

    def _check_origin(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Another page must not send requests with this browser's cookie."""
        refusal = Refusal(HTTPStatus.FORBIDDEN, "wrong_origin", "only the studio's own page may ask this")
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{headers['host'].lower()}":
            raise refusal
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise refusal
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if changes and origin is None and "authorization" not in headers:
            raise refusal

    def _has_token(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(bearer)
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            cookie = None
        return (cookie is not None and self._is_token(cookie.value)) or self._entering(scope) is not None

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token.encode())

    def _entering(self, scope: Scope) -> Mapping[str, str] | None:
        """Answer headers to the address that was printed: the token moves into a cookie, out of sight."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        if not self._is_token(given[0]):
            return None
        return {"location": "/", "set-cookie": f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"}

    async def _body(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The whole body, counted as it comes: nothing is parsed or decoded before its size is known."""
        limit = MAX_UPLOAD_BYTES if scope["path"] == UPLOADS else MAX_JSON_BYTES
        refusal = Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"at most {limit:,} bytes may be sent here")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > limit:
            raise refusal
        parts, size, more = [], 0, scope["method"] not in ("GET", "HEAD")
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise Refusal(HTTPStatus.BAD_REQUEST, "invalid", "the request broke off")
            size += len(message.get("body", b""))
            if size > limit:
                raise refusal
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(parts)


def is_loopback(host: str) -> bool:
    """Only this machine can reach it."""
    return host in ("127.0.0.1", "localhost", "::1")


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            added = {**HEADERS, "cache-control": "no-store"}
            new = [(k.encode(), v.encode()) for k, v in added.items() if k.encode() not in there]
            message = {**message, "headers": [*message["headers"], *new]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    lines = {**HEADERS, "content-length": str(len(body)), "cache-control": "no-store", **headers}
    encoded = [(name.encode(), value.encode()) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": encoded})
    await send({"type": "http.response.body", "body": body})


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    if scope["path"].startswith("/api/"):
        data: Any = {"error": {"kind": refusal.kind, "message": refusal.message}}
        body, kind = json.dumps(data).encode(), "application/json"
    else:
        body, kind = f"smartscene studio: {refusal.message}\n".encode(), "text/plain; charset=utf-8"
    await _answer(send, refusal.status, b"" if scope["method"] == "HEAD" else body, {"content-type": kind})
