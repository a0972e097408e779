"""Times linear layers as convolutions against PyTorch's own on a CPU, forwards and backwards, and says what is chosen.

    python benchmarks/linear.py

Shapes are those of ViT-L-14-336 at 518 px: one image's 1370 tokens into queries, keys and values, through the
attention's output and both layers of the MLP. Only the tokens take a gradient, as in a frozen tower.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from harness import difference, medians, start
from tabulate import tabulate
from torch import Tensor

from models.linear import convolution, prefers_convolutions

SHAPES = {"attention in": (1024, 3072), "attention out": (1024, 1024), "MLP in": (1024, 4096), "MLP out": (4096, 1024)}
HEADERS = ("layer", "convolution, GFLOP/s", "PyTorch's own", "times as fast", "with the gradient", "largest difference")


def with_gradient(layer: Callable[..., Tensor], x: Tensor, *parameters: Tensor) -> Tensor:
    """Run the layer forwards, and return the gradient of its sum with respect to the tokens."""
    y = layer(x, *parameters)
    return torch.autograd.grad(y, x, torch.ones_like(y))[0]


def main() -> None:
    args = start(__doc__, tokens=1370, batch_size=1, repeats=15)
    torch.manual_seed(0)
    rows = []
    for name, (width, out) in SHAPES.items():
        x = torch.randn(args.batch_size, args.tokens, width)
        parameters = torch.randn(out, width), torch.randn(out)
        off = difference(convolution(x, *parameters), F.linear(x, *parameters))
        leaf = x.clone().requires_grad_()
        seconds = medians(
            {
                "convolution": partial(convolution, x, *parameters),
                "product": partial(F.linear, x, *parameters),
                "convolution, both ways": partial(with_gradient, convolution, leaf, *parameters),
                "product, both ways": partial(with_gradient, F.linear, leaf, *parameters),
            },
            args.repeats,
        )
        operations = 2 * args.batch_size * args.tokens * width * out
        rates = [operations / seconds[key] / 1e9 for key in ("convolution", "product")]
        both_ways = seconds["product, both ways"] / seconds["convolution, both ways"]
        rows.append((f"{name}, {width} to {out}", *rates, rates[0] / rates[1], both_ways, off))
    print("convolutions" if prefers_convolutions() else "PyTorch's own products", "are chosen on this processor")
    print(f"{args.batch_size} x {args.tokens} tokens, {torch.get_num_threads()} threads, float32\n")
    print(tabulate(rows, headers=HEADERS, floatfmt=("", ".0f", ".0f", ".2f", ".2f", ".0e")))


if __name__ == "__main__":
    main()
