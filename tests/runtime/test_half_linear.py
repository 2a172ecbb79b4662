"""Linear layers with weights in float16: the same function up to rounding, whatever the number of rows."""

import pytest
import torch
from torch import nn

from runtime.half_linear import HalfLinear, half_linears


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(96, 64, bias=False), nn.GELU(), nn.Linear(64, 48)).eval()


def test_computes_what_rounded_weights_compute(layers):
    rounded = [nn.Linear(96, 64, bias=False), nn.GELU(), nn.Linear(64, 48)]
    for one, other in zip(rounded[::2], layers[::2], strict=True):
        one.load_state_dict({name: value.half().float() for name, value in other.state_dict().items()})
    rounded[2].bias.data = layers[2].bias.data.clone()
    rows = torch.randn(2, 7, 96)
    with torch.inference_mode():
        expected = nn.Sequential(*rounded)(rows)
        assert half_linears(layers) == 2
        found = layers(rows)
    assert found.shape == (2, 7, 48)
    assert (found - expected).abs().max() < 1e-4


def test_a_row_does_not_depend_on_the_call(layers):
    """The same pieces give the same bits: what a resumed run needs."""
    half_linears(layers)
    rows = torch.randn(5, 96)
    with torch.inference_mode():
        assert torch.equal(layers(rows), layers(rows.clone()))
        assert torch.allclose(layers(rows)[3], layers(rows[3:4])[0], atol=1e-4)


def test_what_does_not_fit_stays(layers, monkeypatch):
    layers[0].to(torch.bfloat16)
    assert half_linears(layers) == 1
    assert isinstance(layers[2], HalfLinear)
    assert type(layers[0]) is nn.Linear

    def missing(*_):
        raise RuntimeError("no FBGEMM")

    plain = nn.Sequential(nn.Linear(4, 4))
    monkeypatch.setattr("runtime.half_linear.HalfLinear", missing)
    assert half_linears(plain) == 0
    assert type(plain[0]) is nn.Linear
