#!/usr/bin/env bash
# Train SDP+'s adapters on VisA, for MVTec and the medical data sets, then on MVTec, for VisA, each on its test split
# and validated on the other:
#
#   bash train_SDP_plus.sh                       both, those whose folders are there
#   TRAIN_ON=visa EPOCHS=10 bash train_SDP_plus.sh   any setting from the environment
#   bash train_SDP_plus.sh --resume              go on where it was stopped; arguments go to train_sdp_plus.py
#
# Relative paths are taken from this folder. Checkpoints: $SAVE_PATH/on_<data set>/epoch_N.pth
set -euo pipefail
cd "$(dirname "$0")"

# ---- Settings; those of backbone, fidelity and run are in utils/scripts.sh, and may be set here as well -----------
TRAIN_ON=${TRAIN_ON:-"visa mvtec"}        # one after another; others than VisA are validated on VisA
DATA_ROOT=${DATA_ROOT:-data}              # a data set lies in $DATA_ROOT/<its name>
SAVE_PATH=${SAVE_PATH:-results/sdp_plus_training}
EPOCHS=${EPOCHS:-5}
LEARNING_RATE=${LEARNING_RATE:-0.0001}
PRINT_FREQ=${PRINT_FREQ:-1}               # epochs between two lines of the loss
SAVE_FREQ=${SAVE_FREQ:-1}                 # epochs between two checkpoints and validations
CACHE_DIR=${CACHE_DIR:-.cache}            # the patch tokens go there: 23 GiB for VisA at 518 px; --no_cache for none
# --------------------------------------------------------------------------------------------------------------

source utils/scripts.sh
options_from epochs learning_rate print_freq save_freq cache_dir
find_data_sets "$TRAIN_ON"
for on in "${found[@]}"; do
  if [[ $on == visa ]]; then other=mvtec; else other=visa; fi
  validation=()
  if [[ -d "$DATA_ROOT/$other" ]]; then
    validation=(--test_dataset "$other" --test_dataset_dir "$DATA_ROOT/$other")
  fi
  launch train_sdp_plus.py --train_dataset "$on" --train_dataset_dir "$DATA_ROOT/$on" ${validation[@]+"${validation[@]}"} \
    --save_path "$SAVE_PATH/on_$on" "${options[@]}" "$@"
done
