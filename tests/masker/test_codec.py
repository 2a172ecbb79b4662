"""The mask codec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from masker.codec import KLCodec, MaskCodec, MaskVAE, boundary_cells, codec_loss, mask_iou
from masker.weights import load_codec
from scene.errors import UserError

from .conftest import CODEC


def _shapes() -> torch.Tensor:
    ys, xs = np.mgrid[0:16, 0:16] + 0.5
    disc = (xs - 6) ** 2 + (ys - 8) ** 2 < 16
    bar = (abs(xs - 10) < 2) & (abs(ys - 8) < 7)
    return torch.from_numpy(np.stack([disc, bar, disc | bar, np.ones((16, 16), bool)])).float()[:, None]


def test_a_few_steps_learn_to_copy_four_shapes() -> None:
    torch.manual_seed(0)
    codec, masks = MaskVAE(CODEC), _shapes()
    optimizer = torch.optim.Adam(codec.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        noise = torch.randn(4, 4, 4, 4, generator=generator)
        loss, _ = codec_loss(codec, masks, noise, CODEC)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    codec.eval().standardise(masks)
    with torch.no_grad():
        latents = codec.encode(masks)
        found = codec.decode(latents) > 0
    assert latents.shape == (4, CODEC.latent_channels, CODEC.latent_size, CODEC.latent_size)
    assert latents.mean().abs() < 0.05
    assert latents.std() == pytest.approx(1, abs=0.1)
    assert mask_iou(found, masks > 0.5).mean() > 0.9


def test_export_and_load_agree_within_half_precision(codec_folder: Path) -> None:
    torch.manual_seed(0)
    original, loaded = MaskVAE(CODEC).eval(), load_codec(codec_folder)
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(_shapes()), original.encode(_shapes()), atol=1e-2, rtol=1e-2)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_missing_codec_names_the_command() -> None:
    with pytest.raises(UserError, match=r"smartscene train masker --config configs/masker/codec_park.yaml"):
        load_codec(Path("/nowhere"))


def test_boundary_is_both_sides_of_the_outline() -> None:
    edge = boundary_cells(_shapes()[1:2])[0, 0]
    assert edge[8, 7] == edge[8, 8] == 1
    assert edge[8, 10] == edge[0, 0] == 0
    assert boundary_cells(torch.ones(1, 1, 4, 4)).sum() == 0


def test_diffusers_vae_takes_the_place() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    ).eval()
    codec = KLCodec(vae, resolution=16)
    assert isinstance(codec, MaskCodec)
    with torch.no_grad():
        latents = codec.encode(_shapes())
        assert latents.shape == (4, codec.latent_channels, codec.latent_size, codec.latent_size) == (4, 4, 8, 8)
        assert codec.decode(latents).shape == (4, 1, 16, 16)
    with pytest.raises(ValueError, match="multiple of the VAE's reduction 2"):
        KLCodec(vae, resolution=15)
