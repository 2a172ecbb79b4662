"""Eq. 5 and the painting of labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from masker.codec import MaskVAE
from masker.config import LayoutEncoderConfig
from masker.layout_encoder import FRAME_CHANNELS, GuideFrame, LayoutEncoder, blend_guidance, palette_table
from scene.layout import label_colour

from .conftest import CODEC


def _encoder() -> LayoutEncoder:
    return LayoutEncoder(LayoutEncoderConfig(painted_channels=6, widths=(16, 16)), 8, MaskVAE(CODEC).eval())


def _case(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    layout = torch.rand(2, 3, 5, 5, generator=generator)
    guide = torch.rand(2, 1, 5, 5, generator=generator)
    return layout, guide, torch.rand(3, generator=generator)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), alpha=st.floats(0, 1))
def test_blend_stays_between_layout_and_target(seed: int, alpha: float) -> None:
    layout, guide, target = _case(seed)
    blended = blend_guidance(layout, guide, target, alpha)
    corner = target.view(1, -1, 1, 1).expand_as(layout)
    assert (blended >= torch.minimum(layout, corner) - 1e-6).all()
    assert (blended <= torch.maximum(layout, corner) + 1e-6).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_rgb_form_is_the_papers_equation(seed: int) -> None:
    layout, guide, _ = _case(seed)
    papers = layout * (1 - 0.7 * guide) + 0.7 * guide
    torch.testing.assert_close(blend_guidance(layout, guide, torch.ones(3), 0.7), papers)


def test_no_guide_leaves_the_layout_alone_and_alpha_one_hides_it() -> None:
    layout, guide, target = _case(0)
    assert torch.equal(blend_guidance(layout, torch.zeros_like(guide), target, 0.7), layout)
    full = blend_guidance(layout, torch.ones_like(guide), target, 1.0)
    torch.testing.assert_close(full, target.view(1, -1, 1, 1).expand_as(layout))


def test_paint_depends_on_the_label_vector_not_on_its_row() -> None:
    encoder = _encoder()
    labels = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    index = torch.tensor(np.array([[[0, 1], [2, 3]]]))
    swapped = labels[[0, 2, 1, 3]]
    other = torch.tensor(np.array([[[0, 2], [1, 3]]]))
    torch.testing.assert_close(encoder.paint(index, labels), encoder.paint(other, swapped))


def test_row_zero_is_nothing_whatever_its_vector() -> None:
    encoder = _encoder()
    index = torch.zeros(1, 2, 2, dtype=torch.long)
    first, second = (encoder.paint(index, torch.full((2, 8), value)) for value in (0.0, 5.0))
    assert torch.equal(first, second)


def test_the_codec_reads_the_guide_off_the_blended_layout() -> None:
    torch.manual_seed(0)
    encoder = _encoder()
    generator = torch.Generator().manual_seed(2)
    index = torch.randint(0, 4, (2, 16, 16), generator=generator)
    labels = torch.randn(4, 8, generator=generator)
    guide = torch.rand(2, 1, 16, 16, generator=generator)
    with torch.no_grad():
        features = encoder(encoder.paint(index, labels), guide, GuideFrame.of(guide))
        expected = encoder._codec[0].encode(guide)
    assert features.shape[1] == encoder.out_channels == 16 + CODEC.latent_channels + FRAME_CHANNELS
    torch.testing.assert_close(features[:, 16:-FRAME_CHANNELS], expected, atol=1e-4, rtol=1e-4)
    assert not any("codec" in name for name in encoder.state_dict())


def test_the_guides_frame_runs_from_minus_one_to_one_inside_a_box() -> None:
    guide = torch.zeros(2, 1, 64, 64)
    guide[0, 0, 16:48, 8:24] = 1  # y: cells 16 to 48, x: cells 8 to 24
    frame = GuideFrame.of(guide).features(64)
    assert frame.shape == (2, FRAME_CHANNELS, 64, 64)
    assert not frame[1].any()
    u, v = frame[0, 0], frame[0, 7]
    assert u[5, 8].item() == pytest.approx(-1 + 1 / 16, abs=0.01)
    assert u[5, 23].item() == pytest.approx(1 - 1 / 16, abs=0.01)
    assert v[16, 9].item() == pytest.approx(-1 + 1 / 32, abs=0.01)
    assert v[47, 9].item() == pytest.approx(1 - 1 / 32, abs=0.01)
    assert frame[0, -3, 0, 0].exp().item() == pytest.approx(0.25, abs=0.01)  # half of the width, of 2


def test_with_a_palette_the_encoder_sees_the_papers_equation() -> None:
    torch.manual_seed(0)
    config = LayoutEncoderConfig(labels="palette", widths=(16, 16))
    encoder = LayoutEncoder(config, 8, MaskVAE(CODEC).eval())
    labels = ("", "sky", "sofa")
    index = torch.randint(0, 3, (2, 16, 16), generator=torch.Generator().manual_seed(3))
    guide = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(4))
    seen: list[torch.Tensor] = []
    encoder.convolutions.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    painted = encoder.paint(index, palette_table(labels))
    encoder(painted, guide, GuideFrame.of(guide))
    colours = torch.tensor([(0, 0, 0), label_colour("sky"), label_colour("sofa")]) / 255
    rgb = colours[index].permute(0, 3, 1, 2)
    torch.testing.assert_close(painted[:, 1:], rgb)
    torch.testing.assert_close(seen[0][:, 1:], rgb * (1 - 0.7 * guide) + 0.7 * guide)
    torch.testing.assert_close(seen[0][:, :1], 0.7 * guide)
    assert all(name.startswith("convolutions") for name, _ in encoder.named_parameters())
