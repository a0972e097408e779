"""Reproduce the papers' results: train, test, and collect everything in one table.

    bash reproduce.sh                        # what the papers tested on, as far as it is in data/
    bash reproduce.sh --plan                 # only say what would be run, and how long it would take
    python reproduce.py --dataset demo --model demo --save_path results/rehearsal  # expect what docs/reproduce.md shows

Goes on where it was stopped, and leaves out what is done. Leaves RESULTS.md, and everything behind it, in --save_path.
The exit code is 1 if a part failed; the others are run all the same.
"""

from collections.abc import Sequence

from utils.errors import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Plan, run and collect."""
    from engine.reproduction_options import ReproductionOptions  # in here, where Ctrl-C is seen to
    from utils.arguments import parse

    options = parse(ReproductionOptions, __doc__, arguments)
    from engine.reproduction import reproduce  # only now, as PyTorch takes seconds to import

    return reproduce(options)


if __name__ == "__main__":
    run(main)
