"""Who works on a run: an advisory lock that ends with its process, however that ends, and says whose it is."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from scene.errors import UserError

LOCK = ".lock"
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Holder:
    """A process that works on a run.

    Attributes:
        pid: its number.
        started: when it began, in clock ticks since the machine did; tells it from a later one with the same number.
        command: how it was called, shortened.
    """

    pid: int
    started: int
    command: str

    @classmethod
    def this(cls) -> Holder:
        """This process."""
        called = Path(sys.argv[0] or "python")
        name = called.parent.name if called.name == "__main__.py" else called.name
        words = [name, *sys.argv[1:]]
        return cls(os.getpid(), _started(os.getpid()), " ".join(words)[:SHOWN_CHARACTERS])

    @classmethod
    def of(cls, path: Path) -> Holder | None:
        """Who holds the run in `path`; None = nobody, or nobody that said so. Takes no lock itself."""
        try:
            holder = cls(**json.loads((path / LOCK).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return holder if _started(holder.pid) == holder.started else None


def _started(pid: int) -> int:
    """Start time of a process; -1 = there is none, 0 = this system does not say."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return -1 if Path("/proc/self/stat").exists() else 0


class Lock:
    """A run's lock, taken."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    @classmethod
    def take(cls, path: Path) -> Lock:
        """Takes the lock of the run in `path`.

        Raises:
            UserError: another process has it (the message says which), or the disk has no locks.
        """
        try:
            file = (path / LOCK).open("ab")
        except OSError as error:
            raise UserError(f"cannot write to {path} ({error.strerror}); make it writable") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(f"cannot lock {path} ({error.strerror}); copy the run to a local disk") from None
            holder = Holder.of(path)
            said = f" ({holder.command}, process {holder.pid})" if holder else ""
            raise UserError(f"another process works on {path}{said}; wait for it or end it") from None
        lock = cls(file)
        lock._say(json.dumps(asdict(Holder.this())).encode())
        return lock

    def _say(self, text: bytes) -> None:
        """Whose lock it is; only told, so a full disk does not matter."""
        try:
            self._file.truncate(0)
            self._file.write(text)
            self._file.flush()
        except OSError:
            pass

    def close(self) -> None:
        """Gives the lock back."""
        self._say(b"")
        self._file.close()
