"""Distances between sets of crops, edges and backgrounds: right in cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from inpainter.measures import edge_jump, frechet_distance, kernel_distance, local_distance, normalised_change


def normal(count: int, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (count, 8))


def test_frechet_distance_of_known_gaussians() -> None:
    assert frechet_distance(normal(4000), normal(4000)) == pytest.approx(0, abs=1e-6)
    # 8 (mean 1)^2 + 8 (2 - 1)^2
    assert frechet_distance(normal(40000), normal(40000, 1.0, 2.0, seed=1)) == pytest.approx(16, rel=0.03)


def test_kernel_distance_is_unbiased_and_its_interval_covers_zero() -> None:
    found = [kernel_distance(normal(60, seed=2 * k), normal(60, seed=2 * k + 1)) for k in range(60)]
    values, errors = np.array(found).T
    assert abs(values.mean()) < 3 * values.std() / 60**0.5, "equal distributions have distance 0 on average"
    assert np.mean(np.abs(values) < 1.96 * errors) > 0.8
    value, error = kernel_distance(normal(100), normal(100, 0.5, seed=9))
    assert value > 3 * error


def test_local_distance_leaves_out_what_too_few_crops_cannot_give() -> None:
    few = local_distance(normal(50, 1.0), normal(50, seed=1), normal(50, seed=2))
    assert "local_frechet" not in few and few["local_kernel"] > few["local_kernel_floor_interval"][1]
    many = local_distance(normal(2000, 1.0), normal(2000, seed=1), normal(2000, seed=2))
    assert many["local_frechet"] > 5 > many["local_frechet_floor"]
    assert local_distance(normal(3), normal(3), normal(3)) == {}


def test_edge_jump_sees_the_step_across_the_edge_only() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    picture = np.where(mask[..., None], np.uint8(255), np.uint8(0)) * np.ones(3, np.uint8)
    assert edge_jump(picture, mask) == pytest.approx(1)
    picture[8:12, 8:12] = 0
    assert edge_jump(picture, mask) == pytest.approx(1), "what happens further inside is no seam"
    assert edge_jump(np.full_like(picture, 9), mask) == 0
    assert edge_jump(picture, np.ones_like(mask)) == 0


def test_normalised_change_is_relative_to_the_background() -> None:
    before = np.full((4, 4, 3), 100, np.uint8)
    where = np.zeros((4, 4), bool)
    where[0] = True
    after = before.copy()
    after[1:] = 0
    assert normalised_change(before, after, where) == 0
    after[0] = 150
    assert normalised_change(before, after, where) == pytest.approx(0.5)
