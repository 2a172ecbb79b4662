"""The API over a worker with fast stand-ins: the story, two programs on one run, queues, crashes."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator import versions
from orchestrator.cli import run_cli
from orchestrator.compose import Composer
from orchestrator.config import DEFAULT_PRESET, load_preset
from orchestrator.run_folder import RunFolder
from orchestrator.studio import views
from scene.errors import UserError
from tests.orchestrator.studio.client import ROOT, Client, served
from tests.orchestrator.studio.fake_worker import models


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Each rendering takes a second here."""
    with served(tmp_path_factory.mktemp("slow") / "runs", STUDIO_FAKE_SECONDS="1") as client:
        yield client
    os.environ.pop("STUDIO_FAKE_SECONDS")


def at(client: Client, run: str, phase: str, seconds: float = 30) -> dict[str, Any]:
    """The state once the run's job is in a phase."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = client.state(run)
        if state["job"] and state["job"]["phase"] == phase:
            return state
        time.sleep(0.02)
    raise AssertionError(f"never came to {phase}: {state['job']}")


def test_the_web_process_loads_no_model_library() -> None:
    code = (
        "import sys, orchestrator.studio.server, orchestrator.export, orchestrator.assemble\n"
        "bad = {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported: {bad}' if bad else 0)"
    )
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_whole_story(studio: Client) -> None:
    run = studio.begin()
    state = studio.settled(run)
    proposal = state["proposal"]
    assert (proposal["label"], proposal["confidence"], len(proposal["candidates"])) == ("sky", 0.9, 4)
    assert proposal["reason"] and state["wanted"] and not state["starting"]
    studio.do(run, do="accept")
    studio.do(run, do="accept")  # sky, grass
    studio.do(run, do="pick", candidate=3)
    state = studio.do(run, do="accept")
    assert RunFolder.open(studio.runs / run, write=False).history.steps[3].chosen == 2  # the third, as picked
    state = studio.do(run, do="words", words="a black cat")
    assert state["proposal"]["description"] == "a black cat"
    state = studio.do(run, do="guide", box=[40, 60, 100, 140], tightness=0.5)
    assert state["proposal"]["guidance"] == {"kind": "box", "box": [40, 60, 100, 140], "tightness": 0.5, "by": "person"}
    mask = studio.call("GET", state["proposal"]["candidates"][0]["mask"]).body
    assert np.asarray(Image.open(io.BytesIO(mask)))[60:140, 40:100].all()
    state = studio.do(run, do="accept")
    assert [layer["description"] for layer in state["layers"]][-1] == "a black cat"
    state = studio.do(run, do="reject", reason="too crowded")
    state = studio.do(run, do="skip")
    state = studio.do(run, do="add", words="a red balloon", blob=[100, 100, 20, 30], behind=[4])
    assert (state["proposal"]["by"], state["proposal"]["behind"]) == ("person", [4])
    state = studio.do(run, do="more", count=3)
    assert len(state["proposal"]["candidates"]) == 7
    state = studio.do(run, do="accept")
    assert [layer["id"] for layer in state["layers"]][-2:] == [7, 4]  # behind the cat

    def head(**move: Any) -> dict[str, Any]:
        assert studio.call("POST", f"/api/runs/{run}/head", move).status == 200
        return studio.state(run)

    assert head(do="undo")["tree"]["head"] == 6
    assert head(do="redo")["tree"]["head"] == 7
    state = head(do="branch", step=2, name="other")
    assert (state["tree"]["branch"], state["proposal"], len(state["layers"])) == ("other", None, 2)
    studio.do(run, do="propose")
    studio.call("POST", f"/api/runs/{run}/drive", {"do": "run"})
    state = studio.settled(run)
    assert state["finished"] and state["tree"]["branches"]["main"] == 7
    assert head(do="switch", branch="main")["tree"]["head"] == 7


@pytest.mark.studio
def test_a_scribble_guides(studio: Client) -> None:
    run = studio.begin(seed=21)
    studio.settled(run)
    drawn = np.zeros((256, 256, 4), np.uint8)
    drawn[50:90, 30:200, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, format="PNG")
    answer = studio.send("POST", "/api/uploads", buffer.getvalue(), {**studio.bearer, "Content-Type": "image/png"})
    state = studio.do(run, do="add", words="a cat", scribble=answer.json["upload"], tightness=0.3)
    assert state["error"] is None and state["proposal"]["guidance"]["box"] == [30, 50, 200, 90]
    studio.do(run, do="accept")
    assert (studio.runs / run / "steps/0001/guide.png").is_file()


@pytest.mark.studio
def test_layers_are_edited_ordered_hidden_and_locked(studio: Client) -> None:
    run = studio.begin(seed=5, auto=True)
    state = studio.settled(run)
    first, second = [layer["id"] for layer in state["layers"]][2:4]

    def send(method: str, path: str, data: Any) -> int:
        return studio.call(method, f"/api/runs/{run}{path}", data).status

    assert send("POST", f"/layers/{first}/order", {"to": 4}) == 200
    assert [layer["id"] for layer in studio.state(run)["layers"]][2:4] == [second, first]
    assert send("POST", f"/layers/{first}/edit", {"move": [5, -3]}) == 202
    state = studio.settled(run)
    assert state["error"] is None and state["tree"]["steps"][-1]["outcome"] == "edited"
    assert send("PUT", "/flags", {"hidden": [second], "locked": [first]}) == 200
    state = studio.state(run)
    assert (state["hidden"], state["locked"]) == ([second], [first])
    assert send("POST", f"/layers/{first}/edit", {"delete": True}) == 409
    assert send("POST", f"/layers/{first}/order", {"to": 1}) == 409
    assert send("POST", f"/layers/{second}/edit", {"delete": True}) == 202
    assert second not in [layer["id"] for layer in studio.settled(run)["layers"]]
    assert send("POST", f"/layers/{second}/edit", {"delete": True}) == 202
    assert "no layer" in studio.settled(run)["error"]["message"]


@pytest.mark.studio
def test_exports_are_those_of_the_command_line(studio: Client, tmp_path: Path) -> None:
    run = studio.begin(seed=6, auto=True)
    studio.settled(run)
    for kind in ("psd", "ora", "coco", "webp", "graphml", "dot", "json", "graph"):
        answer = studio.call("GET", f"/api/runs/{run}/export/{kind}")
        assert answer.status == 200 and f'filename="{run}.' in answer.headers["content-disposition"]
        assert run_cli(["export", str(studio.runs / run), "--to", kind, str(tmp_path / kind)]) == 0
        assert answer.body == (tmp_path / kind).read_bytes(), kind


@pytest.mark.studio
def test_a_run_by_itself_has_the_bytes_of_the_command_line(
    studio: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "versions", dict)
    prompt = "a boy and a dog next to an oak tree"
    by_hand = studio.begin(prompt, seed=9)
    studio.settled(by_hand)
    for _ in range(3):
        studio.do(by_hand, do="accept")
    studio.call("POST", f"/api/runs/{by_hand}/drive", {"do": "run"})
    alone = studio.begin(prompt, seed=9, auto=True)
    composer = Composer.from_preset("park", overrides=["width=256", "height=256"], models=models(load_preset("park")))
    composed = composer.start(prompt, seed=9, out=tmp_path / "run")
    list(composed.steps())
    composed.close()
    for run in (by_hand, alone):
        assert studio.settled(run)["finished"]
        for name in ("final.png", "scene.json"):
            assert (studio.runs / run / name).read_bytes() == (tmp_path / "run" / name).read_bytes(), name


# --- two programs on one run


def test_the_command_line_may_work_on_an_open_run(studio: Client, capsys: pytest.CaptureFixture[str]) -> None:
    run = studio.begin(seed=3)
    studio.settled(run)
    studio.do(run, do="accept")
    state = studio.do(run, do="accept")
    assert state["proposal"] is not None and state["tree"]["head"] == 2
    told = listen(studio, run)
    assert run_cli(["undo", str(studio.runs / run)]) == 0  # the lock is free between steps
    end = time.monotonic() + 5
    while time.monotonic() < end and not any(message["type"] == "changed" for message in told[1:]):
        time.sleep(0.05)
    assert len(told) > 1  # the page was told
    state = studio.state(run)
    assert state["tree"]["head"] == 1 and state["proposal"] is None  # what it was proposed for is gone
    assert len(state["tree"]["steps"]) == 2  # and nothing is lost
    state = studio.do(run, do="propose")
    assert state["error"] is None and state["proposal"]["label"] == "grass"


def listen(client: Client, run: str) -> list[dict[str, Any]]:
    """Messages of the event stream, as they come."""
    told: list[dict[str, Any]] = []
    request = urllib.request.Request(
        f"http://127.0.0.1:{client.port}/api/events?run={run}", headers={"Authorization": f"Bearer {client.token}"}
    )

    def read() -> None:
        with urllib.request.urlopen(request, timeout=20) as stream:
            for line in stream:
                if line.startswith(b"data: "):
                    told.append(json.loads(line[6:]))

    threading.Thread(target=read, daemon=True).start()
    end = time.monotonic() + 5
    while not told and time.monotonic() < end:
        time.sleep(0.01)
    return told


def test_a_run_that_another_program_holds_is_left_alone_and_named(studio: Client) -> None:
    run = studio.begin(seed=4)
    before = studio.settled(run)
    held = RunFolder.open(studio.runs / run)
    try:
        # the holder is this very process, so it is told by its name
        state = studio.do(run, do="accept")
        assert f"process {os.getpid()}" in state["error"]["message"] and "wait for it" in state["error"]["message"]
        assert f"process {os.getpid()}" in studio.state(run)["holder"]
        answer = studio.call("POST", f"/api/runs/{run}/head", {"do": "undo"})
        assert answer.status == 400 and str(studio.runs) not in answer.body.decode()
    finally:
        held.close()
    state = studio.do(run, do="accept")  # the proposal still waited
    assert state["error"] is None and state["tree"]["head"] == before["tree"]["head"] + 1


# --- the queue and the worker


@pytest.mark.studio
def test_one_step_at_a_time_and_runs_take_turns(slow: Client) -> None:
    first, second = slow.begin(seed=1, auto=True), slow.begin(seed=2, auto=True)
    seen: list[str] = []
    end = time.monotonic() + 20
    while len(seen) < 5 and time.monotonic() < end:
        running = slow.call("GET", "/api/worker").json["running"]
        if running and (not seen or seen[-1] != running):
            seen.append(running)
        time.sleep(0.02)
    assert seen[:5] in ([first, second] * 3, [second, first] * 3) or set(seen) == {first, second}
    assert slow.call("POST", f"/api/runs/{first}/decision", {"do": "propose"}).status == 409  # busy
    for run in (first, second):
        assert slow.call("POST", f"/api/runs/{run}/drive", {"do": "pause"}).status == 202
    for run in (first, second):
        state = slow.settled(run)
        assert not state["finished"] and state["layers"] and state["error"] is None


@pytest.mark.studio
def test_a_killed_worker_is_started_again_and_the_step_is_done_to_the_same_bytes(slow: Client) -> None:
    run = slow.begin(seed=11)
    slow.settled(run)
    state = slow.do(run, do="words", words="a blue sky")  # a change that lived in the worker only
    before = slow.call("GET", "/api/worker").json["restarts"]
    assert slow.call("POST", f"/api/runs/{run}/decision", {"do": "accept"}).status == 202
    at(slow, run, "render")
    kill_worker(slow)
    state = slow.settled(run)
    assert state["error"] is None and [layer["description"] for layer in state["layers"]] == ["a blue sky"]
    assert slow.call("GET", "/api/worker").json["restarts"] == before + 1
    assert state["proposal"]["label"] == "grass"
    undisturbed = slow.begin(seed=11)
    slow.settled(undisturbed)
    slow.do(undisturbed, do="words", words="a blue sky")
    slow.do(undisturbed, do="accept")
    pictures = [(slow.runs / name / "steps/0001/image.png").read_bytes() for name in (run, undisturbed)]
    assert pictures[0] == pictures[1]


def kill_worker(client: Client) -> None:
    """SIGKILL to the process that holds a run of this studio."""
    for lock in client.runs.glob("*/.lock"):
        text = lock.read_text()
        if text:
            os.kill(json.loads(text)["pid"], signal.SIGKILL)
            return
    raise AssertionError("nobody works")


@pytest.mark.studio
def test_work_that_kills_the_worker_every_time_is_given_up(studio: Client) -> None:
    run = studio.begin(seed=12)
    studio.settled(run)
    studio.do(run, do="words", words="a fatal sky")
    state = studio.do(run, do="accept")
    assert state["error"]["kind"] == "crashed" and state["layers"] == []
    state = studio.do(run, do="words", words="a sky")  # still there, and usable
    state = studio.do(run, do="accept")
    assert state["error"] is None and len(state["layers"]) == 1


@pytest.mark.studio
def test_stop_stops_at_once_and_changes_nothing(slow: Client) -> None:
    run = slow.begin(seed=13)
    slow.settled(run)
    slow.call("POST", f"/api/runs/{run}/decision", {"do": "accept"})
    at(slow, run, "render")
    started = time.monotonic()
    slow.call("POST", f"/api/runs/{run}/drive", {"do": "cancel"})
    state = slow.settled(run)
    assert time.monotonic() - started < 6
    assert state["layers"] == [] and state["error"] is None and state["proposal"]["label"] == "sky"
    assert not list((slow.runs / run / "steps").iterdir())


@pytest.mark.studio
def test_the_page_learns_what_models_do_and_how_long_it_takes(slow: Client) -> None:
    run = slow.begin(seed=14)
    slow.settled(run)
    slow.do(run, do="accept")  # now it knows how long a rendering takes
    told = listen(slow, run)
    slow.call("POST", f"/api/runs/{run}/decision", {"do": "accept"})
    state = at(slow, run, "render")
    assert 0.9 < state["job"]["expected_s"] < 3
    slow.settled(run)
    phases = [message["job"]["phase"] for message in told if message["type"] == "progress" and message["job"]]
    assert {"render", "planner", "mask"} <= set(phases)


@pytest.mark.studio
def test_a_run_that_cannot_begin_says_why(studio: Client) -> None:
    for data in (
        {"prompt": "a boy", "preset": "nope"},
        {"prompt": "a boy", "size": "100x100"},
        {"prompt": " "},
    ):
        answer = studio.call("POST", "/api/runs", data)
        assert answer.status == 400 and answer.json["error"]["message"]


@pytest.mark.studio
def test_the_page_is_told_which_preset_is_the_usual_one(studio: Client) -> None:
    presets = studio.call("GET", "/api/presets").json
    assert [one["name"] for one in presets if one["default"]] == [DEFAULT_PRESET]
    begun = studio.call("POST", "/api/runs", {"prompt": "a sofa", "size": "256x256"})
    studio.settled(begun.json["run"])
    assert studio.call("GET", f"/api/runs/{begun.json['run']}").json["preset"] == DEFAULT_PRESET


@pytest.mark.studio
def test_a_run_of_the_command_line_is_in_the_list(studio: Client, tmp_path: Path) -> None:
    run = studio.begin(seed=15, auto=True)
    studio.settled(run)
    shutil.copytree(studio.runs / run, studio.runs / "copied")
    listed = {entry["name"]: entry for entry in studio.call("GET", "/api/runs").json}
    assert listed["copied"]["layers"] == 8 and listed["copied"]["finished"]


@pytest.mark.studio
def test_a_proposal_that_is_being_made_gives_way(slow: Client) -> None:
    run = slow.begin(seed=16)
    slow.settled(run)
    slow.do(run, do="accept")
    for _ in range(5):  # whenever it is asked
        slow.call("POST", f"/api/runs/{run}/decision", {"do": "propose"})
        assert slow.call("POST", f"/api/runs/{run}/head", {"do": "undo"}).status == 200
        assert slow.call("POST", f"/api/runs/{run}/head", {"do": "redo"}).status == 200
    state = slow.settled(run)
    assert state["tree"]["head"] == 1 and state["error"] is None and state["proposal"] is None


def test_hasty_clicks_do_not_meet(studio: Client) -> None:
    """Many requests at once on one run: each is done, or told that the run is busy."""
    run = studio.begin(seed=17)
    studio.settled(run)
    for _ in range(3):
        studio.do(run, do="accept")
    statuses: list[int] = []

    def send(method: str, path: str, data: Any) -> None:
        statuses.append(studio.call(method, f"/api/runs/{run}{path}", data).status)

    asked = [("POST", "/head", {"do": "undo"}), ("PUT", "/flags", {"hidden": [1], "locked": []})]
    asked += [("POST", "/head", {"do": "redo"}), ("PUT", "/flags", {"hidden": [], "locked": []})]
    threads = [threading.Thread(target=send, args=one) for one in asked * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(200) >= 10 and set(statuses) <= {200, 400}  # a redo may have nothing to redo
    assert studio.settled(run)["error"] is None


def test_a_run_that_is_read_half_way_through_a_step_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Opened:
        tries = 0

        @classmethod
        def open(cls, path: Path, *, write: bool) -> str:
            cls.tries += 1
            if cls.tries < 3:
                raise UserError("history.json names a step that is not there")
            return "opened"

    monkeypatch.setattr(views, "RunFolder", Opened)
    assert views.opened(tmp_path) == "opened"


def test_a_broken_run_is_refused_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "READ_AGAIN_S", (0.0,))
    with pytest.raises(UserError):
        views.opened(tmp_path)
