#!/usr/bin/env bash
# Find anomalies in photographs of your own:
#
#   bash predict.sh my_photos                                   every image in a folder
#   OBJECT="metal nut" NORMAL_DIR=good_ones bash predict.sh my_photos 'more/*.png'
#   bash predict.sh my_photos --save_maps --resume              further arguments go to predict.py, see its --help
#
# Relative paths are taken from the folder you are in. Results: $SAVE_PATH/report.html, scores.csv, overlays/
#
# Takes what a test of the method takes (see test_SDP.sh, test_DP_CLIP.sh). To try it, on the demo set:
#   MODEL=demo OBJECT=wood NORMAL_DIR=data/demo/wood/train/good bash predict.sh data/demo/wood/test --smoothing 2
#   32 images predicted, 21 of them anomalous; 0 could not be
set -euo pipefail
PROJECT=$(cd "$(dirname "$0")" && pwd)

# ---- What is on the photographs ------------------------------------------------------------------------------
OBJECT=${OBJECT:-}                        # as one would call it: metal nut; empty: the checkpoint's, or object
DOMAIN=${DOMAIN:-}                        # industrial or medical: whose prompts; empty: industrial
NORMAL_DIR=${NORMAL_DIR:-}                # folder of normal images to set the thresholds by; empty: none
FALSE_ALARM_RATE=${FALSE_ALARM_RATE:-}    # share of normal images that may be called anomalous; empty: 0.05
SAVE_PATH=${SAVE_PATH:-results/predict}   # results go there
WATCH=${WATCH:-}                          # 1: go on with images that come into the folder, until Ctrl-C

# ---- Method --------------------------------------------------------------------------------------------------
METHOD=${METHOD:-}                        # sdp, sdp_plus or dp_clip; empty: sdp
CHECKPOINT=${CHECKPOINT:-}                # trained adapters, for sdp_plus and dp_clip

# ---- Backbone ------------------------------------------------------------------------------------------------
MODEL=${MODEL:-}                          # a preset, an open_clip model name or a config JSON; empty: the checkpoint's,
                                          # or vit-l-14-336
PRETRAINED=${PRETRAINED:-}                # an open_clip tag or a state dict; empty: the preset's

# ---- Run -----------------------------------------------------------------------------------------------------
BATCH_SIZE=${BATCH_SIZE:-8}               # images at once; the results do not depend on it
NUM_WORKERS=${NUM_WORKERS:-}              # processes that read images; empty for one a core but one, at most 16
DEVICE=${DEVICE:-auto}                    # auto, cpu, cuda or cuda:N
PRECISION=${PRECISION:-fp32}              # fp32, or bf16 or fp16 with autocast, or auto
NPROC=${NPROC:-}                          # processes that share the work, each on a GPU of its own; empty: one
# --------------------------------------------------------------------------------------------------------------

source "$PROJECT/utils/scripts.sh"
options_from object domain normal_dir false_alarm_rate save_path method checkpoint
[[ -z $WATCH ]] || options+=(--watch)
launch "$PROJECT/predict.py" "${options[@]}" "$@"
