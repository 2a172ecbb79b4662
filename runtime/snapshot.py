"""Training snapshots: safetensors plus JSON with checksums; a corrupt one is refused and the one before is used."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from runtime.files import sha256_of, write_json

log = logging.getLogger(__name__)
SNAPSHOT_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Snapshot:
    """State of a training: `samples` seen, `tensors` by name, `state` (JSON)."""

    samples: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


class SnapshotStore:
    """Keeps the newest `keep` snapshots below a folder, one folder each, named by samples seen."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("[0-9]*") if path.suffix != ".tmp")

    def save(self, samples: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> Path:
        """Writes a snapshot; it exists once its folder has its final name."""
        final = self.folder / f"{samples:010d}"
        temporary = final.with_suffix(".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(
            {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()},
            temporary / "tensors.safetensors",
        )
        head = {
            "schema_version": SNAPSHOT_SCHEMA_VERSION,
            "samples": samples,
            "sha256": sha256_of(temporary / "tensors.safetensors"),
            "state": dict(state),
        }
        write_json(temporary / "snapshot.json", head)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        for old in self._all()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def latest(self) -> Snapshot | None:
        """The newest readable snapshot, or None; each corrupt one on the way is named in a warning."""
        for path in reversed(self._all()):
            try:
                head = json.loads((path / "snapshot.json").read_text(encoding="utf-8"))
                if head["schema_version"] != SNAPSHOT_SCHEMA_VERSION:
                    raise ValueError(f"schema {head['schema_version']}, need {SNAPSHOT_SCHEMA_VERSION}")
                if sha256_of(path / "tensors.safetensors") != head["sha256"]:
                    raise ValueError("checksum differs")
                tensors = load_file(path / "tensors.safetensors")
                return Snapshot(int(head["samples"]), tensors, head["state"])
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                log.warning("snapshot %s is corrupt (%s); trying the one before", path, error)
        return None
