"""Run the `main` of one entry point after another; started by torchrun, in several processes.

Arguments: a JSON list of pairs, the name of an entry point and the list of its arguments.
"""

import importlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    for name, arguments in json.loads(sys.argv[1]):
        importlib.import_module(name).main(arguments)


if __name__ == "__main__":
    from utils.errors import run

    run(main, parallel=True)
