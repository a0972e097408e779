#!/usr/bin/env bash
# Make an environment for anomalib, benchmarks/.venv (some minutes, 6 GB with PyPI's torch for CUDA), and compare its
# WinCLIP and its metrics with ours. Options go to benchmarks/peers.py.
set -euo pipefail
cd "$(dirname "$0")/.."
source utils/scripts.sh

peer=benchmarks/.venv/bin/python
if ! "$peer" -m pip show --quiet anomalib open-clip-torch 2>/dev/null; then
  echo "== making benchmarks/.venv"
  SECONDS=0
  python -m venv benchmarks/.venv
  torch=$(python -c "from importlib.metadata import version; print(version('torch').split('+')[0])") # the same for both
  "$peer" -m pip install --quiet --disable-pip-version-check "anomalib[clip]==2.7.0" "torch==$torch" torchvision
  echo "after $SECONDS s"
fi
python demo/draw.py
python benchmarks/peers.py "$@"
