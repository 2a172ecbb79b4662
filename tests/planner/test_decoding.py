import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from planner.decoding import Picker, PlannerConfig
from scene.seeds import StepSeed

DIGITS = tuple(range(100, 110))


def draw_number(picker: Picker, joint: np.ndarray, coordinate: int) -> int:
    """Decode a two-digit number whose distribution is `joint` (100,)."""
    tens = joint.reshape(10, 10).sum(1)
    logits = torch.from_numpy(np.log(tens + 1e-300))
    first = picker(logits, DIGITS, 2 * coordinate) - 100
    ones = joint.reshape(10, 10)[first] / tens[first]
    logits = torch.from_numpy(np.log(ones + 1e-300))
    return 10 * first + picker(logits, DIGITS, 2 * coordinate + 1) - 100


@given(st.integers(0, 2**32), st.integers(0, 3))
def test_spread_zero_gives_the_exact_median(seed, coordinate):
    joint = np.random.default_rng(seed).dirichlet(np.full(100, 0.2))
    found = draw_number(Picker(PlannerConfig(box_spread=0.0), StepSeed(seed, 0)), joint, coordinate)
    assert found == int((joint.cumsum() < 0.5).sum())


def test_full_spread_draws_from_the_distribution():
    joint = np.random.default_rng(1).dirichlet(np.full(100, 0.2))
    drawn = [draw_number(Picker(PlannerConfig(box_spread=1.0), StepSeed(run, 0)), joint, 0) for run in range(2000)]
    counted = np.bincount(drawn, minlength=100) / len(drawn)
    assert np.abs(counted.cumsum() - joint.cumsum()).max() < 0.04


def test_middle_half_stays_in_the_middle():
    joint = np.full(100, 0.01)
    drawn = [draw_number(Picker(PlannerConfig(box_spread=0.5), StepSeed(run, 0)), joint, 1) for run in range(200)]
    assert 24 <= min(drawn) < 32
    assert 68 < max(drawn) <= 76


def test_words_are_the_likeliest_or_drawn_by_seed():
    logits = torch.tensor([0.0, 3.0, 2.9])
    assert Picker(PlannerConfig(), StepSeed(0, 0))(logits, (0, 1, 2), None) == 1
    warm = PlannerConfig(temperature=1.0)
    drawn = [Picker(warm, StepSeed(run, 0))(logits, (0, 1, 2), None) for run in range(40)]
    assert {1, 2} <= set(drawn)
    assert drawn == [Picker(warm, StepSeed(run, 0))(logits, (0, 1, 2), None) for run in range(40)]


@pytest.mark.parametrize("index", range(8))
def test_certain_digits_win_at_every_quantile(index):
    logits = torch.full((10,), -50.0)
    logits[7] = 50.0
    assert Picker(PlannerConfig(box_spread=1.0), StepSeed(3, 1))(logits, DIGITS, index) == 107
