"""From a soft view to a clean mask on the canvas: thin parts kept, specks dropped, nothing else repaired."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_fill_holes, binary_opening, label

from masker.windows import Window, to_canvas
from scene.geometry import Size

THIN_LEVEL = 0.25  # least soft value of a thin part that is kept
THIN_LIFT = 0.3  # what is added to it
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
    soft = to_canvas(view, window, size)
    return drop_specks(soft > threshold, speck_share)


def read_surface(view: np.ndarray, window: Window, size: Size, threshold: float) -> np.ndarray:
    """As `read_mask` for a surface (sky, grass): its largest part, without holes."""
    mask = to_canvas(view, window, size) > threshold
    return binary_fill_holes(_keep_large(mask, 1.0)) if mask.any() else mask
