"""`smartscene insert IMAGE`: a photograph becomes a run; the rest is the same as for any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.config import DEFAULT_PRESET

if TYPE_CHECKING:
    from orchestrator.config import ComposeConfig
    from orchestrator.photograph import StartingPhoto
    from orchestrator.ports import Models
    from scene.layers import LayeredScene
    from scene.vocabulary import Vocabulary

DEFAULT_SEED = 7
NO_MAP = "none"

PHOTO_OPTIONS: list[Any] = [
    click.option(
        "--panoptic",
        metavar="PNG,JSON",
        help="IMAGE: its panoptic map in COCO's format; 'none' = nothing is known of it.",
    ),
    click.option("--preset", help=f"IMAGE: a file in configs/compose/  [default: {DEFAULT_PRESET}]."),
    click.option("--config", type=click.Path(path_type=Path), help="IMAGE: a config file in place of the preset."),
    click.option("--set", "overrides", multiple=True, metavar="a.b=c", help="IMAGE: change one setting; repeatable."),
    click.option(
        "--out", type=click.Path(path_type=Path), help="IMAGE: the new run folder  [default: runs/<name>-<seed>]."
    ),
]


@dataclass(frozen=True, eq=False)
class PhotoOrder:
    """A photo that is to become a run, everything checked that needs no composing model.

    Attributes:
        start: photo and segments.
        config: resolved settings.
        vocabulary: the preset's words.
        prompt: caption of the photo.
        seed: of the run.
        out: run folder to make.
    """

    start: StartingPhoto
    config: ComposeConfig
    vocabulary: Vocabulary
    prompt: str
    seed: int
    out: Path

    @property
    def scene(self) -> LayeredScene:
        """The layers that the run will start with, without pixels."""
        return self.start.scene(self.vocabulary, self.prompt)

    def begin(self, models: Models | None = None) -> Any:
        """Makes the run, open for writing; loads the preset's models unless some are given."""
        from orchestrator.compose import Composer

        composer = Composer.from_config(self.config, models=models)
        return composer.start(self.prompt, seed=self.seed, out=self.out, photo=self.start)


def order_photo(
    image: Path,
    *,
    panoptic: str | None,
    preset: str | None,
    config: Path | None,
    overrides: Sequence[str],
    seed: int | None,
    context: str,
    out: Path | None,
) -> PhotoOrder:
    """Reads and checks what `smartscene insert IMAGE` was given.

    Raises:
        UserError: a file, setting or folder that cannot be used, or no panoptic map.
    """
    from orchestrator.assemble import load_vocabulary
    from orchestrator.config import load_preset
    from orchestrator.photograph import StartingPhoto
    from orchestrator.run_folder import RunFolder

    resolved = load_preset(preset or DEFAULT_PRESET, config, overrides)
    seed = DEFAULT_SEED if seed is None else seed
    out = out or Path("runs") / f"{image.stem[:40]}-{seed}"
    RunFolder.check_free(out)
    if panoptic is None:
        start = _segmented(image, resolved)
    else:
        start = StartingPhoto.read(image, None if panoptic == NO_MAP else _two_files(panoptic))
    return PhotoOrder(start, resolved, load_vocabulary(resolved.world), context or start.caption(), seed, out)


def _two_files(text: str) -> tuple[Path, Path]:
    from scene.errors import UserError

    parts = [Path(part.strip()) for part in text.split(",") if part.strip()]
    if len(parts) != 2:
        raise UserError(f"--panoptic {text[:60]!r} is not PNG,JSON; give both files with a comma between them")
    return parts[0], parts[1]


def _segmented(image: Path, config: ComposeConfig) -> StartingPhoto:
    from orchestrator.assemble import load_segmenter
    from orchestrator.photograph import StartingPhoto
    from scene.errors import UserError

    if config.segmenter.path is None:
        raise UserError(
            f"nothing tells what {image} shows: give --panoptic PNG,JSON, or a segmentation model "
            "(--set segmenter.path=FOLDER, see docs/photos.md), or --panoptic none and a guide"
        )
    start = StartingPhoto.read(image)
    return StartingPhoto(start.photo, load_segmenter(config).segment(start.photo.seen))


def refuse_for_run(run: Path, **given: Any) -> None:
    """Raises UserError where there is no run, or options for photos were given with one."""
    from scene.errors import UserError

    if not run.exists():
        raise UserError(f"{run} is neither a run folder nor a picture; name one that exists")
    said = [f"--{name}" for name, value in given.items() if value]
    if said:
        raise UserError(f"{' '.join(said)} is for photos; {run} is a run and keeps the settings it was made with")
