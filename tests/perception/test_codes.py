"""Codes along principal components, and the model that draws them."""

from __future__ import annotations

import pytest
import torch

from perception.codes import CodeModel
from perception.diffusion import NoiseProcess, make_solver, spread_timesteps
from runtime.seeding import seeded, torch_generator


def model(known: int = 2) -> CodeModel:
    return seeded(lambda: CodeModel(6, 2, known, hidden=32, layers=2, steps=8), 0)


def on_a_plane(count: int) -> torch.Tensor:
    """Examples of 6 numbers that vary in two directions only."""
    plane = torch.randn(2, 6, generator=torch_generator(1))
    return 0.5 + torch.randn(count, 2, generator=torch_generator(2)) @ plane


def test_components_tell_examples_apart_and_draw_them_again() -> None:
    codes, examples = model(), on_a_plane(200)
    assert not codes.knows_components
    codes.learn_components(examples)
    assert codes.knows_components
    read = codes.read(examples)
    assert torch.allclose(read.std(0, correction=0), torch.ones(2), atol=1e-3)
    assert torch.allclose(codes.stand_for(read), examples, atol=1e-4)


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="2 examples have no 2 components"):
        model().learn_components(on_a_plane(2))


def test_what_is_known_decides_which_code_is_drawn() -> None:
    codes = model(known=1)
    codes.learn_components(on_a_plane(100))
    optimizer = torch.optim.Adam(codes.parameters(), lr=3e-3)
    generator = torch_generator(3)
    for step in range(400):
        side = torch.randint(0, 2, (64, 1), generator=generator).float() * 2 - 1
        target = torch.cat([side, -side], dim=1) + 0.05 * torch.randn(64, 2, generator=generator)
        timesteps = spread_timesteps(range(64 * step, 64 * step + 64), 1000)
        loss = codes.loss(target, torch.randn(64, 2, generator=generator), timesteps, side).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    known = torch.tensor([[1.0], [-1.0]]).repeat(10, 1)
    drawn = codes.draw(torch.randn(20, 2, generator=generator), known)
    assert (drawn - torch.cat([known, -known], dim=1)).abs().max() < 0.5


def test_timesteps_cover_everything_whatever_the_batch() -> None:
    whole = spread_timesteps(range(100), 50)
    assert torch.equal(whole[40:], spread_timesteps(range(40, 100), 50))
    assert len(whole.unique()) == 50
    assert spread_timesteps(range(1000), 1000, power=0.5).float().mean() > 600  # the noisy end more often


@pytest.mark.parametrize("prediction", ["v_prediction", "sample", "epsilon"])
def test_the_solver_ends_at_what_a_perfect_network_says(prediction: str) -> None:
    class Schedule:
        train_timesteps, beta_schedule = 1000, "squaredcos_cap_v2"

    Schedule.prediction = prediction  # type: ignore[attr-defined]
    process, clean = NoiseProcess.of(Schedule), torch.randn(3, 5, generator=torch_generator(0))  # type: ignore[arg-type]
    values = torch.randn(3, 5, generator=torch_generator(1))
    solver = make_solver(Schedule, 6)  # type: ignore[arg-type]
    for step in solver.timesteps:
        signal, sigma = process.coefficients(torch.full((3,), int(step)), 2)
        noise = (values - signal * clean) / sigma
        target = process.target(clean, noise, torch.full((3,), int(step)))
        values = solver.step(clean if prediction == "epsilon" else target, step, values, return_dict=False)[0]
    assert torch.allclose(values, clean, atol=1e-2)
