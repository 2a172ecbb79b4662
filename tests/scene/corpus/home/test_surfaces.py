"""Materials: named, seeded, within range, right up close and calm in the distance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scene.corpus.home.plan import Material
from scene.corpus.home.surfaces import PATTERNS, SKIES, Patch, _pulse, colour, sky_colour
from scene.errors import UserError

TONES = ((200, 120, 40), (40, 60, 160))
PLAIN = {"paint"}


def _patch(reach_m: float, side_m: float = 6.0, count: int = 100) -> Patch:
    u, v = (axis.ravel() for axis in np.meshgrid(*(np.linspace(0.013, side_m, count),) * 2))
    reach = np.full(u.shape, reach_m)
    return Patch(u, v, reach, reach, u - side_m / 2, v - side_m / 2, side_m)


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_material_is_seeded_and_within_range(kind: str) -> None:
    material = Material(kind, TONES, 0.3)
    shown = colour(material, _patch(0.001), seed=5)
    assert shown.shape == (10000, 3) and shown.dtype == np.float32
    assert shown.min() >= 0 and shown.max() <= 1
    assert np.array_equal(shown, colour(material, _patch(0.001), seed=5))
    if kind not in PLAIN:
        assert shown.std(0).max() > 0.01  # there is something to see


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_material_is_calm_in_the_distance_and_keeps_its_mean(kind: str) -> None:
    near, far = (colour(Material(kind, TONES, 0.1), _patch(reach, 97.3), seed=1) for reach in (0.0005, 60.0))
    assert far.std(0).max() < 0.012, "flickers where a pixel covers many cells"
    assert far.mean(0) == pytest.approx(near.mean(0), abs=0.06)


@given(
    st.floats(-5, 5), st.floats(0.1, 2.0), st.floats(0.05, 0.95), st.floats(0.001, 3.0)
)  # fmt: skip
def test_a_bar_is_averaged_over_the_pixel(x: float, period: float, share: float, reach: float) -> None:
    inside = np.linspace(x - reach / 2, x + reach / 2, 20001)
    expected = np.mean((inside % period) < share * period)
    assert _pulse(np.array([x]), period, share * period, np.array([reach]))[0] == pytest.approx(expected, abs=2e-3)


def test_squares_alternate() -> None:
    at = np.array([0.15, 0.45, 0.75])
    u, v = (axis.ravel() for axis in np.meshgrid(at, at))
    reach = np.full(9, 0.001)
    shown = colour(Material("checks", ((250, 250, 250), (10, 10, 10)), 0.3), Patch(u, v, reach, reach, u, v, 1.0), 0)
    assert (shown[:, 0] > 0.5).reshape(3, 3).tolist() == [
        [True, False, True],
        [False, True, False],
        [True, False, True],
    ]


def test_lane_marks_lie_in_the_middle_of_the_road() -> None:
    along = np.linspace(0, 12, 400)
    zeros, reach = np.zeros(400), np.full(400, 0.01)

    def marked(across: float) -> float:
        patch = Patch(along, zeros + across, reach, reach, zeros + across, along, 6.0)
        shown = colour(Material("asphalt", ((80, 80, 84), (70, 70, 74), (255, 255, 255)), 0.03), patch, 0)
        return float((shown[:, 0] > 0.7).mean())

    assert marked(0.0) == pytest.approx(0.5, abs=0.02)  # dashed
    assert marked(1.0) == 0.0
    assert marked(2.75) == 1.0


def test_the_sky_fades_to_the_horizon_and_clouds_whiten_it() -> None:
    rays = np.array([[0.0, 1.0, 0.001], [0.0, 0.01, 1.0]])
    clear = sky_colour(Material("sky", ((100, 150, 220), (220, 230, 240))), rays, 3)
    assert 255 * clear == pytest.approx(np.array([[220, 230, 240], [100, 150, 220]]), abs=2)
    x, z = (axis.ravel() for axis in np.meshgrid(np.linspace(-1, 1, 60), np.linspace(0.05, 0.7, 60)))
    rays = np.stack([x, np.ones_like(x), z], 1)
    both = [sky_colour(Material(kind, ((100, 150, 220), (220, 230, 240))), rays, 3) for kind in SKIES]
    assert (both[1] - both[0])[:, 0].max() > 0.2
    assert 0.05 < ((both[1] - both[0])[:, 0] > 0.1).mean() < 0.95


def test_an_unknown_material_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no material 'velvet'; allowed are asphalt"):
        colour(Material("velvet", TONES), _patch(0.01), 0)
    with pytest.raises(UserError, match="no sky 'velvet'"):
        sky_colour(Material("velvet", TONES), np.ones((3, 3)), 0)
