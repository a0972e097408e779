"""Build `meta.json` for MVTec AD, as the papers' instructions call it: `python data/build.py mvtec`."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data.build import main
from utils.errors import run

if __name__ == "__main__":
    run(lambda: main(name="mvtec"))
