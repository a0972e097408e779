#!/usr/bin/env bash
# Install what is needed, lint, and run the tests, on several cores at once. Uses the active virtual environment,
# or makes .venv. Further arguments go to pytest: tests/run.sh -k sdp
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z "${VIRTUAL_ENV:-}" ]]; then
  [[ -x .venv/bin/python ]] || python3 -m venv .venv
  source .venv/bin/activate
fi
python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r tests/requirements.txt

ruff check .
ruff format --check .
unset PYTHONDONTWRITEBYTECODE # or every process that the tests start would compile all modules
processes=$(($(getconf _NPROCESSORS_ONLN) + 1)) # one more than there are cores, as tests also wait
python -m pytest --numprocesses "$((processes < 4 ? processes : 4))" --dist loadfile --no-loadscope-reorder "$@"
