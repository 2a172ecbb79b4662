"""Each line of the studio's safety: remove the check, and its test fails."""

from __future__ import annotations

import ast
import io
import json
import shutil
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator import versions
from orchestrator.cli import cli
from orchestrator.compose import Composer
from orchestrator.run_folder import RunFolder
from orchestrator.studio import uploads
from orchestrator.studio.desk import Studio, public
from orchestrator.studio.library import Library, NotFound
from orchestrator.studio.security import MAX_JSON_BYTES, MAX_UPLOAD_BYTES, Guard
from scene.errors import UserError
from tests.orchestrator.fakes import fake_models
from tests.orchestrator.studio.client import Client

SHAPE = {"error"}


def png(width: int = 8, height: int = 8, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, format=kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def run(bare: Client) -> str:
    """A finished run in the library, without any worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "versions", dict)
        composer = Composer.from_preset("park", overrides=["width=256", "height=256"], models=fake_models())
        composed = composer.start("a boy", seed=7, out=bare.runs / "made")
        list(composed.steps())
        composed.close()
    return "made"


# --- who may reach it


def test_it_listens_on_this_machine_only(bare: Client) -> None:
    listening = [
        line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"
    ]
    mine = [address for address in listening if int(address.split(":")[1], 16) == bare.port]
    assert mine == [f"0100007F:{bare.port:04X}"]  # 127.0.0.1, nothing else
    host = next(option for option in cli.commands["studio"].params if option.name == "host")
    assert host.default == "127.0.0.1"


PATHS = ["/", "/static/main.js", "/api/runs", "/api/openapi.json", "/api/events", "/api/runs/made/steps/1/image.png"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_given_without_the_token(bare: Client, run: str, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Cookie": f"smartscene-{bare.port}=wrong"},
        {"Cookie": f"smartscene-{bare.port + 1}={bare.token}"},
    ):
        assert bare.send("GET", path, headers=headers).status == 401, headers
    assert bare.send("GET", f"{path}?token=wrong").status == 401


def test_the_printed_address_moves_the_token_into_a_cookie(bare: Client) -> None:
    answer = bare.send("GET", f"/?token={bare.token}")
    cookie = answer.headers["set-cookie"]
    assert answer.status == 303 and answer.headers["location"] == "/"
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    page = bare.send("GET", "/", headers=bare.cookie)
    assert page.status == 200 and b"<!doctype html>" in page.body and bare.token.encode() not in page.body
    assert bare.send("GET", f"/api/runs?token={bare.token}").status == 401  # only the front door takes it so


def test_a_web_socket_needs_the_token_and_leads_nowhere(bare: Client) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}
    assert bare.send("GET", "/api/events", headers=upgrade).status == 401
    closed = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("a web socket got in")

    async def send(message: Any) -> None:
        closed.append(message["code"])

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    guard = Guard(inner, token="secret", host="127.0.0.1", port=1)
    for headers in ([], [(b"authorization", b"Bearer secret")]):
        scope = {
            "type": "websocket",
            "path": "/",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1:1"), *headers],
        }
        drive(guard(scope, receive, send))
    assert closed == [1008, 1008]


def drive(coroutine: Any) -> None:
    with pytest.raises(StopIteration):
        coroutine.send(None)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}", ""]
)
def test_another_host_name_is_refused_even_with_the_token(bare: Client, host: str) -> None:
    answer = bare.send("GET", "/api/runs", headers={**bare.bearer, "Host": host.format(port=bare.port)})
    assert answer.status == 421 and answer.json["error"]["kind"] == "wrong_host"


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}", "http://localhost:{port}"],
)
def test_another_origin_is_refused_even_with_the_token(bare: Client, origin: str) -> None:
    headers = {"Origin": origin.format(port=bare.port)}
    for method, path, body in (("POST", "/api/runs", b"{}"), ("GET", "/api/runs", None)):
        for key in (bare.cookie, bare.bearer):
            answer = bare.send(method, path, body, {**key, **headers})
            assert answer.status == 403 and answer.json["error"]["kind"] == "wrong_origin"


def test_a_browser_must_say_its_origin_to_change_anything(bare: Client) -> None:
    assert bare.send("POST", "/api/runs", b"{}", bare.cookie).status == 403
    own = {"Origin": f"http://127.0.0.1:{bare.port}", "Content-Type": "application/json"}
    assert bare.send("POST", "/api/runs", b"{}", {**bare.cookie, **own}).status == 422  # let in, and then found wanting


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_elsewhere_cannot_even_load_pictures(bare: Client, run: str, site: str) -> None:
    path = f"/api/runs/{run}/steps/1/image.png"
    assert bare.send("GET", path, headers={**bare.cookie, "Sec-Fetch-Site": site}).status == 403
    assert bare.send("GET", path, headers={**bare.cookie, "Sec-Fetch-Site": "same-origin"}).status == 200


def test_every_answer_tells_the_browser_to_be_strict(bare: Client) -> None:
    for answer in (bare.send("GET", "/", headers=bare.cookie), bare.call("GET", "/api/runs"), bare.send("GET", "/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "http" not in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_header_that_decides_may_not_come_twice(bare: Client) -> None:
    with socket.create_connection(("127.0.0.1", bare.port), timeout=20) as raw:
        raw.sendall(
            f"GET /api/runs HTTP/1.1\r\nHost: 127.0.0.1:{bare.port}\r\nOrigin: http://evil\r\n"
            f"Origin: http://127.0.0.1:{bare.port}\r\nAuthorization: Bearer {bare.token}\r\n\r\n".encode()
        )
        assert raw.recv(12) == b"HTTP/1.1 400"


# --- what may be sent


def upload(client: Client, data: bytes, kind: str = "image/png") -> Any:
    return client.send("POST", "/api/uploads", data, {**client.bearer, "Content-Type": kind})


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_three_formats_are_taken(bare: Client, kind: str) -> None:
    answer = upload(bare, png(20, 10, kind), f"image/{kind.lower()}")
    assert answer.status == 200 and (answer.json["width"], answer.json["height"]) == (20, 10)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_no_other_format_is_decoded_whatever_it_is_called(bare: Client, kind: str) -> None:
    answer = upload(bare, png(32, 32, kind))
    assert answer.status == 400 and "PNG, JPEG or WebP" in answer.json["error"]["message"]
    assert upload(bare, png(), f"image/{kind.lower()}").status == 415


def test_bytes_are_capped_before_they_are_kept(bare: Client) -> None:
    for path, limit in (("/api/uploads", MAX_UPLOAD_BYTES), ("/api/runs", MAX_JSON_BYTES)):
        headers = {**bare.bearer, "Content-Type": "image/png", "Content-Length": str(limit + 1)}
        assert bare.send("POST", path, b"", headers).status == 413  # by what it says it will send
        with socket.create_connection(("127.0.0.1", bare.port), timeout=20) as raw:  # by what it sends without saying
            raw.sendall(
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{bare.port}\r\nAuthorization: Bearer {bare.token}\r\n"
                "Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            )
            chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
            sent = 0
            try:
                while sent <= limit:
                    raw.sendall(chunk)
                    sent += 0x10000
                raw.sendall(chunk)
            except OSError:
                pass  # it hung up already
            assert raw.recv(12) == b"HTTP/1.1 413"


def huge_png(width: int, height: int) -> bytes:
    """A valid header of a huge picture, and no pixels."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(6000, 6000), (60000, 60000), (8200, 16), (16, 8200)])
def test_pixels_are_capped_before_they_are_decoded(
    bare: Client, monkeypatch: pytest.MonkeyPatch, width: int, height: int
) -> None:
    def load(*_: Any) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(UserError, match=r"at most 24,000,000 pixels, 8,192 a side"):
        uploads.decoded(huge_png(width, height))
    assert upload(bare, huge_png(width, height)).status == 400


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", png()[:40], b"<svg xmlns='http://x'/>", huge_png(64, 64)])
def test_broken_pictures_are_a_plain_error(bare: Client, data: bytes) -> None:
    answer = upload(bare, data)
    assert answer.status == 400 and answer.json.keys() == SHAPE


# --- which files may be read


NAMES = [
    "..",
    ".",
    "%2e%2e",
    "..%2f..%2fetc",
    "%2fetc",
    "made%2f..%2f..",
    "made%00",
    "-x",
    "a" * 101,
    "made\\x",
    "étoile",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_name_and_no_path(bare: Client, run: str, name: str) -> None:
    from urllib.parse import quote

    path = name if "%" in name else quote(name)
    assert bare.call("GET", f"/api/events?run={path}").status in (404, 422)
    for rest in ("", "/steps/1/image.png", "/export/json"):
        answer = bare.call("GET", f"/api/runs/{path}{rest}")
        assert answer.status == 404, answer.body
        assert str(bare.runs) not in answer.body.decode()


@pytest.mark.parametrize("name", [".", "-x", "a b", ".hidden", "a" * 101])
def test_only_plain_names_are_runs_even_where_such_a_folder_is_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / "run.json").write_text("{}")
    with pytest.raises(NotFound):
        Library(tmp_path).path(name)


def test_links_out_of_the_folder_are_not_followed(bare: Client, run: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(bare.runs / run, outside)
    (bare.runs / "linked").symlink_to(outside)
    shutil.copytree(outside, bare.runs / "partly")
    for file in ("run.json",):
        (bare.runs / "partly" / file).unlink()
        (bare.runs / "partly" / file).symlink_to(outside / file)
    assert bare.call("GET", "/api/runs/linked").status == 404
    assert bare.call("GET", "/api/runs/linked/steps/1/image.png").status == 404
    assert bare.call("GET", "/api/runs/partly").status == 404
    shutil.copytree(outside, bare.runs / "picture")
    stolen = bare.runs / "picture/steps/0001/image.png"
    stolen.unlink()
    stolen.symlink_to(outside / "final.png")
    assert bare.call("GET", "/api/runs/picture/steps/1/image.png").status == 404
    assert bare.call("GET", "/api/runs/picture/steps/1/layout.png").status == 200
    names = [entry["name"] for entry in bare.call("GET", "/api/runs").json]
    assert run in names and "linked" not in names and "partly" not in names


@pytest.mark.parametrize("picture", ["step", "../../run", "image.png", "candidates/../image", "layer-1-2", "IMAGE"])
def test_only_pictures_of_steps_are_served(bare: Client, run: str, picture: str) -> None:
    with pytest.raises(NotFound):
        Library(bare.runs).picture(run, 1, picture)
    assert bare.call("GET", f"/api/runs/{run}/steps/1/{picture}.png").status == 404


# --- what the server never does


FETCHERS = {
    "urllib.request",
    "http.client",
    "requests",
    "httpx",
    "httpx2",
    "aiohttp",
    "ftplib",
    "websockets",
    "huggingface_hub",
}


def test_no_part_of_the_studio_can_fetch_an_address() -> None:
    folder = Path(uploads.__file__).parent
    for file in folder.glob("*.py"):
        imported = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
        assert not imported & FETCHERS, file
        assert "socket" not in imported or file.name == "server.py"


def test_addresses_in_a_request_stay_words(bare: Client, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> Any:
        if address[:2] != ("127.0.0.1", bare.port):
            reached.append(address)
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched)
    look_up = socket.getaddrinfo

    def watched_look_up(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if (host, port) != ("127.0.0.1", bare.port):
            reached.append((host, port))
        return look_up(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", watched_look_up)
    url = "http://127.0.0.1:9/x.png"
    for path, data in (
        ("/api/runs", {"prompt": url, "preset": url}),
        ("/api/runs", {"prompt": url, "style": url, "preset": url}),
        (f"/api/runs/{run}/decision", {"do": "add", "words": url, "scribble": url}),
        (f"/api/runs/{run}/head", {"do": "switch", "branch": url}),
        (f"/api/runs/{run}/layers/1/edit", {"words": url, "colour": url}),
    ):
        assert bare.call("POST", path, data).status in (202, 400, 404, 422)
    upload(bare, url.encode())
    assert reached == []


def test_the_page_loads_nothing_from_elsewhere() -> None:
    static = Path(uploads.__file__).parent / "static"
    for file in static.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
        assert "http://" not in text and "https://" not in text and "url(" not in text.replace("url(#", ""), file


# --- what errors say


def test_errors_have_one_shape_and_no_path(bare: Client, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = bare.runs / "broken"
    shutil.copytree(bare.runs / run, broken)
    (broken / "steps/0001/step.json").write_text("{")
    monkeypatch.setattr("sys.argv", ["smartscene", "step", str(bare.runs / run)])  # the error names the holder
    held = RunFolder.open(bare.runs / run)
    answers = [
        bare.call("GET", "/api/runs/broken"),
        bare.call("GET", "/api/runs/broken/export/psd"),
        bare.call("POST", f"/api/runs/{run}/head", {"do": "undo"}),
        bare.call("POST", f"/api/runs/{run}/head", {"do": "undo", "count": 999999}),
        bare.call("POST", f"/api/runs/{run}/head", {"do": "branch", "step": 1, "name": "a b"}),
        bare.call("POST", f"/api/runs/{run}/decision", {"do": "nothing"}),
        bare.call("POST", f"/api/runs/{run}/decision", {"do": "accept"}),
        bare.call("GET", "/api/nothing"),
        bare.call("DELETE", "/api/runs"),
        bare.send("POST", "/api/runs", b"{", {**bare.bearer, "Content-Type": "application/json"}),
        bare.send("POST", "/api/runs", b"\xff\xfe", {**bare.bearer, "Content-Type": "application/json"}),
    ]
    held.close()

    async def bug(self: Studio, name: str) -> Any:
        raise RuntimeError(f"{bare.runs}/secret")

    monkeypatch.setattr(Studio, "state", bug)
    answers.append(bare.call("GET", f"/api/runs/{run}"))
    assert answers[-1].status == 500 and b"RuntimeError" not in answers[-1].body
    for answer in answers:
        text = answer.body.decode()
        assert 400 <= answer.status <= 500 and answer.json.keys() == SHAPE, text
        assert answer.json["error"].keys() == {"kind", "message"}
        assert str(bare.runs.parent) not in text and "Traceback" not in text and ".py" not in text, text


def test_of_a_path_only_the_last_part_is_told() -> None:
    said = public("another process works on /home/me/runs/fire (smartscene step, process 3); see /tmp/x.png, or 'a/b'")
    assert said == "another process works on fire (smartscene step, process 3); see x.png, or 'a/b'"
    assert json.dumps(public("no path at all")) == '"no path at all"'
    assert public("cannot lock /srv/a-b_c/runs/x: full") == "cannot lock x: full"


def test_masks_are_checked_arrays() -> None:
    """What an upload becomes is pixels, never the file that was sent."""
    pixels = uploads.decoded(png(9, 7, "JPEG"))
    assert pixels.dtype == np.uint8 and pixels.shape == (7, 9, 4)
