"""Build `meta.json` for MVTec AD, as the papers' instructions call it: `python data/build.py mvtec`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from data.build import main, run

    run(lambda: main(name="mvtec"))
