"""Procedural materials by name: albedo of points of a plane, and the sky.

Every pattern knows how far a pixel reaches and fades or is averaged over that reach, so that nothing flickers in the
distance. Colours are as displayed (sRGB); the first of a material is its main one.

| kind | colours after the first | `scale_m` |
|---|---|---|
| paint, plaster | - | grain |
| stripes | other stripe | width of a pair |
| dots | dot | distance |
| checks | other square | side |
| tiles, slabs | joint | side |
| bricks | mortar | length of a brick |
| planks, panels | darker board | width of a board |
| parquet | darker strip | side of a block |
| concrete, carpet, gravel, grass, sand, snow, hedge, water, marble | darker tone | grain |
| asphalt | darker tone, lane marks | grain |
| sky, clouds | horizon; clouds: the cloud's colour comes from the horizon | - |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from scene.corpus.home.plan import Material
from scene.errors import UserError
from scene.seeds import derive_seed

MEAN_VEIN = 0.11  # of marble, measured
TABLE = 256  # random numbers repeat after so many cells
Colours = list[np.ndarray]


@dataclass(frozen=True, eq=False)
class Patch:
    """Points of a plane to be coloured, float arrays of one length.

    Attributes:
        u, v: metres in the plane; v is upwards on upright planes, y on level ones.
        du, dv: how far a pixel reaches along each, metres.
        across, along: metres from the middle of the quadrilateral, along its shorter and its longer side.
    """

    u: np.ndarray
    v: np.ndarray
    du: np.ndarray
    dv: np.ndarray
    across: np.ndarray
    along: np.ndarray
    width_m: float


def colour(material: Material, patch: Patch, seed: int) -> np.ndarray:
    """Albedo of the points, float32 (N, 3), 0 to 1 as displayed.

    Raises:
        UserError: no such material.
    """
    if material.kind not in PATTERNS:
        raise UserError(f"no material {material.kind!r}; allowed are {', '.join(sorted([*PATTERNS, *SKIES]))}")
    tones = [np.array(tone, np.float32) / 255 for tone in material.colours]
    if len(tones) == 1:
        tones.append(tones[0] * 0.86)
    albedo = PATTERNS[material.kind](tones, patch, material.scale_m, seed)
    return np.clip(albedo, 0.02, 0.98).astype(np.float32)


def sky_colour(material: Material, rays: np.ndarray, seed: int) -> np.ndarray:
    """Colour of the sky along rays (N, 3), float32 (N, 3), 0 to 1 as displayed.

    Raises:
        UserError: no such sky.
    """
    if material.kind not in SKIES:
        raise UserError(f"no sky {material.kind!r}; a surface without quads needs one of {', '.join(SKIES)}")
    zenith, horizon = (np.array(tone, np.float32) / 255 for tone in (material.colours * 2)[:2])
    rise = (rays[:, 2] / np.linalg.norm(rays, axis=1)).astype(np.float32)
    height = np.clip(rise, 0, 1)[:, None]
    shown = horizon + (zenith - horizon) * (1 - (1 - height) ** 3.2)
    cover = SKIES[material.kind]
    if cover > 0:
        lift = np.maximum(rise, 0) + 0.12
        u, v = (rays[:, axis] / np.linalg.norm(rays, axis=1) / lift for axis in (0, 1))
        density = np.sum([_noise(u, v, 1.6 / 2**octave, 0.0, seed + octave) / 1.8**octave for octave in range(5)], 0)
        cloud = np.clip((density - (0.9 - 1.6 * cover)) / 0.9, 0, 1) * np.clip(rise / 0.08, 0, 1)
        cloud = (cloud * cloud * (3 - 2 * cloud))[:, None]
        white = horizon + (1 - horizon) * 0.6
        shade = 1 - 0.10 * np.clip(density - 0.6, 0, 1)[:, None]
        shown = shown + (white * shade - shown) * 0.9 * cloud
    return np.clip(shown, 0, 1).astype(np.float32)


@cache
def _table() -> np.ndarray:
    """Random numbers from -1 to 1, float32 (TABLE, TABLE)."""
    rng = np.random.default_rng(derive_seed("surface noise"))
    return rng.uniform(-1, 1, (TABLE, TABLE)).astype(np.float32)


def _random(i: np.ndarray, j: np.ndarray, seed: int) -> np.ndarray:
    """A random number from -1 to 1 for each cell (i, j)."""
    shift = derive_seed("cells", seed) % (TABLE * TABLE)
    return _table()[(i.astype(np.int64) + shift // TABLE) % TABLE, (j.astype(np.int64) + shift) % TABLE]


def _noise(
    u: np.ndarray, v: np.ndarray, cell: float | tuple[float, float], reach: np.ndarray | float, seed: int
) -> np.ndarray:
    """Smooth noise from -1 to 1 of a cell size in metres, faded where a pixel reaches over half a cell."""
    width, height = cell if isinstance(cell, tuple) else (cell, cell)
    x, y = u / width, v / height
    i, j = np.floor(x), np.floor(y)
    fx, fy = (x - i).astype(np.float32), (y - j).astype(np.float32)
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    shift = derive_seed("noise", seed) % (TABLE * TABLE)
    i = (i.astype(np.int64) + shift // TABLE) % TABLE
    j = (j.astype(np.int64) + shift) % TABLE
    i1, j1, table = (i + 1) % TABLE, (j + 1) % TABLE, _table()
    low = table[i, j] * (1 - fx) + table[i1, j] * fx
    high = table[i, j1] * (1 - fx) + table[i1, j1] * fx
    return (low * (1 - fy) + high * fy) * _seen(reach, min(width, height))


def _seen(reach: np.ndarray | float, size: float) -> np.ndarray:
    """1 where a pixel is small beside a detail of this size, falling to 0 where it covers one whole."""
    return np.clip(1.6 - 1.6 * np.asarray(reach, np.float32) / size, 0, 1)


def _pulse(x: np.ndarray, period: float, width: float, reach: np.ndarray) -> np.ndarray:
    """Share of a pixel that lies on bars of a width, one to a period, starting at 0: exact box filter."""
    reach = np.maximum(reach, 1e-4 * period)

    def covered(end: np.ndarray) -> np.ndarray:
        count = np.floor(end / period)
        return np.asarray(count * width + np.minimum(end - count * period, width))

    return (covered(x + reach / 2) - covered(x - reach / 2)) / reach


def _mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.asarray(a + (b - a) * share[:, None])


def _reach(patch: Patch) -> np.ndarray:
    return np.maximum(patch.du, patch.dv)


def _paint(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    mottle = _noise(patch.u, patch.v, 0.9, _reach(patch), seed)
    return np.asarray(tones[0] * (1 + 0.012 * mottle)[:, None])


def _plaster(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    return _grain((0.5, 0.05, 0.015), (0.25, 0.25, 0.3))(tones, patch, 1.0, seed)


def _stripes(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    return _mix(tones[0], tones[1], _pulse(patch.u, scale, scale / 2, patch.du))


def _dots(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    row = np.floor(patch.v / scale)
    x = (patch.u / scale + 0.5 * (row % 2)) % 1 - 0.5
    y = patch.v / scale - row - 0.5
    reach = _reach(patch) / scale
    radius = 0.22
    dot = np.clip((radius - np.hypot(x, y)) / np.maximum(reach, 0.02) + 0.5, 0, 1)
    clear = _seen(reach, 1.0)
    return _mix(tones[0], tones[1], dot * clear + np.pi * radius**2 * (1 - clear))


def _checks(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    a = 2 * _pulse(patch.u, 2 * scale, scale, patch.du) - 1
    b = 2 * _pulse(patch.v, 2 * scale, scale, patch.dv) - 1
    return _mix(tones[0], tones[1], 0.5 - 0.5 * a * b)


def _blocks(
    tones: Colours, patch: Patch, size: tuple[float, float], joint: float, stagger: float, vary: float, seed: int
) -> np.ndarray:
    """Rectangles in rows with joints of the second colour, each a little darker or lighter."""
    width, height = size
    row = np.floor(patch.v / height)
    u = patch.u + row * stagger * width
    gaps_v = _pulse(patch.v, height, joint, patch.dv)
    gaps_u = _pulse(u, width, joint, patch.du)
    tone = vary * _random(np.floor(u / width), row, seed) * _seen(_reach(patch), min(size))
    body = tones[0] * (1 + tone + 0.03 * _noise(patch.u, patch.v, 0.15 * width, _reach(patch), seed))[:, None]
    return _mix(body, tones[1], 1 - (1 - gaps_u) * (1 - gaps_v))


def _tiles(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    return _blocks(tones, patch, (scale, scale), min(0.006, 0.05 * scale), 0.0, 0.025, seed)


def _slabs(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    return _blocks(tones, patch, (1.5 * scale, scale), 0.01, 0.5, 0.07, seed)


def _bricks(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    return _blocks(tones, patch, (scale, scale / 3), 0.045 * scale, 0.5, 0.12, seed)


def _boards(
    u: np.ndarray, v: np.ndarray, du: np.ndarray, dv: np.ndarray, width: float, length: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two shares (N,) for boards along u: how dark each board and its grain is, and the gaps between boards."""
    row = np.floor(v / width)
    start = u + length * (0.5 + 0.5 * _random(row, row * 0 + 7, seed))
    board = np.floor(start / length)
    tone = 0.5 + 0.5 * _random(board, row, seed)
    reach = np.maximum(du, dv)
    grain = _noise(u + 3 * board, v + row * 0.37, (0.5, 0.018), reach, seed + 1)
    grain = grain + 0.6 * _noise(u + 5 * board, v + row * 0.53, (0.25, 0.007), reach, seed + 2)
    gap = 1 - (1 - _pulse(v, width, 0.0035, dv)) * (1 - _pulse(start, length, 0.003, du))
    return np.clip(0.5 + (tone - 0.5) * _seen(reach, width) + 0.18 * grain, -0.3, 1.4), gap


