"""Light: one key light with soft shadows, a sky above, light thrown back from the ground, and a little from the camera.

Everything is added up in linear light and shown with a plain power law, so that a shadow painted in black over a
finished picture darkens it exactly as less light would have: alpha = 1 - share_of_light ** (1 / GAMMA).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scene.corpus.home.textures import albedo
from scene.corpus.home.tracing import Coverage, Instance
from scene.corpus.home.view import View, dot, unit

GAMMA = 2.2
SHOULDER = 0.8  # brighter than this is compressed so that white things keep their shape
SPECULAR_GAIN = 0.22
CONTACT_M, CONTACT_GAIN = 0.06, 0.3  # how high and how strongly the ground darkens what stands on it


@dataclass(frozen=True, eq=False)
class Light:
    """Linear RGB strengths; a white wall that everything reaches comes out near 1.

    Attributes:
        direction: unit vector towards the key light, world frame.
        spread_deg: half angle of the key light: how soft its shadows are.
        key, sky, ground, camera: float64 (3,).
    """

    direction: np.ndarray
    spread_deg: float
    key: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    camera: np.ndarray

    @classmethod
    def of(cls, direction: tuple[float, float, float], outdoors: bool) -> Light:
        """Sunlight outdoors; indoors a weaker key light and more of the light that walls throw back."""
        towards = np.array(direction, float)
        towards /= np.linalg.norm(towards)
        if outdoors:
            strengths = (0.84, 0.80, 0.70), (0.33, 0.37, 0.43), (0.20, 0.20, 0.17), (0.04, 0.04, 0.04)
        else:
            strengths = (0.46, 0.44, 0.40), (0.56, 0.56, 0.56), (0.47, 0.46, 0.44), (0.14, 0.14, 0.14)
        return cls(towards, 3.0 if outdoors else 7.0, *(np.array(strength) for strength in strengths))

    def ambient(self, normals: np.ndarray) -> np.ndarray:
        """Light (N, 3) from sky and ground on surfaces with these normals (N, 3)."""
        upwards = (0.5 + 0.5 * normals[..., 2:]).astype(np.float32)
        return upwards * self.sky.astype(np.float32) + (1 - upwards) * self.ground.astype(np.float32)

    def incidence(self, normals: np.ndarray) -> np.ndarray:
        """Cosine of the key light (N,), 0 where it comes from behind."""
        return np.maximum(normals @ self.direction.astype(np.float32), 0)


def linear(displayed: np.ndarray) -> np.ndarray:
    """Linear light of displayed colours, both 0 to 1."""
    return displayed**GAMMA


def displayed(light: np.ndarray) -> np.ndarray:
    """uint8 colours of linear light, highlights compressed."""
    over = np.maximum(light - SHOULDER, 0)
    room = 1 - SHOULDER
    light = np.where(over > 0, SHOULDER + room * over / (over + room), light)
    return np.rint(255 * np.clip(light, 0, 1) ** (1 / GAMMA)).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Points:
    """Where fragments lie in the world, float32.

    Attributes:
        position, normal, toward: (F, 3), metres; unit normal on the viewer's side; unit vector to the camera.
    """

    position: np.ndarray
    normal: np.ndarray
    toward: np.ndarray


def world_points(instance: Instance, view: View, coverage: Coverage) -> Points:
    """Positions and interpolated normals of all fragments of a coverage."""
    fragments, mesh = coverage.fragments, instance.mesh
    corners = mesh.vertices[mesh.faces[fragments.face]]
    position = instance.to_world(np.einsum("fkc,fk->fc", corners, fragments.bary)).astype(np.float32)
    toward = unit(view.position.astype(np.float32) - position)
    rotation = instance.rotation.T.astype(np.float32)
    flat = fragments.normal @ rotation
    normal = unit(np.einsum("fkc,fk->fc", mesh.normals[fragments.face], fragments.bary)) @ rotation
    normal *= np.sign(dot(flat, normal) * dot(flat, toward))[:, None]
    lost = np.flatnonzero(dot(normal, normal) < 0.5)
    normal[lost] = toward[lost]
    return Points(position, normal, toward)


def shade(
    instance: Instance, view: View, coverage: Coverage, points: Points, light: Light, reach: np.ndarray
) -> np.ndarray:
    """The object's picture.

    Args:
        instance, view, coverage, points: what is seen, and where it lies.
        light: what shines.
        reach: float32 (h, w, 2), shares of the key light and of the sky that reach each pixel.

    Returns:
        uint8 (h, w, 4), alpha = the coverage.
    """
    fragments, mesh = coverage.fragments, instance.mesh
    material = mesh.material[fragments.face]
    uv = np.einsum("fkc,fk->fc", mesh.uvs[fragments.face], fragments.bary)
    facing = np.maximum(dot(points.normal, points.toward), 0.15)
    pixel_m = fragments.depth / view.focal_px / instance.placed.scale / np.sqrt(facing)
    colour = linear(albedo(mesh, instance.colours, material, uv, mesh.texel_density[fragments.face] * pixel_m))
    sun, openness = reach.reshape(-1, 2)[fragments.pixel].T
    if instance.placed.support in ("floor", "object"):
        height = np.maximum(points.position[:, 2] - instance.placed.position[2], 0)
        openness = openness * (1 - CONTACT_GAIN * np.exp(-height / CONTACT_M) * (0.5 - 0.5 * points.normal[:, 2]))
    incident = light.ambient(points.normal) * openness[:, None]
    incident += (light.incidence(points.normal) * sun)[:, None] * light.key.astype(np.float32)
    incident += facing[:, None] * light.camera.astype(np.float32)
    half = unit(points.toward + light.direction.astype(np.float32))
    gloss = np.clip(dot(points.normal, half), 0, 1) ** np.clip(mesh.shininess[material], 8, 120)
    emitted = colour * incident + (SPECULAR_GAIN * mesh.specular[material] * gloss * sun)[:, None]
    height_px, width_px = coverage.alpha.shape
    total = np.stack(
        [
            np.bincount(fragments.pixel, emitted[:, channel] * fragments.weight, minlength=height_px * width_px)
            for channel in range(3)
        ],
        -1,
    ).reshape(height_px, width_px, 3)
    rgb = displayed(total / np.maximum(coverage.alpha, 1e-3)[..., None])
    return np.dstack([rgb, np.rint(255 * coverage.alpha).astype(np.uint8)])
