"""What a camera sees: rays through pixels, and where points land on the canvas.

Canvas coordinates are in pixels, x to the right and y downwards; pixel (i, j) covers j to j + 1 and i to i + 1. Depth
is measured along the camera's axis, in metres, so that a ray's parameter is the depth of the point it reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scene.corpus.home.plan import Camera
from scene.errors import UserError
from scene.geometry import Size

NEAR_M = 0.05
# Four points of a pixel, no two in one row or column: near-vertical and near-horizontal edges get four steps.
SAMPLES = np.array([[0.375, 0.125], [0.875, 0.375], [0.125, 0.625], [0.625, 0.875]])


@dataclass(frozen=True, eq=False)
class View:
    """A camera with its canvas.

    Attributes:
        size: canvas.
        position: float64 (3,), metres.
        right, up, forward: float64 (3,), orthonormal.
        focal_px: pixels to the unit of slope.
    """

    size: Size
    position: np.ndarray
    right: np.ndarray
    up: np.ndarray
    forward: np.ndarray
    focal_px: float

    @classmethod
    def of(cls, camera: Camera, size: Size) -> View:
        """The view of a plan's camera.

        Raises:
            UserError: the camera looks nowhere, straight up or down, or its angle is out of range.
        """
        position = np.array(camera.position, float)
        forward = np.array(camera.target, float) - position
        right = np.cross(forward, (0.0, 0.0, 1.0))
        if np.linalg.norm(right) < 1e-9 or not 1 <= camera.fov_deg <= 150:
            raise UserError(
                f"camera at {camera.position} towards {camera.target}, {camera.fov_deg} degrees: "
                "it must look sideways, with a field of view of 1 to 150 degrees"
            )
        forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
        focal_px = size.width / 2 / float(np.tan(np.deg2rad(camera.fov_deg) / 2))
        return cls(size, position, right, np.cross(right, forward), forward, focal_px)

    def slopes(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sideways and upwards slope of the rays through canvas points."""
        return (x - self.size.width / 2) / self.focal_px, (self.size.height / 2 - y) / self.focal_px

    def directions(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Ray directions (..., 3) through canvas points, one metre of depth long."""
        across, upwards = self.slopes(x, y)
        return self.forward + across[..., None] * self.right + upwards[..., None] * self.up

    def pixel_rays(self) -> np.ndarray:
        """Rays through all pixel centres, float64 (H, W, 3)."""
        x, y = np.meshgrid(np.arange(self.size.width) + 0.5, np.arange(self.size.height) + 0.5)
        return self.directions(x, y)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Canvas x, y and depth (..., 3) of world points; only meaningful where depth is above `NEAR_M`."""
        offset = points - self.position
        depth = offset @ self.forward
        scale = self.focal_px / np.maximum(depth, NEAR_M)
        x = self.size.width / 2 + offset @ self.right * scale
        y = self.size.height / 2 - offset @ self.up * scale
        return np.stack([x, y, depth], -1)


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products (...) of vectors (..., 3); faster than a sum over so short an axis."""
    return np.einsum("...i,...i->...", a, b)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at length 1; those without length stay 0."""
    return vectors / np.maximum(np.sqrt(dot(vectors, vectors)), 1e-30)[..., None]
