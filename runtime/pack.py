"""`python -m runtime.pack SRC DST`: a copy of a weight folder whose safetensors take about half the space.

For shipping only: whoever trains on starts from the float16 folder. What it costs is measured in the model cards.
What diffusers reads (`unet/`, `controlnet/`, `vae/`) is copied as it is; a packed PEFT adapter is read by this package
alone.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from runtime.weights import pack, read_weights, save_weights
from scene.errors import UserError

FOREIGN = ("diffusion_pytorch_model.safetensors",)


def pack_folder(source: Path, target: Path) -> tuple[int, int]:
    """Copies `source` to the new folder `target`, packed; returns bytes of safetensors before and after.

    Raises:
        UserError: no such folder, or `target` exists.
    """
    if not source.is_dir():
        raise UserError(f"no weight folder {source}; name one that a training exported")
    if target.exists():
        raise UserError(f"{target} exists already; name a new folder")
    shutil.copytree(source, target)
    before = after = 0
    for file in sorted(target.rglob("*.safetensors")):
        before += file.stat().st_size
        if file.name not in FOREIGN:
            save_weights(pack(read_weights(file)), file)
        after += file.stat().st_size
    return before, after


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    try:
        before, after = pack_folder(arguments.source, arguments.target)
    except UserError as error:
        raise SystemExit(str(error)) from None
    print(f"{arguments.target}: {before / 1e6:.1f} MB -> {after / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
