"""The networks' PReLU gives what torch's does, values and gradients, in every layout."""

import pytest
import torch
from torch.nn import functional as F

from training.models.prelu import PReLU


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("slope", [0.25, 0.0, -0.5, 1.5])
def test_values_and_gradients_are_torchs(form: torch.memory_format, slope: float) -> None:
    torch.manual_seed(0)
    drawn = torch.randn(2, 3, 7, 5)
    drawn[0, 0, 0, :2] = 0.0  # where there is no slope to speak of, both take that of the left
    pull = torch.randn(2, 3, 5, 7).transpose(2, 3)  # a gradient of another layout
    found = []
    for of in ("ours", "torch's"):
        x = drawn.contiguous(memory_format=form).requires_grad_()
        layer = PReLU()
        torch.nn.init.constant_(layer.weight, slope)
        y = layer(x) if of == "ours" else F.prelu(x, layer.weight)
        y.backward(pull)
        assert x.grad is not None and layer.weight.grad is not None
        found.append((y.detach(), x.grad, layer.weight.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_the_slope_is_in_the_state_under_torchs_name_and_double_precision_works() -> None:
    layer = PReLU().double()
    assert list(layer.state_dict()) == ["weight"] and layer.weight.shape == (1,)
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


def test_frozen_slopes_get_no_gradient() -> None:
    layer = PReLU().requires_grad_(False)
    x = torch.randn(4, 6, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None
