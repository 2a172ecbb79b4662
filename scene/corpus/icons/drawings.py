"""Vector drawings out of the npm package @iconify/json, and rendering them (resvg).

An iconify set is a JSON object: `icons` (name -> {body: SVG elements, width?, height?, left?, top?}), `aliases`
(name -> {parent}), and `width`, `height` that hold for icons without their own.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scene.errors import UserError
from scene.geometry import Box

SKIN_TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
MAX_STREAMLINE_VARIANTS = 5  # that set numbers several drawings of one thing: "penguin-1", "penguin-2"
PROBE_PX = 96  # side at which a drawing's tight box is measured
SOLID_ALPHA = 24  # fainter pixels (soft shadows of some sets) do not count for the tight box


@dataclass(frozen=True)
class IconSet:
    """Facts of one set.

    Attributes:
        prefix: "noto".
        artist: who drew it, as the package says; licence, address likewise.
        family: sets of one family draw the same shapes, so they are held out together.
    """

    prefix: str
    artist: str
    licence: str
    address: str
    family: str


@dataclass(frozen=True)
class Drawing:
    """One picture of a thing.

    Attributes:
        id: "noto:man-walking"; skin tones of one drawing share it.
        family: see `IconSet`.
        variants: ids of the SVGs that show it, one of which is drawn; several only for skin tones.
    """

    id: str
    family: str
    variants: tuple[str, ...]


class DrawingStore:
    """The SVG bodies of the wanted icons.

    Args:
        folder: holds `<prefix>.json`.
        families: set prefix -> family, in order of preference.
        wanted: names to keep in memory, per set; None keeps all.
    """

    def __init__(
        self, folder: Path, families: Mapping[str, str], wanted: Mapping[str, Collection[str]] | None = None
    ) -> None:
        self.sets: dict[str, IconSet] = {}
        self._svgs: dict[str, str] = {}
        for prefix, family in families.items():
            data = _read_set(folder / f"{prefix}.json")
            info = data["info"]
            self.sets[prefix] = IconSet(
                prefix, info["author"]["name"], info["license"]["spdx"], info["author"]["url"], family
            )
            icons = data["icons"]
            plain = {name: raw["parent"] for name, raw in data.get("aliases", {}).items() if set(raw) == {"parent"}}
            keep = wanted[prefix] if wanted is not None else [*icons, *plain]
            for name in keep:
                icon = icons.get(plain.get(name, name))
                if icon is not None:
                    self._svgs[f"{prefix}:{name}"] = _svg(icon, data)

    def find(
        self, names: Iterable[str], only: Mapping[str, Sequence[str]], tones: bool
    ) -> tuple[Drawing, ...]:  # fmt: skip
        """Drawings of the icon names, over all sets; equal SVGs count once.

        Args:
            names: names as in Unicode's list ("baby-chick").
            only: set prefix -> names that hold in place of `names` for that set; empty = none of that set.
            tones: also take the skin tones of each drawing.
        """
        found: list[Drawing] = []
        seen: set[str] = set()
        for prefix, info in self.sets.items():
            for name in only[prefix] if prefix in only else spellings(prefix, names):
                toned = [f"{name}-{tone}-skin-tone" for tone in SKIN_TONES] if tones else []
                ids = tuple(i for n in (name, *toned) if (i := f"{prefix}:{n}") in self._svgs)
                if f"{prefix}:{name}" in ids and self._svgs[ids[0]] not in seen:
                    seen.add(self._svgs[ids[0]])
                    found.append(Drawing(ids[0], info.family, ids))
        return tuple(found)

    def render(self, svg_id: str, longest_px: int) -> np.ndarray:
        """A drawing cropped to its tight box, uint8 (h, w, 4), the longer side `longest_px` (to a pixel or two).

        Raises:
            UserError: the SVG cannot be drawn or is empty.
        """
        box = self._tight(svg_id)
        side = max(1, round(longest_px * PROBE_PX / max(box.width, box.height)))
        picture = _rasterise(self._svgs[svg_id], side, svg_id)
        solid = Box.from_mask(picture[..., 3] >= SOLID_ALPHA)
        if solid is None:
            raise UserError(f"drawing {svg_id} is empty at {longest_px} px; leave it out of the world file")
        return np.ascontiguousarray(picture[solid.y0 : solid.y1, solid.x0 : solid.x1])

    @functools.cache  # noqa: B019  the store lives as long as the process
    def _tight(self, svg_id: str) -> Box:
        """Tight box at `PROBE_PX`."""
        box = Box.from_mask(_rasterise(self._svgs[svg_id], PROBE_PX, svg_id)[..., 3] >= SOLID_ALPHA)
        if box is None:
            raise UserError(f"drawing {svg_id} is empty; leave it out of the world file")
        return box


def spellings(prefix: str, names: Iterable[str]) -> list[str]:
    """How a set may spell the names: fxemoji without hyphens, streamline also numbered."""
    spelled: list[str] = []
    for name in names:
        spelled.append(name.replace("-", "") if prefix == "fxemoji" else name)
        if prefix == "streamline-emojis":
            spelled += [f"{name}-{number}" for number in range(1, MAX_STREAMLINE_VARIANTS + 1)]
    return spelled


def _read_set(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        data["icons"], data["info"]["author"]["name"], data["info"]["license"]["spdx"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no iconify set ({type(error).__name__}: {error}); run: make data-deps") from None
    return data


def _svg(icon: Mapping[str, Any], whole_set: Mapping[str, Any]) -> str:
    width, height = (icon.get(side, whole_set.get(side, 16)) for side in ("width", "height"))
    left, top = icon.get("left", 0), icon.get("top", 0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width}" '
        f'height="{height}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def _rasterise(svg: str, side_px: int, name: str) -> np.ndarray:
    """A square icon at `side_px`, uint8 (side, side, 4)."""
    try:
        import resvg_py
    except ImportError:
        raise UserError("drawing icons needs resvg_py; run: pip install 'smartscene[data]'") from None
    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, width=side_px, skip_system_fonts=True)
    except ValueError as error:
        raise UserError(f"drawing {name} cannot be drawn ({error}); leave it out of the world file") from None
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))
