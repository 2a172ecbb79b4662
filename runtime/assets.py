"""Where assets lie: configs, our weights, the cache, files of weight packages. Imports no model library."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from scene.errors import UserError

_HOME = Path(__file__).resolve().parents[1]


def asset_dir(name: str) -> Path:
    """`configs` or `pretrained`: beside the packages in a checkout, under `smartscene_assets` in a wheel."""
    for folder in (_HOME / name, _HOME / "smartscene_assets" / name):
        if folder.is_dir():
            return folder
    raise UserError(f"this installation lacks its {name}/ folder; reinstall smartscene")


def pretrained_dir(world: str) -> Path:
    """Folder of our own weights for a world, `pretrained/<world>`.

    Raises:
        UserError: there are none for that world.
    """
    folder = asset_dir("pretrained") / world
    if not folder.is_dir():
        known = sorted(path.name for path in asset_dir("pretrained").iterdir() if path.is_dir())
        raise UserError(f"no weights for world {world!r}; there are: {', '.join(known) or 'none'}")
    return folder


def cache_dir() -> Path:
    """`$SMARTSCENE_CACHE`, else `~/.cache/smartscene`; made if missing."""
    folder = Path(os.environ.get("SMARTSCENE_CACHE") or Path.home() / ".cache" / "smartscene")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make cache folder {folder} ({error.strerror}); set SMARTSCENE_CACHE") from None
    return folder


def package_file(package: str, pattern: str, install: str) -> Path:
    """The one file inside an installed package that matches a glob, without importing the package.

    Args:
        package: import name.
        pattern: glob below the package folder.
        install: command that installs it, for the error.

    Raises:
        UserError: package or file missing.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found = sorted(Path(folder).glob(pattern))
        if found:
            return found[0]
    raise UserError(f"weight package {package} is not installed; run: {install}")
