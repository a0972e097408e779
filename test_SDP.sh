#!/usr/bin/env bash
# Test SDP (CLIP-AD without training) on one data set or several:
#
#   bash test_SDP.sh                                  every data set below whose folder is there
#   DATASETS="mvtec" REP_VEC=kde bash test_SDP.sh     any setting from the environment
#   bash test_SDP.sh --visualization --save_maps      further arguments go to test_sdp.py, see its --help
#
# Relative paths are taken from this folder. Results: $SAVE_PATH/<data set>/results.md, results.json, scores.csv, test.log
set -euo pipefail
cd "$(dirname "$0")"

# ---- Settings; those of backbone, fidelity and run are in utils/scripts.sh, and may be set here as well -----------
DATASETS=${DATASETS:-"mvtec visa isic cvc_clinicdb headct brainmri"}   # which, in this order
DATA_ROOT=${DATA_ROOT:-data}              # a data set lies in $DATA_ROOT/<its name>
SAVE_PATH=${SAVE_PATH:-results/sdp}       # results go to $SAVE_PATH/<data set>
REP_VEC=${REP_VEC:-mean}                  # mean, pca, kde, dbscan or mean_shift
SMOOTHING=${SMOOTHING:-}                  # sigma of the Gaussian filter in pixels; empty: the data set's (8)
PROMPTS=${PROMPTS:-}                      # industrial, medical or a JSON file; empty: by the data set's domain
# --------------------------------------------------------------------------------------------------------------

source utils/scripts.sh
options_from rep_vec smoothing prompts
test_each test_sdp.py "${options[@]}" "$@"
