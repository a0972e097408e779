"""Build `meta.json` for MPDD, which is laid out like MVTec AD."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":
    from data.build import main
    from utils.errors import run

    run(lambda: main("mpdd"))
