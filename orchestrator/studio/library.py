"""The folder of runs: names from outside become paths only here, resolved and then checked to lie inside."""

from __future__ import annotations

import re
from pathlib import Path

from scene.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PHOTO = re.compile(r"canvas|mask-\d{2}")
_PICTURE = re.compile(r"(?:image|mask|amodal|layer|layout|guide)(?:-\d{1,6})?")


class NotFound(Exception):
    """There is no such thing, or it may not be looked at."""


class Library:
    """Runs below one folder.

    Args:
        root: the folder; made when the first run is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Folder of an existing run.

        Raises:
            NotFound: no plain name, no run, or one that (through a symbolic link) lies elsewhere.
        """
        if not _NAME.fullmatch(name):
            raise NotFound(f"there is no run {name[:60]!r}")
        path = contained(self.root, self.root / name)
        if not contained(path, path / "run.json").is_file():
            raise NotFound(f"there is no run {name[:60]!r}")
        return path

    def new(self, words: str, taken: set[str]) -> str:
        """A free name like `words`; `taken` are names of runs that have no folder yet.

        Raises:
            UserError: it cannot be a folder name.
        """
        if not _NAME.fullmatch(words):
            raise UserError(f"name {words[:40]!r} is not usable; letters, digits, . _ - and at most 100 of them")
        taken = taken | ({path.name for path in self.root.iterdir()} if self.root.is_dir() else set())
        return next(name for name in (words, *(f"{words}-{n}" for n in range(2, len(taken) + 3))) if name not in taken)

    def names(self) -> list[str]:
        """All runs, the one that was worked on last first."""
        found = []
        for path in self.root.iterdir() if self.root.is_dir() else ():
            try:
                run = self.path(path.name)
                found.append((changed(run), path.name))
            except (NotFound, OSError):
                continue
        return [name for _, name in sorted(found, reverse=True)]

    def picture(self, name: str, step: int, picture: str) -> Path:
        """A PNG of a step.

        Raises:
            NotFound: no such picture, or it lies elsewhere.
        """
        run = self.path(name)
        path = run / "steps" / f"{step:04d}" / f"{picture}.png"
        if not _PICTURE.fullmatch(picture) or step < 1 or not contained(run, path).is_file():
            raise NotFound(f"step {step} has no picture {picture[:40]!r}")
        return path

    def photo(self, name: str, picture: str) -> Path:
        """A PNG of the photo that a run starts with ("canvas", "mask-03"), or "full", the scene at its size.

        Raises:
            NotFound: no such picture, or it lies elsewhere.
        """
        run = self.path(name)
        path = run / "full.png" if picture == "full" else run / "photo" / f"{picture}.png"
        if not (picture == "full" or _PHOTO.fullmatch(picture)) or not contained(run, path).is_file():
            raise NotFound(f"there is no picture {picture[:40]!r} of a photo here")
        return path


def changed(run: Path) -> int:
    """When a run last changed, ns: its tree is written with every step."""
    times = [file.stat().st_mtime_ns for file in (run / "history.json", run / "run.json") if file.is_file()]
    return max(times, default=0)


def contained(root: Path, path: Path) -> Path:
    """`path` with all links followed, if that lies below `root`.

    Raises:
        NotFound: it does not, or cannot be followed.
    """
    try:
        real = path.resolve()
        inside = real.is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):
        inside = False
    if not inside:
        raise NotFound("there is nothing of that name here")
    return real
