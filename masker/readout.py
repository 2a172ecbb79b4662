"""From a soft view to a clean mask on the canvas: thin parts kept, specks dropped, nothing else repaired."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_fill_holes, binary_opening, label, maximum_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from masker.windows import Window, to_canvas
from scene.geometry import Size

THIN_LEVEL = 0.25  # least soft value of a thin part that is kept
THIN_LIFT = 0.3  # what is added to it
FAINT_LEVEL = 0.1  # parts of one object hang together along cells above this
BRIDGE_SHARE = 0.6  # of the faint part's own height: what beside its ridge belongs to it
SMALLEST_PART = 4  # cells; smaller ones are not worth a bridge
LIFT_CELL_PX = 3.0  # finer cells show thin parts by themselves, and soft edges several cells wide
EIGHT = np.ones((3, 3), dtype=bool)


def lift_thin_parts(view: np.ndarray, threshold: float) -> np.ndarray:
    """Raises thin parts, so that the threshold does not cut them into dots.

    A string half a cell wide covers its cells by half or less. Cells above `THIN_LEVEL` are lifted unless
    they are part of, or touch, something at least two cells wide: solid shapes keep their exact outline.

    Args:
        view: float32 (R, R) in [0, 1].
        threshold: The readout's threshold.

    Returns:
        float32 (R, R) in [0, 1]; never below `view`.
    """
    solid = binary_opening(view > threshold, structure=np.ones((2, 2), dtype=bool))
    thin = (view > THIN_LEVEL) & ~binary_dilation(solid, structure=EIGHT)
    return np.where(thin, np.minimum(view + THIN_LIFT, 1.0), view).astype(np.float32)


def bridge_parts(view: np.ndarray, threshold: float) -> np.ndarray:
    """Joins parts of an object that hang together by something faint: a lamp's stem, a bicycle's frame.

    A thin part that the model is not sure of stays under the threshold, and what it carries would float. The surest way
    from part to part, all of it above `FAINT_LEVEL`, is raised over the threshold, as wide as it is faintly seen.

    Args:
        view: float32 (R, R) in [0, 1].
        threshold: The readout's threshold.

    Returns:
        float32 (R, R) in [0, 1]; never below `view`, and `view` itself where there is nothing to join.
    """
    parts, count = label(view > threshold, structure=EIGHT)
    if count < 2:
        return view
    faint = view > FAINT_LEVEL
    number = np.cumsum(faint).reshape(faint.shape) - 1
    part_of = parts[faint]
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    wanted = {part for part in range(1, count + 1) if sizes[part] >= SMALLEST_PART}
    if len(wanted) < 2:
        return view
    ways = _ways(view, faint, number)
    joined = {max(wanted, key=lambda part: int(sizes[part]))}
    ridge = np.zeros(len(part_of), dtype=bool)
    while wanted - joined:
        inside = np.nonzero(np.isin(part_of, list(joined)))[0]
        far, before, _ = dijkstra(ways, directed=False, indices=inside, return_predecessors=True, min_only=True)
        others = np.nonzero(np.isin(part_of, list(wanted - joined)) & np.isfinite(far))[0]
        if not len(others):
            break
        node = int(others[far[others].argmin()])
        joined.add(int(part_of[node]))
        while node >= 0:
            ridge[node] = True
            node = int(before[node])
    path = np.zeros_like(faint)
    path[faint] = ridge
    height = maximum_filter(np.where(path, view, 0), size=3)
    grown = (height > 0) & (view > BRIDGE_SHARE * height)
    return np.where(path | grown, np.maximum(view, min(threshold + 0.1, 1.0)), view).astype(np.float32)


def _ways(view: np.ndarray, faint: np.ndarray, number: np.ndarray) -> coo_array:
    """Graph of the faint cells: neighbours, eight a cell, at a cost that falls with how sure both are."""
    rows, columns, costs = [], [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        height, width = faint.shape
        here = (slice(0, height - down), slice(max(-right, 0), width - max(right, 0)))
        there = (slice(down, height), slice(max(right, 0), width - max(-right, 0)))
        both = faint[here] & faint[there]
        rows.append(number[here][both])
        columns.append(number[there][both])
        doubt = 1.05 - np.minimum(view[here][both], view[there][both])
        costs.append(doubt * np.hypot(down, right))
    count = int(faint.sum())
    entries = (np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns)))
    return coo_array(entries, shape=(count, count)).tocsr()


def drop_specks(mask: np.ndarray, share: float) -> np.ndarray:
    """Drops 8-connected components smaller than `share` of the largest; holes of that size are filled.

    Args:
        mask: bool (H, W).
        share: 0 to 1; 0 keeps all.

    Returns:
        bool (H, W).
    """
    kept = _keep_large(mask, share)
    if not kept.any():
        return kept
    holes, count = label(~kept)
    if count <= 1:
        return kept
    areas = np.bincount(holes.ravel())
    small = areas < share * 0.25 * kept.sum()
    small[0] = False
    return kept | small[holes]


def _keep_large(mask: np.ndarray, share: float) -> np.ndarray:
    parts, count = label(mask, structure=EIGHT)
    if count <= 1:
        return mask.copy()
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return (areas >= share * areas.max())[parts] & mask


def read_mask(view: np.ndarray, window: Window, size: Size, threshold: float, speck_share: float) -> np.ndarray:
    """The object's mask on the canvas.

    Args:
        view: Soft mask, float32 (R, R) in [0, 1].
        window: Where the view lies.
        size: Canvas.
        threshold: Above this is the object.
        speck_share: See `drop_specks`.

    Returns:
        bool (H, W); may be empty.
    """
    if window.side / len(view) > LIFT_CELL_PX:
        view = lift_thin_parts(view, threshold)
    view = bridge_parts(view, threshold)
    soft = to_canvas(view, window, size)
    return drop_specks(soft > threshold, speck_share)


def read_surface(view: np.ndarray, window: Window, size: Size, threshold: float) -> np.ndarray:
    """As `read_mask` for a surface (sky, grass): its largest part, without holes."""
    mask = to_canvas(view, window, size) > threshold
    return binary_fill_holes(_keep_large(mask, 1.0)) if mask.any() else mask
