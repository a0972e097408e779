"""Products that round as on another processor: to find tests that hold on this one alone.

    python -m pytest -p tests.other_rounding

Every matrix product and convolution of PyTorch is changed by some units in the last place. The change depends on the
shapes, as the choice of kernels does: the same batch gives the same bits again, and another batch others.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

LAST_PLACES = 2 * torch.finfo(torch.float32).eps  # of the largest value of a product
PRODUCTS = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.default,
    torch.ops.aten.convolution.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
}


class OtherRounding(TorchDispatchMode):
    """Adds noise in the last places to what products give."""

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in PRODUCTS:
            values = result[0] if isinstance(result, tuple) else result
            if values.dtype == torch.float32 and values.numel():
                self._change(values, [tuple(part.shape) for part in args if isinstance(part, Tensor)])
        return result

    @staticmethod
    def _change(values: Tensor, shapes: list[tuple[int, ...]]) -> None:
        generator = torch.Generator().manual_seed(hash(tuple(shapes)) % 2**32)
        noise = torch.rand(values.shape, generator=generator) - 0.5
        values.add_(noise * 2 * LAST_PLACES * values.abs().max())


@pytest.fixture(autouse=True)
def products_round_otherwise(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of this run, in its own process and thread; but for compiled towers, which take no such mode."""
    with nullcontext() if "compiled" in request.fixturenames else OtherRounding():
        yield
