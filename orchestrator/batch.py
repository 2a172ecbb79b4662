"""Many prompts: one run folder each, one manifest. The runs on disk are the truth, so a killed batch goes on."""

from __future__ import annotations

import json
import multiprocessing
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orchestrator.compose import Composer
from orchestrator.config import ComposeConfig, clean_prompt
from orchestrator.disk import save_png, told_clearly
from orchestrator.pictures import contact_sheet
from orchestrator.rendering import check_seed
from runtime.files import write_json
from scene.errors import UserError

MANIFEST, SHEET, SUMMARY = "manifest.json", "contact-sheet.png", "summary.json"
MANIFEST_SCHEMA_VERSION = 1
MAX_PROMPTS = 100_000
SHEET_COLUMNS, SHEET_SCENES = 5, 100
MAX_CRASHES = 2  # how often a prompt may take its worker process down before it is left out


@dataclass(frozen=True)
class Item:
    """One prompt of a batch.

    Attributes:
        number: from 1, its line in the file.
        name: its folder.
        prompt, seed: as `generate` takes them.
    """

    number: int
    name: str
    prompt: str
    seed: int


def read_prompts(path: Path, seed: int) -> list[Item]:
    """Reads a JSONL file: a line is {"prompt": ..., "seed": ..., "name": ...} or a bare JSON string.

    Args:
        path: the file; empty lines are passed over.
        seed: of prompts that name none.

    Raises:
        UserError: unreadable, or the first line that is wrong, with its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({str(error)[:80]}); give a JSONL file, a prompt a line") from None
    items: list[Item] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            items.append(_item(line, number, seed, f"{path} line {number}"))
    names = [item.name for item in items]
    double = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if double is not None:
        raise UserError(f"{path} names {double!r} twice; give each prompt another name, or none")
    if not 1 <= len(items) <= MAX_PROMPTS:
        raise UserError(f"{path} holds {len(items)} prompts; need 1 to {MAX_PROMPTS:,}")
    return items


def _item(line: str, number: int, seed: int, where: str) -> Item:
    try:
        data = json.loads(line)
    except ValueError:
        raise UserError(f'{where} is no JSON; write it like {{"prompt": "a boy and a dog", "seed": 7}}') from None
    data = {"prompt": data} if isinstance(data, str) else data
    known = {"prompt", "seed", "name"}
    if not isinstance(data, dict) or not isinstance(data.get("prompt"), str) or not data.keys() <= known:
        raise UserError(f"{where} needs a prompt in words, and may have seed and name; nothing else")
    own = data.get("seed", seed)
    name = data.get("name", f"{number:04d}-{_slug(data['prompt'])}")
    if not isinstance(own, int) or isinstance(own, bool):
        raise UserError(f"{where}: seed {own!r} is no whole number")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w-]{0,79}", name):
        raise UserError(f"{where}: name {name!r} is no plain folder name (letters, digits, - and _)")
    return Item(number, name, data["prompt"], own)


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:32].strip("-") or "scene"


def check_manifest(out: Path, items: Sequence[Item], config: ComposeConfig) -> None:
    """Writes the manifest of a new batch, or checks that the one in `out` is of the same batch.

    Raises:
        UserError: `out` holds another batch, or something else, or cannot be written.
    """
    wanted = {
        "schema_version": MANIFEST_SCHEMA_VERSION,
        "config": config.model_dump(mode="json"),
        "items": [vars(item) for item in items],
    }
    file = out / MANIFEST
    if file.exists():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            raise UserError(f"{file} cannot be read; delete it, and the batch goes on from its runs") from None
        if found != wanted:
            raise UserError(f"{out} holds another batch (prompts or settings differ); choose another --out")
        return
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; choose another --out")
    strangers = {entry.name for entry in out.iterdir()} - {item.name for item in items} if out.is_dir() else set()
    strangers = {name for name in strangers if not name.startswith(f".{MANIFEST}")}
    if strangers:
        raise UserError(f"{out} is not empty and holds no batch ({sorted(strangers)[0]}); choose another --out")
    with told_clearly(out):
        out.mkdir(parents=True, exist_ok=True)
        write_json(file, wanted)


_composer: Composer | None = None  # of a worker process: models are loaded once


def _work(config: ComposeConfig, item: Item, out: str) -> dict[str, Any]:
    """One prompt in a worker process."""
    global _composer
    if _composer is None:
        _composer = Composer.from_config(config)
    return compose_item(_composer, item, Path(out))


def compose_item(composer: Composer, item: Item, out: Path) -> dict[str, Any]:
    """Composes one scene, or goes on with it; a failure is told, not raised.

    Returns:
        `number`, `name`, `prompt`, `seed`, `state` ("done" or "failed"), `error`, `layers`, `unknown`, `relations`
        (asked for and whether they hold), `seconds` (of this call; 0 where it was done before).
    """
    started = time.monotonic()
    told: dict[str, Any] = {**vars(item), "state": "failed", "error": "", "seconds": 0.0}
    try:
        check_seed(item.seed)
        run = composer.start(clean_prompt(item.prompt), seed=item.seed, out=out / item.name)
    except UserError as error:
        return told | {"error": str(error)}
    try:
        was_done = run.finished and (run.folder.path / "scene.json").exists()
        for _ in () if was_done else run.steps():
            pass
        told |= {"state": "done", "layers": len(run.scene.layers), "unknown": run.unknown}
        told |= {"relations": run.relations(), "seconds": 0.0 if was_done else round(time.monotonic() - started, 2)}
    except UserError as error:
        told["error"] = str(error)
    except Exception as error:  # our bug: the others must not suffer, and the trace must not be lost
        told["error"] = f"bug: {type(error).__name__}: {error}"
        with told_clearly(out):
            (run.folder.path / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        run.close()
    return told


def run_batch(
    items: Sequence[Item],
    out: Path,
    config: ComposeConfig,
    workers: int,
    progress: Callable[[Mapping[str, Any], int, float], object],
    composer: Composer | None = None,
) -> list[dict[str, Any]]:
    """Composes all items; each once, whatever happens to the others.

    Args:
        items: what to compose.
        out: batch folder, with its manifest.
        config: of every run.
        workers: processes; 1 = this one.
        progress: told each result as it comes, how many are left, and the seconds left (nan until known).
        composer: for one worker: loaded models.

    Returns:
        Results in the order of `items`.
    """
    results: dict[int, dict[str, Any]] = {}
    started = time.monotonic()
    worked = 0

    def tell(result: dict[str, Any]) -> None:
        nonlocal worked
        results[result["number"]] = result
        worked += result["seconds"] > 0
        left = len(items) - len(results)
        pace = (time.monotonic() - started) / worked if worked else float("nan")
        progress(result, left, left * pace)

    if workers == 1:
        composer = composer or Composer.from_config(config)
        for item in items:
            tell(compose_item(composer, item, out))
    else:
        for result in _in_processes(items, out, config, workers):
            tell(result)
    return [results[item.number] for item in items]


def _in_processes(items: Sequence[Item], out: Path, config: ComposeConfig, workers: int) -> Iterator[dict[str, Any]]:
    """Results as they come. A worker that dies takes no other prompt down: what was under way is tried again alone."""
    context = multiprocessing.get_context("spawn")
    waiting, crashes = list(items), dict.fromkeys((item.number for item in items), 0)
    alone = False
    while waiting:
        lost: list[Item] = []
        with ProcessPoolExecutor(1 if alone else workers, mp_context=context) as pool:
            under_way: dict[Future[dict[str, Any]], Item] = {}
            queue = list(waiting)
            while queue or under_way:
                while queue and len(under_way) < (1 if alone else workers):
                    try:
                        under_way[pool.submit(_work, config, queue[0], str(out))] = queue[0]
                    except BrokenProcessPool:
                        break
                    queue.pop(0)
                if not under_way:
                    break
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    item = under_way.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        lost.append(item)
                if lost and not under_way:
                    break
        for item in lost:
            crashes[item.number] += 1
        given_up = [item for item in lost if crashes[item.number] >= MAX_CRASHES]
        for item in given_up:
            error = "its worker process died twice (killed, or out of memory); try it alone with smartscene generate"
            yield {**vars(item), "state": "failed", "error": error, "seconds": 0.0}
        waiting = [item for item in (*lost, *queue) if item not in given_up]
        alone = bool(lost)


def write_summary(out: Path, results: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """Writes summary.json and the contact sheet; returns the summary."""
    done = [result for result in results if result["state"] == "done"]
    asked = [relation["holds"] for result in done for relation in result["relations"] if relation["holds"] is not None]
    made = [result["seconds"] for result in done if result["seconds"]]
    summary: dict[str, Any] = {
        "n": len(results),
        "done": len(done),
        "failed": len(results) - len(done),
        "seconds": round(seconds, 1),
        "results": [dict(result) for result in results],
    }
    if made:
        summary["seconds_per_scene"] = round(sum(made) / len(made), 2)
    if asked:
        summary["relations_hold"] = round(sum(asked) / len(asked), 4)
    with told_clearly(out):
        save_png(out / SHEET, _sheet(out, results))
        write_json(out / SUMMARY, summary)
    return summary


def _sheet(out: Path, results: Sequence[Mapping[str, Any]]) -> np.ndarray:
    pictures: list[tuple[str, np.ndarray]] = []
    for result in results[:SHEET_SCENES]:
        file = out / result["name"] / "final.png"
        if result["state"] == "done" and file.exists():
            with Image.open(file) as picture:
                pixels = np.asarray(picture.convert("RGB"))
        else:
            pixels = np.full((80, 100, 3), 225, np.uint8)
        failed = "" if result["state"] == "done" else "FAILED: "
        pictures.append((f"{result['number']}. {failed}{result['prompt']}", pixels))
    return contact_sheet(pictures, SHEET_COLUMNS)
