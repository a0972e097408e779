"""Linear layers give the product's values and gradients, whichever kernels compute them."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.linear import ENOUGH_TOKENS, apply, linear


@pytest.mark.parametrize("tokens", [1, ENOUGH_TOKENS - 1, ENOUGH_TOKENS, 257])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_values_and_gradients_are_those_of_the_product_in_double_precision(tokens, bias, frozen):
    torch.manual_seed(0)
    layer = nn.Linear(96, 40, bias=bias).requires_grad_(not frozen)
    exact = nn.Linear(96, 40, bias=bias).double()
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(3, tokens, 96, requires_grad=True)
    x_exact = x.detach().double().requires_grad_()
    towards = torch.randn(3, tokens, 40)
    y, y_exact = apply(layer, x), exact(x_exact)
    (y * towards).sum().backward()
    (y_exact * towards).sum().backward()
    torch.testing.assert_close(y.double(), y_exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad.double(), x_exact.grad, rtol=1e-5, atol=1e-5)
    for own, expected in zip(layer.parameters(), exact.parameters(), strict=True):
        if frozen:
            assert own.grad is None
            continue
        torch.testing.assert_close(own.grad.double(), expected.grad, rtol=1e-5, atol=1e-4)


def test_tokens_that_do_not_lie_together_in_memory_are_taken_too():
    x, weight = torch.randn(2, 50, 64), torch.randn(30, 32)
    torch.testing.assert_close(linear(x[:, 1:, ::2], weight), F.linear(x[:, 1:, ::2], weight), rtol=1e-5, atol=1e-4)


@pytest.fixture
def threads(request) -> Iterator[None]:
    """So many threads in place of the suite's one."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 4], indirect=True)
@pytest.mark.parametrize("tokens", [ENOUGH_TOKENS, 50, 257])
@pytest.mark.usefixtures("threads")
def test_an_image_gives_the_same_bits_whatever_its_batch(tokens):
    x, layer = torch.randn(5, tokens, 128), nn.Linear(128, 384)
    alone = torch.cat([apply(layer, image[None]) for image in x])
    assert torch.equal(apply(layer, x), alone)


def test_the_result_lies_in_memory_as_a_product_s_does():
    assert linear(torch.randn(2, 50, 64), torch.randn(32, 64)).is_contiguous()


def test_a_frozen_layer_keeps_no_tokens_for_its_gradient():
    layer = nn.Linear(64, 32).requires_grad_(False)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape), lambda shape: None):
        apply(layer, torch.randn(2, 50, 64, requires_grad=True))
    assert kept == [layer.weight.shape]


def test_no_image_gives_no_tokens_and_no_gradient():
    layer = nn.Linear(64, 32)
    y = apply(layer, torch.zeros(0, 50, 64))
    assert y.shape == (0, 50, 32)
    y.sum().backward()
    assert not layer.weight.grad.any()


def test_under_autocast_the_result_is_in_half_precision():
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.randn(2, 50, 64), torch.randn(32, 64)).dtype == torch.bfloat16


def test_without_onednn_the_product_is_computed(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(F, "conv2d", None)
    x, weight = torch.randn(2, 50, 64), torch.randn(32, 64)
    assert torch.equal(linear(x, weight), F.linear(x, weight))
