"""The four forms of spatial guidance as training draws them from a true mask, in a view's cells.

People's guides come from `scene.guidance.Guidance`; these are their noisy twins: jittered boxes, Gaussian
blobs round a jittered centre, and elastically disturbed dilations. Source: design note smartmask.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates, zoom

from masker.windows import Window

if TYPE_CHECKING:
    from masker.config import ExamplesConfig

GuideForm = Literal["none", "box", "blob", "scribble"]
FORMS: tuple[GuideForm, ...] = ("none", "box", "blob", "scribble")

DISTANCE_REACH = 0.3  # over sqrt(area)
SCRIBBLE_CELLS = 128  # most cells a side on which training scribbles are drawn

FloatBox = tuple[float, float, float, float]

# A blob of sigma r * side (r = 0.375 on average in training) falls to this level at the object's box.
GUIDE_BOX_LEVEL = 0.41
BLOB_REACH = float(np.sqrt(-2 * np.log(GUIDE_BOX_LEVEL)))  # sigmas from a blob's centre to that level


def jittered_box(box: FloatBox, jitter: float, rng: np.random.Generator) -> FloatBox:
    """Each edge moves by up to `jitter` of its side, uniformly. Canvas px."""
    x0, y0, x1, y1 = box
    dx, dy = jitter * (x1 - x0), jitter * (y1 - y0)
    shift = rng.uniform(-1, 1, 4)
    return x0 + shift[0] * dx, y0 + shift[1] * dy, x1 + shift[2] * dx, y1 + shift[3] * dy


def box_cells(box: FloatBox, window: Window, resolution: int) -> np.ndarray:
    """A box seen in a view: the share of each cell inside it, float32 (R, R) in [0, 1]."""
    cell = window.side / resolution

    def overlap(start: float, low: float, high: float) -> np.ndarray:
        edges = (start + np.arange(resolution + 1) * cell).clip(low, high)
        return (edges[1:] - edges[:-1]) / cell

    return np.outer(overlap(window.y0, box[1], box[3]), overlap(window.x0, box[0], box[2])).astype(np.float32)


def blob_cells(center: tuple[float, float], sigma: tuple[float, float], window: Window, resolution: int) -> np.ndarray:
    """exp(-1/2 [((x - mu_x) / s_x)^2 + ((y - mu_y) / s_y)^2]) at the cell centres, float32 (R, R). Canvas px."""
    xs, ys = window.centers(resolution)
    x = np.exp(-0.5 * ((xs - center[0]) / sigma[0]) ** 2)
    y = np.exp(-0.5 * ((ys - center[1]) / sigma[1]) ** 2)
    return np.outer(y, x).astype(np.float32)


def dilate_cells(
    mask: np.ndarray, radius_frac: float, noise_frac: float = 0.0, rng: np.random.Generator | None = None
) -> np.ndarray:
    """A scribble: the mask dilated by a share of sqrt(area), its outline bent by smooth noise.

    Args:
        mask: float32 (R, R), coverage in [0, 1].
        radius_frac: Dilation over sqrt(area of the mask).
        noise_frac: Amplitude of the elastic displacement over sqrt(area); 0 = none.
        rng: Needed where `noise_frac` is above 0.

    Returns:
        float32 (R, R) in [0, 1], one cell wide soft edge; all 0 for an empty mask.
    """
    solid = mask > 0.5
    if not solid.any():
        solid = mask > 0
        if not solid.any():
            return np.zeros_like(mask, dtype=np.float32)
    scale = float(np.sqrt(mask.sum()))
    outside = distance_transform_edt(~solid).astype(np.float32)
    inside = distance_transform_edt(solid).astype(np.float32)
    signed = np.where(solid, 0.5 - inside, outside - 0.5)
    if noise_frac > 0:
        if rng is None:
            raise ValueError("dilate_cells needs rng when noise_frac is above 0")
        resolution = mask.shape[0]
        knots = rng.normal(0, noise_frac * scale, (2, 6, 6))
        shift = [zoom(field, resolution / 6, order=1, grid_mode=True, mode="nearest") for field in knots]
        grid = np.mgrid[0:resolution, 0:resolution].astype(np.float32)
        signed = map_coordinates(signed, grid + np.stack(shift), order=1, mode="nearest")
    return (0.5 + radius_frac * scale - signed).clip(0, 1).astype(np.float32)


def signed_distance(guide: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Distance to a guide's outline, positive inside it: eroding a scribble is a threshold on it.

    Beyond the canvas the guide goes on as at the edge, since an object that the canvas cuts has no outline there.

    Args:
        guide: float32 (S, S) in [0, 1]; its outline is where it passes half of its maximum.
        inside: Share of each cell on the canvas, float32 (S, S).

    Returns:
        float32 (S, S): distance over sqrt(area of the guide), in units of `DISTANCE_REACH` and cut at -1 and 1; all 0
        without a guide.
    """
    solid = continued(guide, inside)
    if solid is None:
        return np.zeros_like(guide, dtype=np.float32)
    if solid.all() or not solid.any():
        return np.full_like(guide, 1.0 if solid.all() else -1.0, dtype=np.float32)
    signed = np.where(solid, distance_transform_edt(solid) - 0.5, 0.5 - distance_transform_edt(~solid))
    reach = DISTANCE_REACH * float(np.sqrt(solid.sum()))
    return (signed / reach).clip(-1, 1).astype(np.float32)


