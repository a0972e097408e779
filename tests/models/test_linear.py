"""Linear layers give the product's values and gradients, whichever kernels compute them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import linear
from models.linear import ENOUGH_TOKENS, ConvolutionLinear, computes_bfloat16, prefers_convolutions, use_fastest_kernels
from utils.runtime import processor

ZEN = {"name": "AMD EPYC 9R14", "vendor_id": "AuthenticAMD", "flags": "avx2 avx512f"}


@pytest.mark.parametrize(
    ("flags", "native"),
    [("avx2 avx512f", False), ("avx512f avx512_bf16", True), ("amx_tile amx_bf16", True), ("", False)],
)
def test_a_processor_computes_bfloat16_where_its_flags_say_so(flags, native, monkeypatch):
    monkeypatch.setattr(linear, "processor", lambda: {"flags": flags})
    assert computes_bfloat16(torch.device("cpu")) == native


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_cuda_computes_bfloat16_from_ampere_on(capability, native, monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert computes_bfloat16(torch.device("cuda", 0)) == native


@pytest.mark.parametrize("tokens", [1, ENOUGH_TOKENS - 1, ENOUGH_TOKENS, 257])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_values_and_gradients_are_those_of_the_product_in_double_precision(tokens, bias, frozen):
    torch.manual_seed(0)
    layer = ConvolutionLinear(96, 40, bias=bias).requires_grad_(not frozen)
    exact = nn.Linear(96, 40, bias=bias).double()
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(3, tokens, 96, requires_grad=True)
    x_exact = x.detach().double().requires_grad_()
    towards = torch.randn(3, tokens, 40)
    y, y_exact = layer(x), exact(x_exact)
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
    x, layer = torch.randn(2, 50, 64), ConvolutionLinear(32, 30)
    expected = F.linear(x[:, 1:, ::2], layer.weight, layer.bias)
    torch.testing.assert_close(layer(x[:, 1:, ::2]), expected, rtol=1e-5, atol=1e-4)


def test_the_result_lies_in_memory_as_a_product_s_does():
    assert ConvolutionLinear(64, 32)(torch.randn(2, 50, 64)).is_contiguous()


def test_a_frozen_layer_keeps_no_tokens_for_its_gradient():
    layer = ConvolutionLinear(64, 32).requires_grad_(False)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape), lambda shape: None):
        layer(torch.randn(2, 50, 64, requires_grad=True))
    assert kept == [layer.weight.shape]


def test_no_image_gives_no_tokens_and_no_gradient():
    layer = ConvolutionLinear(64, 32)
    y = layer(torch.zeros(0, 50, 64))
    assert y.shape == (0, 50, 32)
    y.sum().backward()
    assert not layer.weight.grad.any()


@pytest.mark.parametrize(
    "here, expected",
    [
        (ZEN, True),
        (ZEN | {"flags": "avx2"}, False),
        (ZEN | {"vendor_id": "GenuineIntel"}, False),
        ({"name": "Apple M3"}, False),
    ],
)
def test_convolutions_are_taken_where_pytorch_s_own_products_leave_avx_512_unused(monkeypatch, here, expected):
    monkeypatch.setattr(linear, "processor", lambda: here)
    assert prefers_convolutions() == expected
    layers = use_fastest_kernels(nn.Sequential(nn.Linear(4, 4), nn.GELU()), torch.device("cpu"), "fp32")
    assert isinstance(layers[0], ConvolutionLinear) == expected
    halves = use_fastest_kernels(nn.Sequential(nn.Linear(4, 4)), torch.device("cpu"), "bf16")
    assert type(halves[0]) is nn.Linear


def test_without_onednn_the_product_is_computed(monkeypatch):
    monkeypatch.setattr(linear, "processor", lambda: ZEN)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not prefers_convolutions()


def test_a_converted_layer_keeps_its_parameters_and_their_names():
    layers = nn.Sequential(nn.Linear(4, 3))
    before = layers.state_dict()
    layers[0].__class__ = ConvolutionLinear
    assert {key: value.data_ptr() for key, value in layers.state_dict().items()} == {
        key: value.data_ptr() for key, value in before.items()
    }


def test_this_processor_has_a_name():
    assert processor()["name"]