def _planks(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    dark, gap = _boards(patch.u, patch.v, patch.du, patch.dv, scale, 9 * scale, seed)
    return _mix(_mix(tones[0], tones[1], dark), tones[1] * 0.55, gap)


def _panels(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    dark, gap = _boards(patch.v, patch.u, patch.dv, patch.du, scale, 40 * scale, seed)
    return _mix(_mix(tones[0], tones[1], dark), tones[1] * 0.55, gap)


def _parquet(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    i, j = np.floor(patch.u / scale), np.floor(patch.v / scale)
    turned = (i + j) % 2 == 0
    u, v = np.where(turned, patch.v, patch.u), np.where(turned, patch.u, patch.v)
    du, dv = np.where(turned, patch.dv, patch.du), np.where(turned, patch.du, patch.dv)
    strip = np.floor(v / (scale / 4))
    reach = _reach(patch)
    dark = 0.5 + 0.45 * _random(strip + 17 * i, j * 13 + strip, seed) * _seen(reach, scale / 4)
    dark = dark + 0.15 * _noise(u + 3 * strip, v, (0.25, 0.01), reach, seed)
    gap = 1 - (1 - _pulse(v, scale / 4, 0.002, dv)) * (1 - _pulse(u, scale, 0.002, du))
    return _mix(_mix(tones[0], tones[1], dark), tones[1] * 0.6, gap)


def _grain(
    cells: tuple[float, ...], weights: tuple[float, ...], stretch: float = 1.0
) -> Callable[[Colours, Patch, float, int], np.ndarray]:
    """A material of noise between two tones; cells in units of `scale_m`, stretched along u."""

    def pattern(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
        reach = _reach(patch)
        total = np.full(len(patch.u), 0.5, np.float32)
        for octave, (cell, weight) in enumerate(zip(cells, weights, strict=True)):
            size = (cell * scale * stretch, cell * scale)
            total += weight * _noise(patch.u, patch.v, size, reach, seed + octave)
        return _mix(tones[0], tones[1], total)

    return pattern


def _grass(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    blades = _grain((0.5, 2, 12, 60), (0.7, 0.5, 0.35, 0.3))(tones, patch, scale, seed)
    return np.asarray(blades * (1 + 0.06 * _noise(patch.u, patch.v, 3.0, _reach(patch), seed + 9))[:, None])


def _asphalt(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    body = _grain((0.4, 1.5, 40), (0.7, 0.4, 0.5))(tones, patch, scale, seed)
    if len(tones) < 3:
        return body
    reach = _reach(patch)
    dashes = _pulse(patch.along + 1e3, 6.0, 3.0, reach)

    def bar(at: float) -> np.ndarray:
        return np.asarray(np.clip((0.06 - np.abs(patch.across - at)) / np.maximum(reach, 1e-3) + 0.5, 0, 1))

    edge = patch.width_m / 2 - 0.25
    return _mix(body, tones[2], np.clip(bar(0.0) * dashes + bar(-edge) + bar(edge), 0, 1) * 0.9)


def _marble(tones: Colours, patch: Patch, scale: float, seed: int) -> np.ndarray:
    reach = _reach(patch)
    bend = np.sum([_noise(patch.u, patch.v, scale / 2**k, reach, seed + k) / 2**k for k in range(4)], 0)
    clear = _seen(reach, scale)
    vein = np.exp(-np.abs(_noise(patch.u + 0.4 * scale * bend, patch.v, scale, 0.0, seed + 8)) * 14)
    vein = vein * clear + MEAN_VEIN * (1 - clear)
    return _mix(tones[0], tones[1], 0.35 * vein + 0.12 * bend)


PATTERNS: dict[str, Callable[[Colours, Patch, float, int], np.ndarray]] = {
    "paint": _paint,
    "plaster": _plaster,
    "stripes": _stripes,
    "dots": _dots,
    "checks": _checks,
    "tiles": _tiles,
    "slabs": _slabs,
    "bricks": _bricks,
    "planks": _planks,
    "panels": _panels,
    "parquet": _parquet,
    "concrete": _grain((1, 0.3, 0.08, 0.02), (0.5, 0.3, 0.2, 0.15)),
    "carpet": _grain((0.4, 1.2, 30), (0.45, 0.35, 0.25)),
    "asphalt": _asphalt,
    "gravel": _grain((1, 2.2, 25), (0.8, 0.4, 0.25)),
    "grass": _grass,
    "sand": _grain((0.5, 4, 60), (0.4, 0.4, 0.5), stretch=2.0),
    "snow": _grain((0.1, 1, 6), (0.15, 0.4, 0.6)),
    "hedge": _grain((1, 2.5, 10), (0.6, 0.45, 0.3)),
    "water": _grain((0.3, 1, 4), (0.3, 0.6, 0.4), stretch=3.0),
    "marble": _marble,
}
SKIES = {"sky": 0.0, "clouds": 0.5}  # how much of it is clouded
