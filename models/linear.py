"""Linear layers; on a CPU by the convolutions of oneDNN, whose kernels are fast on every maker's processors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

# With fewer in an image the convolution takes other kernels for other batches, which round otherwise.
ENOUGH_TOKENS = 32


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, [B, T, out] from [B, T, in], of `weight` [out, in] and `bias` [out].

    PyTorch leaves products in float32 on a CPU to MKL, which does without AVX-512 on processors that are not Intel's,
    and convolutions to oneDNN, which uses it on all. A linear layer is a convolution with a kernel of one pixel over
    tokens in a row, channels last, and nothing has to be copied for it.
    """
    if not _is_convolution_better(x):
        return F.linear(x, weight, bias)
    is_frozen = not weight.requires_grad and (bias is None or not bias.requires_grad)
    return _FrozenConvolution.apply(x, weight, bias) if is_frozen else _convolve(x, weight, bias)


def apply(layer: nn.Linear, x: Tensor) -> Tensor:
    """What a layer gives of tokens [B, T, in]: [B, T, out], by `linear`."""
    return linear(x, layer.weight, layer.bias)


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


def _is_convolution_better(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] >= ENOUGH_TOKENS
        and (torch.compiler.is_compiling() or torch.backends.mkldnn.is_available())  # which cannot be traced
        and not torch.is_autocast_enabled("cpu")  # products in half precision are oneDNN's anyway
    )
