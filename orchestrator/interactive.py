"""Two fronts of a `Session`: a terminal dialogue in words, and JSON lines for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from orchestrator.pictures import HIGHLIGHT, painted_mask
from orchestrator.run import Run
from orchestrator.session import Event, Session
from orchestrator.tree import tree_lines

HELP = """\
accept [N]       place it (candidate N)        words TEXT     other words for this object
another          the next candidate            more [N]       more candidates
pick N           look at candidate N           box x0,y0,x1,y1 | blob cx,cy,rx,ry | scribble PNG | free   where
behind LAYERS    put it behind (a, b)          reject REASON  not in this scene; the planner is told why
skip             not now                       add WORDS      an object of your own
undo [N] redo [N]                              branch [STEP|BRANCH] [NAME]
tree             all steps                     finish         let it run to the end
stop             the scene is finished here    quit           everything is kept
short forms: a w n m r b f s q u t"""

_SHORT = {"a": "accept", "w": "words", "e": "words", "edit": "words", "n": "another", "m": "more", "r": "reject",
          "b": "box", "f": "finish", "s": "stop", "q": "quit", "u": "undo", "t": "tree"}  # fmt: skip
PREVIEW_COLUMNS = 64


def parse_line(line: str) -> Event | None:
    """The event that a typed line means; None = it is none."""
    command, _, rest = line.strip().partition(" ")
    command, rest = _SHORT.get(command.lower(), command.lower()), rest.strip()
    event: Event = {"do": command}
    if command in ("words", "add"):
        return event | {"words": rest}
    if command == "reject":
        return event | {"reason": rest}
    if command in ("box", "blob", "scribble", "free"):
        numbers, _, tightness = rest.partition(" ")
        event = {"do": "guide"} | ({command: numbers} if command != "free" else {})
        return event | ({"tightness": float(tightness)} if _is_number(tightness) else {})
    if command == "behind":
        return event | {"layers": [name.strip() for name in rest.split(",") if name.strip()]}
    if command == "branch":
        at, _, name = rest.partition(" ")
        return event | ({"at": at} if at else {}) | ({"name": name.strip()} if name.strip() else {})
    key = {"accept": "pick", "pick": "candidate", "more": "count", "undo": "count", "redo": "count"}.get(command)
    if key is not None:
        return event | ({key: int(rest) if rest.isdigit() else rest} if rest else {})
    return event if command in ("another", "skip", "tree", "finish", "stop", "quit") and not rest else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def dialogue(
    run: Run,
    read: Callable[[], str],
    say: Callable[[str], object],
    preview: Callable[[np.ndarray], object] | None = None,
) -> None:
    """Steps through a run in words.

    Args:
        run: the composition; on quit it stays resumable.
        read: gives one line of input, "" at its end.
        say: shows text.
        preview: shows a picture, uint8 (H, W, 3), if the terminal can.
    """
    session = Session(run)

    def tell(events: Iterator[Event]) -> None:
        for event in events:
            say(_in_words(event, run))
            if preview is not None and event["event"] in ("candidates", "step", "head"):
                preview(_shown(session))

    tell(session.start())
    say(HELP)
    while not session.ended:
        line = read()
        if line and not line.strip():
            continue
        event = parse_line(line) if line else {"do": "quit"}
        if event is None:
            say(HELP)
        else:
            tell(session.handle(event))


def _shown(session: Session) -> np.ndarray:
    """The picture, with the candidate that would be taken."""
    image, pending = session.run.scene.image, session.pending
    if pending is None or pending.choice is None:
        return image
    mask = pending.choice.candidates[pending.choice.chosen].mask
    return painted_mask(image, mask, np.zeros_like(mask), HIGHLIGHT, 0.65, 3)


def _in_words(event: Event, run: Run) -> str:
    kind = event["event"]
    if kind == "hello":
        return f"{event['prompt']}  (canvas {event['size'][0]}x{event['size'][1]}, branch {event['branch']})"
    if kind == "proposal":
        if event["stop"]:
            return f"step {event['step']}: the planner would stop ({event['reason'] or 'nothing left to add'})"
        box = ",".join(map(str, event["box"])) if event["box"] else "anywhere"
        notes = f"  [{'; '.join(event['notes'])}]" if event["notes"] else ""
        return f"step {event['step']}: {event['label']} - {event['description']}  at {box}{notes}"
    if kind == "candidates":
        scores = "  ".join(
            f"{'*' if c['number'] == event['chosen'] else ''}{c['number']} ({c['score']:.2f})"
            for c in event["candidates"]
        )
        broken = [words for attempt in event["attempts"] if attempt["taken"] for words in attempt["violated"]]
        return f"candidates {scores}   {event['sheet']}" + (
            f"\nasked for, but not so: {', '.join(broken)}" if broken else ""
        )
    if kind == "step":
        return f"step {event['index']} {event['outcome']} {event['reason']}".rstrip()
    if kind == "tree":
        return "\n".join(tree_lines(run.folder.history))
    if kind == "error":
        return str(event["message"])
    layers = ", ".join(layer["description"] for layer in event["layers"]) or "empty canvas"
    if kind == "head":
        return f"head: step {event['head']} on branch {event['branch']} ({layers})"
    if kind == "finished":
        return f"finished: {len(event['layers'])} layers, {event['picture']}"
    return f"saved; go on with: {event['go_on']}"


def json_dialogue(run: Run, read: Callable[[], str], write: Callable[[str], object]) -> None:
    """Steps through a run by JSON lines: one event in, one or more out; see docs/step.md.

    Args:
        run: the composition.
        read: gives one line, "" at the end of input, which counts as quit.
        write: takes one JSON document without newline.
    """
    session = Session(run)

    def tell(events: Iterator[Event]) -> None:
        for event in events:
            write(json.dumps(event))

    tell(session.start())
    while not session.ended:
        line = read()
        if line and not line.strip():
            continue
        event: Any = {"do": "quit"}
        if line:
            try:
                event = json.loads(line)
            except ValueError as error:
                event = None
                write(
                    json.dumps({"event": "error", "message": f"this line is no JSON ({str(error)[:60]}); one a line"})
                )
                continue
        tell(session.handle(event))


def terminal_preview(image: np.ndarray) -> None:
    """Prints a picture, uint8 (H, W, 3), in half blocks, two pixels a character; nothing where colours are missing."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    if not console.is_terminal or console.color_system is None:
        return
    columns = min(PREVIEW_COLUMNS, console.width)
    rows = max(1, round(columns * image.shape[0] / image.shape[1] / 2))
    small = np.asarray(Image.fromarray(image).resize((columns, 2 * rows), Image.Resampling.BOX))
    text = Text()
    for upper, lower in zip(small[::2], small[1::2], strict=True):
        for (r, g, b), (x, y, z) in zip(upper, lower, strict=True):
            text.append("▀", style=f"rgb({r},{g},{b}) on rgb({x},{y},{z})")
        text.append("\n")
    console.print(text)
