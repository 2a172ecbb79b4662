"""Square views of the canvas: what the mask model sees, and the way back to the canvas.

The network has one input geometry, a square of `resolution` x `resolution` cells. The whole canvas is
the smallest centred square that holds it (letterboxed); a window is a smaller square round an object.
One network serves both, so that running it again on a window ("zoom refinement") is in distribution.

A view may reach beyond the canvas. Whoever samples a view says what lies there: layouts are empty,
guides are 0, and `inside_view` tells the network which cells are canvas at all.

Frame: canvas pixels, origin at the top left corner of the canvas, pixel i covers [i, i + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scene.geometry import Box, Size


@dataclass(frozen=True)
class Window:
    """A square view. `x0`, `y0`: its top left corner in canvas px (may be negative); `side`: px."""

    x0: float
    y0: float
    side: float

    def centers(self, resolution: int, supersample: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Canvas coordinates of the cell centres along each axis.

        Args:
            resolution: Cells along one side.
            supersample: Sampling points per cell and axis.

        Returns:
            xs, ys: float64 (resolution * supersample,), canvas px.
        """
        n = resolution * supersample
        steps = (np.arange(n) + 0.5) * (self.side / n)
        return self.x0 + steps, self.y0 + steps


def canvas_window(size: Size) -> Window:
    """The smallest centred square that holds the whole canvas."""
    side = float(max(size.width, size.height))
    return Window((size.width - side) / 2, (size.height - side) / 2, side)


def window_round(box: Box, factor: float, size: Size, shift: tuple[float, float] = (0.0, 0.0)) -> Window:
    """A square window round a box.

    Args:
        box: Canvas px.
        factor: Side of the window over the longer side of the box.
        size: Canvas; a window is never larger than the canvas window.
        shift: Offset of the window's centre from the box's, as a fraction of the free margin on that
            axis: -1 puts the box against one edge, 1 against the other.

    Returns:
        The window; at least 32 px wide, so that a two-pixel object still has surroundings.
    """
    longer = max(box.width, box.height)
    side = float(np.clip(longer * factor, 32.0, max(size.width, size.height)))
    margin_x, margin_y = max(side - box.width, 0.0) / 2, max(side - box.height, 0.0) / 2
    center_x = (box.x0 + box.x1) / 2 + shift[0] * margin_x
    center_y = (box.y0 + box.y1) / 2 + shift[1] * margin_y
    return Window(center_x - side / 2, center_y - side / 2, side)


def sample_cells(
    values: np.ndarray,
    window: Window,
    resolution: int,
    *,
    origin: tuple[float, float] = (0.0, 0.0),
    outside: float = 0.0,
    clamp: Size | None = None,
) -> np.ndarray:
    """Nearest-pixel samples of an array at the cell centres of a view.

    Args:
        values: (H, W), any dtype.
        window: The view.
        resolution: Cells along one side.
        origin: Canvas px of the array's top left corner.
        outside: What lies beyond the array.
        clamp: Repeat the canvas's border beyond a canvas of this size (surfaces go on there).

    Returns:
        (resolution, resolution), dtype of `values`.
    """
    xs, ys = window.centers(resolution)
    return _lookup(values, xs, ys, origin, outside, clamp)


def sample_coverage(
    values: np.ndarray,
    window: Window,
    resolution: int,
    *,
    supersample: int = 4,
    origin: tuple[float, float] = (0.0, 0.0),
    clamp: Size | None = None,
) -> np.ndarray:
    """Mean of an array over each cell of a view (area sampling: a mask keeps its sub-cell boundary).

    Args:
        values: (H, W), bool or float in [0, 1].
        supersample: Sampling points per cell and axis.

    Returns:
        float32 (resolution, resolution) in [0, 1]. Other arguments as in `sample_cells`.
    """
    xs, ys = window.centers(resolution, supersample)
    dense = _lookup(values, xs, ys, origin, 0.0, clamp).astype(np.float32)
    return dense.reshape(resolution, supersample, resolution, supersample).mean(axis=(1, 3))


def _lookup(
    values: np.ndarray,
    xs: np.ndarray,
    ys: np.ndarray,
    origin: tuple[float, float],
    outside: float,
    clamp: Size | None,
) -> np.ndarray:
    height, width = values.shape
    if clamp is not None:
        xs, ys = xs.clip(0, clamp.width - 1), ys.clip(0, clamp.height - 1)
    columns = np.floor(xs - origin[0]).astype(np.intp)
    rows = np.floor(ys - origin[1]).astype(np.intp)
    picked = values[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    valid = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None, :]
    return np.where(valid, picked, np.asarray(outside, dtype=values.dtype))


def inside_view(window: Window, size: Size, resolution: int) -> np.ndarray:
    """Share of each cell that lies on the canvas, float32 (resolution, resolution)."""

    def overlap(start: float, extent: int) -> np.ndarray:
        edges = start + np.arange(resolution + 1) * (window.side / resolution)
        held = np.clip(edges, 0.0, float(extent))
        return (held[1:] - held[:-1]) / (window.side / resolution)

    return np.outer(overlap(window.y0, size.height), overlap(window.x0, size.width)).astype(np.float32)


def geometry_channels(window: Window, size: Size, resolution: int) -> np.ndarray:
    """Where a view lies, for the network.

    Returns:
        float32 (4, resolution, resolution): share inside the canvas [0, 1]; canvas x and y of the cell
        centres, -1 at one canvas edge and 1 at the other; log2(view side / canvas window side), <= 0.
    """
    xs, ys = window.centers(resolution)
    scale = np.log2(window.side / max(size.width, size.height))
    shape = (resolution, resolution)
    return np.stack(
        [
            inside_view(window, size, resolution),
            np.broadcast_to(2 * xs / size.width - 1, shape),
            np.broadcast_to((2 * ys / size.height - 1)[:, None], shape),
            np.full(shape, scale),
        ]
    ).astype(np.float32)


def to_canvas(view: np.ndarray, window: Window, size: Size) -> np.ndarray:
    """A soft view laid back on the canvas, bilinear between cell centres.

    Args:
        view: float32 (R, R), cell values.
        window: Where the view lies.
        size: Canvas.

    Returns:
        float32 (H, W); 0 outside the view.
    """
    resolution = view.shape[0]
    cell = window.side / resolution

    def taps(start: float, extent: int) -> tuple[slice, np.ndarray, np.ndarray, np.ndarray]:
        """Canvas pixels that lie in the view, the two cells each lies between, and how near it is to the second."""
        position = (np.arange(extent) + 0.5 - start) / cell - 0.5
        inside = np.flatnonzero((position > -0.5) & (position < resolution - 0.5))
        span = slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)
        lower = np.floor(position[span]).astype(np.intp)
        fraction = (position[span] - lower).astype(np.float32)
        return span, lower.clip(0, resolution - 1), (lower + 1).clip(0, resolution - 1), fraction

    down, top, bottom, below = taps(window.y0, size.height)
    across, left, right, beyond = taps(window.x0, size.width)
    rows = view[top] * (1 - below)[:, None] + view[bottom] * below[:, None]
    canvas = np.zeros(size.shape, dtype=np.float32)
    canvas[down, across] = rows[:, left] * (1 - beyond) + rows[:, right] * beyond
    return canvas