def continued(guide: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
    """Where a guide is above half of its maximum, bool (S, S), going on beyond the canvas as at its edge.

    Args:
        guide: float32 (S, S) in [0, 1].
        inside: Share of each cell on the canvas, float32 (S, S).

    Returns:
        None without a guide, or without a canvas.
    """
    solid = guide >= 0.5 * max(float(guide.max()), 1e-6)
    rows, columns = np.flatnonzero(inside.max(axis=1) > 0.5), np.flatnonzero(inside.max(axis=0) > 0.5)
    if not guide.any() or not len(rows) or not len(columns):
        return None
    steps = np.arange(len(guide))
    return np.asarray(solid[steps.clip(rows[0], rows[-1])][:, steps.clip(columns[0], columns[-1])])


@dataclass(frozen=True)
class DrawnGuide:
    """One drawn guide, before any view is chosen. Canvas px.

    Attributes:
        form: Which form.
        extent: Box that the guide speaks of, what `guide_box` reads off its map; None without a guide.
        center, sigma: Of a blob.
        radius_frac: Of a scribble: dilation over sqrt(area).
    """

    form: GuideForm
    extent: FloatBox | None = None
    center: tuple[float, float] = (0.0, 0.0)
    sigma: tuple[float, float] = (1.0, 1.0)
    radius_frac: float = 0.0

    def cells(self, target: np.ndarray, window: Window, config: ExamplesConfig, rng: np.random.Generator) -> np.ndarray:
        """G_obj in a view, float32 (F, F) in [0, 1].

        Args:
            target: Coverage of the amodal mask in the view, float32 (F, F); scribbles are drawn round it.
            window: The view.
            config: Elastic noise of scribbles.
            rng: Source of that noise.
        """
        resolution = target.shape[0]
        if self.form == "scribble":
            # Distances on fewer cells, then interpolated: a tenth of the time, and a hand is no finer.
            step = max(resolution // SCRIBBLE_CELLS, 1)
            cells = target.reshape(resolution // step, step, resolution // step, step).mean(axis=(1, 3))
            drawn = dilate_cells(cells, self.radius_frac, config.scribble_noise, rng)
            return zoom(drawn, step, order=1, grid_mode=True, mode="nearest") if step > 1 else drawn
        if self.form == "blob":
            return blob_cells(self.center, self.sigma, window, resolution)
        if self.extent is not None:
            return box_cells(self.extent, window, resolution)
        return np.zeros_like(target)


def draw_guide(
    form: GuideForm,
    box: FloatBox,
    centroid: tuple[float, float],
    area_px: float,
    config: ExamplesConfig,
    rng: np.random.Generator,
) -> DrawnGuide:
    """A guide of one form for a training example.

    Args:
        form: Which form.
        box: Box of the amodal mask on the canvas, canvas px.
        centroid: Its centre of mass, canvas px.
        area_px: Its area.
        config: Ranges of the draws.
        rng: Source of all draws.
    """
    if form == "none":
        return DrawnGuide(form)
    if form == "box":
        return DrawnGuide(form, jittered_box(box, config.box_jitter, rng))
    if form == "blob":
        width, height = box[2] - box[0], box[3] - box[1]
        jitter = rng.uniform(-config.blob_jitter, config.blob_jitter, 2)
        ratio = rng.uniform(*config.blob_sigma)
        x, y = centroid[0] + jitter[0] * width, centroid[1] + jitter[1] * height
        sigma_x, sigma_y = max(ratio * width, 1.0), max(ratio * height, 1.0)
        reach_x, reach_y = BLOB_REACH * sigma_x, BLOB_REACH * sigma_y
        return DrawnGuide(form, (x - reach_x, y - reach_y, x + reach_x, y + reach_y), (x, y), (sigma_x, sigma_y))
    radius = rng.uniform(*config.scribble_radius)
    grown = radius * float(np.sqrt(area_px))
    extent = (box[0] - grown, box[1] - grown, box[2] + grown, box[3] + grown)
    return DrawnGuide(form, extent, radius_frac=radius)
