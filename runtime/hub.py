"""Public weights: a local folder, or a repository of the Hugging Face hub, of which only safetensors are ever fetched.

A `Source` says where weights come from and which parts a model needs. `present` finds them on this machine without any
network; `fetch` downloads what is missing. Nothing here runs code of a repository or reads a pickle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from scene.errors import UserError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
WEIGHTS = "*.safetensors"
DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.jinja")
PROBE_SECONDS = 3.0


@dataclass(frozen=True)
class Source:
    """Weights that a preset needs.

    Attributes:
        setting: the setting that names them, such as "inpainter.path".
        name: hub id, or a local folder.
        revision: branch, tag or commit of a hub id; None = the repository's main branch.
        variant: "fp16" reads `*.fp16.safetensors`; None the files without a variant.
        parts: subfolder -> whether weights lie in it ("" = the folder itself); others hold JSON and text only.
        file: the one safetensors file that is needed, where a repository holds several.
        pin: the setting that names the revision, such as "inpainter.diffusers.revision".
    """

    setting: str
    name: str
    revision: str | None = None
    variant: str | None = None
    parts: Mapping[str, bool] = field(default_factory=lambda: {"": True})
    file: str | None = None
    pin: str = ""

    @property
    def is_pinned(self) -> bool:
        """Whether always the same files are meant: those of a commit. A branch or a tag may move."""
        return not self.is_hub_id or COMMIT.fullmatch(self.revision or "") is not None

    @property
    def is_hub_id(self) -> bool:
        """Whether the name is an id of the hub and no folder here has it."""
        return HUB_ID.fullmatch(self.name) is not None and not Path(self.name).exists()

    @property
    def wanted(self) -> list[str]:
        """Patterns of the files that are fetched."""
        ending = f"*.{self.variant}.safetensors" if self.variant else WEIGHTS
        patterns = ["model_index.json"]
        for part, holds_weights in self.parts.items():
            within = f"{part}/" if part else ""
            patterns += [within + pattern for pattern in DESCRIPTIONS]
            if holds_weights:
                patterns.append(within + (self.file or ending))
        return patterns

    @property
    def unwanted(self) -> list[str]:
        """Patterns of files that would match but are other precisions of the same weights."""
        return (
            [] if self.variant or self.file else ["*.fp16.safetensors", "*.bf16.safetensors", "*.non_ema.safetensors"]
        )


def lacking(source: Source, folder: Path) -> list[str]:
    """What a folder lacks of a source, one entry per part; empty = complete."""
    found = []
    for part, holds_weights in source.parts.items():
        inside = folder / part if part else folder
        if not inside.is_dir() or not any(inside.iterdir()):
            found.append(f"{part or 'the folder itself'}/")
        elif holds_weights:
            found += _lacking_weights(source, inside, part)
    return found


def _lacking_weights(source: Source, folder: Path, part: str) -> list[str]:
    within = f"{part}/" if part else ""
    if source.file:
        own_layout = (folder / "config.json").is_file() and any(folder.glob(WEIGHTS))
        return [] if own_layout or (folder / source.file).is_file() else [within + source.file]
    ending = f"*.{source.variant}.safetensors" if source.variant else WEIGHTS
    others = source.unwanted
    if all(any(file.match(other) for other in others) for file in folder.glob(ending)):
        return [within + ending]
    for index in folder.glob("*.safetensors.index*.json"):
        if (source.variant is None) != (".fp16." not in index.name):
            continue
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [within + shard for shard in sorted(shards) if not (folder / shard).is_file()]
    return []


def present(source: Source) -> Path | None:
    """The folder with a source's files, if all of them are on this machine; never uses the network.

    Raises:
        UserError: the name is neither a hub id nor a folder, or a local folder is incomplete.
    """
    folder = Path(source.name).expanduser()
    if folder.is_dir():
        missing = lacking(source, folder)
        if missing:
            raise UserError(
                f"{source.setting}: {folder} lacks {', '.join(missing[:4])}; name a folder in the layout of the public "
                "model, with safetensors (pickled weights are not read)"
            )
        return folder
    if not source.is_hub_id:
        raise UserError(f"{source.setting} is {source.name!r}: no such folder, and no hub id like owner/name")
    cached = _cached(source)
    return cached if cached is not None and not lacking(source, cached) else None


def _cached(source: Source) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source.name, revision=source.revision, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        return None


def fetch(source: Source) -> Path:
    """The folder with a source's files, downloaded where they are missing.

    Raises:
        UserError: the hub cannot be reached within seconds, does not have them, or the disk is full.
    """
    folder = present(source)
    if folder is not None:
        return folder
    from huggingface_hub import HfApi, snapshot_download

    at = f" at revision {source.revision}" if source.revision else ""
    try:
        # One short question first: a download would try a hub that cannot be reached for minutes.
        HfApi().model_info(source.name, revision=source.revision, timeout=PROBE_SECONDS)
        folder = Path(
            snapshot_download(
                source.name,
                revision=source.revision,
                allow_patterns=source.wanted,
                ignore_patterns=source.unwanted,
            )
        )
    except Exception as error:  # of several libraries, by version
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"cannot fetch {source.name}{at} from the model hub ({type(error).__name__}: {reason}); "
            f"go online, or name a local folder: --set {source.setting}=DIR"
        ) from None
    missing = lacking(source, folder)
    if missing:
        raise UserError(
            f"{source.name}{at} has no {', '.join(missing[:4])}; {source.setting} needs safetensors "
            "(another revision, or a converted local folder)"
        )
    return folder


def absent_message(sources: list[Source], preset: str) -> str:
    """One line that says which weights are not here and how to get them."""
    named = ", ".join(f"{source.name} ({source.setting}{_instead(source)})" for source in sources)
    return (
        f"preset {preset} lacks weights on this machine: {named}; fetch them with: smartscene check {preset} --fetch, "
        f"or name local folders: {' '.join(f'--set {source.setting}=DIR' for source in sources)}"
    )


def _instead(source: Source) -> str:
    """What to set where another revision of a source is here than the one that is pinned; else nothing."""
    if source.revision is None or _cached(replace(source, revision=None)) is None:
        return ""
    return f", pinned to {source.revision[:12]}; another revision is here, --set {source.pin}=main takes it"


def unpinned_line(sources: list[Source], preset: str) -> str:
    """One line that says which weights are whatever the hub has today, and how to pin them; "" if none are."""
    loose = [source for source in sources if not source.is_pinned]
    if not loose:
        return ""
    named = ", ".join(f"{source.name} (--set {source.pin}=COMMIT)" for source in loose)
    return f"preset {preset}: not pinned to a commit, so results may change with the repository: {named}"
