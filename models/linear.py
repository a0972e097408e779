"""Linear layers of a module by the kernels that are fastest on this processor, chosen once, when a model is loaded."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from utils.runtime import processor

M = TypeVar("M", bound=nn.Module)

# The convolution was measured on images' tokens; sentences are shorter, and keep PyTorch's product.
ENOUGH_TOKENS = 32


def prefers_convolutions() -> bool:
    """Tell whether oneDNN's convolutions are faster on this processor than PyTorch's own float32 products.

    PyTorch leaves those products to MKL, which uses AVX-512 on Intel's processors alone, and convolutions to oneDNN,
    which uses it everywhere. `benchmarks/linear.py` measures both. The processor alone decides, not a measurement, so
    that a machine always rounds alike.
    """
    here = processor()
    has_avx_512 = "avx512f" in here.get("flags", "").split()
    return here.get("vendor_id") == "AuthenticAMD" and has_avx_512 and torch.backends.mkldnn.is_available()


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bfloat16 products, which PyTorch else emulates slowly."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(processor().get("flags", "").split())


def convert_linear_layers(module: M, dtype: torch.dtype) -> M:
    """Convert a frozen module's linear layers in place, as autocast would in every call; all else stays as it is."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.to(dtype)
        elif isinstance(layer, nn.MultiheadAttention):
            layer.in_proj_weight.data, layer.in_proj_bias.data = (
                one.to(dtype) for one in (layer.in_proj_weight, layer.in_proj_bias)
            )
    return module


def use_fastest_kernels(module: M, device: torch.device, precision: str) -> M:
    """Turn a module's linear layers in place into `ConvolutionLinear` where that is faster, and move it to its device.

    It is not in reduced precision, by autocast, whose products are oneDNN's anyway.
    """
    if device.type == "cpu" and precision == "fp32" and prefers_convolutions():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                layer.__class__ = ConvolutionLinear
    return module.to(device)


class ConvolutionLinear(nn.Linear):
    """A linear layer as a convolution with a kernel of one pixel over tokens in a row, channels last."""

    def forward(self, x: Tensor) -> Tensor:
        """From tokens [B, T, in] to [B, T, out]."""
        return convolution(x, self.weight, self.bias)


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute x W^T + b [B, T, out] of tokens x [B, T, in], W [out, in] and b [out], by a convolution."""
    if x.shape[1] < ENOUGH_TOKENS or x.dtype != torch.float32 or torch.onnx.is_in_onnx_export():
        return F.linear(x, weight, bias)
    is_frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
    return (_FrozenConvolution.apply if is_frozen else _convolve)(x, weight, bias)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    tokens_in_a_row = x.transpose(1, 2).unsqueeze(2)  # [B, in, 1, T]
    return F.conv2d(tokens_in_a_row, weight[..., None, None], bias).squeeze(2).transpose(1, 2)


class _FrozenConvolution(torch.autograd.Function):
    """`_convolve` for parameters without a gradient: unlike `F.conv2d` it does not keep the tokens for one."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _convolve(gradient, weight.T, None), None, None
