"""Check the installation, and a data set, before a long run: give the options of the run.

    python doctor.py                                          # the installation and the default backbone
    python doctor.py --dataset mvtec --data_path /data/mvtec  # and every image and mask of a data set
    python doctor.py --dataset demo --model demo               # expect "no problems found"
    python doctor.py --archive mvtec_anomaly_detection.tar.xz  # which data set's it is, and whether it is whole

Nothing is downloaded or written. Ends with the problems, each with what to do; the exit code is 1 if there is an error
among them.
"""

from __future__ import annotations  # an older Python is told so, too

import sys
from collections.abc import Sequence
from pathlib import Path

from engine.installation import INSTALL, check_packages, check_python
from utils.errors import ERROR, Problem, exit_code, run, summary

REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all checks and print what they find; returns the exit code."""
    problems = [*check_python(sys.version_info[:2]), *check_packages(REQUIREMENTS)]
    if exit_code(problems):
        print("nothing but Python and its packages was checked: see to them first\n")
    else:
        try:
            from engine.options import ExaminationOptions
            from utils.arguments import parse

            options = parse(ExaminationOptions, __doc__, arguments)
            from engine.doctor import examine  # only now, as PyTorch takes seconds to import
        except Exception as error:  # packages that are broken, or do not fit together, raise almost anything
            what = f"the packages are installed but cannot be imported ({error})"
            problems.append(Problem(ERROR, what, f"make a new environment and {INSTALL}"))
        else:
            problems += examine(options)
    print(summary(problems))
    return exit_code(problems)


if __name__ == "__main__":
    run(main)
