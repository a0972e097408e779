#!/usr/bin/env bash
# Find defects on ten drawn products with a small demonstration CLIP: no download but the Python packages.
#
#   bash demo.sh                      some minutes the first time, less the second
#
# Uses the active virtual environment, or makes .venv. Results: results/demo/
set -euo pipefail
cd "$(dirname "$0")"

SAVE_PATH=${SAVE_PATH:-results/demo}      # where the results go
SEED=${SEED:-0}                           # of the drawn images

if [[ -z "${VIRTUAL_ENV:-}" ]]; then
  [[ -x .venv/bin/python ]] || { echo "== making the environment .venv"; python3 -m venv .venv; }
  source .venv/bin/activate
fi
if ! python -c "import cv2, open_clip, sklearn, tabulate, torchvision" 2>/dev/null; then
  echo "== installing the packages (some minutes)"
  python -m pip install --disable-pip-version-check -r requirements.txt
fi

echo "== drawing the demo data set into data/demo"
python data/demo.py --seed "$SEED"

echo "== baselines: how far grey values and edges alone get"
python benchmarks/demo_baselines.py

echo "== SDP"
python test_sdp.py --dataset demo --model demo --save_path "$SAVE_PATH/sdp" --visualization "$@"

echo
cat "$SAVE_PATH/sdp/results.md"
echo
echo "pictures of some images of each class: $SAVE_PATH/sdp/contact_sheet.png"
