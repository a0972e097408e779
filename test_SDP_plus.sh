#!/usr/bin/env bash
# Test SDP+ (CLIP-AD with trained adapters) on one data set or several:
#
#   bash test_SDP_plus.sh                              every data set below whose folder is there
#   DATASETS="mvtec" bash test_SDP_plus.sh             any setting from the environment
#   bash test_SDP_plus.sh --visualization --save_maps  further arguments go to test_sdp_plus.py, see its --help
#
# Relative paths are taken from this folder. Results: $SAVE_PATH/<data set>/results.md, results.json, scores.csv, test.log
set -euo pipefail
cd "$(dirname "$0")"

# ---- Settings; those of backbone, fidelity and run are in utils/scripts.sh, and may be set here as well -----------
DATASETS=${DATASETS:-"mvtec visa isic cvc_clinicdb headct brainmri"}   # which, in this order
DATA_ROOT=${DATA_ROOT:-data}              # a data set lies in $DATA_ROOT/<its name>
SAVE_PATH=${SAVE_PATH:-results/sdp_plus}  # results go to $SAVE_PATH/<data set>
# Adapters trained on VisA are for all data sets but VisA, which is tested with those trained on MVTec. They are as
# train_SDP_plus.sh leaves them; the authors' are pretrained_models/train_on_visa.pth and train_on_mvtec.pth
ON_VISA=${ON_VISA:-results/sdp_plus_training/on_visa/epoch_5.pth}
ON_MVTEC=${ON_MVTEC:-results/sdp_plus_training/on_mvtec/epoch_5.pth}
REP_VEC=${REP_VEC:-mean}                  # mean, pca, kde, dbscan or mean_shift
SMOOTHING=${SMOOTHING:-}                  # sigma of the Gaussian filter in pixels; empty: the data set's (8, for VisA 2)
PROMPTS=${PROMPTS:-}                      # industrial, medical or a JSON file; empty: by the data set's domain
# --------------------------------------------------------------------------------------------------------------

source utils/scripts.sh
arguments_for() { if [[ $1 == visa ]]; then own=(--checkpoint "$ON_MVTEC"); else own=(--checkpoint "$ON_VISA"); fi; }
options_from rep_vec smoothing prompts
test_each test_sdp_plus.py "${options[@]}" "$@"
