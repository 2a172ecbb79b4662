"""The refiner: passes the coarse mask through at first, and learns to follow a finer guide."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from masker.config import RefinerConfig
from masker.refiner import Refiner, refine_tiles, stack_hints

CONFIG = RefinerConfig(levels=2, fold=4, widths=(16, 32), blocks=1)


def _refiner() -> Refiner:
    torch.manual_seed(0)
    return Refiner(CONFIG, text_width=8, planes=4)


def hints(guide: torch.Tensor) -> torch.Tensor:
    return stack_hints(torch.zeros(len(guide), 1, 16, 16), guide, torch.zeros_like(guide), 32)


def test_untrained_it_is_interpolation() -> None:
    coarse = torch.randn(2, 1, 16, 16)
    fine = _refiner()(coarse, hints(torch.rand(2, 1, 32, 32)), torch.rand(2, 4, 16, 16), torch.randn(2, 8))
    expected = F.interpolate(coarse, size=(32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(fine, expected.clamp(-8, 8))


def test_it_learns_an_outline_that_only_the_guide_shows() -> None:
    """Coarse masks are blank; thin bars stand in the guide alone."""
    refiner = _refiner()
    optimizer = torch.optim.Adam(refiner.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(1)

    def batch() -> torch.Tensor:
        bars = torch.zeros(8, 1, 32, 32)
        for row in bars:
            row[0, :, int(torch.randint(0, 32, (1,), generator=generator))] = 1
        return bars

    for _ in range(60):
        bars = batch()
        logits = refiner(torch.zeros(8, 1, 16, 16), hints(bars), torch.zeros(8, 4, 16, 16), torch.zeros(8, 8))
        loss = F.binary_cross_entropy_with_logits(logits, bars)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    bars = batch()
    with torch.no_grad():
        logits = refiner(torch.zeros(8, 1, 16, 16), hints(bars), torch.zeros(8, 4, 16, 16), torch.zeros(8, 8))
    assert ((logits > 0) == (bars > 0.5)).float().mean() > 0.995


def test_tiles_of_an_untrained_refiner_are_seamless() -> None:
    logits, guide = torch.randn(1, 1, 32, 32), torch.rand(1, 1, 64, 64)
    fine = refine_tiles(_refiner(), logits, guide, torch.rand(1, 4, 16, 16), torch.randn(1, 8))
    expected = F.interpolate(logits, size=(64, 64), mode="bilinear", align_corners=False).clamp(-8, 8)
    assert fine.shape == expected.shape
    torch.testing.assert_close(fine[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=0.35, rtol=0.1)


def test_a_global_radius_is_learned_from_the_distance() -> None:
    """Discs drawn too large by a fixed radius: the distance map alone is enough to erode them."""
    refiner = _refiner()
    optimizer = torch.optim.Adam(refiner.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(1)
    axis = torch.arange(32) + 0.5

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        centers = 10 + 12 * torch.rand(8, 2, generator=generator)
        far = ((axis - centers[:, :1])[:, :, None] ** 2 + (axis - centers[:, 1:])[:, None, :] ** 2).sqrt()[:, None]
        return (9 - far) / 10, (far < 6).float()

    for step in range(81):
        distance, truth = batch()
        seen = stack_hints(torch.zeros(8, 1, 16, 16), (distance > 0).float(), distance.clamp(-1, 1), 32)
        logits = refiner(torch.zeros(8, 1, 16, 16), seen, torch.zeros(8, 4, 16, 16), torch.zeros(8, 8))
        if step < 80:
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits, truth).backward()
            optimizer.step()
    assert ((logits > 0) == (truth > 0.5)).float().mean() > 0.98


def test_a_silhouette_has_a_share_of_the_mask_and_is_ignored_where_there_is_none() -> None:
    coarse, prior = torch.full((2, 1, 16, 16), -4.0), torch.full((2, 1, 16, 16), 4.0)
    prior[1] = 0
    guide = torch.ones(2, 1, 32, 32)
    seen = stack_hints(prior, guide, torch.zeros_like(guide), 32)
    fine = _refiner()(coarse, seen, torch.zeros(2, 4, 16, 16), torch.zeros(2, 8))
    assert -4 < fine[0].mean() < 4
    torch.testing.assert_close(fine[1], torch.full((1, 32, 32), -4.0))
