"""Numbers on sets of crops and on edges: Fréchet and kernel distances with their floor, seams, background change."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import linalg

FRECHET_AT_LEAST = 2000
GROUPS = 20  # of the delete-a-group jackknife


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features.

    ||mu_a - mu_b||^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Heusel et al. 2017). Biased upwards for few samples: compare
    only sets of one size, and with the floor.

    Args:
        a, b: float (N, D), N > D.
    """
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    eigenvalues = linalg.eigvals(ca @ cb)
    root = float(np.sqrt(np.clip(eigenvalues.real, 0, None)).sum())
    return max(float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca) + np.trace(cb) - 2 * root), 0.0)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018).

    Args:
        a, b: float (N, D), on one scale.

    Returns:
        The distance (around 0, also below, for equal distributions) and its standard error by a delete-a-group
        jackknife, in which group i of both sets is left out: paired sets share what is hard about them.
    """
    count = min(len(a), len(b))
    a, b = a[:count].astype(np.float64), b[:count].astype(np.float64)
    kernels = [(x @ y.T / a.shape[1] + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
    groups = np.arange(count) % min(GROUPS, count // 2)
    whole = _mmd(kernels, np.ones(count, bool))
    parts = np.array([_mmd(kernels, groups != group) for group in range(groups.max() + 1)])
    error = np.sqrt((len(parts) - 1) / len(parts) * ((parts - parts.mean()) ** 2).sum())
    return whole, float(error)


def _mmd(kernels: list[np.ndarray], kept: np.ndarray) -> float:
    aa, bb, ab = (kernel[np.ix_(kept, kept)] for kernel in kernels)
    n = len(aa)
    within = (aa.sum() - np.trace(aa) + bb.sum() - np.trace(bb)) / (n * (n - 1))
    return float(within - 2 * ab.mean())


def local_distance(drawn: np.ndarray, real: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """How far crops of drawings are from crops of real pictures, with the real-against-real floor.

    Args:
        drawn: features of drawn objects, float (N, D).
        real: features of the same objects as they really look.
        other: features of other real objects; both are compared with these.

    Returns:
        `local_frechet` and `local_frechet_floor` from `FRECHET_AT_LEAST` crops on, else absent; `local_kernel` and
        `local_kernel_floor` with their 95 % intervals always. Empty for fewer than 8 crops.
    """
    count = min(len(drawn), len(real), len(other))
    if count < 8:
        return {}
    scale = other.std(axis=0) + 1e-6
    sets = [(x[:count] - other.mean(axis=0)) / scale for x in (drawn, real, other)]
    report: dict[str, Any] = {}
    for name, part in (("local_kernel", sets[0]), ("local_kernel_floor", sets[1])):
        value, error = kernel_distance(part, sets[2])
        report[name] = round(value, 5)
        report[f"{name}_interval"] = [round(value - 1.96 * error, 5), round(value + 1.96 * error, 5)]
    if count >= FRECHET_AT_LEAST:
        report["local_frechet"] = round(frechet_distance(sets[0], sets[2]), 4)
        report["local_frechet_floor"] = round(frechet_distance(sets[1], sets[2]), 4)
    return report


def edge_jump(picture: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute colour step between neighbouring pixels on either side of a mask's edge, colours in [0, 1].

    Args:
        picture: uint8 (H, W, 3).
        mask: bool (H, W); 0 when it has no edge.
    """
    colours, total, pairs = picture.astype(np.float32) / 255, 0.0, 0
    for axis in (0, 1):
        crosses = np.diff(mask.astype(np.int8), axis=axis) != 0
        total += float(np.abs(np.diff(colours, axis=axis)[crosses]).sum())
        pairs += int(crosses.sum()) * 3
    return total / pairs if pairs else 0.0


def normalised_change(before: np.ndarray, after: np.ndarray, where: np.ndarray) -> float:
    """Norm. L2-BG: L2 of the change over L2 of the picture before, over some pixels; 0 when there are none.

    Args:
        before, after: uint8 (H, W, 3).
        where: bool (H, W).
    """
    old, new = before[where].astype(np.float64), after[where].astype(np.float64)
    size = float((old**2).sum()) ** 0.5
    return float(((new - old) ** 2).sum()) ** 0.5 / size if size else 0.0
