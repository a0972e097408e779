"""Times linear layers as convolutions against PyTorch's own on a CPU, forwards and backwards, and says what is chosen.

    python benchmarks/linear.py

Shapes are those of ViT-L-14-336 at 518 px: one image's 1370 tokens into queries, keys and values, through the
attention's output and both layers of the MLP. Only the tokens take a gradient, as in a frozen tower.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from harness import Options, benchmark, difference, medians, print_table
from torch import Tensor

from models.linear import convolution, prefers_convolutions

LAYERS = convolution, F.linear
SHAPES = {"attention in": (1024, 3072), "attention out": (1024, 1024), "MLP in": (1024, 4096), "MLP out": (4096, 1024)}
COLUMNS = {"layer": "", "convolution, GFLOP/s": ".0f", "PyTorch's own": ".0f", "times as fast": ".2f"}
COLUMNS |= {"with the gradient": ".2f", "largest difference": ".0e"}


def with_gradient(layer: Callable[..., Tensor], x: Tensor, *parameters: Tensor) -> Tensor:
    """Run the layer forwards, and return the gradient of its sum with respect to the tokens."""
    y = layer(x, *parameters)
    return torch.autograd.grad(y, x, torch.ones_like(y))[0]


@benchmark(tokens=1370, batch_size=1, repeats=15)
def main(args: Options) -> None:
    torch.manual_seed(0)
    rows = []
    for name, (width, out) in SHAPES.items():
        x = torch.randn(args.batch_size, args.tokens, width)
        leaf, parameters = x.clone().requires_grad_(), (torch.randn(out, width), torch.randn(out))
        ways = [partial(layer, x, *parameters) for layer in LAYERS]
        off = difference(*(way() for way in ways))
        ways += [partial(with_gradient, layer, leaf, *parameters) for layer in LAYERS]
        ours, theirs, ours_both_ways, theirs_both_ways = medians(dict(enumerate(ways)), args.repeats).values()
        work = 2e-9 * args.batch_size * args.tokens * width * out  # thousands of millions of operations
        ratios = theirs / ours, theirs_both_ways / ours_both_ways
        rows.append((f"{name}, {width} to {out}", work / ours, work / theirs, *ratios, off))
    print("convolutions" if prefers_convolutions() else "PyTorch's own products", "are chosen on this processor")
    print(f"{args.batch_size} x {args.tokens} tokens, {torch.get_num_threads()} threads, float32\n")
    print_table(COLUMNS, rows)
